//! How long an incident waits after the first event of Nginx's own socket before it is judged: long enough for the line
//! of the log, the other half and the contradiction that could still come, never longer, and never prolonged by traffic.

use std::time::Duration;

use crate::model::{EventKind, Packet, Side, Socket, TcpState};
use crate::timeline::Incident;

use super::detect::hop_difference;

/// Nothing that may still come can change the verdict, or the line follows within milliseconds.
pub const SHORT: Duration = Duration::from_millis(300);
/// A line or the other half may still come.
pub const NORMAL: Duration = Duration::from_secs(1);
/// The peer may still speak again and prove that the reset was not its own.
pub const LONG: Duration = Duration::from_secs(3);

/// The time to wait, from what is known so far.
pub fn hold(incident: &Incident) -> Duration {
    if incident.reset_received().is_some() {
        return received(incident);
    }
    if incident.reset_seen().is_some() {
        return LONG;
    }
    let decisive = incident
        .own
        .iter()
        .any(|event| matches!(event.kind, EventKind::ResetSent { .. }) || event.task.exiting.is_some());
    if decisive { SHORT } else { NORMAL }
}

fn received(incident: &Incident) -> Duration {
    let Some(socket) = incident.socket() else { return NORMAL };
    let packet = incident.reset_received().and_then(|event| event.packet.as_ref());
    let upstream = socket.side == Side::Upstream;
    let sender_seen = incident
        .peer
        .iter()
        .any(|event| matches!(event.kind, EventKind::ResetSent { .. }) || event.task.exiting.is_some());
    if sender_seen {
        return SHORT;
    }
    let open = incident.state() != TcpState::SynSent;
    let remote = !socket.remote.ip().is_loopback();
    // A header can be made up whole: what the upstream still says on the connection is the only witness. The line of
    // a pooled connection comes only when Nginx takes it out of the pool.
    let witnessed = remote && (upstream || packet.is_some_and(|packet| doubtful(packet, socket)));
    let pooled = upstream && !socket.awaits_answer();
    if open && (witnessed || pooled) { LONG } else { NORMAL }
}

/// The RST that ended the connection shows no socket of the peer, or another distance: somebody else may have sent it.
pub fn is_doubtful(incident: &Incident) -> bool {
    let packet = incident.reset_received().and_then(|event| event.packet.as_ref());
    packet.zip(incident.socket()).is_some_and(|(packet, socket)| doubtful(packet, socket))
}

fn doubtful(packet: &Packet, socket: &Socket) -> bool {
    packet.is_stateless_reset()
        || socket.baseline.is_some_and(|baseline| hop_difference(packet.ttl, baseline.ttl) > 0)
}
