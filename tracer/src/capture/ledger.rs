//! What the capture at the other end shows of each connection: which segments and resets passed there, and when.
//! Connections are found by their initial sequence numbers, which survive NAT, else by their addresses.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::RandomState;

use crate::model::{Packet, TcpFlags};

use super::end::behind;
use super::segment::Segment;
use super::stretch::Stretch;

/// Connections kept.
const MOST: usize = 500_000;
/// Resets kept per connection.
const RESETS: usize = 8;

/// Addresses and ports of a direction.
type Way = (SocketAddr, SocketAddr);

/// One direction of a connection.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    /// Number of the SYN or SYN-ACK.
    pub isn: Option<u32>,
    /// When that passed first, nanoseconds since 1970.
    pub opened: Option<u64>,
    /// Sequence numbers that passed.
    pub stretch: Stretch,
    /// Highest acknowledgment that passed.
    pub acked: Option<u32>,
    /// TTL of its packets.
    pub ttl: Option<u8>,
    /// When anything new passed last: FIN and SYN-ACK are repeated also by a host that has reset the connection.
    pub spoke: u64,
    /// Resets: sequence number, flags, time.
    pub resets: Vec<(u32, TcpFlags, u64)>,
}

/// A connection as it passed.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    /// From the end with the lower address, and back.
    pub ways: [Passed; 2],
}

/// Everything that passed.
#[derive(Debug, Default)]
pub struct Ledger {
    flows: Vec<Flow>,
    by_way: HashMap<Way, usize, RandomState>,
    by_isn: HashMap<(u32, u32), Option<usize>, RandomState>,
    syns: HashSet<u32, RandomState>,
    /// Sequence numbers of resets.
    resets: HashSet<u32, RandomState>,
    senders: HashSet<IpAddr, RandomState>,
    receivers: HashSet<IpAddr, RandomState>,
    /// Something passed that a filter for the begin and end of connections would not let pass.
    is_plain: bool,
    /// First and last packet.
    pub span: Option<(u64, u64)>,
    /// Connections beyond the bound.
    pub beyond: u64,
}

/// A flow with the direction of the one who opened it, as the asker sees it.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    flow: &'a Flow,
    turned: bool,
}

impl Found<'_> {
    /// What passed from the opener (0) or from the listener (1).
    pub fn way(&self, end: usize) -> &Passed {
        let index = if self.turned { 1 - end } else { end };
        &self.flow.ways[index.min(1)]
    }
}

impl Ledger {
    /// Takes a segment.
    pub fn takes(&mut self, segment: &Segment) {
        let (first, last) = self.span.unwrap_or((segment.time, segment.time));
        self.span = Some((first.min(segment.time), last.max(segment.time)));
        let (way, index) = directed(segment.source, segment.destination);
        let opens = segment.flags.has(TcpFlags::SYN) && !segment.flags.has(TcpFlags::ACK);
        let known = self.by_way.get(&way).copied();
        let reopened = |flow: &Flow| opens && flow.ways[index].isn != Some(segment.seq);
        let place = match known {
            Some(place) if !self.flows.get(place).is_some_and(reopened) => place,
            _ if self.flows.len() >= MOST => {
                self.beyond += 1;
                return;
            }
            _ => {
                self.flows.push(Flow::default());
                self.by_way.insert(way, self.flows.len() - 1);
                self.flows.len() - 1
            }
        };
        if opens {
            self.syns.insert(segment.seq);
        }
        if segment.flags.has(TcpFlags::RST) && self.resets.len() < MOST {
            self.resets.insert(segment.seq);
        }
        let Some(flow) = self.flows.get_mut(place) else { return };
        if flow.ways[index].ttl.is_none() && !segment.flags.has(TcpFlags::RST) {
            self.senders.insert(segment.source.ip());
            self.receivers.insert(segment.destination.ip());
        }
        flow.ways[index].takes(segment);
        self.is_plain |= segment.flags.is_plain();
        if segment.flags.has(TcpFlags::SYN | TcpFlags::ACK)
            && let [Some(own), Some(other)] = [flow.ways[index].isn, flow.ways[1 - index].isn]
        {
            let entry = self.by_isn.entry((other, own)).or_insert(Some(place));
            if *entry != Some(place) {
                *entry = None;
            }
        }
    }

    /// The connection between these addresses, or the one with these initial numbers under other addresses.
    /// `opener` and `listener` are `(address, initial number)`.
    pub fn find(
        &self,
        opener: (SocketAddr, Option<u32>),
        listener: (SocketAddr, Option<u32>),
    ) -> Option<Found<'_>> {
        let (way, index) = directed(opener.0, listener.0);
        let fits = |found: &Found| {
            let same =
                |seen: Option<u32>, ours: Option<u32>| seen.is_none() || ours.is_none() || seen == ours;
            same(found.way(0).isn, opener.1) && same(found.way(1).isn, listener.1)
        };
        let by_way = self.by_way.get(&way).and_then(|place| self.flows.get(*place));
        let by_way = by_way.map(|flow| Found { flow, turned: index == 1 }).filter(fits);
        by_way.or_else(|| {
            let place = (*self.by_isn.get(&(opener.1?, listener.1?))?)?;
            let flow = self.flows.get(place)?;
            Some(Found { flow, turned: flow.ways[0].isn != opener.1 })
        })
    }

    /// A SYN with this number passed, whatever its addresses.
    pub fn has_syn(&self, isn: u32) -> bool {
        self.syns.contains(&isn)
    }

    /// A reset with this sequence number passed, whatever its addresses.
    pub fn has_reset(&self, seq: u32) -> bool {
        self.resets.contains(&seq)
    }

    /// Resets pass here: no filter has kept them all from it.
    pub fn has_resets(&self) -> bool {
        !self.resets.is_empty()
    }

    /// What this host sends would be here: something of it is, and the capture is not one of SYN, FIN and RST only.
    pub fn hears_from(&self, host: IpAddr) -> bool {
        self.is_plain && self.senders.contains(&host)
    }

    /// What is sent to this host would be here, likewise.
    pub fn hears_for(&self, host: IpAddr) -> bool {
        self.is_plain && self.receivers.contains(&host)
    }

    /// Every connection whose handshake passed.
    pub fn handshakes(&self) -> impl Iterator<Item = (Way, &Flow)> {
        self.by_way.iter().filter_map(|(way, place)| Some((*way, self.flows.get(*place)?)))
    }
}

impl Passed {
    fn takes(&mut self, segment: &Segment) {
        if segment.flags.has(TcpFlags::RST) {
            if self.resets.len() < RESETS {
                self.resets.push((segment.seq, segment.flags, segment.time));
            }
            return;
        }
        self.ttl = Some(segment.ttl);
        let repeats = [TcpFlags::SYN, TcpFlags::FIN].iter().any(|flag| segment.flags.has(*flag));
        if !repeats || self.stretch.is_behind(segment.end()) {
            self.spoke = segment.time;
        }
        if segment.flags.has(TcpFlags::SYN) && self.isn.is_none() {
            (self.isn, self.opened) = (Some(segment.seq), Some(segment.time));
        }
        self.stretch.takes(segment.seq, segment.end(), segment.time);
        if segment.flags.has(TcpFlags::ACK) {
            self.acked = Some(highest(self.acked, segment.ack));
        }
    }

    /// This reset passed.
    pub fn has(&self, reset: &Packet) -> bool {
        self.resets.iter().any(|(seq, flags, _)| *seq == reset.seq && *flags == reset.flags)
    }
}

fn highest(known: Option<u32>, new: u32) -> u32 {
    known.filter(|known| !behind(new, *known)).unwrap_or(new)
}

fn directed(source: SocketAddr, destination: SocketAddr) -> (Way, usize) {
    if source <= destination { ((source, destination), 0) } else { ((destination, source), 1) }
}

/// How far the second clock is ahead of the first, from packets that passed both: no packet arrives before it
/// was sent. Nanoseconds, with the half width of what remains possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Second clock minus first.
    pub nanoseconds: i64,
    /// The true value is at most this far off.
    pub uncertainty: u64,
    /// Handshakes it rests on.
    pub handshakes: usize,
}

/// The offset between the clocks of two captures, if handshakes are in both. Which way a packet went is told by
/// its TTL, which only falls.
pub fn offset(first: &Ledger, second: &Ledger) -> Option<Offset> {
    let (mut least, mut most, mut handshakes) = (i64::MIN, i64::MAX, 0);
    for (way, flow) in first.handshakes() {
        let [one, other] = &flow.ways;
        let Some(found) = second.find((way.0, one.isn), (way.1, other.isn)) else { continue };
        let mut used = false;
        for (ours, theirs) in [(one, found.way(0)), (other, found.way(1))] {
            let (Some(sent), Some(seen)) = (ours.opened, theirs.opened) else { continue };
            let (Some(near), Some(far)) = (ours.ttl, theirs.ttl) else { continue };
            let difference = seen.cast_signed().saturating_sub(sent.cast_signed());
            used |= near != far && ours.isn == theirs.isn;
            match near.cmp(&far) {
                _ if ours.isn != theirs.isn => {}
                std::cmp::Ordering::Greater => most = most.min(difference),
                std::cmp::Ordering::Less => least = least.max(difference),
                std::cmp::Ordering::Equal => {}
            }
        }
        handshakes += usize::from(used);
    }
    let known = least > i64::MIN && most < i64::MAX && least <= most;
    known.then(|| Offset {
        nanoseconds: least.midpoint(most),
        uncertainty: least.abs_diff(most).div_ceil(2),
        handshakes,
    })
}
