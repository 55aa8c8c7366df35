//! How far the clocks of two hosts are apart, by what went between them: nothing arrives before it was sent, so each
//! handshake, RST and last byte that both tracers tell of bounds the distance from one side. Where one side has no
//! bound, the wall clocks of the hosts are taken to agree within two seconds.

use std::time::Duration;

use crate::model::{Event, EventKind, Mono, Socket};

use super::witness::{Flow, Witness};

/// Wall clocks of which nothing else is known may be this far apart.
const UNKNOWN_NS: i64 = 2_000_000_000;
/// A kernel tells of a RST when it has handed it to the device (`tcp_send_active_reset`), and may be interrupted between.
pub const TOLD_LATE: Duration = Duration::from_millis(5);
/// Clocks that are known less well do not tell whether something came before something else.
const ORDERED: Duration = Duration::from_millis(500);
/// Times of the last data are told in ticks of the kernel, which are up to 10 ms long, on both hosts.
const TICKS_NS: i64 = 20_000_000;

/// Bounds of the second clock minus the first, nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    least: i64,
    most: i64,
    /// Least distance by which any RST that left there came before one that arrived here. A forged one may have arrived
    /// long before another was sent, so that only the smallest of these can be a bound.
    resets: i64,
    flows: usize,
}

/// What the flows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// UTC of the second host minus UTC of the first, nanoseconds.
    pub nanoseconds: i64,
    /// The true value is at most this far off.
    pub uncertainty: u64,
    /// Connections it rests on.
    pub flows: usize,
}

/// From the clock of the first host to that of the second, and back.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Second kernel clock minus first.
    shift: i64,
    /// At most this far off.
    doubt: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { least: i64::MIN, most: i64::MAX, resets: i64::MAX, flows: 0 }
    }
}

impl Bounds {
    /// Narrows the bounds by a connection of which both hosts tell something.
    pub fn learn(&mut self, ours: &Event, flow: &Flow) {
        let Some(socket) = ours.socket.as_ref() else { return };
        self.flows += 1;
        // The handshake is complete there after the SYN-ACK was here.
        let opened = socket.syn_ack.as_ref().and_then(|packet| packet.time).or(socket.opened);
        if let (Some(here), Some(there), false) = (opened, flow.opened, socket.preexisting) {
            self.at_most(there, here, 0);
        }
        for theirs in &flow.events {
            self.resets(ours, theirs);
            self.data(ours.time, socket, theirs);
        }
    }

    fn resets(&mut self, ours: &Event, theirs: &Event) {
        let sent = matches!(theirs.kind, EventKind::ResetSent { after_reset: None, .. });
        if sent && matches!(ours.kind, EventKind::ResetReceived) {
            let sent = theirs.time.before(TOLD_LATE);
            self.resets = self.resets.min(difference(sent, ours.time));
        }
    }

    /// The last byte that one end sent is the last that the other received.
    fn data(&mut self, at: Mono, ours: &Socket, theirs: &Event) {
        let Some(other) = theirs.socket.as_ref().filter(|socket| socket.snd_nxt != 0) else { return };
        let ago = |milliseconds: Option<u32>| milliseconds.map(|it| Duration::from_millis(it.into()));
        if ours.rcv_nxt == other.snd_nxt
            && other.retransmits == 0
            && let (Some(came), Some(went)) = (ago(ours.last_received_ms), ago(other.last_sent_ms))
        {
            self.at_least(theirs.time.before(went), at.before(came), TICKS_NS);
        }
        if other.rcv_nxt == ours.snd_nxt
            && ours.retransmits == 0
            && let (Some(went), Some(came)) = (ago(ours.last_sent_ms), ago(other.last_received_ms))
        {
            self.at_most(theirs.time.before(came), at.before(went), TICKS_NS);
        }
    }

    fn at_least(&mut self, there: Mono, here: Mono, slack: i64) {
        self.least = self.least.max(difference(there, here).saturating_sub(slack));
    }

    fn at_most(&mut self, there: Mono, here: Mono, slack: i64) {
        self.most = self.most.min(difference(there, here).saturating_add(slack));
    }

    /// The bounds, if there is one on either side and they do not contradict each other.
    fn known(self) -> Option<(i64, i64)> {
        let least = if self.resets <= self.most { self.least.max(self.resets) } else { self.least };
        (least > i64::MIN && self.most < i64::MAX && least <= self.most).then_some((least, self.most))
    }

    /// The clocks by these bounds; `by_wall` is the distance if both wall clocks are right.
    pub fn clocks(self, by_wall: i64) -> Clocks {
        let Some((least, most)) = self.known() else {
            return Clocks { shift: by_wall, doubt: Duration::from_nanos(UNKNOWN_NS.unsigned_abs()) };
        };
        let half = least.abs_diff(most).div_ceil(2);
        Clocks { shift: least.midpoint(most), doubt: Duration::from_nanos(half) }
    }

    /// What there is to say about the wall clocks.
    pub fn offset(self, by_wall: i64) -> Option<Offset> {
        self.known()?;
        let clocks = self.clocks(by_wall);
        Some(Offset {
            nanoseconds: clocks.shift.saturating_sub(by_wall),
            uncertainty: u64::try_from(clocks.doubt.as_nanos()).unwrap_or(u64::MAX),
            flows: self.flows,
        })
    }
}

/// The distance of the kernel clocks if the wall clocks of both hosts are right.
pub fn by_wall(first: crate::model::Clock, second: &Witness) -> i64 {
    first.offset_ns.saturating_sub(second.clock.offset_ns)
}

impl Clocks {
    /// Of two events on two hosts it can be told which came first, unless they are close together.
    pub fn can_order(&self) -> bool {
        self.doubt <= ORDERED
    }

    /// A moment of the first host by the clock of the second: not before, and not after.
    pub fn there(&self, time: Mono) -> (Mono, Mono) {
        let moved = shifted(time, self.shift);
        (moved.before(self.doubt), moved.after(self.doubt))
    }

    /// A moment of the second host by the clock of the first.
    pub fn here(&self, time: Mono) -> (Mono, Mono) {
        let moved = self.middle(time);
        (moved.before(self.doubt), moved.after(self.doubt))
    }

    /// The likeliest moment of the first host for one of the second.
    pub fn middle(&self, time: Mono) -> Mono {
        shifted(time, self.shift.saturating_neg())
    }
}

fn shifted(time: Mono, by: i64) -> Mono {
    Mono(time.0.saturating_add_signed(by))
}

fn difference(there: Mono, here: Mono) -> i64 {
    there.0.cast_signed().saturating_sub(here.0.cast_signed())
}
