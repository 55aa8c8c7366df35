//! Hop distance of a RST against what this peer's packets are known to need.
//!
//! Raw TTLs are never compared: a server that sets `IP_TTL` on its sockets still sends stateless resets with
//! the system's default (measured: data 127, RST 63, one hop both times). A hop count is the distance from a
//! usual initial TTL. Does not prove anything where path and peer change between handshake and reset
//! (anycast, ECMP), nor where a device stands as far away as the peer.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{BaselineSource, Packet, Socket};

/// Initial TTLs in use (Linux and BSD 64, Windows 128, network devices 255).
const INITIAL: [u8; 3] = [64, 128, 255];
/// No path in the Internet is longer; longer distances are taken only if there is no other reading.
const LONGEST_PATH: u8 = 64;

/// Adds the hop findings.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let (Some(packet), Some(socket)) = (case.reset_packet(), case.socket()) else { return };
    if packet.on_loopback {
        return;
    }
    let Some(baseline) = socket.baseline else { return };
    let difference = difference(packet.ttl, baseline.ttl);
    // A device beside the peer stands as far away, so an equal distance contradicts no proof of a device.
    let proven = findings.iter().any(|finding| finding.decisive && finding.speaks_for.meets(Origins::DEVICE));
    let against = if proven { Origins::NONE } else { Origins::DEVICE };
    findings.push(own(packet, baseline.ttl, source_name(baseline.source), difference, against));
    findings.extend(history(packet, socket, baseline.source));
}

pub fn own(packet: &Packet, expected: u8, source: &str, difference: u8, against: Origins) -> Finding {
    if difference == 0 {
        let detail = format!(
            "The RST arrived with TTL {}, which is as many hops away as {source} (TTL {expected})",
            packet.ttl
        );
        let equal = Finding::supporting("hop_equal", Origins::PEER, detail).against(against);
        return equal.compared(&packet.ttl, &expected);
    }
    let detail = format!(
        "The RST arrived with TTL {}, {difference} hop(s) off {source} (TTL {expected}): it started elsewhere on the path",
        packet.ttl
    );
    let differs = Finding::supporting("hop_differs", Origins::DEVICE, detail).against(Origins::PEER);
    differs.compared(&packet.ttl, &expected)
}

/// A second, independent baseline: other connections to the same address. One hop may be a path change.
fn history(packet: &Packet, socket: &Socket, source: BaselineSource) -> Option<Finding> {
    let history = socket.peer_history.filter(|_| source != BaselineSource::PeerHistory)?;
    if difference(packet.ttl, history.ttl) < 2 {
        return None;
    }
    let detail = format!(
        "Other connections to the same address also show another distance: SYN-ACK with TTL {} ({} handshakes seen)",
        history.ttl, history.handshakes
    );
    let differs = Finding::supporting("hop_differs_history", Origins::DEVICE, detail).against(Origins::PEER);
    Some(differs.compared(&packet.ttl, &history.ttl))
}

pub fn source_name(source: BaselineSource) -> &'static str {
    match source {
        BaselineSource::SynAck => "the SYN-ACK of this connection",
        BaselineSource::Handshake => "the packet that completed the handshake",
        BaselineSource::PeerHistory => "the latest SYN-ACK of the same address on another connection",
        BaselineSource::Data => "the other packets of that end of this connection",
    }
}

/// The smallest difference of hop counts over all plausible initial TTLs.
pub fn difference(one: u8, other: u8) -> u8 {
    let pairs = hops(one).flat_map(|one| hops(other).map(move |other| one.abs_diff(other)));
    pairs.min().unwrap_or(0)
}

fn hops(ttl: u8) -> impl Iterator<Item = u8> + Clone {
    let nearest = INITIAL.iter().copied().find(move |initial| *initial >= ttl).unwrap_or(255);
    INITIAL
        .iter()
        .copied()
        .filter(move |initial| *initial >= ttl)
        .map(move |initial| (initial, initial - ttl))
        .filter(move |(initial, hops)| *hops <= LONGEST_PATH || *initial == nearest)
        .map(|(_, hops)| hops)
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn hop_counts_are_compared_over_the_usual_initial_ttls() {
        // A socket with IP_TTL 128 and its stateless reset; a public capture with 123 and 59.
        assert_eq!(difference(127, 63), 0);
        assert_eq!(difference(123, 59), 0);
        // A router one hop nearer; one that starts at 255; two hops; an adjacent device.
        assert_eq!(difference(64, 63), 1);
        assert_eq!(difference(255, 63), 1);
        assert_eq!(difference(64, 62), 2);
        assert_eq!(difference(64, 50), 14);
        assert_eq!(difference(251, 52), 8);
    }
}
