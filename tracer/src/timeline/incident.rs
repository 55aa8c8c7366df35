//! One incident: everything the kernel said about one failed connection or one overflowing listener.
//! Holds facts only; what they mean is the judge's business.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::{Event, EventKind, IcmpError, LogRecord, Mono, Overflow, Packet, Side, Socket, TcpState};

use super::Tuple;

/// What an incident is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A connection of Nginx.
    Connection(Tuple),
    /// A listener, in a network namespace.
    Listener(SocketAddr, u32),
    /// A line of the log that nothing in the kernel matches.
    Line(Box<LogRecord>),
}

/// The sum of the overflow events of one listener.
#[derive(Debug, Clone, PartialEq)]
pub struct OverflowSum {
    /// The latest event, with the largest queue seen.
    pub latest: Overflow,
    /// Packets dropped.
    pub dropped: u64,
    /// Events added up.
    pub events: u64,
    /// A packet that was dropped, and when: the latest of which a hook saw the headers.
    pub dropped_packet: Option<(Mono, Packet)>,
}

/// Everything known of one incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Number in the order of creation, unique in a session.
    pub number: u64,
    /// The verdict's `id`.
    pub id: String,
    /// What it is about.
    pub subject: Subject,
    /// When the failure began: the earliest event.
    pub first: Mono,
    /// The latest event.
    pub last: Mono,
    /// Events of Nginx's own socket.
    pub own: Vec<Event>,
    /// Events of the other end of the connection, when it is on this host too.
    pub peer: Vec<Event>,
    /// Socket-less resets this host sent for the tuple afterwards: the peer went on speaking.
    pub aftermath: Vec<Event>,
    /// Resets for the connection that the kernel refused, and ICMP errors about it.
    pub asides: Vec<Event>,
    /// Events beyond the bound: counted, not kept.
    pub beyond: u32,
    /// Overflows of the listener.
    pub overflow: Option<OverflowSum>,
    /// Nginx's socket of the other half of the request, where a close on it belongs to this incident.
    pub other_half: Option<Box<Event>>,
}

impl Incident {
    /// An incident without events.
    pub fn new(number: u64, id: String, subject: Subject, first: Mono) -> Self {
        Self {
            number,
            id,
            subject,
            first,
            last: first,
            own: Vec::new(),
            peer: Vec::new(),
            aftermath: Vec::new(),
            asides: Vec::new(),
            beyond: 0,
            overflow: None,
            other_half: None,
        }
    }

    /// The tuple, when it is about a connection.
    pub fn tuple(&self) -> Option<Tuple> {
        match &self.subject {
            Subject::Connection(tuple) => Some(*tuple),
            Subject::Listener(..) | Subject::Line(_) => None,
        }
    }

    /// The event that is the failure itself, by `rank`.
    pub fn principal(&self) -> Option<&Event> {
        self.own.iter().min_by_key(|event| (rank(self, event), event.time))
    }

    /// Nginx's socket at the failure; a later snapshot stands in where the failing event has none.
    pub fn socket(&self) -> Option<&Socket> {
        let principal = self.principal().and_then(|event| event.socket.as_ref());
        principal.or_else(|| self.own.iter().find_map(|event| event.socket.as_ref()))
    }

    /// Which half of the request it is about: from Nginx's socket, else from the other end's.
    /// Without any socket, this host's own address is Nginx's listener, the other end's an upstream's.
    pub fn side(&self) -> Option<Side> {
        let peer = || self.peer.iter().find_map(|event| event.socket.as_ref());
        match self.socket().or_else(peer).map(|socket| socket.side) {
            Some(Side::Client | Side::ClientPeer) => Some(Side::Client),
            Some(Side::Upstream | Side::UpstreamPeer) => Some(Side::Upstream),
            None if !self.own.is_empty() => Some(Side::Client),
            None if !self.peer.is_empty() => Some(Side::Upstream),
            None => None,
        }
    }

    /// The received reset, if there was a real one.
    pub fn reset_received(&self) -> Option<&Event> {
        self.own.iter().find(|event| {
            matches!(event.kind, EventKind::ResetReceived)
                && !self.is_echo(event)
                && !self.is_afterthought(event)
        })
    }

    /// The reset Nginx's socket sent. One of its own accord speaks before the kernel's answers to segments
    /// that met the dying connection; on another CPU those may even come first.
    pub fn reset_sent(&self) -> Option<&Event> {
        let sent = self.own.iter().filter(|event| matches!(event.kind, EventKind::ResetSent { .. }));
        sent.min_by_key(|event| (rank(self, event), event.time))
    }

    /// The RST in the name of Nginx's end that a capture shows, where none came from the other end.
    pub fn reset_seen(&self) -> Option<&Event> {
        self.own.iter().find(|event| matches!(event.kind, EventKind::ResetSeen { .. }))
    }

    /// Resets that the kernel refused.
    pub fn refused(&self) -> impl Iterator<Item = &Event> {
        self.asides.iter().filter(|event| matches!(event.kind, EventKind::ResetRefused { .. }))
    }

    /// ICMP errors about the connection, and when they came.
    pub fn icmp_errors(&self) -> impl Iterator<Item = (Mono, &IcmpError)> {
        self.asides.iter().filter_map(|event| match &event.kind {
            EventKind::IcmpError(error) => Some((event.time, error)),
            _ => None,
        })
    }

    /// The suspicious close of Nginx's socket.
    pub fn closed(&self) -> Option<&Event> {
        self.own.iter().find(|event| matches!(event.kind, EventKind::Closed { .. }))
    }

    /// State of Nginx's socket before the failure.
    pub fn state(&self) -> TcpState {
        let old = self.own.iter().find_map(|event| match event.kind {
            EventKind::Closed { old, .. } => Some(old),
            _ => None,
        });
        match (self.socket().map(|socket| socket.state), old) {
            (Some(TcpState::Close) | None, Some(old)) => old,
            (Some(state), _) => state,
            (None, None) => TcpState::Unknown,
        }
    }

    /// The worker that owns the socket, or that acted on it.
    pub fn worker(&self) -> Option<u32> {
        let owner = self.socket().and_then(|socket| socket.owner.as_ref()).map(|owner| owner.pid);
        owner.or_else(|| {
            self.own
                .iter()
                .find(|event| event.task.is_own() && event.task.pid != 0)
                .map(|event| event.task.pid)
        })
    }

    /// A RST that answers Nginx's own close of a connection it had given up before: the failure came first.
    pub fn is_afterthought(&self, event: &Event) -> bool {
        let closed_before = |socket: &Socket| socket.state.we_closed();
        matches!(event.kind, EventKind::ResetReceived)
            && event.socket.as_ref().is_some_and(closed_before)
            && self
                .own
                .iter()
                .any(|other| matches!(other.kind, EventKind::Closed { .. }) && other.time < event.time)
    }

    /// `tcp_reset` also runs when data meets a socket whose owner has closed it: no RST came, the kernel
    /// answers with one (`tcp_rcv_state_process`, reason `TCP_ABORT_ON_DATA`).
    pub fn is_echo(&self, event: &Event) -> bool {
        const SAME_MOMENT: Duration = Duration::from_millis(1);
        if !matches!(event.kind, EventKind::ResetReceived) || event.packet.is_some() {
            return false;
        }
        let given_up = event.socket.as_ref().is_some_and(|socket| socket.receive_shutdown || socket.orphan);
        given_up
            && self.own.iter().any(|other| match &other.kind {
                EventKind::ResetSent { reason: Some(reason), .. } => reason == "TCP_ABORT_ON_DATA",
                EventKind::ResetSent { reason: None, .. } => {
                    other.answers_segment() && other.time.distance(event.time) <= SAME_MOMENT
                }
                _ => false,
            })
    }
}

/// Order in which the events of one socket speak for the failure: a RST that arrived, one that was sent
/// actively, a close, and last the kernel's echoes.
fn rank(incident: &Incident, event: &Event) -> u8 {
    match &event.kind {
        EventKind::ResetReceived if incident.is_echo(event) || incident.is_afterthought(event) => 4,
        EventKind::ResetReceived => 0,
        EventKind::ResetSeen { .. } => 1,
        EventKind::ResetSent { .. } if !event.answers_segment() => 1,
        EventKind::Closed { .. } => 2,
        EventKind::ResetSent { .. } => 3,
        _ => 5,
    }
}
