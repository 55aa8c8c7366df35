//! Who put the RST on Nginx's own link, beside who put the SYN-ACK of the connection there.
//!
//! Where the two differ, a device on the link or another gateway sent the RST, and its address says which. Where they
//! are equal nothing follows: a router's rule, a bridge that copies the address (`nf_send_reset`) and the peer itself
//! look alike. A failover of gateways changes the address and the distance together, so that this is no evidence
//! beside the distance, but a name for it.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Mac, Packet};

use super::hop;

/// What came from the peer within this time may still be acknowledged.
const LATELY_MS: u32 = 1_000;

/// Adds what the link says.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let opened = case.socket().and_then(|socket| socket.syn_ack.as_ref()).and_then(sender);
    let reset = case.reset_packet().and_then(sender);
    findings.extend(opened.zip(reset).filter(|(opened, reset)| opened != reset).map(differs));
}

/// A host on Nginx's own link that has taken the address over (VRRP, keepalived) answers what comes for a connection it has
/// never had with a bare RST, from nearer than the peer was and from another Ethernet address, at any time. Its
/// distance says nothing about a device, which would look the same.
pub fn is_taken_over(case: &Case) -> bool {
    let (Some(packet), Some(socket)) = (case.reset_packet(), case.socket()) else { return false };
    let opened = socket.syn_ack.as_ref().and_then(sender);
    let is_other = sender(packet).zip(opened).is_some_and(|(reset, opened)| reset != opened);
    let from_here = hop::routers(packet.ttl) == 0;
    // Nothing that Linux answers by itself has an identification, and what nobody asked for is no answer.
    let answers = socket.unacked > 0 || socket.last_received_ms.is_some_and(|ago| ago <= LATELY_MS);
    let plain = packet.is_stateless_reset() && packet.ip_id.is_none_or(|id| id == 0);
    !case.is_client() && !case.connecting() && is_other && from_here && plain && answers
}

fn sender(packet: &Packet) -> Option<Mac> {
    packet.source_mac.filter(|mac| !packet.on_loopback && mac.is_unicast())
}

fn differs((opened, reset): (Mac, Mac)) -> Finding {
    let detail = format!(
        "The RST was put on this host's link by {reset}, the SYN-ACK of this connection by {opened}: another device, or another gateway since"
    );
    Finding::supporting("link_differs", Origins::DEVICE, detail).compared(&reset, &opened)
}
