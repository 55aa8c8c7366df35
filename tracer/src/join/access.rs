//! Which line of access.log tells how the request of an incident ended. Pure.
//!
//! Best are numbers: `$connection` is the `*N` of error.log, and `$remote_port` makes the client's address unique.
//! Without them, as in `combined`, a line is taken only when client, request and upstream agree and no other line does;
//! where error.log is silent, as it is about clients at its default level, only when it tells of a request that this
//! client broke off at that very moment and no other line does.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{AccessRecord, Clock, Event, EventKind, LogRecord, Mono, Side, Socket};
use crate::timeline::{Incident, Subject};

/// A request is logged when it ends; at most this much before the kernel's event is a matter of clocks.
const EARLY: Duration = Duration::from_millis(100);
/// Nginx writes the line at the end of the request, which follows the failure closely unless it is retried.
const LATE: Duration = Duration::from_secs(10);
/// A request that the client itself broke off ends at once; more is the reading of the file.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A line is read this much after it was written where nothing else goes on.
const PROMPTLY: Duration = Duration::from_millis(300);
/// See `ended_by`.
const SILENT_MS: u32 = 500;

/// A line of access.log and when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// The line.
    pub record: AccessRecord,
    /// When it appeared; from the printed time when the arrival is not known.
    pub at: Mono,
}

impl Access {
    /// A line received at `now`.
    pub fn new(record: AccessRecord, now: Mono, clock: Clock) -> Self {
        let printed = record.time.map(|time| clock.mono(time));
        Self { at: record.arrival.or(printed).unwrap_or(now), record }
    }
}

/// How sure it is that a line belongs to an incident, the better the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Address,
    Words,
    Numbers,
}

/// The line that tells how the request of an incident ended. `line` is its line of error.log.
pub fn ending<'a>(
    lines: impl Iterator<Item = &'a Access>,
    incident: &Incident,
    line: Option<&LogRecord>,
) -> Option<&'a AccessRecord> {
    let line = line.or(match &incident.subject {
        Subject::Line(record) => Some(record),
        Subject::Connection(_) | Subject::Listener(..) => None,
    });
    let mut fits: Vec<(Fit, &Access)> =
        lines.filter_map(|access| Some((fit(access, incident, line)?, access))).collect();
    let best = fits.iter().map(|(fit, _)| *fit).max()?;
    fits.retain(|(fit, _)| *fit == best);
    // On a kept-alive connection several requests end; the one that failed ends first after the failure.
    let (_, first) = *fits.iter().min_by_key(|(_, access)| access.at)?;
    let is_clear = best == Fit::Numbers || fits.len() == 1;
    is_clear.then_some(&first.record)
}

fn fit(access: &Access, incident: &Incident, line: Option<&LogRecord>) -> Option<Fit> {
    let is_near = access.at.after(EARLY) >= incident.first && access.at <= incident.last.after(LATE);
    if !is_near {
        return None;
    }
    let record = &access.record;
    if let (Some(ours), Some(theirs)) = (line.and_then(|line| line.connection), record.connection) {
        return (ours == theirs && agree(line, record)).then_some(Fit::Numbers);
    }
    let remote = incident.tuple().filter(|_| incident.side() == Some(Side::Client)).map(|tuple| tuple.remote);
    if let (Some(remote), Some(peer)) = (remote, record.peer()) {
        return (remote == peer).then_some(Fit::Numbers);
    }
    let Some(line) = line else { return by_address(access, incident, remote?.ip()) };
    let client = line.client.as_deref().and_then(|client| client.parse().ok());
    let is_client = client.is_some() && (client == record.client || client == record.behind);
    let has_request = line.request.is_some() && line.request == record.request;
    let tried = |upstream: &String| record.attempts.iter().any(|one| one.address.as_ref() == Some(upstream));
    let is_upstream = record.attempts.is_empty() || line.upstream.as_ref().is_none_or(tried);
    (is_client && has_request && is_upstream).then_some(Fit::Words)
}

/// A request that this client broke off while its connection failed: by its status, or because it ended just then although
/// nothing had been sent for a while.
fn by_address(access: &Access, incident: &Incident, client: IpAddr) -> Option<Fit> {
    let record = &access.record;
    let is_client = [record.client, record.behind].contains(&Some(client.to_canonical()));
    let is_at_once = access.at <= incident.last.after(AT_ONCE);
    let ended = record.is_broken_off() || ended_with(access, incident);
    (is_client && is_at_once && ended).then_some(Fit::Address)
}

/// The line came right after the client's RST, and its request is as old as the silence before: another connection of the same
/// address may have ended one then.
fn ended_with(access: &Access, incident: &Incident) -> bool {
    let Some((reset, socket)) = incident.reset_received().zip(incident.socket()) else { return false };
    let time = ended_by(reset, socket);
    let in_time = access.record.arrival.zip(time).is_some_and(|(arrival, time)| time.contains(&arrival));
    in_time && socket.idle_ms().is_some_and(|idle| access.record.lasted(idle))
}

/// When a request of this client is logged that its RST ended. Only of a connection that had been silent for longer than it
/// takes to read a line: what was complete before has been logged before.
pub fn ended_by(reset: &Event, socket: &Socket) -> Option<RangeInclusive<Mono>> {
    let was_silent = socket.idle_ms().is_some_and(|idle| idle >= SILENT_MS);
    let is_reset = matches!(reset.kind, EventKind::ResetReceived);
    (is_reset && was_silent).then(|| reset.time..=reset.time.after(PROMPTLY))
}

/// One connection carries several requests; where both lines name theirs, it has to be the same.
fn agree(line: Option<&LogRecord>, record: &AccessRecord) -> bool {
    match (line.and_then(|line| line.request.as_ref()), &record.request) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    }
}
