//! Counts the lines of error.log: by situation, by what they name, by time. Memory does not grow with the log.
//! Ordinary lines take the fast way and allocate nothing; the others are read in full. Pure: bytes in, counts out.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::cache::{Meanings, Moments};
use super::classify::{Facts, Meaning, Other, meaning};
use super::key::{self, UriPattern};
use super::pattern::{Dimension, Event, Group, Window};
use super::table::{Cell, Table};
use super::topic::{TOPICS, TopicId};
use crate::model::Level;
use crate::model::verdict::Segment;
use crate::nginx::line::{Line, Problem, RawLine, carrier};

/// Upstreams held per situation.
const UPSTREAMS: usize = 1024;

/// Which lines count, seconds of UTC, both ends included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range {
    /// From.
    pub since: Option<i64>,
    /// To.
    pub until: Option<i64>,
}

impl Range {
    fn holds(&self, time: i64) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }
}

/// Everything counted.
pub struct Aggregate {
    zone: TimeZone,
    range: Range,
    meanings: Meanings,
    moments: Moments,
    uri: UriPattern,
    network: Vec<u8>,
    last_time: Option<i64>,
    /// Lines read.
    pub lines: u64,
    /// Bytes of lines, line ends included.
    pub bytes: u64,
    /// Lines outside the range asked for.
    pub outside: u64,
    /// Lines with neither a head nor a known message; continuations among them.
    pub unreadable: u64,
    /// Lines that repeat another line's failure.
    pub companions: u64,
    /// Starts, reloads, stops.
    pub lifecycle: u64,
    /// Lines about no connection.
    pub others: [u64; Other::ALL.len()],
    /// Lines per level, in the order of [`Level`].
    pub levels: [u64; 8],
    /// What was wrong with lines, and how often.
    pub problems: BTreeMap<Problem, u64>,
    /// Incidents per situation, in the order of [`TOPICS`].
    pub topics: Vec<Cell>,
    /// Incidents per upstream, for each situation in the order of [`TOPICS`].
    pub upstreams: Vec<Table>,
    /// Incidents per hour of the day, as printed.
    pub hours: [u64; 24],
    /// Incidents in time and by what they name; harmless ones are not in it, and upstreams stand in `upstreams` until
    /// [`Aggregate::settle`].
    pub window: Window,
    /// Incidents that name an upstream, in the order of [`Group`].
    with_upstream: [u64; Group::ALL.len()],
}

/// What of an incident is counted.
struct Incident<'a> {
    topic: TopicId,
    time: Option<i64>,
    hour: Option<usize>,
    pid: Option<u32>,
    upstream: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    request: Option<&'a [u8]>,
    client: Option<&'a [u8]>,
}

impl Aggregate {
    /// Counts lines in `range`; `zone` is that of the Nginx that wrote them.
    pub fn new(zone: TimeZone, range: Range) -> Self {
        Self {
            zone,
            range,
            meanings: Meanings::default(),
            moments: Moments::default(),
            uri: UriPattern::default(),
            network: Vec::with_capacity(64),
            last_time: None,
            lines: 0,
            bytes: 0,
            outside: 0,
            unreadable: 0,
            companions: 0,
            lifecycle: 0,
            others: [0; Other::ALL.len()],
            levels: [0; 8],
            problems: BTreeMap::new(),
            topics: vec![Cell::default(); TOPICS.len()],
            upstreams: TOPICS.iter().map(|_| Table::new(UPSTREAMS)).collect(),
            hours: [0; 24],
            window: Window::default(),
            with_upstream: [0; Group::ALL.len()],
        }
    }

    /// The zone in which printed times are read.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Counts one line, given without its line feed.
    pub fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        self.bytes += line.len() as u64 + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(raw) = RawLine::read(line) {
            self.ordinary(&raw, line);
        } else if let Some((raw, line)) = RawLine::behind_prefix(line) {
            self.ordinary(&raw, line);
        } else {
            self.odd(line);
        }
    }

    /// The situation with most incidents so far, harmless ones left out.
    pub fn leading(&self) -> Option<&'static str> {
        let counted =
            TOPICS.iter().zip(&self.topics).filter(|(topic, cell)| !topic.harmless && cell.count > 0);
        counted.max_by_key(|(_, cell)| cell.count).map(|(topic, _)| topic.title)
    }

    /// Counts upstreams by group, from those of the situations. Call it before looking at `window`.
    pub fn settle(&mut self) {
        let mut tables: Vec<Table> = Group::ALL.iter().map(|_| Table::new(4 * UPSTREAMS)).collect();
        let mut evicted = [0; Group::ALL.len()];
        for (topic, upstreams) in (0..).zip(&self.upstreams) {
            let group = group(TopicId(topic)) as usize;
            evicted[group] += upstreams.evicted();
            upstreams.ranked().into_iter().for_each(|(upstream, cell)| tables[group].merge(upstream, cell));
        }
        for (of_group, mut table) in Group::ALL.into_iter().zip(tables) {
            let forgotten = self.with_upstream[of_group as usize].saturating_sub(table.total());
            table.merge_other(forgotten, evicted[of_group as usize]);
            self.window.set_table(of_group, Dimension::Upstream, table);
        }
    }

    fn ordinary(&mut self, raw: &RawLine<'_>, line: &[u8]) {
        let time = self.moments.of(raw.stamp, &self.zone);
        if time.is_none() || !self.is_wanted(time) {
            return if time.is_none() { self.odd(line) } else { self.outside += 1 };
        }
        self.levels[raw.level as usize] += 1;
        let upstream = raw.upstream();
        let (meaning, problem) = self.meanings.of(raw, line, upstream);
        if let Some(problem) = problem {
            *self.problems.entry(problem).or_default() += 1;
        }
        let Some(topic) = self.count(meaning, time) else { return };
        self.incident(&Incident {
            topic,
            time,
            hour: Some(usize::from(raw.stamp[11] & 15) * 10 + usize::from(raw.stamp[12] & 15)),
            pid: Some(raw.pid),
            upstream,
            server: raw.tail.server,
            request: raw.tail.request,
            client: raw.tail.client,
        });
    }

    /// A line with a carrier, without a head, forged, cut, or about no client.
    fn odd(&mut self, line: &[u8]) {
        let carried = carrier::unwrap(line);
        let line = Line::read(&carried.payload);
        let (time, is_ambiguous) = match line.time {
            Some(local) => self.moments.of_civil(local, &self.zone),
            None => (carried.time.map(|time| time.0.div_euclid(1_000_000_000)), false),
        };
        if !self.is_wanted(time.or(self.last_time)) {
            self.outside += 1;
            return;
        }
        if let Some(level) = line.level {
            self.levels[level as usize] += 1;
        }
        let not_text = std::str::from_utf8(&carried.payload).is_err().then_some(Problem::NotUtf8);
        let ambiguous = is_ambiguous.then_some(Problem::AmbiguousTime);
        for problem in line.problems.iter().copied().chain(ambiguous).chain(not_text) {
            *self.problems.entry(problem).or_default() += 1;
        }
        let Some(topic) = self.count(meaning(&Facts::of_line(&line)), time) else { return };
        self.incident_of(&line, topic, time);
    }

    fn incident_of(&mut self, line: &Line<'_>, topic: TopicId, time: Option<i64>) {
        self.incident(&Incident {
            topic,
            time,
            hour: time.and_then(|time| self.hour_of(time)),
            pid: line.pid,
            upstream: line.upstream(),
            server: line.tail.server,
            request: line.tail.request,
            client: line.tail.client,
        });
    }

    fn hour_of(&self, time: i64) -> Option<usize> {
        let stamp = jiff::Timestamp::from_second(time).ok()?;
        usize::try_from(self.zone.to_datetime(stamp).hour()).ok()
    }

    fn is_wanted(&mut self, time: Option<i64>) -> bool {
        let Some(time) = time else { return self.range.since.is_none() };
        self.last_time = Some(time);
        let wanted = self.range.holds(time);
        if wanted {
            self.window.cover(time);
        }
        wanted
    }

    /// Counts what a line is; the situation if it is an incident.
    fn count(&mut self, meaning: Meaning, time: Option<i64>) -> Option<TopicId> {
        match meaning {
            Meaning::Incident(topic) => return Some(topic),
            Meaning::Companion => self.companions += 1,
            Meaning::Other(other) => self.others[other as usize] += 1,
            Meaning::Unreadable => self.unreadable += 1,
            Meaning::Lifecycle => {
                self.lifecycle += 1;
                if let Some(time) = time {
                    self.window.mark(time);
                }
            }
        }
        None
    }

    fn incident(&mut self, incident: &Incident<'_>) {
        let topic = incident.topic.topic();
        let time = incident.time;
        self.topics[usize::from(incident.topic.0)].add(time);
        if topic.harmless {
            return;
        }
        if let Some(hour) = incident.hour.and_then(|hour| self.hours.get_mut(hour)) {
            *hour += 1;
        }
        let group = group(incident.topic);
        if let Some(upstream) = incident.upstream {
            self.with_upstream[group as usize] += 1;
            self.upstreams[usize::from(incident.topic.0)].add(upstream, time);
        }
        let network = &mut self.network;
        let network = incident.client.map(|client| {
            key::octets(client).unwrap_or_else(|| {
                key::network(client, network);
                network
            })
        });
        let pid = incident.pid.map(u32::to_be_bytes);
        self.window.add(&Event {
            time,
            group,
            keys: [
                None,
                incident.request.map(|request| self.uri.of(request)),
                network,
                incident.server,
                pid.as_ref().map(<[u8; 4]>::as_slice),
            ],
        });
    }
}

/// The coarse kind of a situation.
pub fn group(topic: TopicId) -> Group {
    let topic = topic.topic();
    match (topic.segment, topic.status) {
        (Segment::ClientNginx, _) => Group::Client,
        (_, 504) | (Segment::Unknown, _) => Group::GatewayTimeout,
        (Segment::Nginx, _) if topic.slug != "upstream_invalid" => Group::Nginx,
        _ => Group::BadGateway,
    }
}

/// Whether lines of this level were recorded at all.
pub fn has_level(aggregate: &Aggregate, level: Level) -> bool {
    aggregate.levels[level as usize] > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::words;

    const RESET: &str = "2026/11/20 06:43:33 [error] 31#31: *7 recv() failed (104: Connection reset by peer) while \
        reading response header from upstream, client: 10.0.0.9, server: shop, request: \"GET /a/7 HTTP/1.1\", \
        upstream: \"http://10.0.0.2:8080/a\", host: \"h\"";

    fn read(lines: &[String], range: Range) -> Aggregate {
        let mut aggregate = Aggregate::new(TimeZone::UTC, range);
        for line in lines {
            aggregate.line(line.as_bytes());
        }
        aggregate.settle();
        aggregate
    }

    fn keys(aggregate: &Aggregate, group: Group, dimension: Dimension) -> Vec<String> {
        let ranked = aggregate.window.table(group, dimension).ranked();
        ranked.iter().map(|(key, _)| words::key(dimension, key)).collect()
    }

    #[test]
    fn both_ways_count_the_same() {
        let docker = serde_json::json!({ "log": format!("{RESET}\n"), "stream": "stderr" }).to_string();
        for line in [RESET.to_owned(), format!("web | {RESET}"), format!("{RESET}\r"), docker] {
            let aggregate = read(&[line], Range::default());
            let at = usize::from(TopicId::of("upstream_reset_waiting").0);
            assert_eq!(aggregate.topics[at].count, 1);
            assert_eq!(aggregate.topics[at].first, Some(1_795_157_013));
            assert_eq!(aggregate.hours[6], 1);
            assert_eq!(keys(&aggregate, Group::BadGateway, Dimension::Upstream), ["10.0.0.2:8080"]);
            assert_eq!(keys(&aggregate, Group::BadGateway, Dimension::Uri), ["GET /a/{n}"]);
            assert_eq!(keys(&aggregate, Group::BadGateway, Dimension::Client), ["10.0.0.0/24"]);
            assert_eq!(keys(&aggregate, Group::BadGateway, Dimension::Server), ["shop"]);
        }
    }

    #[test]
    fn nothing_is_lost() {
        let lines = [
            RESET.to_owned(),
            String::new(),
            "stack traceback:".to_owned(),
            "2026/11/20 06:43:33 [notice] 1#1: reconfiguring".to_owned(),
            RESET.replace(
                "recv() failed (104: Connection reset by peer)",
                "upstream server temporarily disabled",
            ),
            RESET
                .replace("[error]", "[info]")
                .replace("reading response header from upstream", "waiting for request"),
            RESET.replace("recv() failed (104: Connection reset by peer)", "open() \"/x\" failed (2: x)"),
        ];
        let aggregate = read(&lines, Range::default());
        let incidents: u64 = aggregate.topics.iter().map(|cell| cell.count).sum();
        let rest = aggregate.unreadable + aggregate.companions + aggregate.lifecycle;
        assert_eq!((incidents, rest, aggregate.others.iter().sum::<u64>()), (2, 4, 1));
        assert_eq!(aggregate.lines, 7);
        assert_eq!(
            aggregate.window.total(),
            1,
            "a harmless incident is counted, but no pattern is made of it"
        );
    }

    #[test]
    fn the_range_counts() {
        let moment = 1_795_157_013;
        for (since, until, outside) in
            [(Some(moment), Some(moment), 0), (Some(moment + 1), None, 1), (None, Some(moment - 1), 1)]
        {
            let aggregate = read(&[RESET.to_owned()], Range { since, until });
            assert_eq!(aggregate.outside, outside);
        }
    }

    #[test]
    fn a_line_without_a_time_belongs_to_the_one_before_it() {
        let lines = [RESET.to_owned(), "a second line of its message".to_owned()];
        let later = Range { since: Some(1_795_157_014), until: None };
        assert_eq!(read(&lines, later).outside, 2);
        let from_then = Range { since: Some(1_795_157_013), until: None };
        assert_eq!(read(&lines, from_then).outside, 0);
    }

    #[test]
    fn upstreams_that_nobody_holds_any_more_are_still_counted() {
        let lines: Vec<String> = (0..3 * UPSTREAMS)
            .map(|number| {
                RESET.replace("10.0.0.2:8080", &format!("10.0.{}.{}:8080", number / 250, number % 250))
            })
            .collect();
        let aggregate = read(&lines, Range::default());
        let table = aggregate.window.table(Group::BadGateway, Dimension::Upstream);
        assert_eq!(table.total(), lines.len() as u64);
        assert_eq!(table.keys() as u64 + table.other(), lines.len() as u64);
        assert_eq!(table.evicted(), table.other());
    }

    #[test]
    fn every_situation_has_its_group() {
        assert_eq!(group(TopicId::of("upstream_timeout_answer")), Group::GatewayTimeout);
        assert_eq!(group(TopicId::of("upstream_invalid")), Group::BadGateway);
        assert_eq!(group(TopicId::of("worker_exit")), Group::Nginx);
        assert_eq!(group(TopicId::of("client_body_limit")), Group::Nginx);
        assert_eq!(group(TopicId::of("client_reset")), Group::Client);
    }
}
