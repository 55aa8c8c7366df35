//! Remembers what was worked out for earlier lines: the meaning of a message, the moment of a minute.
//! Ordinary logs repeat a few messages millions of times. Both are of fixed size and hold no more than a hint:
//! a miss costs time, never a wrong answer.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use memchr::{memchr, memmem, memrchr};

use super::classify::{Facts, Meaning, meaning};
use super::table::is_equal;
use crate::model::Level;
use crate::nginx::line::{self, Line, Problem, RawLine};

/// Slots; a power of two.
const SLOTS: usize = 1024;
/// Longer messages are not remembered, bytes.
const MAX_BODY: usize = 400;

struct Slot {
    level: Level,
    upstream: Upstream,
    head: Box<[u8]>,
    end: Box<[u8]>,
    meaning: Meaning,
    problem: Option<Problem>,
}

/// What of the upstream field decides a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upstream {
    None,
    Plain,
    Tls,
    Unix,
}

impl Slot {
    fn is_of(&self, level: Level, upstream: Upstream, (head, end): Essence<'_>) -> bool {
        self.level == level
            && self.upstream == upstream
            && is_equal(&self.head, head)
            && is_equal(&self.end, end)
    }
}

/// Meanings by message.
pub struct Meanings {
    slots: Vec<Option<Slot>>,
}

impl Default for Meanings {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| None).collect() }
    }
}

/// The parts of a message that decide its meaning.
type Essence<'a> = (&'a [u8], &'a [u8]);

/// Where a message is remembered. Three words of it tell the usual messages apart; others share a place and cost time.
fn place(level: Level, upstream: Upstream, (head, end): Essence<'_>) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = |bytes: Option<&[u8]>| {
        bytes.and_then(|bytes| bytes.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
    };
    let last = head.last_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let first = word(Some(head)) ^ last.rotate_left(23);
    let second = word(head.get(16..)) ^ word(Some(end)).rotate_left(41);
    let kind = (level as u64) << 8 | (upstream as u64) << 4 | (head.len() as u64) << 16;
    let mixed = (first ^ kind).wrapping_mul(FACTOR) ^ second;
    (mixed.wrapping_mul(FACTOR) >> 32) as usize % SLOTS
}

impl Meanings {
    /// The meaning of an ordinary line; `line` is the whole of it, `upstream` that without scheme.
    /// Also gives what was wrong with the message.
    pub fn of(
        &mut self,
        raw: &RawLine<'_>,
        line: &[u8],
        upstream: Option<&[u8]>,
    ) -> (Meaning, Option<Problem>) {
        let upstream = match upstream {
            None if raw.tail.upstream.is_none() => Upstream::None,
            Some(peer) if peer.starts_with(b"unix:") => Upstream::Unix,
            _ if raw.is_upstream_tls() => Upstream::Tls,
            _ => Upstream::Plain,
        };
        // Most messages are remembered whole; only of the others it is asked which part of them counts.
        let whole = (raw.body, &b""[..]);
        if let Some(known) = self.remembered(raw.level, upstream, whole) {
            return known;
        }
        let essence = essence(raw.body);
        if let Some(known) = self.remembered(raw.level, upstream, essence) {
            return known;
        }
        let full = Line::read(line);
        let (meaning, problem) = (meaning(&Facts::of_line(&full)), full.problems.first().copied());
        if raw.body.len() <= MAX_BODY {
            let (head, end) = essence;
            self.slots[place(raw.level, upstream, essence)] = Some(Slot {
                level: raw.level,
                upstream,
                head: head.into(),
                end: end.into(),
                meaning,
                problem,
            });
        }
        (meaning, problem)
    }

    fn remembered(
        &self,
        level: Level,
        upstream: Upstream,
        essence: Essence<'_>,
    ) -> Option<(Meaning, Option<Problem>)> {
        let slot = self.slots[place(level, upstream, essence)].as_ref()?;
        slot.is_of(level, upstream, essence).then_some((slot.meaning, slot.problem))
    }
}

/// Messages whose middle changes from line to line: their beginning, and how what follows the middle begins.
const CHANGING: [(&[u8], &[u8]); 4] = [
    (b"client ", b" closed keepalive connection"),
    (b"limiting requests, excess: ", b" by zone"),
    (b"an upstream response is buffered to a temporary file ", b" while "),
    (b"a client request body is buffered to a temporary file ", b" while "),
];

/// The parts of a message that decide its meaning: of `open() "/path" failed (2: …)` what is left and right of the
/// path, and likewise where a number or a name changes.
fn essence(body: &[u8]) -> Essence<'_> {
    let second = body.get(1);
    let may_change = |start: &[u8]| second == start.get(1) && body.starts_with(start);
    if let Some((start, end)) = CHANGING.iter().find(|(start, _)| may_change(start))
        && let Some(end) = memmem::rfind(body, end)
    {
        return (start, &body[end..]);
    }
    let whole = (body, &b""[..]);
    let Some(first) = memchr(b'"', body) else { return whole };
    let last = memrchr(b'"', body).unwrap_or(first);
    let is_path = body[..first].ends_with(b"() ") && body[last..].starts_with(b"\" failed") && first < last;
    if is_path { (&body[..first], &body[last..]) } else { whole }
}

/// The moment of a time stamp; the last minute is remembered.
#[derive(Default)]
pub struct Moments {
    minute: [u8; 16],
    start: Option<i64>,
    civil: Option<(DateTime, Option<i64>, bool)>,
}

impl Moments {
    /// Seconds of UTC of `YYYY/MM/DD HH:MM:SS`, digits checked before.
    pub fn of(&mut self, stamp: &[u8], zone: &TimeZone) -> Option<i64> {
        let minute = stamp.first_chunk::<16>()?;
        let seconds = i64::from(stamp.get(17)? & 15) * 10 + i64::from(stamp.get(18)? & 15);
        if self.start.is_none() || self.minute != *minute {
            let mut full = *b"YYYY/MM/DD HH:MM:00";
            full[..16].copy_from_slice(minute);
            self.start = line::moment(&full, zone).map(|utc| utc.0.div_euclid(1_000_000_000));
            self.minute = *minute;
        }
        self.start.map(|start| start + seconds.min(60))
    }

    /// Seconds of UTC of a time that was read, and whether it is ambiguous in `zone`.
    pub fn of_civil(&mut self, time: DateTime, zone: &TimeZone) -> (Option<i64>, bool) {
        let seconds = i64::from(time.second());
        let minute = time.with().second(0).subsec_nanosecond(0).build().unwrap_or(time);
        if self.civil.is_none_or(|(known, ..)| known != minute) {
            let (utc, is_ambiguous) = line::utc_of(minute, zone);
            self.civil = Some((minute, utc.map(|utc| utc.0.div_euclid(1_000_000_000)), is_ambiguous));
        }
        let (_, start, is_ambiguous) = self.civil.unwrap_or((minute, None, false));
        (start.map(|start| start + seconds), is_ambiguous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::classify::Other;
    use crate::history::topic::TopicId;

    fn line(level: &str, body: &str, upstream: &str) -> String {
        format!(
            "2026/11/20 06:43:33 [{level}] 31#31: *7 {body}, client: 10.0.0.9, server: _, request: \"GET / HTTP/1.1\"{upstream}"
        )
    }

    fn ask(meanings: &mut Meanings, line: &str) -> Meaning {
        let raw = RawLine::read(line.as_bytes()).expect("an ordinary line");
        meanings.of(&raw, line.as_bytes(), raw.upstream()).0
    }

    #[test]
    fn what_stands_behind_a_changing_part_counts() {
        let mut meanings = Meanings::default();
        for (errno, problem) in [(2, None), (10061, Some(Problem::ForeignErrno)), (2, None)] {
            let text = line("error", &format!("open() \"/srv/a\" failed ({errno}: x)"), "");
            let raw = RawLine::read(text.as_bytes()).expect("an ordinary line");
            assert_eq!(meanings.of(&raw, text.as_bytes(), None).1, problem, "{errno}");
        }
    }

    #[test]
    fn a_remembered_meaning_is_that_of_the_line() {
        let mut meanings = Meanings::default();
        let failed = "recv() failed (104: Connection reset by peer) while sending to client";
        let up = ", upstream: \"http://10.0.0.2:80/\"";
        for _ in 0..2 {
            let upstream = Meaning::Incident(TopicId::of("upstream_reset_body"));
            assert_eq!(ask(&mut meanings, &line("error", failed, up)), upstream);
            let client = Meaning::Incident(TopicId::of("client_reset"));
            assert_eq!(ask(&mut meanings, &line("info", failed, up)), client);
        }
    }

    #[test]
    fn paths_share_a_meaning_and_the_errno_counts() {
        let mut meanings = Meanings::default();
        for path in ["/a", "/b", "/c while x"] {
            let body = format!("open() \"{path}\" failed (2: No such file or directory)");
            assert_eq!(ask(&mut meanings, &line("error", &body, "")), Meaning::Other(Other::File));
        }
        assert_eq!(meanings.slots.iter().flatten().count(), 1);
        let body = "limiting requests, excess: 5.230 by zone \"api\"";
        assert_eq!(ask(&mut meanings, &line("error", body, "")), Meaning::Other(Other::RateLimit));
    }

    #[test]
    fn moments_follow_the_zone() {
        let zone = TimeZone::get("America/New_York").expect("zone data");
        let mut moments = Moments::default();
        for stamp in
            ["2026/11/20 01:43:33", "2026/11/20 01:43:59", "2026/11/20 01:44:00", "2026/13/20 01:43:33"]
        {
            let found = moments.of(stamp.as_bytes(), &zone);
            let slow = line::moment(stamp.as_bytes(), &zone).map(|utc| utc.0 / 1_000_000_000);
            assert_eq!(found, slow, "{stamp}");
        }
    }
}
