//! Hop distance of a RST against what this peer's packets are known to need.
//!
//! Raw TTLs are never compared: a server that sets `IP_TTL` on its sockets still sends stateless resets with
//! the system's default (measured: data 127, RST 63, one hop both times). A hop count is the distance from a
//! usual initial TTL. Does not prove anything where path and peer change between handshake and reset
//! (anycast, ECMP), nor where a device stands as far away as the peer.

use std::time::Duration;

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{BaselineSource, Packet, Socket};
use crate::output::layout::count;

use super::{link, timing};

/// Initial TTLs in use (Linux and BSD 64, Windows 128, network devices 255).
const INITIAL: [u8; 3] = [64, 128, 255];
/// No path in the Internet is longer; longer distances are taken only if there is no other reading.
const LONGEST_PATH: u8 = 64;

/// Routers within which a TTL is taken for a distance however short the round trip is.
const NEAR: u8 = 12;
/// More routers than [`NEAR`] are not crossed there and back in this time, microseconds.
const SHORT_TRIP_US: u32 = 1_000;
/// Distance that no path in use comes near: the TTL started at an unusual value.
const FAR: u8 = 32;
/// Routers that are on most paths inside one site, whatever the round trip.
const FEW: u8 = 4;
/// Least time that a router adds to a round trip, microseconds.
const ROUTER_US: u32 = 20;

/// For this long after a handshake its path is taken to be the same.
const STEADY: Duration = Duration::from_secs(1);
/// A capture of several interfaces has one packet more than once, within this time. The hook has it once.
const SAME_PACKET: Duration = Duration::from_millis(1);

/// Adds the hop findings, unless the sender was seen.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let (Some(packet), Some(socket)) = (case.reset_packet(), case.socket()) else { return };
    let seen = findings.iter().any(|finding| finding.decisive && finding.speaks_for.meets(Origins::PEER));
    if packet.on_loopback || seen {
        return;
    }
    let Some(baseline) = socket.baseline else { return };
    let difference = difference(packet.ttl, baseline.ttl);
    if difference > 0 && link::is_taken_over(case) {
        return;
    }
    if difference > 0 && !is_distance_of_both(case, packet, socket, baseline.ttl) {
        return;
    }
    // A device beside the peer stands as far away, so an equal distance contradicts no proof of a device.
    let proven = findings.iter().any(|finding| finding.decisive && finding.speaks_for.meets(Origins::DEVICE));
    let against = if proven { Origins::NONE } else { Origins::DEVICE };
    findings.push(own(packet, baseline.ttl, source_name(baseline.source), difference, against));
    let told = is_told_now(case, socket) && (is_distance(case) || !packet.is_stateless_reset());
    let second = history(packet, socket, baseline.source).filter(|_| told && !is_own_handshake(case, socket));
    findings.extend(second);
}

/// The RST is not as far away as the packets of this connection's own handshake, by more than the one hop that a path
/// may change by, and neither TTL is a setting of the peer's socket.
pub fn starts_elsewhere(case: &Case) -> bool {
    let (Some(packet), Some(socket)) = (case.reset_packet(), case.socket()) else { return false };
    let own = socket.baseline.filter(|baseline| baseline.source != BaselineSource::PeerHistory);
    own.is_some_and(|baseline| {
        difference(packet.ttl, baseline.ttl) > 1 && is_distance_of_both(case, packet, socket, baseline.ttl)
    })
}

/// The distance may differ because the address is somewhere else by now: a connection whose handshake was long ago, and
/// a RST that routers brought here. What starts on this host's own link did not come the way to another site.
pub fn may_have_moved(case: &Case) -> bool {
    let (Some(packet), Some(socket)) = (case.reset_packet(), case.socket()) else { return false };
    let recent = is_opened_now(case);
    let heard = socket.baseline.is_some_and(|baseline| baseline.source == BaselineSource::Data)
        && socket.last_received_ms.is_some_and(|ago| u128::from(ago) <= STEADY.as_millis());
    !recent && !heard && !INITIAL.contains(&packet.ttl)
}

/// The TTL of the peer's packets can be its distance: not more routers than the round trip leaves time for. Where it can
/// not, it may be a setting of the peer's socket, which its stateless resets and only they do not have.
pub fn is_distance(case: &Case) -> bool {
    let baseline = |socket: &Socket| socket.baseline.is_none_or(|baseline| is_crossed(baseline.ttl, socket));
    case.socket().is_none_or(baseline)
}

fn is_crossed(ttl: u8, socket: &Socket) -> bool {
    let trip = trip_us(socket);
    trip == 0 || routers(ttl) <= FEW || u32::from(routers(ttl)) <= trip / ROUTER_US
}

/// The shortest round trip known, microseconds; zero: none.
pub fn trip_us(socket: &Socket) -> u32 {
    if socket.min_rtt_us > 0 { socket.min_rtt_us } else { socket.srtt_us }
}

/// The connection was opened a moment ago: its path is the same still.
pub fn is_opened_now(case: &Case) -> bool {
    let opened = case.socket().and_then(|socket| socket.opened);
    opened.is_some_and(|opened| case.time().since(opened) <= STEADY)
}

/// The TTLs of the RST and of the peer's other packets both tell a distance. They do not where the RST says that it
/// comes from nearer by more routers than a site has, and yet came when the peer's own answer would: a peer that has
/// forgotten the connection, and whose sockets have a TTL of their own, answers like that.
fn is_distance_of_both(case: &Case, packet: &Packet, socket: &Socket, expected: u8) -> bool {
    let contradicted = difference(packet.ttl, expected) > FEW && timing::answered_in_time(case);
    !contradicted && !has_own_ttl(packet, socket, expected)
}

/// The peer's socket has a TTL of its own (`IP_TTL`), which says nothing about its distance. A stateless reset never
/// has it (`ip_send_unicast_reply`), so its TTL is a distance all the same.
pub fn has_own_ttl(packet: &Packet, socket: &Socket, expected: u8) -> bool {
    let trip = trip_us(socket);
    let unusual = |ttl| {
        let routers = routers(ttl);
        routers > FAR || (routers > NEAR && trip > 0 && trip < SHORT_TRIP_US)
    };
    let bare = packet.is_stateless_reset();
    // A socket puts the connection's timestamps into its reset; what lacks them shows no TTL of the socket either.
    let by_socket = !bare && (packet.timestamps.is_some() || socket.ts_recent.is_none());
    unusual(expected) || (bare && !is_crossed(expected, socket)) || (by_socket && unusual(packet.ttl))
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
    let meaning = if difference == 1 {
        "it started elsewhere on the path, or the path has changed"
    } else {
        "it started elsewhere on the path"
    };
    let hops = count(u64::from(difference), "hop");
    let detail =
        format!("The RST arrived with TTL {}, {hops} off {source} (TTL {expected}): {meaning}", packet.ttl);
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
        "Other connections to the same address also show another distance: SYN-ACK with TTL {} ({} seen)",
        history.ttl,
        count(u64::from(history.handshakes), "handshake")
    );
    let differs = Finding::supporting("hop_differs_history", Origins::DEVICE, detail).against(Origins::PEER);
    Some(differs.compared(&packet.ttl, &history.ttl))
}

/// Another connection's handshake says where the address is only if it was a moment ago.
fn is_told_now(case: &Case, socket: &Socket) -> bool {
    socket.peer_history.is_some_and(|history| case.time().distance(history.last_syn_ack) <= STEADY)
        || !may_have_moved(case)
}

/// The latest handshake with that address was the one of this very connection: it is no second witness.
fn is_own_handshake(case: &Case, socket: &Socket) -> bool {
    let Some(history) = socket.peer_history else { return false };
    let own = socket.syn_ack.as_ref().and_then(|packet| packet.time);
    let margin = if case.is_capture() { SAME_PACKET } else { Duration::ZERO };
    history.handshakes < 2 || own.is_some_and(|time| time.distance(history.last_syn_ack) <= margin)
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

/// Routers between the sender of a packet and here, if it started at the nearest usual TTL.
pub fn routers(ttl: u8) -> u8 {
    nearest(ttl) - ttl
}

/// The usual initial TTL from which it is the shortest way to this one.
fn nearest(ttl: u8) -> u8 {
    INITIAL.iter().copied().find(|initial| *initial >= ttl).unwrap_or(255)
}

fn hops(ttl: u8) -> impl Iterator<Item = u8> + Clone {
    let nearest = nearest(ttl);
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
    use super::*;
    use crate::engine::testing::{stateless_reset, upstream};
    use crate::model::Timestamps;

    #[test]
    fn a_ttl_of_the_peers_own_is_no_distance() {
        let near = Socket { min_rtt_us: 80, ..upstream() };
        let far = Socket { min_rtt_us: 60_000, ..upstream() };
        let bare = stateless_reset(&near);
        let timestamps = Some(Timestamps { value: 700_012, echo: 1 });
        let by_socket = Packet { window: 64, timestamps, ..bare.clone() };
        // A listener with IP_TTL 100, two routers away, whose kernel answers with 64.
        assert!(has_own_ttl(&Packet { ttl: 62, ..bare.clone() }, &near, 98));
        // With IP_TTL 57: seven routers take longer. What the socket itself sends has that TTL, too.
        assert!(has_own_ttl(&Packet { ttl: 62, ..bare.clone() }, &near, 57));
        assert!(!has_own_ttl(
            &Packet { ttl: 62, ..bare.clone() },
            &Socket { min_rtt_us: 300, ..near.clone() },
            57
        ));
        assert!(!has_own_ttl(&Packet { ttl: 62, ..by_socket.clone() }, &near, 57));
        assert!(
            !has_own_ttl(&Packet { ttl: 62, ..bare.clone() }, &far, 98),
            "thirty routers may well be there"
        );
        assert!(has_own_ttl(&Packet { ttl: 62, ..bare.clone() }, &far, 75), "but not more than fifty");
        // Set after the handshake: a reset by the socket has it, one without a socket never does.
        let without_clock = Packet { ttl: 98, timestamps: None, ..by_socket.clone() };
        assert!(has_own_ttl(&Packet { ttl: 98, ..by_socket }, &near, 62));
        assert!(!has_own_ttl(&without_clock, &near, 62));
        assert!(has_own_ttl(&without_clock, &Socket { ts_recent: None, ..near.clone() }, 62));
        assert!(!has_own_ttl(&Packet { ttl: 98, ..bare.clone() }, &near, 62));
        assert!(!has_own_ttl(&Packet { ttl: 64, ..bare }, &near, 62));
    }

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
