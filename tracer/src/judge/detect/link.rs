//! Who put the RST on Nginx's own link, beside who put the SYN-ACK of the connection there.
//!
//! Where the two differ, a device on the link or another gateway sent the RST, and its address says which. Where they
//! are equal nothing follows: a router's rule, a bridge that copies the address (`nf_send_reset`) and the peer itself
//! look alike. A failover of gateways changes the address and the distance together, so that this is no evidence
//! beside the distance, but a name for it.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Mac, Packet};

/// Adds what the link says.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let opened = case.socket().and_then(|socket| socket.syn_ack.as_ref()).and_then(sender);
    let reset = case.reset_packet().and_then(sender);
    findings.extend(opened.zip(reset).filter(|(opened, reset)| opened != reset).map(differs));
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
