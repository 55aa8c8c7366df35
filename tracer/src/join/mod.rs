//! Which line of error.log speaks of which incident. Pure: pairs in, pairs out.
//!
//! error.log has no local port and second resolution, but it has the worker's pid, the peer's address, the
//! errno and, live, the moment the line appeared; a worker writes its lines in the order of its failures.
//! What cannot be told apart is counted in `candidates`, never guessed silently.

mod access;
mod fact;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::verdict::MatchMethod;
use crate::model::{Clock, Event, LogRecord, LogSide, MessageClass, MessageKind, Mono, Side, Socket};
use crate::timeline::{Incident, canonical};

pub use access::{Access, ended_by, ending};
pub use fact::{Fact, fact};

/// A line may appear this much before the event's time stamp (clock calibration, order of hooks).
pub const EARLY: Duration = Duration::from_millis(50);
/// A line appears at most this much after the event, unless the connection was idle.
pub const LATE: Duration = Duration::from_secs(1);
/// Incidents whose distance to the line differs by less than this cannot be told apart by time:
/// a worker may handle that many events in one turn of its loop before it writes.
const LOOP_LAG: Duration = Duration::from_millis(100);
/// Resolution of the printed time, used when the arrival is not known.
const PRINTED: Duration = Duration::from_secs(1);

/// Nginx answers a request that it refuses, reads on for `lingering_time` (30 s by default), and only then
/// closes: the line comes that much before the reset.
pub const ANNOUNCED: Duration = Duration::from_secs(40);

/// Whether the line says why Nginx is going to close a client connection.
pub fn announces(record: &LogRecord) -> bool {
    let limit = matches!(record.class(), MessageClass::ConfigLimit | MessageClass::InvalidRequest);
    // Such a client is not heard out.
    limit && record.side == LogSide::Client && record.kind != MessageKind::PROXY_PROTOCOL_BROKEN
}

/// A line waiting for its incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Number in the order of arrival.
    pub number: u64,
    /// The line.
    pub record: Box<LogRecord>,
    /// When it appeared; from the printed second when the arrival is not known.
    pub at: Mono,
    /// `at` is only good to a second.
    pub coarse: bool,
    /// The upstream's address, if the line names one.
    upstream: Option<SocketAddr>,
    /// The client's address, if the line names one.
    client: Option<IpAddr>,
    /// `client:` may be somebody behind the other end of the connection (`set_real_ip_from`).
    pub real_ip: bool,
    /// The other end of the client connection, where access.log has told it.
    pub peer: Option<SocketAddr>,
}

impl Line {
    /// A line received at `now`.
    pub fn new(number: u64, record: Box<LogRecord>, now: Mono, clock: Clock, real_ip: bool) -> Self {
        let printed = record.time.map(|time| clock.mono(time));
        let at = record.arrival.or(printed).unwrap_or(now);
        let upstream = record.upstream_addr().map(canonical);
        let client = printed_client(&record).and_then(|client| client.parse::<IpAddr>().ok());
        let client = client.map(|client| client.to_canonical());
        Self { number, coarse: record.arrival.is_none(), record, at, real_ip, upstream, client, peer: None }
    }

    /// Takes the fields from the end of a line that Nginx broke into several, by printing a client's words as they came
    /// (`ngx_proxy_protocol_read`).
    pub fn complete(&mut self, rest: &LogRecord) {
        let record = &mut self.record;
        record.action.clone_from(&rest.action);
        record.client.clone_from(&rest.client);
        record.server.clone_from(&rest.server);
        let client = printed_client(record).and_then(|client| client.parse::<IpAddr>().ok());
        self.client = client.map(|client| client.to_canonical());
    }
}

/// Whether the line is the end of one that was broken, and begins in the middle of it.
pub fn is_rest(record: &LogRecord) -> bool {
    record.level.is_none() && record.action.as_deref() == Some("reading PROXY protocol")
}

/// Keep-alive lines have no `client:` field; the address is in the message (`client ADDR closed keepalive connection`).
fn printed_client(record: &LogRecord) -> Option<&str> {
    let in_message = || record.message.strip_prefix("client ")?.split(' ').next();
    record.client.as_deref().or_else(in_message)
}

/// How well a line fits an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// By what they were joined.
    pub method: MatchMethod,
    /// What Nginx was doing agrees with what the socket had last seen.
    pub agrees: bool,
    /// Line minus event, nanoseconds.
    pub gap_ns: i64,
}

/// A line and the incident it speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The line's number.
    pub line: u64,
    /// The incident's number.
    pub incident: u64,
    /// By what.
    pub fit: Fit,
    /// Incidents the line could have belonged to.
    pub candidates: u32,
}

/// Whether and how a line fits one incident.
pub fn fit(line: &Line, incident: &Incident) -> Option<Fit> {
    incident.tuple()?;
    let record = &line.record;
    if record.kind == MessageKind::PROCESS_EXITED {
        return worker_exit(line, incident);
    }
    // First, because it rules out most: workers share the load.
    let worker = same(record.pid, incident.worker())?;
    // Such a line is written where a connection is accepted; it names nobody.
    let accepting = record.side == LogSide::None && incident.side() == Some(Side::Client);
    let limits = accepting && fact::speaks_of_limits(record.kind);
    // The client's connection goes on; that with the upstream ends.
    let cancelled = record.kind == MessageKind::CLIENT_STREAM_ENDED
        && line.upstream.is_some()
        && incident.side() == Some(Side::Upstream);
    if !limits && !cancelled && !fact::side_fits(record.side, incident.side()) {
        return None;
    }
    if !fact::fits(fact(incident), record.class(), record.errno) {
        return None;
    }
    let address = same_address(line, incident)?;
    let method = if worker && address { MatchMethod::Address } else { MatchMethod::Window };
    let gap_ns = gap(line, incident, window(line, incident, address))?;
    (worker || address).then_some(Fit { method, agrees: agrees(record, incident), gap_ns })
}

/// The master's note that a worker ended, for a connection that this worker held.
fn worker_exit(line: &Line, incident: &Incident) -> Option<Fit> {
    let exiting = |event: &&Event| event.task.is_nginx && event.task.exiting.is_some();
    let pid = incident.own.iter().find(exiting)?.task.pid.to_string();
    let named = line.record.message.split(|c: char| !c.is_ascii_digit()).any(|number| number == pid);
    let gap_ns = gap(line, incident, window(line, incident, false))?;
    named.then_some(Fit { method: MatchMethod::Window, agrees: true, gap_ns })
}

/// `None`: both are known and differ. `Some(false)`: one is not known.
fn same<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<bool> {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).then_some(true),
        _ => Some(false),
    }
}

fn same_address(line: &Line, incident: &Incident) -> Option<bool> {
    let remote = incident.tuple()?.remote;
    match incident.side()? {
        Side::Upstream | Side::UpstreamPeer => match (line.upstream, &line.record.upstream) {
            (Some(address), _) => (address == remote).then_some(true),
            // A unix socket is another connection; a group's name leaves the address open.
            (None, Some(name)) => (!name.starts_with("unix:")).then_some(false),
            (None, None) => Some(false),
        },
        Side::Client | Side::ClientPeer if line.peer.is_some() => (line.peer == Some(remote)).then_some(true),
        Side::Client | Side::ClientPeer => {
            let other_end = same(line.client, Some(remote.ip()));
            if line.real_ip { Some(other_end.unwrap_or(false)) } else { other_end }
        }
    }
}

/// What Nginx was doing agrees with what the socket had last seen, and the errno with how it ended. TLS records blur both,
/// so this only ranks.
fn agrees(record: &LogRecord, incident: &Incident) -> bool {
    let Some(socket) = incident.socket() else { return false };
    if pooled_probe(record) {
        return !socket.awaits_answer();
    }
    let action = record.action.as_deref().unwrap_or("");
    let is_doing = match () {
        () if action.contains("response header") => socket.awaits_answer(),
        () if action == "reading upstream" => socket.bytes_received > 0 && !socket.awaits_answer(),
        () => true,
    };
    is_doing && ends_alike(record, incident)
}

/// Without TLS an orderly end prints no errno, and a RST prints one.
fn ends_alike(record: &LogRecord, incident: &Incident) -> bool {
    const IN_CLEAR: [&str; 5] = ["http://", "fastcgi://", "uwsgi://", "scgi://", "grpc://"];
    let url = record.upstream_url.as_deref().unwrap_or("");
    let is_clear = IN_CLEAR.iter().any(|scheme| url.starts_with(scheme));
    let is_end = record.class() == MessageClass::ClosedEarly && record.errno.is_none();
    !(is_clear && is_end) || incident.reset_received().is_none()
}

/// Nginx probed a pooled connection before using it again and found it reset (`ngx_http_upstream_test_connect`).
pub fn pooled_probe(record: &LogRecord) -> bool {
    record.kind == MessageKind::CONNECT_FAILED && record.errno == Some(104)
}

/// Distance from the nearest event of the incident that the line may follow, if it is inside the window.
fn gap(line: &Line, incident: &Incident, (early, late): (Duration, Duration)) -> Option<i64> {
    let fits = |event: &Mono| event.before(early) <= line.at && line.at <= event.after(late);
    let events = incident.own.iter().chain(&incident.peer).map(|event| event.time);
    events.filter(fits).map(|event| difference(line.at, event)).min_by_key(|gap| gap.unsigned_abs())
}

/// How much before and after an event the line may appear. What announces a close comes first, and long before it only
/// where the addresses say that it is this client's: within that time the worker closes many.
fn window(line: &Line, incident: &Incident, address: bool) -> (Duration, Duration) {
    let (early, late) =
        if line.coarse { (PRINTED + given_up_before(incident), PRINTED * 2) } else { (EARLY, LATE) };
    let (early, late) = match (announces(&line.record), address || !line.real_ip) {
        (true, true) => (ANNOUNCED, late),
        (true, false) => (LATE, early),
        (false, _) => (early, late),
    };
    // A pooled connection keeps its error until Nginx takes it out of the pool again.
    let pooled = pooled_probe(&line.record);
    let idle = incident.socket().is_some_and(|socket| !socket.awaits_answer());
    // And so does one that Nginx does not read, because its client takes no more.
    let unread = incident.reset_received().and(incident.socket()).is_some_and(|socket| socket.unread > 0);
    if (pooled && idle) || unread { (early, late.max(Duration::from_mins(1))) } else { (early, late) }
}

/// A capture does not show when Nginx gave up what is sent again and again, but that it was not after the last copy.
fn given_up_before(incident: &Incident) -> Duration {
    const MOST: Duration = Duration::from_mins(2);
    let unheard = incident.closed().and(incident.socket());
    Duration::from_millis(unheard.map_or(0, Socket::retransmission_span_ms).into()).min(MOST)
}

fn difference(line: Mono, event: Mono) -> i64 {
    let distance = i64::try_from(line.distance(event).as_nanos()).unwrap_or(i64::MAX);
    if line >= event { distance } else { -distance }
}

/// Assigns lines to incidents: in the order of the lines, each takes the best incident that is still free;
/// among equals the earliest.
#[cfg(test)]
pub fn assign(lines: &[&Line], incidents: &[&Incident]) -> Vec<Pair> {
    pairs(lines, incidents).collect()
}

/// The pair of one incident in that assignment.
pub fn partner(lines: &[&Line], incidents: &[&Incident], incident: u64) -> Option<Pair> {
    pairs(lines, incidents).find(|pair| pair.incident == incident)
}

/// The pair of one line against incidents that are all free.
pub fn best(line: &Line, incidents: &[&Incident]) -> Option<Pair> {
    pairs(&[line], incidents).next()
}

/// Lines that name an incident's address come before those that may mean somebody else's, and of these the ones that
/// print an errno first: one failure may be followed by a second line about the close, which prints none.
fn pairs(lines: &[&Line], incidents: &[&Incident]) -> impl Iterator<Item = Pair> {
    let fits = |line: &&Line| -> Vec<(usize, Fit)> {
        let each = incidents.iter().enumerate();
        each.filter_map(|(index, incident)| Some((index, fit(line, incident)?))).collect()
    };
    let unnamed = |fits: &[(usize, Fit)]| fits.iter().all(|(_, fit)| fit.method == MatchMethod::Window);
    let mut ordered: Vec<(&Line, Vec<(usize, Fit)>)> = lines.iter().map(|line| (*line, fits(line))).collect();
    ordered.sort_by_key(|(line, fits)| (unnamed(fits), line.record.errno.is_none(), line.number));
    let mut taken = vec![false; incidents.len()];
    ordered.into_iter().filter_map(move |(line, mut fits)| {
        fits.retain(|(index, _)| !taken[*index]);
        let (index, fit, candidates) = choose(&fits, incidents)?;
        taken[index] = true;
        Some(Pair { line: line.number, incident: incidents[index].number, fit, candidates })
    })
}

fn choose(fits: &[(usize, Fit)], incidents: &[&Incident]) -> Option<(usize, Fit, u32)> {
    let strength = fits.iter().map(|(_, fit)| rank(*fit)).max()?;
    let equal: Vec<&(usize, Fit)> = fits.iter().filter(|(_, fit)| rank(*fit) == strength).collect();
    let nearest = equal.iter().map(|(_, fit)| fit.gap_ns.unsigned_abs()).min()?;
    let limit = nearest.saturating_add(u64::try_from(LOOP_LAG.as_nanos()).unwrap_or(u64::MAX));
    let close: Vec<&(usize, Fit)> =
        equal.into_iter().filter(|(_, fit)| fit.gap_ns.unsigned_abs() <= limit).collect();
    let count = u32::try_from(close.len()).unwrap_or(u32::MAX);
    let (index, fit) =
        close.into_iter().min_by_key(|(index, _)| (incidents[*index].first, incidents[*index].number))?;
    Some((*index, *fit, count))
}

fn rank(fit: Fit) -> (u8, bool) {
    let method = match fit.method {
        MatchMethod::Syscall => 2,
        MatchMethod::Address => 1,
        MatchMethod::Window => 0,
    };
    (method, fit.agrees)
}

#[cfg(test)]
mod tests;
