//! The packets of a case: what hooks captured of it, each once, in the order of time.
//! Nothing here is presumed: a RST that was sent and not captured is not among them.

use serde::{Deserialize, Serialize};

use crate::model::{Event, EventKind, Mono, Packet, Socket};

use super::case::Case;

/// What a packet is in its incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The SYN-ACK that opened the connection.
    SynAck,
    /// A packet that a full listener dropped.
    Dropped,
    /// The RST that ended the connection.
    ResetReceived,
    /// A RST that the kernel refused.
    ResetRefused,
    /// An ICMP error about a segment of the connection; no TCP segment itself.
    IcmpError,
    /// The segment that this host answered with a RST.
    Answered,
    /// A segment that the peer sent after the connection was dead.
    Afterwards,
    /// A packet that arrived at the other end of the connection, on this host.
    AtOtherEnd,
}

/// One packet of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// When it was captured.
    pub time: Mono,
    /// That moment is the capture's own; otherwise it is the nearest moment known.
    pub exact: bool,
    /// What it is in the incident.
    pub role: Role,
    /// Inode number of the network namespace it arrived in, zero if not known.
    pub netns: u32,
    /// The packet.
    pub packet: Packet,
}

impl Seen {
    fn new(packet: &Packet, fallback: Mono, role: Role, netns: u32) -> Self {
        let time = packet.time.unwrap_or(fallback);
        Self { time, exact: packet.time.is_some(), role, netns, packet: packet.clone() }
    }

    fn same(&self, other: &Self) -> bool {
        self.time == other.time && self.packet.raw == other.packet.raw && self.packet.seq == other.packet.seq
    }
}

/// The packets of the case, earliest first.
pub fn seen(case: &Case) -> Vec<Seen> {
    let incident = case.incident;
    let mut seen = Vec::new();
    // What came for a connection without a socket came to where its socket was.
    let here = case.socket().map_or(0, |socket| socket.netns);
    incident.own.iter().for_each(|event| add(&mut seen, event, role(event), here));
    case.peer.iter().for_each(|event| add(&mut seen, event, Role::AtOtherEnd, 0));
    incident.refused().for_each(|event| add(&mut seen, event, Role::ResetRefused, here));
    seen.extend(
        incident
            .icmp_errors()
            .map(|(time, error)| Seen::new(&error.packet(time), time, Role::IcmpError, here)),
    );
    incident.aftermath.iter().for_each(|event| add(&mut seen, event, Role::Afterwards, here));
    if let Some(sum) = &incident.overflow {
        let dropped = sum.dropped_packet.as_ref();
        seen.extend(dropped.map(|(time, packet)| Seen::new(packet, *time, Role::Dropped, sum.latest.netns)));
    }
    seen.sort_by_key(|one| (one.time, one.role));
    seen.dedup_by(|later, earlier| later.same(earlier));
    seen
}

fn role(event: &Event) -> Role {
    match event.kind {
        EventKind::ResetSent { .. } => Role::Answered,
        EventKind::ListenOverflow(_) => Role::Dropped,
        _ => Role::ResetReceived,
    }
}

fn add(seen: &mut Vec<Seen>, event: &Event, role: Role, otherwise: u32) {
    let socket = event.socket.as_ref();
    let netns = socket.map_or(otherwise, |socket| socket.netns);
    seen.extend(socket.and_then(|socket| opening(socket, event.time)));
    seen.extend(event.packet.as_ref().map(|packet| Seen::new(packet, event.time, role, netns)));
}

/// Older recordings do not say when the SYN-ACK came; the connection was opened by it.
fn opening(socket: &Socket, at: Mono) -> Option<Seen> {
    let packet = socket.syn_ack.as_ref()?;
    Some(Seen::new(packet, socket.opened.unwrap_or(at), Role::SynAck, socket.netns))
}
