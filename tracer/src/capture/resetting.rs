//! A RST and what came after it: whether its sender goes on, sends more of them, or is gone. What it did is told
//! when that has settled.

use crate::model::{Packet, TcpFlags};

use super::end::{End, behind};
use super::segment::{Bytes, Segment};
use super::sighting::{Sighting, What};

/// Packets of a reset's sender that are kept afterwards.
const AFTERWARDS: usize = 6;
/// Further resets in the same name that are kept.
const MORE_RESETS: usize = 6;

/// What a RST did, as long as it may still turn out.
#[derive(Debug, Clone)]
pub struct Resetting {
    from: usize,
    seq: u32,
    time: u64,
    sighting: Sighting,
    afterwards: Vec<Packet>,
    more: Vec<Packet>,
    /// How far the other end had sent when the RST came.
    reached: u32,
    /// The sender of the RST acknowledged what the other end sent after it: the connection lives.
    survived: bool,
}

impl Resetting {
    /// A RST of end `from` that came when the other end had sent up to `reached`.
    pub fn new(from: usize, segment: &Segment, sighting: Sighting, reached: u32) -> Self {
        Self {
            from,
            seq: segment.seq,
            time: segment.time,
            sighting,
            afterwards: Vec::new(),
            more: Vec::new(),
            reached,
            survived: false,
        }
    }

    /// When it came, nanoseconds since 1970.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Its sender went on with the connection as if it had sent none.
    pub fn survived(&self) -> bool {
        self.survived
    }

    /// A segment after the RST, from either end.
    pub fn goes_on(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) {
        if from != self.from {
            return;
        }
        self.survived |= segment.flags.has(TcpFlags::ACK) && behind(segment.ack, self.reached);
        if self.afterwards.len() < AFTERWARDS {
            self.afterwards.push(segment.packet(bytes));
        }
    }

    /// Another RST. A guess is one whose number lies beyond everything its end has sent or was acknowledged
    /// (`RST_SEQ_CHANGE`); hosts repeat and round up their own numbers only by less.
    pub fn again(&mut self, from: usize, segment: &Segment, packet: Packet, ends: &[End; 2]) {
        if self.is_crossed_by(from, segment, ends) {
            let [opener, listener] = &mut *self.sighting.ends;
            (opener.unseen, listener.unseen) = (opener.unseen.max(1), listener.unseen.max(1));
        }
        let end = &ends[from];
        let highest = end.next.wrapping_add(2);
        let guessed = behind(segment.seq, self.seq.wrapping_add(2))
            && behind(segment.seq, highest)
            && end.fin.is_none();
        if from == self.from && guessed && self.more.len() < MORE_RESETS {
            self.more.push(packet);
        }
    }

    /// The other end's RST comes sooner than it can have heard of this one: it was gone before, for a reason that did not
    /// pass here.
    fn is_crossed_by(&self, from: usize, segment: &Segment, ends: &[End; 2]) -> bool {
        const MEASURABLE_US: u32 = 1_000;
        let there_and_back = ends[self.from].min_rtt_us;
        let after = segment.time.saturating_sub(self.time) / 1_000;
        from != self.from && there_and_back >= MEASURABLE_US && after * 10 < u64::from(there_and_back) * 9
    }

    /// What follows a RST where packets were captured `twice` may be what went before it.
    pub fn told(self, twice: bool) -> Vec<Sighting> {
        let Sighting { time, what, ends, isns } = self.sighting;
        let what = match what {
            What::Reset { from, packet, .. } if self.survived => What::Refused { from, packet },
            what => what,
        };
        let from = match &what {
            What::Reset { from, .. } | What::Refused { from, .. } => *from,
            _ => 0,
        };
        let stamp = |packet: &Packet| packet.time.map_or(time, |time| time.0);
        let more = self.more.into_iter().map(|packet| (stamp(&packet), What::Refused { from, packet }));
        let after = self
            .afterwards
            .into_iter()
            .filter(|_| !self.survived && !twice)
            .map(|packet| (stamp(&packet), What::Afterwards { packet, reset: time }));
        let rest: Vec<(u64, What)> = more.chain(after).collect();
        let mut told = vec![Sighting { time, what, ends: ends.clone(), isns }];
        told.extend(rest.into_iter().map(|(time, what)| Sighting { time, what, ends: ends.clone(), isns }));
        told
    }
}
