//! How the RST is built. Linux has two shapes that never mix: an active reset by a socket (`RST|ACK`, real
//! window, timestamps that go on) and a stateless reply (`RST`, window 0, no options). netfilter's REJECT
//! looks exactly like the stateless reply, so that shape alone names nobody. A header can be forged whole.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Packet, Socket, TcpFlags, TcpState};

use super::{hop, link};

/// Adds the header findings.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let (Some(packet), Some(socket)) = (case.reset_packet(), case.socket()) else { return };
    if case.connecting() {
        return;
    }
    findings.extend(active(packet, socket));
    findings.extend(stateless(case, packet, socket));
    findings.extend(incomplete(packet, socket));
    findings.extend(ip_id(packet, socket));
}

fn active(packet: &Packet, socket: &Socket) -> Option<Finding> {
    if !packet.flags.has(TcpFlags::RST | TcpFlags::ACK) {
        return None;
    }
    let origins = Origins::APPLICATION.and(Origins::EXIT);
    if let Some((value, recent)) = continued_timestamps(packet, socket) {
        let detail = format!(
            "RST|ACK with window {} carries the peer's own running clock: TSval {value} follows {recent}",
            packet.window
        );
        return Some(Finding::supporting("timestamps_continue", origins, detail).compared(&value, &recent));
    }
    let unexpected = socket.ts_recent.is_some() && packet.timestamps.is_none();
    (packet.window > 0 && !unexpected).then(|| {
        let detail =
            format!("RST|ACK with window {} is the shape of a reset by a living socket", packet.window);
        Finding::supporting("active_form", origins, detail).valued(&packet.flags.names())
    })
}

/// Milliseconds in which every clock in use ticks (RFC 7323, section 5.4: at least once a second, in practice each 10 ms).
const TICKED_MS: u32 = 50;

/// `TSval` not before the last one and not further on than a 1 kHz clock runs in twice the silence. A clock that stands still
/// is a copy of what had passed.
pub fn continued_timestamps(packet: &Packet, socket: &Socket) -> Option<(u32, u32)> {
    let (value, recent) = (packet.timestamps?.value, socket.ts_recent?);
    let silent = [socket.last_received_ms, socket.last_ack_ms].into_iter().flatten().min().unwrap_or(0);
    let most = silent.saturating_mul(2).saturating_add(2_000);
    let least = u32::from(silent >= TICKED_MS);
    (least..=most).contains(&value.wrapping_sub(recent)).then_some((value, recent))
}

fn stateless(case: &Case, packet: &Packet, socket: &Socket) -> Option<Finding> {
    let established = case.state() == TcpState::Established;
    if !packet.is_stateless_reset() || !established {
        return None;
    }
    let detail = format!(
        "A bare RST (no ACK, window 0, no options) although the peer had sent no FIN and the connection was ESTABLISHED with {} bytes received: no socket of the peer sent it",
        socket.bytes_received
    );
    // A host that restarted sends the same, and a path that changed shows it one hop off; an address that moved to
    // another server, and sockets with a TTL of their own, show it at any distance.
    let off = socket.baseline.map_or(0, |baseline| hop::difference(packet.ttl, baseline.ttl));
    let peers = off == 1
        || link::is_taken_over(case)
        || (off > 1 && (hop::may_have_moved(case) || !hop::is_distance(case)));
    let origins = if peers { Origins::PEER_LISTENER } else { Origins::DEVICE.and(Origins::PEER_LISTENER) };
    let found = Finding::supporting("stateless_form", origins, detail).valued(&packet.flags.names());
    if case.is_client() {
        // A client that leaves says so by its socket; one whose socket is gone was ended by somebody, or by its own crash.
        let origins = if peers { Origins::NONE } else { Origins::DEVICE };
        return Some(Finding { speaks_for: origins, ..found }.against(Origins::APPLICATION));
    }
    Some(found)
}

/// A Linux peer with timestamps puts them, and its window, into every active reset.
fn incomplete(packet: &Packet, socket: &Socket) -> Option<Finding> {
    let bare = packet.flags.has(TcpFlags::RST | TcpFlags::ACK)
        && packet.timestamps.is_none()
        && socket.ts_recent.is_some();
    (bare && looks_like_linux(socket) && !refuses_syn(packet, socket)).then(|| {
        let detail = format!(
            "RST|ACK with window {} and without timestamps: neither of the two resets a Linux peer sends on a connection with timestamps",
            packet.window
        );
        Finding::supporting("header_incomplete", Origins::DEVICE, detail)
    })
}

/// What a host sends where nobody listens (RFC 9293, section 3.10.7.1). It comes on an open connection where a device opens
/// connections for the host behind it (a SYN proxy) and passes the refusal on.
fn refuses_syn(packet: &Packet, socket: &Socket) -> bool {
    let opened = socket.syn_ack.as_ref().is_some_and(|opened| opened.ack == packet.ack);
    opened && packet.window == 0 && socket.bytes_received == 0
}

/// Linux sends stateless resets with identification zero (`ip_send_unicast_reply`).
fn ip_id(packet: &Packet, socket: &Socket) -> Option<Finding> {
    let id = packet.ip_id.filter(|id| *id != 0)?;
    (packet.is_stateless_reset() && looks_like_linux(socket)).then(|| {
        let detail =
            format!("A stateless RST with IP identification {id}; the peer's Linux would have sent 0");
        Finding::supporting("ip_id_not_zero", Origins::DEVICE, detail).compared(&id, &0)
    })
}

/// Linux answers a SYN with identification 0, DF and timestamps. So do Apple's systems, which put the window scale
/// before the timestamps and send no timestamps with their resets.
fn looks_like_linux(socket: &Socket) -> bool {
    socket.syn_ack.as_ref().is_some_and(|packet| {
        packet.ip_id == Some(0)
            && packet.dont_fragment == Some(true)
            && packet.timestamps.is_some()
            && !scales_first(packet)
    })
}

fn scales_first(packet: &Packet) -> bool {
    let place = |name: &str| packet.options.iter().position(|option| option == name);
    place("window_scale").is_some_and(|scale| place("timestamps").is_some_and(|stamps| scale < stamps))
}
