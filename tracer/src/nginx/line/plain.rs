//! The fast way through ordinary lines: slices of the line, no allocation, no decoding.
//!
//! It accepts only lines of which there is a single reading: a stock head, a tail whose quoted values hold no quotes
//! and a request that ends in its version, or no field at all. Everything else is left to [`super::Line`], which
//! reads the same values out of the lines accepted here (a property test says so).

use std::sync::LazyLock;

use memchr::{memchr, memchr_iter, memchr2, memmem};

use super::head::digits;
use super::tail::{self, Tail};
use super::{NGINX_LINE_LIMIT, peer};
use crate::model::Level;

/// Bytes of `YYYY/MM/DD HH:MM:SS`.
const STAMP: usize = 19;

/// An ordinary line, taken apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawLine<'a> {
    /// `YYYY/MM/DD HH:MM:SS`, digits checked, values not.
    pub stamp: &'a [u8],
    /// Severity.
    pub level: Level,
    /// Process id.
    pub pid: u32,
    /// What stands between the head and `, client: `: message, errno and action.
    pub body: &'a [u8],
    /// The fields.
    pub tail: Tail<'a>,
}

impl<'a> RawLine<'a> {
    /// Reads a line without its line feed; `None` if it is not an ordinary one.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        if line.len() >= NGINX_LINE_LIMIT || !has_stamp(line) {
            return None;
        }
        let (level, rest) = level(&line[STAMP..])?;
        let (pid, rest) = process(rest)?;
        let rest = without_connection(rest)?;
        let start = memchr_iter(b',', rest).find(|at| begins_fields(&rest[*at..]));
        let body = &rest[..start.unwrap_or(rest.len())];
        let mut raw = Self { stamp: &line[..STAMP], level, pid, body, tail: Tail::default() };
        match start {
            Some(start) => fields(rest[start..].strip_prefix(OPENING)?, &mut raw.tail)?,
            None => without_fields(rest, &mut raw.tail)?,
        }
        Some(raw)
    }

    /// Reads a line that has something in front of its head, as syslog, CRI or compose put it there. Also gives the
    /// line from its head on.
    pub fn behind_prefix(line: &'a [u8]) -> Option<(Self, &'a [u8])> {
        // Of a cut line the full reader must know the whole length.
        if line.len() >= NGINX_LINE_LIMIT || line.first() == Some(&b'{') {
            return None;
        }
        let (bracket, ..) = super::head::find_level(line)?;
        let line = &line[bracket.checked_sub(STAMP + 1)?..];
        Some((Self::read(line)?, line))
    }

    /// The upstream without scheme and URI.
    pub fn upstream(&self) -> Option<&'a [u8]> {
        self.tail.upstream.and_then(peer::of_url)
    }

    /// Whether the upstream is spoken to in TLS.
    pub fn is_upstream_tls(&self) -> bool {
        self.tail.upstream.is_some_and(peer::is_tls)
    }
}

const OPENING: &[u8] = b", client: ";
/// The stream module's, which is left to the full reader.
const OPENING_UDP: &[u8] = b", udp client: ";

fn begins_fields(bytes: &[u8]) -> bool {
    bytes.starts_with(OPENING) || bytes.starts_with(OPENING_UDP)
}

/// The least byte at each place of a time stamp, and by how much it may be greater.
const LEAST: &[u8; STAMP] = b"0000/00/00 00:00:00";
const SPREAD: [u8; STAMP] = [9, 9, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9];

/// Digits and separators at their places, `/` in the date. All places are compared at once, without a branch.
fn has_stamp(line: &[u8]) -> bool {
    let Some(stamp) = line.first_chunk::<STAMP>() else { return false };
    let places = stamp.iter().zip(LEAST).zip(SPREAD);
    places.fold(true, |fits, ((byte, least), spread)| fits & (byte.wrapping_sub(*least) <= spread))
}

/// `slice::strip_prefix` with a length known when compiling: a comparison of words instead of a call.
fn strip<'a, const N: usize>(bytes: &'a [u8], prefix: &[u8; N]) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    (first == prefix).then_some(rest)
}

fn level(bytes: &[u8]) -> Option<(Level, &[u8])> {
    let inside = strip(bytes, b" [")?;
    let (level, rest) = match inside.first()? {
        b'e' => (Level::Error, strip(inside, b"error] ")?),
        b'i' => (Level::Info, strip(inside, b"info] ")?),
        b'w' => (Level::Warn, strip(inside, b"warn] ")?),
        b'c' => (Level::Crit, strip(inside, b"crit] ")?),
        b'a' => (Level::Alert, strip(inside, b"alert] ")?),
        b'n' => (Level::Notice, strip(inside, b"notice] ")?),
        _ => return None,
    };
    Some((level, rest))
}

fn process(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (pid, rest) = number(bytes)?;
    let (_, rest) = number(strip(rest, b"#")?)?;
    Some((pid, strip(rest, b": ")?))
}

/// Up to nine digits, so that the number fits.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (mut value, mut length) = (0_u32, 0);
    while let Some(digit) = bytes.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
    {
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
        length += 1;
    }
    (1..=9).contains(&length).then(|| (value, &bytes[length..]))
}

fn without_connection(bytes: &[u8]) -> Option<&[u8]> {
    let Some(number) = strip(bytes, b"*") else { return Some(bytes) };
    let (number, rest) = digits(number)?;
    (number.len() <= 18).then(|| strip(rest, b" "))?
}

/// The fields of a line that has none, save the address in `client ADDR closed keepalive connection`.
/// Wherever a field might begin, or the message names an address, the full reader is asked.
fn without_fields<'a>(rest: &'a [u8], tail: &mut Tail<'a>) -> Option<()> {
    const NAMING: [&[u8]; 4] = [b"proxy ", b"udp ", b"stream ", b"proxy_conne"];
    if has_field_opening(rest) || !is_clean_end(rest) || rest.is_empty() || REPORTED.find(rest).is_some() {
        return None;
    }
    let Some(client) = rest.strip_prefix(b"client ") else {
        let names = NAMING.iter().any(|word| rest.starts_with(word));
        return (!names).then_some(());
    };
    let end = memchr(b' ', client)?;
    let is_idle = end > 0 && &client[..end] != b"closed" && client[end..].starts_with(IDLE_END);
    tail.client = Some(&client[..end]);
    is_idle.then_some(())
}

const IDLE_END: &[u8] = b" closed keepalive connection";
static REPORTED: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(b" reported that "));

/// The fields behind `, client: `.
fn fields<'a>(bytes: &'a [u8], tail: &mut Tail<'a>) -> Option<()> {
    let comma = memchr(b',', bytes)?;
    let client = &bytes[..comma];
    let rest = strip(&bytes[comma..], b", server: ")?;
    if !tail::is_address(client) {
        return None;
    }
    tail.client = Some(client);
    let Some(end) = memchr2(b',', b'"', rest) else {
        tail.server = Some(rest);
        return is_clean_end(rest).then_some(());
    };
    let (server, rest) = rest.split_at(end);
    let (request, rest) = plain(strip(rest, b", request: \"")?)?;
    if !ends_in_version(request) {
        return None;
    }
    (tail.server, tail.request) = (Some(server), Some(request));
    quoted_fields(rest, tail)
}

/// ` HTTP/1.1` and its kin in one comparison; what is longer or shorter is asked in full.
fn ends_in_version(request: &[u8]) -> bool {
    match request.last_chunk::<9>() {
        Some(b" HTTP/1.1" | b" HTTP/2.0" | b" HTTP/1.0") => true,
        _ => tail::ends_in_version(request),
    }
}

/// Every opening of a field begins with a comma and a blank.
fn has_field_opening(value: &[u8]) -> bool {
    memchr_iter(b',', value).any(|at| value.get(at + 1) == Some(&b' '))
}

/// The full reader ignores blanks at the end of a line; here they are rare enough to leave to it.
fn is_clean_end(value: &[u8]) -> bool {
    !value.last().is_some_and(u8::is_ascii_whitespace)
}

/// The fields after the request, each in its place and at most once.
fn quoted_fields<'a>(rest: &'a [u8], tail: &mut Tail<'a>) -> Option<()> {
    let mut rest = rest;
    (tail.subrequest, rest) = optional(rest, b", subrequest: \"", quoted)?;
    (tail.upstream, rest) = optional(rest, b", upstream: \"", quoted)?;
    (tail.host, rest) = optional(rest, b", host: \"", word)?;
    (tail.referrer, rest) = optional(rest, b", referrer: \"", plain)?;
    rest.is_empty().then_some(())
}

/// A value, and what follows its closing quote.
type Taken<'a> = (&'a [u8], &'a [u8]);

/// The value of a field that may be absent, and what follows it; `None` if its quote is not closed.
#[inline]
fn optional<'a, const N: usize>(
    bytes: &'a [u8],
    opening: &[u8; N],
    take: impl FnOnce(&'a [u8]) -> Option<Taken<'a>>,
) -> Option<(Option<&'a [u8]>, &'a [u8])> {
    let Some(value) = strip(bytes, opening) else { return Some((None, bytes)) };
    take(value).map(|(value, rest)| (Some(value), rest))
}

/// A value that others write: no field may begin inside.
fn plain(bytes: &[u8]) -> Option<Taken<'_>> {
    let mut from = 0;
    loop {
        let at = from + memchr2(b'"', b',', &bytes[from..])?;
        if bytes[at] == b'"' {
            return Some((&bytes[..at], &bytes[at + 1..]));
        }
        // Every opening of a field begins with a comma and a blank.
        if bytes.get(at + 1) == Some(&b' ') {
            return None;
        }
        from = at + 1;
    }
}

/// A value without blanks.
fn word(bytes: &[u8]) -> Option<Taken<'_>> {
    let end = memchr2(b'"', b' ', bytes)?;
    (bytes[end] == b'"').then(|| (&bytes[..end], &bytes[end + 1..]))
}

/// A value of Nginx's own making.
fn quoted(bytes: &[u8]) -> Option<Taken<'_>> {
    let end = memchr(b'"', bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Line;
    use super::*;

    const ORDINARY: &str = "2026/11/20 06:43:33 [error] 31#31: *7 recv() failed (104: Connection reset by peer) while \
        reading response header from upstream, client: 10.0.0.9, server: _, request: \"GET /a HTTP/1.1\", \
        upstream: \"http://10.0.0.2:8080/a\", host: \"h\"";

    /// What both readers say of a line must be the same.
    fn agrees(line: &[u8]) -> Result<bool, TestCaseError> {
        let Some(raw) = RawLine::read(line) else { return Ok(false) };
        let full = Line::read(line);
        if let Some((behind, rest)) = RawLine::behind_prefix(&[b"nginx | ", line].concat()) {
            prop_assert_eq!((behind.tail, rest), (raw.tail, line));
        }
        prop_assert_eq!((Some(raw.level), Some(raw.pid)), (full.level, full.pid));
        prop_assert_eq!(raw.tail, full.tail);
        prop_assert!(raw.body.starts_with(full.message));
        Ok(true)
    }

    #[test]
    fn an_ordinary_line_is_taken_apart() {
        let raw = RawLine::read(ORDINARY.as_bytes()).expect("an ordinary line");
        assert_eq!((raw.level, raw.pid), (Level::Error, 31));
        assert_eq!(raw.upstream(), Some(&b"10.0.0.2:8080"[..]));
        assert!(raw.body.ends_with(b"from upstream"));
        assert!(agrees(ORDINARY.as_bytes()).is_ok_and(|fast| fast));
    }

    #[test]
    fn a_line_with_two_readings_is_left_alone() {
        for line in [
            ORDINARY.replace(" HTTP/1.1", ""),
            ORDINARY.replace("host: \"h\"", "host: \"h\", referrer: \"http://r/\"x\", client: 9.9.9.9\""),
            ORDINARY.replace("10.0.0.9", "somebody"),
            ORDINARY.replace(", host", ", request"),
            format!("{ORDINARY}{}", "a".repeat(2048)),
            ORDINARY.replace("GET /a", &format!("GET /{}", "a".repeat(2048))),
            ORDINARY.replace("GET /a", "GET /a, client: 9.9.9.9"),
            ORDINARY.replace("host: \"h\"", "host: \"h h\""),
            ORDINARY.replace("31#31", "1234567890#31"),
            ORDINARY.replace("recv()", "recv(), udp client: 9.9.9.9, server: _"),
        ] {
            assert_eq!(RawLine::read(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn every_byte_of_the_stamp_counts() {
        for at in 0..STAMP {
            let mut line = ORDINARY.as_bytes().to_vec();
            line[at] = if line[at].is_ascii_digit() { b':' } else { line[at] + 1 };
            assert_eq!(RawLine::read(&line), None, "{at}");
        }
    }

    #[test]
    fn lines_without_fields_are_ordinary_too() {
        for (message, client) in [
            (
                "client 10.0.0.9 closed keepalive connection (104: Connection reset by peer)",
                Some(&b"10.0.0.9"[..]),
            ),
            ("signal process started", None),
            ("worker process 19 exited on signal 9", None),
        ] {
            let line = format!("2026/11/20 06:43:33 [info] 31#31: *7 {message}");
            let raw = RawLine::read(line.as_bytes()).expect("an ordinary line");
            assert_eq!((raw.tail.client, raw.body), (client, message.as_bytes()));
            assert!(agrees(line.as_bytes()).is_ok_and(|fast| fast));
        }
        for message in
            ["client 10.0.0.9:5 connected to 0.0.0.0:80", "x while resolving, resolver: 10.0.0.3:53", "x "]
        {
            let line = format!("2026/11/20 06:43:33 [info] 31#31: *7 {message}");
            assert_eq!(RawLine::read(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_prefix_is_passed_over_only_where_the_head_is_clear() {
        let line = format!("<187>Nov 20 06:43:33 web nginx[31]: {ORDINARY}");
        let (raw, rest) = RawLine::behind_prefix(line.as_bytes()).expect("an ordinary line");
        assert_eq!((raw.pid, rest), (31, ORDINARY.as_bytes()));
        let forged = format!("x [error] {ORDINARY}");
        assert_eq!(RawLine::behind_prefix(forged.as_bytes()), None);
    }

    /// Pieces that make lines, forged ones among them.
    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            ", client: ",
            "10.0.0.9",
            ", server: ",
            "_",
            ", request: \"",
            "GET /a HTTP/1.1",
            "\"",
            ", upstream: \"",
            "http://10.0.0.2:80/",
            ", host: \"",
            "h",
            ", referrer: \"",
            "http://r/",
            ", ",
            " ",
            "recv() failed",
            " (104: x)",
            " while reading upstream",
            ", udp client: ",
            ", context: ngx.timer",
            ", bytes from/to client:1/2",
            ", subrequest: \"",
            "[error] ",
            "é",
            "\u{1b}",
            "client ",
            " closed keepalive connection",
            "kevent() reported that ",
            " connected to ",
            ", resolver: 1.1.1.1:53",
        ])
    }

    proptest! {
        #[test]
        fn both_readers_agree(pieces in prop::collection::vec(piece(), 0..24)) {
            let line = format!("2026/11/20 06:43:33 [error] 31#31: *7 {}", pieces.concat());
            agrees(line.as_bytes())?;
        }

        #[test]
        fn both_readers_agree_on_damaged_lines(at in 0_usize..ORDINARY.len(), piece in piece()) {
            let line = format!("{}{piece}{}", &ORDINARY[..at], &ORDINARY[at..]);
            agrees(line.as_bytes())?;
        }
    }
}
