//! One connection: its two ends, how it was opened and how it ends. Turns what its packets do into sightings.
//! Presumes no packet: a connection whose SYN is not in the capture is older than the capture.

use std::net::SocketAddr;

use crate::model::{
    Baseline, BaselineSource, IcmpError, Mono, Packet, PeerHistory, Side, Socket, TcpFlags, TcpState,
};

use super::end::{End, behind};
use super::segment::{Bytes, Segment, offer};
use super::sighting::{Sighting, What};

/// Packets of a reset's sender that are kept afterwards.
const AFTERWARDS: usize = 6;
/// Further resets in the same name that are kept.
const MORE_RESETS: usize = 6;
/// Repetitions without an answer before silence is told; fewer may be a capture that ended too early.
const SILENT: u32 = 2;
/// TLS: alert and application data records.
const ALERT: u8 = 0x15;
const APPLICATION_DATA: u8 = 0x17;
/// TLS: handshake record.
const HANDSHAKE: u8 = 0x16;
/// Length of an encrypted alert as TLS 1.3 sends it, with the record header.
const ENCRYPTED_ALERT: u32 = 24;

/// What a RST did, as long as it may still turn out.
#[derive(Debug, Clone)]
struct Resetting {
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

    /// Both ends have closed in order.
    fn is_over(&self) -> bool {
        self.ends.iter().all(End::fin_acked)
    }

    /// Takes a segment that is no RST.
    pub fn takes(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) -> Option<Sighting> {
        let other = 1 - from;
        self.opening(from, segment, bytes);
        self.tls = self.tls.or_else(|| self.opened.and_then(|_| speech(bytes.payload)));
        let old = self.state(from);
        let outstanding = segment.flags.has(TcpFlags::FIN) && self.outstanding(from);
        if segment.flags.has(TcpFlags::ACK) {
            self.ends[other].acknowledged(segment.ack, segment.time);
        }
        if let Some(reset) = &mut self.reset {
            reset.goes_on(from, segment, bytes);
        }
        let taken = self.ends[from].sends(segment, is_farewell(segment, bytes));
        let abnormal =
            taken.closes && outstanding && self.established && self.has_both_ways() && self.reset.is_none();
        abnormal.then(|| self.sighting(segment.time, What::Closed { by: self.role(from), old }))
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
        } else if from == self.initiator && self.accepted {
            self.established = true;
        }
    }

    /// Closing now cuts something off: an answer the opener waits for, or an answer due to an opener that has
    /// closed its half already.
    fn outstanding(&self, by: usize) -> bool {
        let (own, other) = (&self.ends[by], &self.ends[1 - by]);
        let asked = own.data_at > other.data_at;
        if by == self.initiator { asked } else { other.fin.is_some() && !asked && other.data_at.is_some() }
    }

    /// Takes a RST.
    pub fn is_reset(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) -> Option<Sighting> {
        let packet = segment.packet(bytes);
        if let Some(reset) = &mut self.reset {
            let end = &self.ends[from];
            reset.again(from, segment, packet, end);
            return None;
        }
        if self.is_over() {
            return None;
        }
        if !self.is_acceptable(from, segment) {
            return Some(self.sighting(segment.time, What::Refused { from: self.role(from), packet }));
        }
        let answers = self.answered(from, segment);
        let what = What::Reset { from: self.role(from), packet, answers };
        self.reset = Some(Box::new(Resetting {
            from,
            seq: segment.seq,
            time: segment.time,
            sighting: self.sighting(segment.time, what),
            afterwards: Vec::new(),
            more: Vec::new(),
            reached: self.ends[1 - from].next,
            survived: false,
        }));
        None
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
        if let Some(reset) = self.reset.take() {
            return reset.told(twice);
        }
        if let Some((time, error)) = self.unreachable.take()
            && !self.accepted
        {
            let errno = error.errno().unwrap_or(0);
            let seen = [What::Icmp(error), What::Unreachable { by: 0, errno }];
            return seen.map(|what| self.sighting(time, what)).into();
        }
        let silent = (0..2).find(|end| self.is_unanswered(*end));
        let time = |end: usize| self.ends[end].latest.as_ref().map_or(0, |latest| latest.time);
        silent
            .map(|end| self.sighting(time(end), What::Unanswered { by: self.role(end) }))
            .into_iter()
            .collect()
    }

    fn is_unanswered(&self, by: usize) -> bool {
        let (end, other) = (&self.ends[by], &self.ends[1 - by]);
        if !self.established && !self.accepted {
            // Who acknowledges something has heard what the capture has not.
            return by == self.initiator && end.retransmits > 0 && other.since.is_none() && end.ack.is_none();
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
        match self.reset.take_if(|reset| reset.time < before) {
            Some(reset) => reset.told(twice),
            None => Vec::new(),
        }
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
            unread: 0,
            unacked: own.unacked(),
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
            last_sent_ms: ago(own.data_at),
            newest_sent: None,
            last_received_ms: ago(other.data_at),
            spoke_last: own.data_at > other.data_at,
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

impl Resetting {
    /// A segment after the RST, from either end.
    fn goes_on(&mut self, from: usize, segment: &Segment, bytes: &Bytes<'_>) {
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
    fn again(&mut self, from: usize, segment: &Segment, packet: Packet, end: &End) {
        let highest = end.next.wrapping_add(2);
        let guessed = behind(segment.seq, self.seq.wrapping_add(2))
            && behind(segment.seq, highest)
            && end.fin.is_none();
        if from == self.from && guessed && self.more.len() < MORE_RESETS {
            self.more.push(packet);
        }
    }

    /// What follows a RST where packets were captured `twice` may be what went before it.
    fn told(self, twice: bool) -> Vec<Sighting> {
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

/// Whether these are words of TLS or of plain HTTP. Others may still be followed by TLS: a PROXY protocol, STARTTLS.
fn speech(payload: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 8] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"PRI "];
    if payload.starts_with(&[HANDSHAKE, 3]) {
        return Some(true);
    }
    METHODS.iter().any(|method| payload.starts_with(method)).then_some(false)
}

/// TLS says goodbye before FIN; that asks for no answer.
fn is_farewell(segment: &Segment, bytes: &Bytes<'_>) -> bool {
    match bytes.payload {
        [ALERT, 3, ..] => true,
        [APPLICATION_DATA, 3, 3, 0, 19, ..] => segment.payload == ENCRYPTED_ALERT,
        _ => false,
    }
}
