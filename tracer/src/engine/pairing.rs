//! The two halves of a proxied request: which client incident made Nginx drop an upstream connection.
//! Works from worker, thread and time; the halves share no address.

use std::time::Duration;

use super::together;
use crate::judge::{CausedBy, is_doubtful};
use crate::model::{Event, EventKind, HostFacts, Mono, Side, Socket, TcpState};
use crate::timeline::{Incident, Timeline};

/// A worker drops the upstream leg in the turn of its loop in which it learns that the client is gone.
const CONSEQUENCE: Duration = Duration::from_millis(50);
/// Upstream and client socket of one request are closed in one go.
const ONE_GO: Duration = Duration::from_millis(10);

/// Nginx's own end of a connection: a close, or a reset the worker sent.
pub fn own_end(incident: &Incident) -> Option<&Event> {
    if incident.side() != Some(Side::Upstream) || incident.reset_received().is_some() {
        return None;
    }
    incident.own.iter().find(|event| match event.kind {
        EventKind::Closed { .. } | EventKind::ResetSeen { .. } => true,
        EventKind::ResetSent { .. } => event.task.is_own(),
        _ => false,
    })
}

/// When Nginx gave up the connection of its own accord. What the other end does later is not the cause.
pub fn given_up(incident: &Incident) -> Option<Mono> {
    let open = |old: TcpState| matches!(old, TcpState::Established | TcpState::SynSent);
    let gave_up = |event: &&Event| match event.kind {
        EventKind::Closed { old, .. } => event.task.is_own() && open(old),
        EventKind::ResetSent { .. } => event.task.is_own(),
        _ => false,
    };
    incident.own.iter().find(gave_up).map(|event| event.time)
}

/// When and on which worker a client ended a connection that had carried data.
fn client_end(incident: &Incident) -> Option<(Mono, u32)> {
    let reset = incident.reset_received()?;
    let carried = incident.socket().is_some_and(|socket| socket.bytes_received > 0);
    let client = incident.side() == Some(Side::Client) && carried;
    // A capture knows no workers; there every event has the pid zero, which no live one has.
    client.then_some((reset.time, incident.worker().unwrap_or(0)))
}

/// Something the client had asked for was under way when it left.
fn in_flight(client: &Incident) -> bool {
    client.socket().is_some_and(Socket::is_owed)
}

/// The client incident behind the end of an upstream connection: the nearest before it on the same worker,
/// one with a request under way before one without.
pub fn cause(timeline: &Timeline, upstream: &Incident) -> Option<CausedBy> {
    let near = clients_before(timeline, None, own_end(upstream)?);
    let (gap, incident) = near.first()?;
    Some(CausedBy {
        id: incident.id.clone(),
        socket: incident.socket().cloned(),
        after_us: u64::try_from(gap.as_micros()).unwrap_or(u64::MAX),
        candidates: u32::try_from(near.len()).unwrap_or(u32::MAX),
        doubtful: is_doubtful(incident),
    })
}

/// Clients that left in the turn of the loop in which the worker ended the upstream connection, likeliest first;
/// `also` is one that is being judged.
fn clients_before<'a>(
    timeline: &'a Timeline,
    also: Option<&'a Incident>,
    end: &Event,
) -> Vec<(Duration, &'a Incident)> {
    let recent = timeline.around(end.time.before(CONSEQUENCE), end.time).map(|recent| recent.incident);
    let mut near: Vec<(Duration, &Incident)> = recent
        .chain(also)
        .filter_map(|incident| Some((client_end(incident)?, incident)))
        .filter(|((time, worker), _)| *worker == end.task.pid && *time <= end.time)
        .map(|((time, _), incident)| (end.time.since(time), incident))
        .filter(|(gap, _)| *gap <= CONSEQUENCE)
        .collect();
    if near.iter().any(|(_, client)| in_flight(client)) || was_left(timeline, end) {
        near.retain(|(_, client)| in_flight(client));
    }
    near.sort_by_key(|(gap, client)| (*gap, client.number));
    near
}

/// Upstream ends that the reset of this client caused, earliest first.
pub fn effects<'a>(timeline: &'a Timeline, client: &'a Incident, host: &HostFacts) -> Vec<&'a Event> {
    let mut effects: Vec<&Event> = client.other_half.iter().map(|event| &**event).collect();
    if client.side() == Some(Side::Client)
        && let Some(upstream) = together::lost_with(timeline, client, host)
    {
        effects.extend(upstream.own.first());
    }
    effects.extend(dropped_with(timeline, client));
    let Some((time, worker)) = client_end(client) else { return effects };
    let caused = |end: &&Event| {
        let near = clients_before(timeline, Some(client), end);
        near.first().is_some_and(|(_, first)| first.number == client.number)
    };
    let unexplained = timeline.around(time, time.after(CONSEQUENCE)).filter(|recent| !recent.logged);
    let ends = unexplained.filter_map(|recent| own_end(recent.incident));
    let close =
        ends.filter(|end| end.task.pid == worker && time <= end.time && end.time.since(time) <= CONSEQUENCE);
    effects.extend(close.filter(caused));
    effects.sort_by_key(|event| event.time);
    effects
}

/// The upstream connection that Nginx dropped right before its close reset a client that had left (FIN).
fn dropped_with<'a>(timeline: &'a Timeline, client: &Incident) -> Option<&'a Event> {
    let left =
        |event: &&Event| event.is_own_reset() && event.socket.as_ref().is_some_and(|it| it.fin_received);
    let reset = client.own.iter().filter(|_| client.side() == Some(Side::Client)).find(left)?;
    let ends = timeline.around(reset.time.before(ONE_GO), reset.time).filter(|recent| !recent.logged);
    ends.filter_map(|recent| own_end(recent.incident)).filter(|end| is_in_one_go(end, reset)).last()
}

/// The thread that ended the upstream connection did this right after it.
fn is_in_one_go(end: &Event, event: &Event) -> bool {
    event.task.tid == end.task.tid && event.time >= end.time && event.time.since(end.time) <= ONE_GO
}

/// The thread that ended the upstream connection closed a client right after it that had sent FIN and waited: the end
/// belongs to that one.
fn was_left(timeline: &Timeline, end: &Event) -> bool {
    let left = |event: &Event| {
        let closed = matches!(event.kind, EventKind::Closed { old: TcpState::CloseWait, .. });
        let reset = event.is_own_reset() && event.socket.as_ref().is_some_and(|socket| socket.fin_received);
        (closed || reset) && is_in_one_go(end, event)
    };
    let mut recent = timeline.around(end.time, end.time.after(ONE_GO)).map(|recent| recent.incident);
    recent.any(|one| one.side() == Some(Side::Client) && in_flight(one) && one.own.iter().any(left))
}

/// The living incident of a client that had sent FIN and whose socket the same thread closed right after this
/// upstream connection: one failure, told once, as the client's.
pub fn one_go(timeline: &Timeline, upstream: &Incident) -> Option<u64> {
    let end = own_end(upstream)?;
    let closed = |incident: &&Incident| {
        incident.side() == Some(Side::Client)
            && incident.own.iter().any(|event| {
                matches!(event.kind, EventKind::Closed { old: TcpState::CloseWait, .. })
                    && is_in_one_go(end, event)
            })
    };
    let recent = timeline.around(end.time, end.time.after(ONE_GO)).map(|recent| recent.incident);
    recent.filter(|incident| timeline.is_living(incident.number)).find(closed).map(|incident| incident.number)
}

/// A client that had stopped or left, and that Nginx's close reset right after it had dropped the upstream connection in the
/// same turn (`ngx_http_close_connection`): that is told as the client's, and nothing was the matter with the upstream.
pub fn is_dropped_with_client(timeline: &Timeline, upstream: &Incident) -> bool {
    let Some(end) = own_end(upstream) else { return false };
    let with_it = |event: &Event| {
        let for_it = event.socket.as_ref().is_some_and(|socket| socket.linger_zero || socket.fin_received);
        event.is_own_reset() && for_it && is_in_one_go(end, event)
    };
    let mut recent = timeline.around(end.time, end.time.after(ONE_GO)).map(|recent| recent.incident);
    recent.any(|one| {
        one.side() == Some(Side::Client) && one.reset_received().is_none() && one.own.iter().any(with_it)
    })
}
