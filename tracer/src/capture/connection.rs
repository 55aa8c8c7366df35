//! One connection: its two ends, how it was opened and how it ends. Turns what its packets do into sightings.
//! Presumes no packet: a connection whose SYN is not in the capture is older than the capture.

use std::net::SocketAddr;

use crate::model::{
    Baseline, BaselineSource, IcmpError, Mono, Packet, PeerHistory, Side, Socket, TcpFlags, TcpState,
};

use super::end::{End, behind};
use super::resetting::Resetting;
use super::segment::{Bytes, Segment, offer};
use super::sighting::{Sighting, What};
use super::speech;

/// Repetitions without an answer before silence is told; fewer may be a capture that ended too early.
const SILENT: u32 = 2;

/// A FIN that cuts something off, as long as the answer may still come: that end may have closed one half only.
#[derive(Debug, Clone)]
struct Closing {
    sighting: Sighting,
    /// Segments with payload before it.
    spoken: u64,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Number in the order of appearance.
    pub number: u64,
    /// Addresses of the ends.
    pub addresses: [SocketAddr; 2],
    /// The ends.
    pub ends: [End; 2],
    /// The end that opened it.
    pub initiator: usize,
    /// When the SYN was seen; `None` for a connection older than the capture.
    pub opened: Option<u64>,
    /// The SYN was answered by a SYN-ACK.
    pub accepted: bool,
    /// The handshake was completed, or the connection is older than the capture.
    pub established: bool,
    /// What other connections to the listening address taught, when this one was opened.
    pub history: Option<PeerHistory>,
    /// The first words of its life are those of TLS; `None` as long as there are none, or where they were not captured.
    tls: Option<bool>,
    /// Its first words are those of a protocol in which nobody knows what is an answer.
    foreign: Option<bool>,
    /// The opener said something that is no handshake of TLS.
    asked: bool,
    /// Bytes that are still to come of its latest record of TLS.
    record: usize,
    /// Segments with payload so far.
    spoken: u64,
    /// It began with a segment that belongs to no connection, and no other came.
    is_stray: bool,
    /// A host answered the SYN with a segment of an older connection.
    met_a_stranger: bool,
    closing: [Option<Box<Closing>>; 2],
    unreachable: Option<(u64, Box<IcmpError>)>,
    reset: Option<Box<Resetting>>,
}

impl Connection {
    /// A connection whose first packet is `segment`; it came from end 0.
    pub fn new(number: u64, segment: &Segment, initiator: usize) -> Self {
        let opening = segment.flags.has(TcpFlags::SYN);
        let answer = segment.flags.has(TcpFlags::SYN | TcpFlags::ACK);
        Self {
            number,
            addresses: [segment.source, segment.destination],
            ends: [End::default(), End::default()],
            initiator: if answer {
                1
            } else if opening {
                0
            } else {
                initiator
            },
            opened: (opening && !answer).then_some(segment.time),
            accepted: false,
            established: !opening,
            history: None,
            tls: None,
            foreign: None,
            asked: false,
            record: 0,
            spoken: 0,
            is_stray: !opening && !segment.flags.has(TcpFlags::ACK),
            met_a_stranger: false,
            closing: [None, None],
            unreachable: None,
            reset: None,
        }
    }

    /// Which end sends from this address.
    pub fn sender(&self, source: SocketAddr) -> usize {
        usize::from(self.addresses[0] != source)
    }

    /// Whether a SYN opens another connection with the same addresses.
    pub fn is_reopened_by(&self, from: usize, segment: &Segment) -> bool {
        segment.flags.has(TcpFlags::SYN)
            && !segment.flags.has(TcpFlags::ACK)
            && (self.opened.is_none() || from != self.initiator || self.ends[from].isn != Some(segment.seq))
    }

    /// Nothing of it is a segment that a connection has: a scan's FIN, or one without any flag.
    pub fn is_stray(&self) -> bool {
        self.is_stray
    }

    /// Both ends have closed in order.
    fn is_over(&self) -> bool {
        self.ends.iter().all(End::fin_acked)
    }

    /// Takes a segment that is no RST.
    pub fn takes(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) {
        if self.is_stranger(from, segment) {
            self.met_a_stranger = true;
            return;
        }
        let other = 1 - from;
        self.opening(from, segment, bytes);
        self.hears(from, segment, bytes);
        let old = self.state(from);
        let outstanding = segment.flags.has(TcpFlags::FIN) && self.outstanding(from);
        if segment.flags.has(TcpFlags::ACK) {
            self.ends[other].acknowledged(segment.ack, segment.time);
        }
        if let Some(reset) = &mut self.reset {
            reset.goes_on(from, segment, bytes);
        }
        let taken = self.ends[from].sends(segment);
        if taken.speaks {
            self.misses_a_question(from, segment);
            self.speaks(from, segment, bytes);
        }
        let abnormal =
            taken.closes && outstanding && self.established && self.has_both_ways() && self.reset.is_none();
        if abnormal {
            let what = What::Closed { by: self.role(from), old, foreign: self.foreign == Some(true) };
            let sighting = self.sighting(segment.time, what);
            self.closing[from] = Some(Box::new(Closing { sighting, spoken: self.spoken }));
        }
    }

    /// What the words of a segment tell of the whole connection.
    fn hears(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) {
        self.is_stray &= !segment.flags.has(TcpFlags::ACK);
        if segment.payload == 0 {
            return;
        }
        let by_opener = from == self.initiator;
        if self.opened.is_some() {
            self.tls = self.tls.or_else(|| speech::is_tls(bytes.payload));
            self.foreign = self.foreign.or_else(|| speech::is_foreign(segment, bytes.payload, by_opener));
        }
    }

    /// What is asked on a connection that the other end closed long ago, or together with a FIN after the other end's, was
    /// asked before, in packets that did not pass here.
    fn misses_a_question(&mut self, from: usize, segment: &Segment) {
        let (own, other) = (&self.ends[from], &self.ends[1 - from]);
        let may_lack = from == self.initiator && own.data_at < other.data_at && !own.hops.are_fresh();
        let gave_up = segment.flags.has(TcpFlags::FIN) && other.fin.is_some();
        if may_lack && (gave_up || other.was_known_closed(segment.time)) {
            self.ends[from].lacks(segment.time);
        }
    }

    /// A connection is opened to say something; where nothing came by before the other end's RST, it was lost before.
    fn misses_the_first_word(&mut self, from: usize, time: u64) {
        let opener = &self.ends[self.initiator];
        let is_silent = opener.bytes == 0 && !opener.hops.are_fresh();
        if from != self.initiator && self.established && self.opened.is_some() && is_silent {
            self.ends[self.initiator].lacks(time);
        }
    }

    /// New payload. Farewells do not count: they are neither question nor answer.
    fn speaks(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) {
        let by_opener = from == self.initiator;
        self.asked |= by_opener && speech::may_ask(segment, bytes, &mut self.record);
        if speech::is_farewell(segment, bytes, by_opener) {
            let farewell = &mut self.ends[from].farewell;
            *farewell = farewell.saturating_add(segment.payload);
            return;
        }
        self.spoken += 1;
        let is_parting = speech::is_parting(segment, bytes);
        self.ends[from].speaks(segment.time, self.spoken, is_parting);
    }

    fn opening(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) {
        if segment.flags.has(TcpFlags::SYN) {
            let (mss, scale) = offer(bytes);
            let end = &mut self.ends[from];
            (end.mss, end.scale) = (mss.unwrap_or(0), scale.unwrap_or(0));
            if segment.flags.has(TcpFlags::ACK) && end.opening.is_none() {
                end.opening = Some(Box::new(segment.packet(bytes)));
                self.accepted = true;
            }
        } else if self.accepted {
            // Who has accepted says nothing more before it is answered.
            self.established = true;
        }
    }

    /// Closing now cuts something off: an answer the opener waits for, or an answer due to an opener that has
    /// closed its half already.
    fn outstanding(&self, by: usize) -> bool {
        let [asking, answering] = [self.initiator, 1 - self.initiator].map(|end| &self.ends[end]);
        // The handshake of TLS was answered, and nothing else was said.
        if self.tls == Some(true) && !self.asked && answering.data_at.is_some() {
            return false;
        }
        let due = asking.meant().0 > answering.spoken;
        if by == self.initiator { due } else { due && self.ends[1 - by].fin.is_some() }
    }

    /// Takes a RST.
    pub fn is_reset(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) -> Option<Sighting> {
        let packet = segment.packet(bytes);
        if let Some(reset) = &mut self.reset
            && !reset.survived()
        {
            reset.again(from, segment, packet, &self.ends);
            return None;
        }
        if self.is_over() || self.is_stray() || self.is_answer_to_a_stranger(from) {
            return None;
        }
        if !self.is_acceptable(from, segment) {
            return Some(self.sighting(segment.time, What::Refused { from: self.role(from), packet }));
        }
        self.misses_the_first_word(from, segment.time);
        let answers = self.answered(from, segment);
        let what = What::Reset { from: self.role(from), packet, answers };
        let refused = self.reset.take().and_then(|reset| reset.told(false).into_iter().next());
        let sighting = self.sighting(segment.time, what);
        self.reset = Some(Box::new(Resetting::new(from, segment, sighting, self.ends[1 - from].next)));
        refused
    }

    /// The opener's RST in answer to the ACK by which a host says that it still has an older connection
    /// (RFC 9293, section 3.5.1): after it the SYN is sent again.
    fn is_answer_to_a_stranger(&self, from: usize) -> bool {
        self.met_a_stranger && from == self.initiator && !self.accepted
    }

    /// Such an ACK: it acknowledges nothing that this SYN or what may have followed it could be.
    fn is_stranger(&self, from: usize, segment: &Segment) -> bool {
        const EARLY: u32 = 1 << 24;
        let Some(isn) = self.ends[1 - from].isn.filter(|_| !self.accepted && from != self.initiator) else {
            return false;
        };
        let is_bare = segment.payload == 0 && segment.flags.is_plain() && segment.flags.has(TcpFlags::ACK);
        is_bare && !(1..EARLY).contains(&segment.ack.wrapping_sub(isn))
    }

    /// RFC 9293, section 3.10.7: in the window, and in answer to a SYN only if it acknowledges it. Packets that
    /// the capture missed widen the window; an end of which nothing was seen accepts anything.
    fn is_acceptable(&self, from: usize, segment: &Segment) -> bool {
        let (own, other) = (&self.ends[from], &self.ends[1 - from]);
        if !self.established && !self.accepted && from != self.initiator {
            return !segment.flags.has(TcpFlags::ACK) || segment.ack == other.next;
        }
        let Some(expected) = other.ack.or(own.since.map(|_| own.next)) else { return true };
        let highest = if behind(own.next, expected) { own.next } else { expected };
        let room = (u32::from(other.window) << other.scale).max(1);
        let early = expected.wrapping_sub(1);
        !behind(early, segment.seq) && !behind(segment.seq, highest.wrapping_add(room))
    }

    /// The latest segment of the other end, if a RST in answer to it would look like this one.
    fn answered(&self, from: usize, segment: &Segment) -> Option<Packet> {
        let latest = self.ends[1 - from].latest.as_ref()?;
        let quotes = if segment.flags.has(TcpFlags::ACK) {
            segment.seq == 0 && segment.ack == latest.end()
        } else {
            latest.flags.has(TcpFlags::ACK) && segment.seq == latest.ack
        };
        quotes.then(|| latest.bare())
    }

    /// A SYN of this connection was refused by ICMP.
    pub fn is_unreachable(&mut self, from: usize, time: u64, error: &IcmpError) {
        if from == self.initiator && !self.accepted && error.errno().is_some() {
            self.unreachable.get_or_insert_with(|| (time, Box::new(error.clone())));
        }
    }

    /// What is left to say when nothing more of it will be seen.
    pub fn ends(&mut self) -> Vec<Sighting> {
        let twice = self.is_seen_twice();
        let mut told = self.close(u64::MAX);
        if let Some(reset) = self.reset.take() {
            told.extend(reset.told(twice));
            return told;
        }
        if let Some((time, error)) = self.unreachable.take()
            && !self.accepted
        {
            let errno = error.errno().unwrap_or(0);
            let seen = [What::Icmp(error), What::Unreachable { by: 0, errno }];
            told.extend(seen.map(|what| self.sighting(time, what)));
            return told;
        }
        let silent = (0..2).find(|end| self.is_unanswered(*end));
        let time = |end: usize| self.ends[end].latest.as_ref().map_or(0, |latest| latest.time);
        told.extend(silent.map(|end| self.sighting(time(end), What::Unanswered { by: self.role(end) })));
        told
    }

    fn is_unanswered(&self, by: usize) -> bool {
        let (end, other) = (&self.ends[by], &self.ends[1 - by]);
        if !self.established && !self.accepted {
            // Who acknowledges something has heard what the capture has not.
            let asks = end.latest.as_ref().is_some_and(|latest| latest.flags.has(TcpFlags::SYN));
            let alone = other.since.is_none() && end.ack.is_none();
            return by == self.initiator && asks && end.retransmits > 0 && alone;
        }
        self.established && self.has_both_ways() && end.pending >= SILENT && end.unacked() > 0
    }

    /// Packets of both ends are in the capture: one of a single direction shows no answer where there was one.
    fn has_both_ways(&self) -> bool {
        self.ends.iter().all(|end| end.since.is_some())
    }

    /// Captured at several places of the path, where one packet has several moments and distances.
    fn is_seen_twice(&self) -> bool {
        self.ends.iter().any(|end| end.is_seen_twice || end.hops.varied())
    }

    fn is_doubtful(&self) -> bool {
        self.established && (self.is_seen_twice() || !self.has_both_ways())
    }

    /// Settles a reset that is older than `before`, so that its sightings need not wait for the end.
    pub fn settles(&mut self, before: u64) -> Vec<Sighting> {
        let twice = self.is_seen_twice();
        let mut told = self.close(before);
        if let Some(reset) = self.reset.take_if(|reset| reset.time() < before) {
            told.extend(reset.told(twice));
        }
        told
    }

    /// FINs that cut something off `before` this time, unless the answer came all the same and was taken.
    fn close(&mut self, before: u64) -> Vec<Sighting> {
        let mut told = Vec::new();
        for by in 0..2 {
            let closing = self.closing[by].take_if(|closing| closing.sighting.time < before);
            let Some(closing) = closing else { continue };
            let answering = &self.ends[1 - by];
            let answered = by == self.initiator
                && answering.spoken > closing.spoken
                && answering.unacked() == 0
                && self.reset.is_none();
            told.extend((!answered).then_some(closing.sighting));
        }
        told
    }

    fn role(&self, end: usize) -> usize {
        usize::from(end != self.initiator)
    }

    fn sighting(&self, time: u64, what: What) -> Sighting {
        let (opener, listener) = (self.initiator, 1 - self.initiator);
        let ends = Box::new([self.socket(opener, time), self.socket(listener, time)]);
        let isns = [self.ends[opener].isn, self.ends[listener].isn];
        Sighting { time, what, ends, isns }
    }

    /// TCP state of an end by the packets so far.
    fn state(&self, end: usize) -> TcpState {
        let (own, other) = (&self.ends[end], &self.ends[1 - end]);
        if !self.established {
            return if end == self.initiator { TcpState::SynSent } else { TcpState::SynRecv };
        }
        match (own.fin.is_some(), other.fin.is_some()) {
            (false, false) => TcpState::Established,
            (false, true) => TcpState::CloseWait,
            (true, false) if own.fin_acked() => TcpState::FinWait2,
            (true, false) => TcpState::FinWait1,
            (true, true) if own.fin_acked() => TcpState::TimeWait,
            (true, true) => TcpState::LastAck,
        }
    }

    /// The end as a socket there would stand.
    fn socket(&self, end: usize, time: u64) -> Socket {
        let (own, other) = (&self.ends[end], &self.ends[1 - end]);
        let ago = |at: Option<u64>| {
            at.map(|at| u32::try_from(time.saturating_sub(at) / 1_000_000).unwrap_or(u32::MAX))
        };
        let opens = end == self.initiator;
        let history = self.history.filter(|_| opens);
        // Nobody misses a farewell, unless it is repeated in vain.
        let farewell = if other.fin.is_some() || own.pending == 0 { own.farewell } else { 0 };
        let past = history.map(|it| Baseline { ttl: it.ttl, source: BaselineSource::PeerHistory });
        Socket {
            side: Side::Client,
            local: self.addresses[end],
            remote: self.addresses[1 - end],
            netns: 0,
            cookie: self.number,
            state: self.state(end),
            owner: None,
            opened: self.opened.map(Mono),
            preexisting: self.opened.is_none(),
            error: 0,
            receive_shutdown: false,
            linger_zero: false,
            orphan: false,
            fin_received: other.fin.is_some(),
            filtered: None,
            unread: 0,
            unacked: own.unacked().saturating_sub(farewell),
            unsent: 0,
            bytes_sent: own.bytes,
            bytes_acked: own.bytes.saturating_sub(u64::from(own.unacked())),
            bytes_received: other.bytes,
            data_segments_in: other.segments,
            data_segments_out: own.segments,
            srtt_us: own.srtt_us,
            min_rtt_us: own.min_rtt_us,
            retransmits: own.retransmits,
            retransmits_pending: own.pending,
            last_sent_ms: ago(own.said().1),
            newest_sent: None,
            last_received_ms: ago(other.said().1),
            spoke_last: own.said().0 > other.said().0,
            last_ack_ms: ago(other.ack_at),
            rcv_nxt: own.ack.unwrap_or(other.next),
            snd_una: own.acked,
            snd_nxt: own.next,
            snd_wnd: u32::from(other.window) << other.scale,
            mss: u32::from(other.mss),
            // A capture does not tell what the sender believes to be acknowledged selectively.
            segments_unacked: 0,
            segments_sacked: 0,
            ts_recent: other.clock,
            baseline: other.hops.baseline(opens).or(past).filter(|_| !self.is_seen_twice()),
            syn_ack: if opens { other.opening.as_deref().cloned() } else { None },
            peer_history: history,
            tls: self.tls,
            unseen: own.unseen(time) + other.unseen(time) + u32::from(self.is_doubtful()),
        }
    }
}
