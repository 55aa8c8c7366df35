//! From sightings to events of the model: the same that a kernel would report, as far as packets carry it.
//! Processes, reasons and errors of sockets stay empty.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::{Event, EventKind, Mono, Side, Socket, Task, TcpState};

use super::roles::Roles;
use super::sighting::{Sighting, What};

/// The longest timer of Nginx that is waited for after the last packet.
const LONGEST_TIMER: Duration = Duration::from_mins(10);

/// The event of a sighting, or nothing where it does not concern Nginx.
pub fn event(sighting: Sighting, roles: &Roles) -> Option<Event> {
    let (nginx, side) = roles.of(sighting.opener(), sighting.listener())?;
    let Sighting { time, what, ends, .. } = sighting;
    let [opener, listener] = *ends;
    let (own, peer) = if nginx == 0 { (opener, listener) } else { (listener, opener) };
    let own = Socket { side, ..own };
    let made = match what {
        What::Reset { from, packet, answers } if from == nginx => {
            let kind = EventKind::ResetSeen {
                baseline: peer.baseline,
                ts_recent: peer.ts_recent,
                answers: answers.map(Box::new),
            };
            made(time, kind, own, Some(packet))
        }
        What::Reset { packet, .. } => made(time, EventKind::ResetReceived, own, Some(packet)),
        What::Refused { from, packet } => {
            let (local, remote) = (own.local, own.remote);
            let reason = if from == nginx { "SENT_IN_VAIN" } else { "WENT_ON" }.to_owned();
            made(time, EventKind::ResetRefused { reason, local, remote }, own, Some(packet))
        }
        What::Afterwards { packet, reset, .. } => {
            let kind = aftermath(&own, reset);
            Event { socket: None, ..made(time, kind, own, Some(packet)) }
        }
        What::Icmp(error) => made(time, EventKind::IcmpError(*error), own, None),
        // Who closes without an answer may have said goodbye in its own way.
        What::Closed { foreign: true, .. } if side == Side::Client => return None,
        What::Closed { by, old, .. } if by == nginx => closed(time, old, own),
        What::Unanswered { by } if by == nginx => {
            let old = own.state;
            silent(time, old, own)
        }
        What::Unanswered { .. } if side == Side::Client && own.state == TcpState::SynRecv => {
            silent(time, TcpState::SynRecv, Socket { retransmits: peer.retransmits, ..own })
        }
        What::Unreachable { by, errno, .. } if by == nginx => {
            silent(time, TcpState::SynSent, Socket { error: errno, ..own })
        }
        What::Closed { .. } | What::Unanswered { .. } | What::Unreachable { .. } => return None,
    };
    Some(made)
}

/// The address of the upstream, for an incident that only a timer of Nginx ended, and the stretch of time in
/// which that timer can have run out.
pub fn silent_upstream(event: &Event) -> Option<(SocketAddr, Mono, Mono)> {
    let socket = event.socket.as_ref()?;
    let silent = matches!(event.kind, EventKind::Closed { new: TcpState::Close, .. }) && socket.error == 0;
    let found = (socket.remote, event.time, event.time.after(LONGEST_TIMER));
    (silent && socket.side == Side::Upstream).then_some(found)
}

/// The same for a RST that met repetitions of a request: Nginx may have given up before. On the wire its FIN
/// waits behind what was never acknowledged.
pub fn late_reset(event: &Event) -> Option<(SocketAddr, Mono, Mono)> {
    let socket = event.socket.as_ref().filter(|socket| socket.side == Side::Upstream)?;
    let received = matches!(event.kind, EventKind::ResetReceived);
    let repeated = socket.retransmits_pending > 0 && socket.unacked > 0;
    let since = event.time.before(Duration::from_millis(socket.last_sent_ms.unwrap_or(0).into()));
    (received && repeated).then_some((socket.remote, since, event.time))
}

/// The silent end of a connection at `time`, in place of what came after it. Had the peer closed before, no
/// timer of Nginx would have run out.
pub fn given_up(event: Event, time: Mono) -> Event {
    let old = TcpState::Established;
    let socket = event.socket.map(|socket| Socket { state: old, ..socket });
    Event { time, kind: EventKind::Closed { old, new: TcpState::Close }, socket, packet: None, ..event }
}

fn aftermath(own: &Socket, reset: u64) -> EventKind {
    EventKind::ResetSent {
        reason: None,
        after_reset: Some(Mono(reset)),
        local: own.local,
        remote: own.remote,
        backlog: None,
    }
}

/// Nginx's end sent FIN.
fn closed(time: u64, old: TcpState, own: Socket) -> Event {
    let kind = EventKind::Closed { old, new: TcpState::FinWait1 };
    let event = made(time, kind, Socket { state: old, ..own }, None);
    Event { task: Task { is_actor: true, is_nginx: true, ..event.task }, ..event }
}

/// Nothing more came and nothing more was sent.
fn silent(time: u64, old: TcpState, own: Socket) -> Event {
    made(time, EventKind::Closed { old, new: TcpState::Close }, own, None)
}

fn made(time: u64, kind: EventKind, socket: Socket, packet: Option<crate::model::Packet>) -> Event {
    let task = Task::nobody();
    Event { time: Mono(time), kind, socket: Some(socket), packet, task, netns: 0, elsewhere: None }
}
