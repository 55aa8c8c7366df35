//! A sighting of one capture looked up in the capture of the other end. Says only what both captures carry:
//! where the other one lost packets, did not run, or does not know the host, it says nothing.

use crate::model::{Event, EventKind, Mono, OtherCapture, Side, Socket, Task};

use super::end::behind;
use super::ledger::{Found, Ledger, Offset};
use super::roles::Roles;
use super::sighting::{Sighting, What};

/// Clocks of which nothing is known may be this far apart before the other capture is not used.
const UNKNOWN_CLOCK_NS: u64 = 2_000_000_000;
/// Initial TTLs in use.
const INITIAL: [u8; 3] = [64, 128, 255];

/// The capture of the other end.
#[derive(Debug)]
pub struct Other {
    /// Its file.
    pub file: String,
    /// What passed there.
    pub ledger: Ledger,
    /// What passed here.
    pub own: Ledger,
    /// Its system lost packets.
    pub is_lossy: bool,
    /// It says how many packets its system lost.
    pub counts_losses: bool,
    /// Its clock against the one here.
    pub offset: Option<Offset>,
}

impl Other {
    /// What it shows of a sighting, as an event of the other end.
    pub fn event(&self, sighting: &Sighting, roles: &Roles) -> Option<Event> {
        let (nginx, side) = roles.of(sighting.opener(), sighting.listener())?;
        let seen = self.seen(sighting, nginx)?;
        let side = if side == Side::Client { Side::ClientPeer } else { Side::UpstreamPeer };
        let socket = Socket { side, ..sighting.ends[1 - nginx].clone() };
        let task = Task::nobody();
        let kind = EventKind::OtherCapture(seen);
        let (time, socket) = (Mono(sighting.time), Some(socket));
        Some(Event { time, kind, socket, packet: None, task, netns: 0, elsewhere: None })
    }

    fn seen(&self, sighting: &Sighting, nginx: usize) -> Option<OtherCapture> {
        let peer = 1 - nginx;
        let ends = &sighting.ends;
        // Every host has that address, and what goes there passes nowhere else.
        if ends[peer].local.ip().is_loopback() {
            return None;
        }
        let found = self.ledger.find((ends[0].local, sighting.isns[0]), (ends[1].local, sighting.isns[1]));
        let nothing = OtherCapture {
            file: self.file.clone(),
            reset: None,
            sure: false,
            other_reset: false,
            arrived: None,
            answered: false,
            hops: found.and_then(|found| hops(found.way(peer).ttl?)),
            overflow: None,
            is_recording: false,
        };
        match &sighting.what {
            What::Reset { from, packet, .. } if *from == peer => {
                let is_there = found.is_some_and(|found| found.way(peer).has(packet));
                // A NAT that leads the connection elsewhere from now on gives the answer another address there.
                let renamed = !is_there && self.ledger.has_reset(packet.seq);
                let complete = !renamed && self.ledger.hears_from(ends[peer].local.ip());
                let reset = self.had(sighting, found, is_there, complete)?;
                let other_reset = found.is_some_and(|found| self.foreign(sighting, found, nginx));
                let (there, doubt) = self.there(sighting.time);
                let went_on = found.is_some_and(|found| found.way(peer).spoke > there.saturating_add(doubt));
                Some(OtherCapture {
                    reset: Some(reset),
                    // A filter may have left out the resets alone.
                    sure: self.ledger.has_resets() && (self.counts_losses || went_on),
                    other_reset,
                    ..nothing
                })
            }
            What::Unanswered { by } if *by == nginx => {
                let una = ends[nginx].snd_una;
                let acked = |found: Found<'_>| found.way(peer).acked.is_some_and(|ack| behind(ack, una));
                let (there, doubt) = self.there(sighting.time);
                let by_then = there.saturating_add(doubt);
                let is_there = found.is_some_and(|found| found.way(nginx).stretch.has(una, by_then));
                let complete = self.ledger.hears_for(ends[peer].local.ip());
                let arrived = self.had(sighting, found, is_there, complete)?;
                let answered = found.is_some_and(acked);
                Some(OtherCapture { arrived: Some(arrived), answered, ..nothing })
            }
            _ => None,
        }
    }

    /// Whether something passed there. That it did not is only said if it would have been seen: the capture ran, lost
    /// nothing, is complete for that host, and the connection cannot have gone by under another address.
    fn had(
        &self,
        sighting: &Sighting,
        found: Option<Found<'_>>,
        is_there: bool,
        complete: bool,
    ) -> Option<bool> {
        if is_there {
            return Some(true);
        }
        let hidden = found.is_none() && sighting.isns[0].is_none_or(|isn| self.ledger.has_syn(isn));
        let reliable = !self.is_lossy && complete && self.ran(sighting.time) && !hidden;
        reliable.then_some(false)
    }

    /// The other capture has packets from before and after this moment.
    fn ran(&self, time: u64) -> bool {
        let Some((first, last)) = self.ledger.span else { return false };
        let (there, doubt) = self.there(time);
        there.saturating_sub(doubt) >= first && there.saturating_add(doubt) <= last
    }

    /// A moment by the clock of the other capture, and how far that may be off.
    fn there(&self, time: u64) -> (u64, u64) {
        let known = self.offset.map(|offset| (offset.nanoseconds, offset.uncertainty));
        let (shift, doubt) = known.unwrap_or((0, UNKNOWN_CLOCK_NS));
        (time.saturating_add_signed(shift), doubt)
    }

    /// A RST in Nginx's name passed there that did not pass here.
    fn foreign(&self, sighting: &Sighting, found: Found<'_>, nginx: usize) -> bool {
        let ends = &sighting.ends;
        if !self.own.hears_from(ends[nginx].local.ip()) {
            return false;
        }
        let own = self.own.find((ends[0].local, sighting.isns[0]), (ends[1].local, sighting.isns[1]));
        let sent =
            |seq: u32| own.is_none_or(|own| own.way(nginx).resets.iter().any(|(ours, ..)| *ours == seq));
        found.way(nginx).resets.iter().any(|(seq, ..)| !sent(*seq))
    }
}

/// Hops from a usual initial TTL.
fn hops(ttl: u8) -> Option<u8> {
    INITIAL.iter().find(|initial| **initial >= ttl).map(|initial| initial - ttl)
}
