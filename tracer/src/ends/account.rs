//! What the second tracer tells of one event of Nginx's own: what the other end did on that connection, and what would
//! stand in its recording and does not. Every rule here is about what that tracer can know; the weight is the judge's.

use std::time::Duration;

use crate::model::{Event, EventKind, Mono, OtherCapture, Side, Socket, Task, TcpState};

use super::clock::{Clocks, TOLD_LATE};
use super::witness::{Flow, Witness};

/// Both ends are reset by one hand within this time. What comes later may be the answer of Nginx's own kernel.
const ONE_HAND: Duration = Duration::from_millis(500);
/// Connections that stand still are looked for once a second.
const LOOK: Duration = Duration::from_millis(1_500);

/// Events of the other end that belong to `event`, in the first host's clock and addresses.
/// `sees_own_resets` says that the first tracer would have seen each RST of its own kernel.
pub fn told(witness: &Witness, clocks: &Clocks, event: &Event, sees_own_resets: bool) -> Vec<Event> {
    let Some(ours) = event.socket.as_ref().filter(|socket| socket.side == Side::Upstream) else {
        return Vec::new();
    };
    let teller = Teller { witness, clocks, event, ours };
    let flow = witness.find(ours, |time| clocks.there(time));
    let mut told: Vec<Event> = flow.map(|flow| teller.did(flow, sees_own_resets)).unwrap_or_default();
    let seen = match &event.kind {
        EventKind::ResetReceived => flow.and_then(|flow| teller.silent(flow)),
        EventKind::Closed { .. } => teller.arrival(flow),
        _ => None,
    };
    told.extend(seen.map(|seen| teller.other_end(seen)));
    told
}

struct Teller<'a> {
    witness: &'a Witness,
    clocks: &'a Clocks,
    event: &'a Event,
    ours: &'a Socket,
}

impl Teller<'_> {
    /// What the other end did on this connection, as far as it can have led to the event.
    fn did(&self, flow: &Flow, sees_own_resets: bool) -> Vec<Event> {
        let reset = |event: &Event| {
            matches!(event.kind, EventKind::ResetSent { after_reset: None, .. }) && self.before(event.time)
        };
        // A process that dies closes with FIN, unless something was unread; a RST is told of by itself.
        let may_end = !matches!(self.event.kind, EventKind::ResetReceived) || flow.events.iter().any(reset);
        let belongs = |event: &&Event| match &event.kind {
            EventKind::ResetSent { .. } => reset(event),
            EventKind::Closed { .. } => may_end && event.task.exiting.is_some() && self.before(event.time),
            // What answers a FIN of that end is no reset of both.
            EventKind::ResetReceived => sees_own_resets && is_open(event) && self.beside(event.time),
            _ => false,
        };
        flow.events.iter().filter(belongs).map(|event| self.translated(event)).collect()
    }

    /// It came before the event.
    fn before(&self, time: Mono) -> bool {
        // The answer to a SYN is the answer to this one: there was no other.
        let only = self.ours.state == TcpState::SynSent;
        (only || self.clocks.can_order()) && self.may_precede(time)
    }

    /// Not later than the event, as far as the clocks are known.
    fn may_precede(&self, time: Mono) -> bool {
        self.clocks.here(time).0 <= self.event.time.after(TOLD_LATE)
    }

    fn beside(&self, time: Mono) -> bool {
        let (earliest, latest) = self.clocks.here(time);
        self.clocks.can_order()
            && earliest <= self.event.time.after(ONE_HAND)
            && latest >= self.event.time.before(ONE_HAND)
    }

    /// The event as one of the other end of Nginx's connection.
    fn translated(&self, event: &Event) -> Event {
        let (local, remote) = (self.ours.remote, self.ours.local);
        let socket = event.socket.as_ref().map(|socket| Socket {
            side: Side::UpstreamPeer,
            local,
            remote,
            // Another host's number of a namespace means nothing here.
            netns: 0,
            ..socket.clone()
        });
        let kind = match &event.kind {
            EventKind::ResetSent { reason, backlog, .. } => EventKind::ResetSent {
                reason: reason.clone(),
                after_reset: None,
                local,
                remote,
                backlog: *backlog,
            },
            kind => kind.clone(),
        };
        let time = self.clocks.middle(event.time);
        let elsewhere = Some(Box::new(self.witness.place(event)));
        Event { time, kind, socket, netns: 0, elsewhere, ..event.clone() }
    }

    /// Whether the upstream's listener was full while Nginx waited for it, and dropped this very connection.
    fn overflow(&self) -> Option<bool> {
        let from = self.ours.opened.unwrap_or(self.event.time);
        let here = |event: &Event| {
            let EventKind::ListenOverflow(overflow) = &event.kind else { return None };
            let (earliest, latest) = self.clocks.here(event.time);
            let then = latest >= from && earliest <= self.event.time;
            (then && overflow.listener.port() == self.ours.remote.port())
                .then(|| overflow.client == Some(self.ours.local))
        };
        self.witness.overflows.iter().filter_map(here).max()
    }

    /// The other end's TCP sent no RST, and would have been seen to.
    fn silent(&self, flow: &Flow) -> Option<OtherCapture> {
        let acted =
            |event: &Event| event.task.exiting.is_some() || matches!(event.kind, EventKind::ResetSent { .. });
        // Where the clocks leave it open, it may have come before.
        let acted = flow.events.iter().any(|event| acted(event) && self.may_precede(event.time));
        let (earliest, latest) = self.clocks.there(self.event.time);
        let watched = self.witness.saw_all(earliest, latest) && self.witness.sees_sent_resets();
        (!acted && watched).then(|| OtherCapture { reset: Some(false), sure: true, ..self.nothing() })
    }

    /// Whether what Nginx repeated in vain had reached the other end's TCP.
    fn arrival(&self, flow: Option<&Flow>) -> Option<OtherCapture> {
        if self.ours.state == TcpState::SynSent {
            return self.arrival_of_syn(flow);
        }
        let (in_vain, flow) = (self.ours.unacked > 0 && self.ours.retransmits_pending > 0, flow?);
        if !in_vain {
            return None;
        }
        // `bytes_acked` counts the SYN.
        let acknowledged = self.ours.bytes_acked.saturating_sub(1);
        let (from, to) = self.clocks.there(self.event.time);
        let at = flow.events.iter().filter(|event| event.time <= to.after(LOOK));
        let socket = at.filter_map(|event| event.socket.as_ref()).next_back()?;
        if matches!(socket.state, TcpState::SynRecv | TcpState::NewSynRecv) {
            // The handshake was never completed there: a full listener drops its last part, and what comes with it.
            return self.overflow().map(|exact| OtherCapture { overflow: Some(exact), ..self.nothing() });
        }
        let arrived = socket.bytes_received > acknowledged;
        let watched = self.witness.saw_all(from.before(LOOK), to.after(LOOK));
        (arrived || watched).then(|| OtherCapture {
            arrived: Some(arrived),
            answered: arrived,
            sure: true,
            ..self.nothing()
        })
    }

    fn arrival_of_syn(&self, flow: Option<&Flow>) -> Option<OtherCapture> {
        if !matches!(self.ours.error, 0 | 110) {
            return None;
        }
        if let Some(exact) = self.overflow() {
            return Some(OtherCapture { overflow: Some(exact), ..self.nothing() });
        }
        if flow.is_some() {
            return Some(OtherCapture { arrived: Some(true), answered: true, sure: true, ..self.nothing() });
        }
        let (from, _) = self.clocks.there(self.ours.opened?);
        let (_, to) = self.clocks.there(self.event.time);
        let would_be_seen = self.witness.watched(self.ours.remote)
            && self.witness.knows(self.ours.local.ip())
            && self.witness.sees_overflows()
            && self.witness.sees_sent_resets()
            && self.witness.saw_all(from, to.after(LOOK));
        would_be_seen.then(|| OtherCapture { arrived: Some(false), ..self.nothing() })
    }

    fn nothing(&self) -> OtherCapture {
        OtherCapture {
            file: self.witness.host.clone(),
            reset: None,
            sure: false,
            other_reset: false,
            arrived: None,
            answered: false,
            hops: None,
            overflow: None,
            is_recording: true,
        }
    }

    fn other_end(&self, seen: OtherCapture) -> Event {
        let socket = Socket {
            side: Side::UpstreamPeer,
            local: self.ours.remote,
            remote: self.ours.local,
            ..self.ours.clone()
        };
        let task = Task::nobody();
        let (time, kind) = (self.event.time, EventKind::OtherCapture(seen));
        Event { time, kind, socket: Some(socket), packet: None, task, netns: 0, elsewhere: None }
    }
}

/// That end had not closed.
fn is_open(event: &Event) -> bool {
    event.socket.as_ref().is_some_and(|socket| !socket.state.we_closed())
}
