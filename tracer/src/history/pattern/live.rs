//! Verdicts as events of the pattern module, so that patterns are found while a session runs.
//!
//! [`VerdictEvent::of`] says what a verdict counts as, [`Recent`] holds the events of the last hours in bounded memory
//! and gives the [`Window`] that [`super::find`] looks at. Pure: the time is the caller's; nothing here judges.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::window::{Dimension, Event, Group, Window};
use crate::history::key;
use crate::model::Verdict;
use crate::model::verdict::{Cause, Connection, ConnectionSide, Impact, Kind, Party, Segment};
use crate::nginx::line::upstream_address;

/// What a verdict counts as: an [`Event`] that owns its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictEvent {
    /// Seconds of UTC.
    pub time: Option<i64>,
    /// Its kind.
    pub group: Group,
    /// Address of the upstream, or the name of its group.
    pub upstream: Option<String>,
    /// Method and pattern of the URI.
    pub uri: Option<Vec<u8>>,
    /// Network of the client.
    pub network: Option<Vec<u8>>,
    /// Name of the server block.
    pub server: Option<String>,
    /// Process id of the worker, big-endian as in [`super::Dimension::Worker`].
    pub worker: Option<[u8; 4]>,
}

impl VerdictEvent {
    /// `None` for what is not counted: harmless incidents, and consequences of others.
    pub fn of(verdict: &Verdict) -> Option<Self> {
        if verdict.impact == Impact::Harmless || verdict.consequence_of.is_some() {
            return None;
        }
        let log = verdict.log.as_ref();
        let request = log.and_then(|log| log.request.as_deref());
        Some(Self {
            time: verdict.time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second),
            group: group(verdict),
            upstream: upstream(verdict),
            uri: request.map(|request| written(|out| key::uri_pattern(request.as_bytes(), out))),
            network: client(verdict).map(|client| written(|out| key::network(client.as_bytes(), out))),
            server: log.and_then(|log| log.server.clone()),
            worker: worker(verdict).map(u32::to_be_bytes),
        })
    }

    /// The event.
    pub fn event(&self) -> Event<'_> {
        Event {
            time: self.time,
            group: self.group,
            keys: [
                self.upstream.as_deref().map(str::as_bytes),
                self.uri.as_deref(),
                self.network.as_deref(),
                self.server.as_deref().map(str::as_bytes),
                self.worker.as_ref().map(<[u8; 4]>::as_slice),
            ],
        }
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// Which kind of trouble a verdict is.
fn group(verdict: &Verdict) -> Group {
    let is_limit_of_answer =
        verdict.cause == Cause::NginxConfig && side(verdict) == Some(ConnectionSide::Upstream);
    if verdict.party == Party::Nginx && !is_limit_of_answer {
        return Group::Nginx;
    }
    match side(verdict) {
        Some(ConnectionSide::Client) => Group::Client,
        _ if is_timeout(verdict) => Group::GatewayTimeout,
        _ => Group::BadGateway,
    }
}

/// Whose connection failed; without one, where the fault lies and what the line names.
fn side(verdict: &Verdict) -> Option<ConnectionSide> {
    if let Some(connection) = &verdict.connection {
        return Some(connection.side);
    }
    match verdict.segment {
        Segment::ClientNginx => Some(ConnectionSide::Client),
        Segment::NginxUpstream | Segment::Upstream => Some(ConnectionSide::Upstream),
        Segment::Nginx | Segment::Unknown => {
            verdict.log.as_ref().and_then(|log| log.upstream.as_ref()).map(|_| ConnectionSide::Upstream)
        }
    }
}

/// `ETIMEDOUT`, which Nginx prints for its own timers, too.
const TIMED_OUT: i32 = 110;

fn is_timeout(verdict: &Verdict) -> bool {
    let says_timeout = || verdict.log.as_ref().is_some_and(|log| log.errno == Some(TIMED_OUT));
    verdict.kind == Kind::Timeout || verdict.cause == Cause::UpstreamSlow || says_timeout()
}

fn upstream(verdict: &Verdict) -> Option<String> {
    let listener = || {
        let is_upstreams = verdict.cause == Cause::UpstreamListenOverflow;
        verdict.listener.as_ref().filter(|_| is_upstreams).map(|listener| listener.address.clone())
    };
    let from_log = || {
        let printed = verdict.log.as_ref()?.upstream.as_deref()?;
        upstream_address(printed).map(str::to_owned)
    };
    remote(verdict, ConnectionSide::Upstream).map(str::to_owned).or_else(listener).or_else(from_log)
}

/// Address of the client without its port. The line's counts, for it is that of the user behind a balancer.
fn client(verdict: &Verdict) -> Option<String> {
    let from_log = verdict.log.as_ref().and_then(|log| log.client.clone());
    from_log.or_else(|| {
        let remote: SocketAddr = remote(verdict, ConnectionSide::Client)?.parse().ok()?;
        Some(remote.ip().to_string())
    })
}

fn worker(verdict: &Verdict) -> Option<u32> {
    let owner = verdict.connection.as_ref().and_then(|connection| connection.owner.as_ref());
    verdict.log.as_ref().and_then(|log| log.pid).or_else(|| owner.map(|owner| owner.pid))
}

fn remote(verdict: &Verdict, side: ConnectionSide) -> Option<&str> {
    let of = |connection: &Option<Connection>| connection.as_ref().is_some_and(|one| one.side == side);
    let both = [&verdict.connection, &verdict.peer_connection];
    let connection = both.into_iter().find(|connection| of(connection))?;
    connection.as_ref().map(|connection| connection.remote.as_str())
}

/// A key that many events have, kept once.
type Key = Arc<[u8]>;

/// Keys beyond which those that no event has any more are looked for.
const KEYS: usize = 1024;

/// An event as it is kept: weeks of them, and most with the keys of others.
#[derive(Debug)]
struct Kept {
    time: Option<i64>,
    group: Group,
    keys: [Option<Key>; Dimension::ALL.len()],
}

impl Kept {
    fn event(&self) -> Event<'_> {
        Event { time: self.time, group: self.group, keys: self.keys.each_ref().map(Option::as_deref) }
    }
}

/// Keys of the events that are kept, each once.
#[derive(Debug)]
struct Keys {
    all: HashSet<Key>,
    /// How many there may be before unused ones are looked for.
    room: usize,
}

impl Keys {
    fn one(&mut self, key: &[u8]) -> Key {
        if let Some(known) = self.all.get(key) {
            return Arc::clone(known);
        }
        if self.all.len() >= self.room {
            self.all.retain(|key| Arc::strong_count(key) > 1);
            self.room = KEYS.max(self.all.len() * 2);
        }
        let key: Key = key.into();
        self.all.insert(Arc::clone(&key));
        key
    }
}

/// The events of the last while, oldest first.
#[derive(Debug)]
pub struct Recent {
    events: VecDeque<Kept>,
    keys: Keys,
    marks: VecDeque<i64>,
    keep: i64,
    most: usize,
    since: Option<i64>,
    dropped: u64,
}

impl Recent {
    /// Holds events for `keep` seconds, `most` of them at the same time.
    pub fn new(keep: i64, most: usize) -> Self {
        Self {
            events: VecDeque::new(),
            keys: Keys { all: HashSet::new(), room: KEYS },
            marks: VecDeque::new(),
            keep,
            most: most.max(1),
            since: None,
            dropped: 0,
        }
    }

    /// Adds an event. When there is no room the oldest goes and is counted.
    pub fn add(&mut self, event: &VerdictEvent) {
        if self.events.len() >= self.most {
            self.since = self.events.pop_front().and_then(|event| event.time).or(self.since);
            self.dropped += 1;
        }
        let Event { time, group, keys } = event.event();
        let keys = keys.map(|key| key.map(|key| self.keys.one(key)));
        self.events.push_back(Kept { time, group, keys });
    }

    /// A process of Nginx started, ended or was told to at `time`, seconds of UTC.
    pub fn mark(&mut self, time: i64) {
        if self.marks.len() >= self.most {
            self.marks.pop_front();
        }
        self.marks.push_back(time);
    }

    /// Events that had to go before their time.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets what is too old and counts the rest. `started` is when watching began, `now` the time, both in seconds
    /// of UTC: silence between the two is part of what is looked at.
    pub fn window(&mut self, started: i64, now: i64) -> Window {
        let oldest = now - self.keep;
        self.marks.retain(|mark| *mark >= oldest);
        let marks: Vec<i64> = self.marks.iter().copied().collect();
        self.window_with(started, now, &marks)
    }

    /// The same with other moments than the changes of Nginx's processes.
    pub fn window_with(&mut self, started: i64, now: i64, marks: &[i64]) -> Window {
        let oldest = now - self.keep;
        self.events.retain(|event| event.time.is_none_or(|time| time >= oldest));
        let mut window = Window::default();
        // Before the last event that had to go, nothing is known.
        window.cover(started.max(oldest).max(self.since.unwrap_or(oldest)));
        window.cover(now);
        for mark in marks {
            window.mark(*mark);
        }
        self.events.iter().for_each(|event| window.add(&event.event()));
        window
    }
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;
    use crate::output::samples;

    #[test]
    fn every_kind_of_verdict_has_its_group() {
        for (verdict, group) in [
            (samples::upstream_abort(), Some(Group::BadGateway)),
            (samples::keepalive_race(), Some(Group::BadGateway)),
            (samples::slow(), Some(Group::GatewayTimeout)),
            (samples::forged_reset(), Some(Group::BadGateway)),
            (samples::no_live_upstreams(), Some(Group::BadGateway)),
            (samples::client_abort(), Some(Group::Client)),
            (samples::listen_overflow(), Some(Group::Nginx)),
            (samples::client_late_reset(), None),
            (samples::consequence(), None),
        ] {
            assert_eq!(VerdictEvent::of(&verdict).map(|event| event.group), group, "{}", verdict.summary);
        }
    }

    #[test]
    fn keys_are_those_of_a_log() {
        let event = VerdictEvent::of(&samples::keepalive_race()).expect("it counts");
        assert_eq!(event.time, Some(1_772_373_802));
        assert_eq!(event.upstream.as_deref(), Some("10.0.1.10:8080"));
        assert_eq!(event.uri.as_deref(), Some(&b"GET /api/orders/{n}"[..]));
        assert_eq!(event.network.as_deref(), Some(&b"198.51.100.0/24"[..]));
        assert_eq!(event.server.as_deref(), Some("shop.example"));
        assert_eq!(event.worker, Some(813_u32.to_be_bytes()));
    }

    #[test]
    fn without_a_line_the_connections_give_the_keys() {
        let mut verdict = samples::keepalive_race();
        verdict.log = None;
        let event = VerdictEvent::of(&verdict).expect("it counts");
        assert_eq!(event.network.as_deref(), Some(&b"198.51.100.0/24"[..]));
        assert_eq!((event.uri, event.worker), (None, Some(813_u32.to_be_bytes())));
    }

    fn at(time: i64) -> VerdictEvent {
        VerdictEvent { time: Some(time), ..VerdictEvent::of(&samples::upstream_abort()).expect("it counts") }
    }

    #[test]
    fn live_verdicts_show_a_period() {
        let start = 1_760_000_000;
        let mut recent = Recent::new(86_400, 10_000);
        for hour in 0..20 {
            (0..5).for_each(|second| recent.add(&at(start + hour * 3600 + second)));
        }
        let window = recent.window(start, start + 20 * 3600);
        let findings = find(&window);
        let slugs: Vec<_> = findings.iter().map(|finding| finding.pattern.slug()).collect();
        assert_eq!(slugs, ["periodic"], "{findings:?}");
        assert_eq!(window.table(Group::BadGateway, Dimension::Upstream).keys(), 1);
    }

    #[test]
    fn keys_are_kept_once_and_go_with_their_events() {
        let mut recent = Recent::new(100, 10);
        (0..5).for_each(|second| recent.add(&at(1_760_000_000 + second)));
        let of_all = recent.keys.all.len();
        assert!(of_all > 0 && of_all <= Dimension::ALL.len(), "{:?}", recent.keys.all);
        for number in 0..4 * KEYS {
            let uri = Some(format!("GET /{number}").into_bytes());
            recent.add(&VerdictEvent { uri, ..at(1_760_000_010) });
        }
        assert!(recent.keys.all.len() <= KEYS + 10, "{}", recent.keys.all.len());
        assert!(recent.keys.all.contains(format!("GET /{}", 4 * KEYS - 1).as_bytes()));
    }

    #[test]
    fn old_events_go_and_room_is_bounded() {
        let mut recent = Recent::new(100, 3);
        (0..5).for_each(|second| recent.add(&at(1_760_000_000 + second)));
        assert_eq!(recent.dropped(), 2);
        let window = recent.window(1_759_999_000, 1_760_000_010);
        assert_eq!((window.total(), window.span()), (3, Some((1_760_000_001, 1_760_000_010))));
        assert_eq!(recent.window(1_759_999_000, 1_760_000_103).total(), 2);
    }
}
