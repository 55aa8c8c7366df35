//! Two sockets that tell of one failure: the halves of a request whose worker ended, and the client of a stream whose
//! upstream failed. Works from worker and time; the halves share no address.

use std::time::Duration;

use crate::model::{Event, EventKind, HostFacts, Mono, Side};
use crate::timeline::{Incident, Timeline, listens_on};

/// A worker that ends closes its sockets within this time.
const DYING: Duration = Duration::from_millis(500);
/// A request reaches the upstream at most this long after it came from the client: a connection is opened for it first.
const PASSED_ON: Duration = Duration::from_secs(3);
/// Times of sockets are read in ticks of the kernel.
const TICKS: Duration = Duration::from_millis(20);
/// Connections of an ending worker of which halves are looked for; beyond it each is told by itself.
const MOST: usize = 96;
/// Nginx closes the client of a stream in the turn of its loop in which it learns that the upstream failed.
const ONE_TURN: Duration = Duration::from_millis(100);

/// The close of this connection by a worker that was ending.
fn last_close(incident: &Incident) -> Option<&Event> {
    incident.own.iter().find(|event| event.task.is_nginx && event.task.exiting.is_some())
}

/// When the request that was under way came from the client, or went to the upstream. A stream is one request from its
/// begin to its end.
fn asked(incident: &Incident, host: &HostFacts) -> Option<Mono> {
    let (event, socket) = (last_close(incident)?, incident.socket()?);
    let ago = |ms: Option<u32>| ms.map(|ms| event.time.before(Duration::from_millis(ms.into())));
    match socket.side {
        Side::Client if is_stream(incident, host) => socket.opened,
        Side::Client if socket.is_owed() => ago(socket.last_received_ms),
        Side::Upstream => ago(socket.last_sent_ms).or(socket.opened),
        _ => None,
    }
}

/// The other half of the request that was lost with its worker: of all that ended with it, the pairs that are nearest in
/// time. Which of several equal ones it was does not matter to what is said of them.
pub fn lost_with<'a>(
    timeline: &'a Timeline,
    incident: &'a Incident,
    host: &HostFacts,
) -> Option<&'a Incident> {
    let end = last_close(incident)?;
    let around = timeline.around(end.time.before(DYING), end.time.after(DYING)).map(|recent| recent.incident);
    let others = around.filter(|other| other.number != incident.number);
    let same = |other: &&Incident| last_close(other).is_some_and(|close| close.task.pid == end.task.pid);
    let all: Vec<(&Incident, Mono)> = others
        .chain([incident])
        .filter(same)
        .filter_map(|one| Some((one, asked(one, host)?)))
        .take(MOST + 1)
        .collect();
    if all.len() > MOST {
        return None;
    }
    let (clients, upstreams): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(one, _)| one.side() == Some(Side::Client));
    matched(&clients, &upstreams, host).into_iter().find_map(|(client, upstream)| match incident.number {
        number if number == client.number => Some(upstream),
        number if number == upstream.number => Some(client),
        _ => None,
    })
}

/// The nearest first.
fn matched<'a>(
    clients: &[(&'a Incident, Mono)],
    upstreams: &[(&'a Incident, Mono)],
    host: &HostFacts,
) -> Vec<(&'a Incident, &'a Incident)> {
    let mut pairs = Vec::new();
    for (client, came) in clients {
        for (upstream, went) in upstreams {
            let went = if is_stream(client, host) {
                upstream.socket().and_then(|it| it.opened)
            } else {
                Some(*went)
            };
            let went = went.filter(|went| came.before(TICKS) <= *went && *went <= came.after(PASSED_ON));
            if let Some(went) = went {
                pairs.push((went.distance(*came), client.number, upstream.number, *client, *upstream));
            }
        }
    }
    pairs.sort_by_key(|(gap, client, upstream, ..)| (*gap, *client, *upstream));
    let mut taken: Vec<u64> = Vec::new();
    let mut matched = Vec::new();
    for (_, one, other, client, upstream) in pairs {
        if !taken.contains(&one) && !taken.contains(&other) {
            taken.extend([one, other]);
            matched.push((client, upstream));
        }
    }
    matched
}

/// The upstream incident for which Nginx ended this client's connection. A stream has no answer of its own for the client:
/// what the client had sent is unread, and the close resets.
pub fn ended_for<'a>(timeline: &'a Timeline, client: &Incident, host: &HostFacts) -> Option<&'a Incident> {
    let end = client.own.iter().find(|event| event.is_own_reset() && !event.answers_segment())?;
    let no_reset = client.reset_received().is_none() && client.side() == Some(Side::Client);
    if !no_reset || !is_stream(client, host) {
        return None;
    }
    let failed = |one: &&Incident| {
        let before = |event: &Event| {
            let ends = matches!(event.kind, EventKind::ResetReceived | EventKind::Closed { .. });
            ends && event.time <= end.time && end.time.since(event.time) <= ONE_TURN
        };
        one.side() == Some(Side::Upstream) && one.worker() == Some(end.task.pid) && one.own.iter().any(before)
    };
    let around = timeline.around(end.time.before(ONE_TURN), end.time).map(|recent| recent.incident);
    around.filter(failed).max_by_key(|one| (one.last, one.number))
}

/// The configuration is known, and speaks no HTTP where this client came in.
fn is_stream(client: &Incident, host: &HostFacts) -> bool {
    let Some(tuple) = client.tuple() else { return false };
    let nginx = &host.nginx;
    let http = nginx.http_listeners.iter().any(|(listener, _)| listens_on(*listener, tuple.local));
    let is_known = !(nginx.http_listeners.is_empty() && nginx.upstreams.is_empty());
    is_known && !http && nginx.listeners.iter().any(|(listener, _)| listens_on(*listener, tuple.local))
}
