//! One end of a connection as its own packets and the answers to them show it: sequence numbers, times, round
//! trips, hop distances. Lost packets are noticed as gaps and never filled in.

use crate::judge::hop_difference;
use crate::model::{Baseline, BaselineSource, Packet, TcpFlags};

use super::segment::Segment;

/// The same packet again within this time was captured twice, not sent twice.
const TWICE_NS: u64 = 2_000_000;
/// A gap this long before an incident may be part of it.
const SHORTLY_NS: u64 = 2_000_000_000;
/// Nobody asks anew on a connection whose end he has known for this long: it was asked before, and repeated.
const UNDER_WAY_NS: u64 = 100_000_000;
/// The widest window there can be (RFC 7323, section 2.3), bytes.
const WIDEST: i32 = 1 << 30;
/// Packets remembered to recognise copies.
const REMEMBERED: usize = 4;

/// Distances at which the packets of an end arrived.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hops {
    opening: Option<u8>,
    others: Option<u8>,
    varied: bool,
}

/// One end, as a sender.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// Number of its SYN.
    pub isn: Option<u32>,
    /// Behind the highest sequence number it used.
    pub next: u32,
    /// Highest number the other end acknowledged.
    pub acked: u32,
    /// Highest number it acknowledged itself: its own `rcv_nxt`.
    pub ack: Option<u32>,
    /// Latest window, unscaled.
    pub window: u16,
    /// Window scale it offered.
    pub scale: u8,
    /// MSS it offered.
    pub mss: u16,
    /// Payload bytes it sent, each once.
    pub bytes: u64,
    /// Segments with new payload.
    pub segments: u32,
    /// When it last sent new payload, nanoseconds since 1970.
    pub data_at: Option<u64>,
    /// Which segment with payload of the connection that was. Times may be equal, or go back.
    pub spoken: u64,
    /// Both without what looks like a farewell of HTTP/2 inside TLS.
    before_parting: (u64, Option<u64>),
    parting: bool,
    /// Bytes that it said last of all and that are farewells for certain.
    pub farewell: u32,
    /// When it last acknowledged something.
    pub ack_at: Option<u64>,
    /// Latest `TSval`.
    pub clock: Option<u32>,
    /// Segments repeated.
    pub retransmits: u32,
    /// Repetitions since the last progress.
    pub pending: u32,
    /// It has sent a FIN; the number behind it.
    pub fin: Option<u32>,
    /// Packets that must have been sent and are not in the capture.
    pub gaps: u32,
    gap_at: u64,
    /// Where the latest gap begins: open as long as the other end acknowledges nothing behind it.
    hole: Option<u32>,
    /// When the other end acknowledged its FIN.
    fin_acked_at: Option<u64>,
    /// Distances.
    pub hops: Hops,
    /// Shortest and smoothed round trip from the capture to the other end, microseconds.
    pub min_rtt_us: u32,
    /// See `min_rtt_us`.
    pub srtt_us: u32,
    /// The SYN-ACK.
    pub opening: Option<Box<Packet>>,
    /// Its last segment that is no RST.
    pub latest: Option<Segment>,
    /// When it sent its first packet.
    pub since: Option<u64>,
    /// Its packets were captured at several places of the path.
    pub is_seen_twice: bool,
    sample: Option<(u32, u64)>,
    /// End of its latest segment that lay where no window reaches.
    far: Option<u32>,
    /// Mark of its SYN.
    syn: Option<u64>,
    copies: [Seen; REMEMBERED],
    place: usize,
}

/// A packet to recognise copies by.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    mark: u64,
    time: u64,
    ttl: u8,
}

/// What a segment did for the end that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// It repeated something.
    pub repeated: bool,
    /// It is the first FIN.
    pub closes: bool,
    /// It carries new payload.
    pub speaks: bool,
}

/// Whether `one` lies behind `other` in sequence space.
pub fn behind(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() > 0
}

/// Farther than any window reaches: damage, or the numbers of another connection.
fn is_far(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() > WIDEST
}

impl End {
    /// Whether the packet was captured twice. Remembers it.
    pub fn is_copy(&mut self, segment: &Segment) -> bool {
        let Segment { time, ttl, .. } = *segment;
        let mark = mark(segment);
        let near = |seen: &&Seen| seen.mark == mark && time.saturating_sub(seen.time) <= TWICE_NS;
        let known = self.copies.iter().find(near).copied();
        // A router lies between the places, or their clocks differ: a SYN that is sent again is another packet.
        let again = segment.flags.has(TcpFlags::SYN) && self.syn == Some(mark);
        self.is_seen_twice |= known.map_or(again, |copy| copy.ttl != ttl);
        if segment.flags.has(TcpFlags::SYN) {
            self.syn.get_or_insert(mark);
        }
        if known.is_none()
            && let Some(copy) = self.copies.get_mut(self.place)
        {
            *copy = Seen { mark, time, ttl };
            self.place = (self.place + 1) % REMEMBERED;
        }
        known.is_some()
    }

    /// Takes one of its own segments that is no RST.
    pub fn sends(&mut self, segment: &Segment) -> Taken {
        self.see(segment);
        let (first, end) = (self.since.is_none(), segment.end());
        let mut taken = Taken::default();
        let span = end.wrapping_sub(segment.seq);
        if first {
            self.since = Some(segment.time);
            (self.next, self.acked) = (segment.seq, segment.seq);
        }
        if segment.flags.has(TcpFlags::SYN) && self.isn.is_none() {
            self.isn = Some(segment.seq);
        }
        if self.is_out_of_reach(end) {
            return taken;
        }
        if span > 0 && behind(end, self.next) {
            if behind(segment.seq, self.next) {
                self.hole = Some(self.next);
                self.lacks(segment.time);
            }
            self.advance(segment, end);
            taken.speaks = segment.payload > 0;
        } else if span > 0 && !first {
            // A keep-alive probe repeats one byte that was acknowledged before (RFC 9293, section 3.8.4).
            taken.repeated = behind(end, self.acked);
            self.retransmits += u32::from(taken.repeated);
            self.pending += u32::from(taken.repeated);
            self.sample = None;
        }
        if segment.flags.has(TcpFlags::FIN) && self.fin.is_none() {
            self.fin = Some(end);
            taken.closes = true;
        }
        self.latest = Some(*segment);
        taken
    }

    /// New payload that is more than a farewell: number `spoken` of its connection.
    pub fn speaks(&mut self, time: u64, spoken: u64, is_parting: bool) {
        self.segments = self.segments.saturating_add(1);
        self.farewell = 0;
        if is_parting && !self.parting {
            self.before_parting = (self.spoken, self.data_at);
        }
        self.data_at = Some(time);
        (self.parting, self.spoken) = (is_parting, spoken);
    }

    /// What an end that closes said last and meant: its number, as [`End::spoken`], and its time.
    pub fn meant(&self) -> (u64, Option<u64>) {
        if self.parting { self.before_parting } else { (self.spoken, self.data_at) }
    }

    /// What it said last. Before its FIN nobody knows that it was a farewell.
    pub fn said(&self) -> (u64, Option<u64>) {
        if self.fin.is_some() { self.meant() } else { (self.spoken, self.data_at) }
    }

    /// Whether a number lies where no window reaches; where it goes on from the one that did so before, a part of
    /// the connection is not in the capture.
    fn is_out_of_reach(&mut self, end: u32) -> bool {
        if !is_far(end, self.next) {
            return false;
        }
        let follows = self.far.is_some_and(|far| !is_far(end, far) && !is_far(far, end));
        self.far = Some(end);
        !follows
    }

    fn advance(&mut self, segment: &Segment, end: u32) {
        let fresh = end.wrapping_sub(self.next);
        let flags = u32::from(segment.flags.has(TcpFlags::SYN)) + u32::from(segment.flags.has(TcpFlags::FIN));
        self.bytes += u64::from(fresh.saturating_sub(flags));
        self.next = end;
        self.sample.get_or_insert((end, segment.time));
    }

    /// What every packet of it tells, also a RST's predecessor.
    fn see(&mut self, segment: &Segment) {
        let is_opening = segment.flags.has(TcpFlags::SYN);
        self.hops.see(segment.ttl, is_opening);
        self.window = segment.window;
        if let Some(stamps) = segment.timestamps {
            self.clock = Some(stamps.value);
        }
        if segment.flags.has(TcpFlags::ACK) {
            self.ack = Some(
                self.ack.map_or(segment.ack, |ack| if behind(segment.ack, ack) { segment.ack } else { ack }),
            );
            self.ack_at = Some(segment.time);
        }
    }

    /// The other end acknowledged up to `ack`.
    pub fn acknowledged(&mut self, ack: u32, time: u64) {
        if self.since.is_none() {
            (self.next, self.acked) = (ack, ack);
            return;
        }
        if is_far(ack, self.next) {
            return;
        }
        if behind(ack, self.next) {
            // The other end has received what the capture has not seen.
            self.lacks(time);
            self.bytes += u64::from(ack.wrapping_sub(self.next));
            self.next = ack;
        }
        if behind(ack, self.acked) {
            self.acked = ack;
            self.pending = 0;
        }
        if self.fin_acked() {
            self.fin_acked_at.get_or_insert(time);
        }
        if let Some((_, at)) = self.sample.filter(|(end, _)| !behind(*end, ack)) {
            self.round_trip(time.saturating_sub(at));
            self.sample = None;
        }
    }

    /// Packets that must have been sent before `time` are not in the capture.
    pub fn lacks(&mut self, time: u64) {
        self.gaps = self.gaps.saturating_add(1);
        self.gap_at = time;
    }

    /// Gaps, if the latest was shortly before `time`, or if the other end still waits for what is missing.
    pub fn unseen(&self, time: u64) -> u32 {
        let lately = time.saturating_sub(self.gap_at) <= SHORTLY_NS;
        let is_open = self.hole.is_some_and(|hole| !behind(self.acked, hole));
        if lately || is_open { self.gaps } else { 0 }
    }

    /// The other end had its FIN so long before `time` that what it asks then was not under way with it.
    pub fn was_known_closed(&self, time: u64) -> bool {
        self.fin_acked_at.is_some_and(|at| time.saturating_sub(at) > UNDER_WAY_NS)
    }

    fn round_trip(&mut self, nanoseconds: u64) {
        let us = u32::try_from(nanoseconds / 1_000).unwrap_or(u32::MAX).max(1);
        self.min_rtt_us = if self.min_rtt_us == 0 { us } else { self.min_rtt_us.min(us) };
        self.srtt_us = if self.srtt_us == 0 { us } else { self.srtt_us - self.srtt_us / 8 + us / 8 };
    }

    /// Bytes sent and not acknowledged, without FIN.
    pub fn unacked(&self) -> u32 {
        let fin = u32::from(self.fin.is_some_and(|fin| behind(fin, self.acked)));
        if behind(self.next, self.acked) { self.next.wrapping_sub(self.acked).saturating_sub(fin) } else { 0 }
    }

    /// Its FIN was acknowledged.
    pub fn fin_acked(&self) -> bool {
        self.fin.is_some_and(|fin| !behind(fin, self.acked))
    }
}

impl Hops {
    /// Packets came from several distances.
    pub fn varied(self) -> bool {
        self.varied
    }

    /// No router has touched them: they were captured where they were sent, and none was lost before.
    pub fn are_fresh(self) -> bool {
        const INITIAL: [u8; 3] = [64, 128, 255];
        self.others.or(self.opening).is_some_and(|ttl| INITIAL.contains(&ttl))
    }

    fn see(&mut self, ttl: u8, is_opening: bool) {
        let known = if is_opening { &mut self.opening } else { &mut self.others };
        if known.is_some_and(|known| hop_difference(known, ttl) > 0) {
            self.varied = true;
        }
        *known = Some(ttl);
    }

    /// The TTL that a RST of this end is expected to carry: that of its other packets, or of its SYN alone.
    /// None where they came from several distances, because then none is expected.
    pub fn baseline(self, answered: bool) -> Option<Baseline> {
        let handshake = if answered { BaselineSource::SynAck } else { BaselineSource::Handshake };
        let opening = self.opening.map(|ttl| Baseline { ttl, source: handshake });
        let others = self.others.map(|ttl| Baseline { ttl, source: BaselineSource::Data });
        others.or(opening).filter(|_| !self.varied)
    }
}

/// The same for two copies of one packet, whatever routers changed.
fn mark(segment: &Segment) -> u64 {
    use std::hash::BuildHasher as _;
    let stamps = segment.timestamps.map_or(0, |stamps| stamps.value);
    foldhash::fast::FixedState::default().hash_one((
        u64::from(segment.seq) << 32 | u64::from(segment.ack),
        u64::from(stamps) << 32 | u64::from(segment.payload),
        u32::from(segment.flags.0) << 16 | u32::from(segment.window),
        segment.ip_id,
    ))
}
