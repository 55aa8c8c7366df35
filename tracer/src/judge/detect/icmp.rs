//! ICMP errors: what a device on the path, or the host at its end, says of itself. Only messages that quote a segment
//! of this very connection count; what they say of the peer is hearsay, where they come from is not.

use std::net::IpAddr;

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{IcmpError, IcmpReason, Mono, Socket};

/// Adds what ICMP says.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    findings.extend(about(case).map(|error| finding(case, error)));
}

/// The first error about the upstream connection.
pub fn about<'a>(case: &Case<'a>) -> Option<&'a IcmpError> {
    let socket = case.socket().filter(|_| !case.is_client())?;
    let mut errors = case.incident.icmp_errors();
    errors.find(|(time, error)| quotes(socket, *time, error)).map(|(_, error)| error)
}

/// The quoted segment was sent on this connection, and not before its oldest unacknowledged byte.
fn quotes(socket: &Socket, time: Mono, error: &IcmpError) -> bool {
    let window = socket.snd_nxt.wrapping_sub(socket.snd_una);
    let recent = socket.opened.is_none_or(|opened| time >= opened);
    recent && error.seq.wrapping_sub(socket.snd_una) <= window
}

fn finding(case: &Case, error: &IcmpError) -> Finding {
    let says = format!("says of the {}: {}", segment(case), error.name());
    let sender = error.sender;
    let (code, origins, detail) = match (place(case, sender), error.reason()) {
        (Place::Here, IcmpReason::Prohibited | IcmpReason::NoPort) => {
            let detail = format!("This host itself ({sender}) {says}; netfilter refused it");
            return Finding::decisive("icmp_from_here", Origins::FILTER, detail).valued(&sender);
        }
        (Place::Here, _) => {
            let detail = format!(
                "This host itself ({sender}) {says}: there is no route, or the next hop does not answer (ARP, neighbour discovery)"
            );
            ("next_hop_silent", Origins::NEXT_HOP, detail)
        }
        (Place::Peer, _) => {
            let detail = format!(
                "{sender}, the peer's own address, {says}; a packet filter on that host, or a device in its name"
            );
            ("icmp_from_peer", Origins::DEVICE, detail)
        }
        (Place::Path, IcmpReason::Unreachable | IcmpReason::Expired | IcmpReason::Other) => {
            let detail = format!(
                "{sender}, a device on the path (TTL {}), {says}: it knows no way, or the host behind it does not answer",
                error.ttl
            );
            ("icmp_unreachable", Origins::DEVICE.and(Origins::LOSS), detail)
        }
        (Place::Path, IcmpReason::Prohibited | IcmpReason::NoPort) => {
            let detail =
                format!("{sender}, a device on the path and not the peer (TTL {}), {says}", error.ttl);
            ("icmp_prohibited", Origins::DEVICE.and(Origins::LOSS), detail)
        }
    };
    Finding::supporting(code, origins, detail).compared(&sender, &error.remote.ip())
}

/// Where the sender is.
enum Place {
    Here,
    Peer,
    Path,
}

fn place(case: &Case, sender: IpAddr) -> Place {
    let tuple = case.tuple();
    let is = |address: IpAddr| address.to_canonical() == sender;
    if tuple.is_some_and(|tuple| is(tuple.local.ip())) {
        return Place::Here;
    }
    if tuple.is_some_and(|tuple| is(tuple.remote.ip())) {
        return Place::Peer;
    }
    Place::Path
}

fn segment(case: &Case) -> &'static str {
    if case.connecting() { "SYN" } else { "data" }
}
