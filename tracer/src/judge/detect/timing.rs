//! Moments: an answer that came too soon for the peer, a reset or FIN that met a reused connection, and a
//! wait as long as a configured timer. One clock, this host's; does not need the peer's.

use std::time::Duration;

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Event, EventKind, Packet, Socket, TcpFlags, TcpState};
use crate::timeline::Subject;

use super::hop;

/// Below this silence a connection was in use, not idle in Nginx's pool.
const REUSE_AFTER_MS: u32 = 500;
/// Round trips shorter than this are too near the resolution of the clocks for timing evidence.
const SHORTEST_RTT_US: u32 = 1_000;
/// Handshakes of the peer needed before its fastest one counts.
const HANDSHAKES: u32 = 5;
/// `lsndtime` counts jiffies; 100 Hz is the coarsest kernel in use.
const JIFFY_US: u64 = 10_000;
/// The longest that an ACK waits for data to go with (`TCP_DELACK_MAX`).
const DELAYED_ACK: Duration = Duration::from_millis(200);
/// `proxy_read_timeout` when nothing is configured, milliseconds.
const DEFAULT_READ_TIMEOUT_MS: u64 = 60_000;

/// Adds the findings about time.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    findings.extend(syn_answered_too_soon(case));
    findings.extend(data_answered_too_soon(case));
    findings.extend(race(case));
    findings.extend(waited_timeout(case));
}

/// T-syn: the RST came in less than half the fastest handshake this address ever did. Another host may answer for the
/// same address (a balancer, ECMP, anycast), so that this alone proves nothing.
fn syn_answered_too_soon(case: &Case) -> Option<Finding> {
    let reset = case.incident.reset_received()?;
    let socket = case.socket()?;
    let history = socket.peer_history?;
    let fastest = history.min_handshake_us;
    if case.state() != TcpState::SynSent || history.handshakes < HANDSHAKES || fastest < SHORTEST_RTT_US {
        return None;
    }
    let delay = reset.time.since(socket.opened?);
    // A repeated SYN may have been the one answered.
    let soon = socket.retransmits == 0 && delay < Duration::from_micros(u64::from(fastest / 2));
    soon.then(|| Finding { decisive: false, ..too_soon(delay, fastest) })
}

/// T-ack: the RST acknowledges data that left less than half a round trip ago, or can answer nothing older. The shortest
/// round trip of one connection may be long by accident: its SYN had to wait for ARP or for a switch to learn the flow.
/// It counts where other connections to the address were not faster.
fn data_answered_too_soon(case: &Case) -> Option<Finding> {
    let packet = case.reset_packet()?;
    let socket = case.socket().filter(|socket| socket.unacked > 0 && socket.retransmits_pending == 0)?;
    let history = socket.peer_history.filter(|history| history.handshakes >= HANDSHAKES)?;
    let fastest = socket.min_rtt_us.min(history.min_handshake_us);
    let acknowledged = packet.flags.has(TcpFlags::ACK) && packet.ack == socket.snd_nxt;
    let newest = acknowledged || answers_newest(case, packet, socket);
    if case.connecting() || !newest || fastest < SHORTEST_RTT_US {
        return None;
    }
    let (age, error) = age_of_newest(case, socket)?;
    let soon = age + error < Duration::from_micros(u64::from(fastest / 2));
    // A path that became shorter meanwhile brings the peer's own answer sooner, and from another distance: one fact.
    let steady = hop::is_opened_now(case);
    // A SYN may be slower than data on every connection: switches and firewalls look at it, and remember the flow. What
    // acknowledges nothing may have been sent without being asked.
    let data_was_timed = socket.bytes_acked > 1;
    let decisive = steady && acknowledged && data_was_timed && packet.timestamps.is_none();
    (soon && (steady || !hop::starts_elsewhere(case))).then(|| too_soon(age, fastest).decisive_if(decisive))
}

/// A RST without ACK acknowledges nothing, but a host answers with it what came. Nothing older than the newest data can
/// have come a moment ago where it had been silent before for longer than a way there and back, a delayed ACK included,
/// and where the handshake is as young as that data.
fn answers_newest(case: &Case, packet: &Packet, socket: &Socket) -> bool {
    let trip = u64::from(hop::trip_us(socket));
    let silent = socket.idle_before_last_send_ms().map(|silence| Duration::from_millis(silence.into()));
    let was_silent = silent.is_some_and(|silence| silence > Duration::from_micros(2 * trip) + DELAYED_ACK);
    let open = socket.opened.map(|opened| case.time().since(opened));
    let is_new = open.is_some_and(|open| open < Duration::from_micros(trip * 3 / 2));
    packet.is_stateless_reset() && (was_silent || is_new)
}

/// How long the newest segment had been under way, and by how much that may be too short: the time of the very segment
/// where it is known; a tick more than the ticks that went by where it is not.
fn age_of_newest(case: &Case, socket: &Socket) -> Option<(Duration, Duration)> {
    if let Some(sent) = socket.newest_sent {
        return Some((case.incident.reset_received()?.time.since(sent), Duration::ZERO));
    }
    let ticks = Duration::from_millis(socket.last_sent_ms?.into());
    Some((ticks, Duration::from_micros(JIFFY_US)))
}

/// A RST without a socket that came as long after the newest segment as the peer's own answer takes.
pub fn answered_in_time(case: &Case) -> bool {
    let (Some(packet), Some(socket)) = (case.reset_packet(), case.socket()) else { return false };
    let trip = Duration::from_micros(hop::trip_us(socket).into());
    let Some((age, error)) = age_of_newest(case, socket) else { return false };
    let measurable = hop::trip_us(socket) >= SHORTEST_RTT_US;
    packet.is_stateless_reset() && measurable && age + error >= trip * 4 / 5 && age <= trip * 2
}

fn too_soon(delay: Duration, fastest_us: u32) -> Finding {
    let detail = format!(
        "The RST came {} µs after the segment that it answers was sent; the peer has never been nearer than {fastest_us} µs there and back",
        delay.as_micros()
    );
    let soon = Finding::decisive("answered_too_soon", Origins::DEVICE, detail).against(Origins::PEER);
    soon.compared(&delay.as_micros(), &fastest_us)
}

fn race(case: &Case) -> Option<Finding> {
    let (idle, after) = keepalive_race(case)?;
    let detail = format!(
        "The connection had been idle for {idle} ms; the peer's end of it came {after} ms after Nginx used it again"
    );
    // The end of an idle connection is a FIN; a RST without a socket and without one before it may as well come from a
    // host that has forgotten the connection.
    let unannounced = case.is_unannounced();
    let origins = if unannounced { Origins::LOSS } else { Origins::PEER };
    let detail = if unannounced { format!("{detail}; no FIN had come before") } else { detail };
    Some(Finding::supporting("keepalive_race", origins, detail).valued(&idle))
}

/// Idle time and delay in milliseconds, when a pooled upstream connection was ended by the peer within a
/// round trip of being used again (`nginx.md` section 4).
fn keepalive_race(case: &Case) -> Option<(u32, u32)> {
    let socket = case.socket()?;
    if case.is_client() || case.connecting() || socket.bytes_received == 0 || !ended_by_peer(case) {
        return None;
    }
    if case.is_tunnel() || read_by_application(case) {
        return None;
    }
    if case.awaits_answer() {
        let (idle, after) = (socket.idle_before_last_send_ms()?, socket.last_sent_ms?);
        let window =
            if request_acknowledged(case) { answered_window_ms(socket) } else { race_window_ms(socket) };
        return (idle >= REUSE_AFTER_MS && after <= window).then_some((idle, after));
    }
    // The RST came while the connection was idle; only the line shows that Nginx used it again.
    let reused = case.line.is_some_and(|line| line.record.kind == crate::model::MessageKind::CONNECT_FAILED);
    let idle = socket.idle_ms()?;
    (reused && idle >= REUSE_AFTER_MS).then_some((idle, 0))
}

fn ended_by_peer(case: &Case) -> bool {
    let closed_after_fin = matches!(
        case.principal().map(|event| &event.kind),
        Some(EventKind::Closed { old: TcpState::CloseWait, .. })
    );
    case.incident.reset_received().is_some() || closed_after_fin
}

/// The request had reached the peer's TCP before the end of the connection left it: the application may have read
/// it, or closed without looking.
pub fn request_acknowledged(case: &Case) -> bool {
    let Some(socket) = case.socket().filter(|_| case.awaits_answer()) else { return false };
    let by_reset = case
        .reset_packet()
        .is_some_and(|packet| packet.flags.has(TcpFlags::ACK) && packet.ack == socket.snd_nxt);
    // Of a connection that was looked up after its end no numbers are known.
    by_reset || (socket.unacked == 0 && socket.snd_nxt != 0)
}

/// The other end is on this host, and its process had read the request.
fn read_by_application(case: &Case) -> bool {
    let acted = case.peer_reset().filter(|event| event.task.is_actor && !event.answers_segment());
    let read = |event: &Event| event.socket.as_ref().is_some_and(|socket| socket.unread == 0);
    request_acknowledged(case) && acted.is_some_and(read)
}

/// A server that closes with the request unread does so in the same turn of its loop.
fn answered_window_ms(socket: &Socket) -> u32 {
    socket.srtt_us / 1_000 + 20
}

fn race_window_ms(socket: &Socket) -> u32 {
    (socket.srtt_us / 500 + 50).max(100)
}

/// Nginx closed after just as long as one of its read timers.
fn waited_timeout(case: &Case) -> Option<Finding> {
    let socket = case.socket()?;
    let closed =
        case.incident.reset_received().is_none() && matches!(case.incident.subject, Subject::Connection(_));
    if case.is_client() || case.connecting() || !closed || !case.awaits_answer() {
        return None;
    }
    // A timer of Nginx that runs out for an upstream is told at level `error`; those for clients are as long, and are not.
    if case.line.is_none() && case.host.follows_error_log && !case.is_capture() && case.is_complete() {
        return None;
    }
    let waited = u64::from(socket.last_sent_ms?);
    let configured = &case.host.nginx.read_timeouts_ms;
    let default = [DEFAULT_READ_TIMEOUT_MS];
    let timers = if configured.is_empty() { &default[..] } else { configured };
    let timer = timers.iter().find(|timer| waited.abs_diff(**timer) <= (**timer / 50).max(50))?;
    let detail =
        format!("Nginx closed {waited} ms after the request, as long as its read timeout of {timer} ms");
    Some(Finding::supporting("waited_timeout", Origins::SLOW, detail).compared(&waited, &timer))
}
