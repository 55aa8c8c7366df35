//! Every connection of the capture, within a bound: packets in, sightings out. Counts what it leaves out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::RandomState;

use crate::model::{Mono, PeerHistory, TcpFlags};

use super::census::Census;
use super::connection::Connection;
use super::segment::{Bytes, Segment, Unreachable};
use super::sighting::{Sighting, What};
use super::table::Table;

/// Listening hosts of which history is kept.
const HOSTS: usize = 50_000;

/// The two addresses of a connection, the lower one first.
type Key = (SocketAddr, SocketAddr);

/// What was seen and what was left out; the numbers only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// TCP segments.
    pub segments: u64,
    /// Connections.
    pub connections: u64,
    /// Connections without their SYN in the capture.
    pub preexisting: u64,
    /// Resets.
    pub resets: u64,
    /// Resets of which no other packet of the connection is in the capture, or only one that belongs to none.
    pub lonely_resets: u64,
    /// Packets captured twice.
    pub copies: u64,
    /// Packets captured at several places of the path, or by several clocks.
    pub seen_twice: u64,
    /// Connections with packets that must have been sent and are not in the capture.
    pub gaps: u64,
    /// Connections forgotten early because the table was full.
    pub evicted: u64,
    /// Handshakes that the opening end never completed.
    pub half_open: u64,
}

/// The connections.
#[derive(Debug)]
pub struct Tracker {
    /// Who accepts and who connects.
    pub census: Census,
    /// What was seen.
    pub counts: Counts,
    connections: Table<Key, Connection>,
    histories: HashMap<IpAddr, PeerHistory, RandomState>,
    sightings: Vec<Sighting>,
}

impl Tracker {
    /// Keeps at most `limit` connections.
    pub fn new(limit: usize) -> Self {
        Self {
            census: Census::default(),
            counts: Counts::default(),
            connections: Table::new(limit),
            histories: HashMap::with_hasher(RandomState::default()),
            sightings: Vec::new(),
        }
    }

    /// Sightings so far, which are taken out.
    pub fn take(&mut self) -> Vec<Sighting> {
        std::mem::take(&mut self.sightings)
    }

    /// How many sightings wait to be taken.
    pub fn waiting(&self) -> usize {
        self.sightings.len()
    }

    /// Takes a segment.
    pub fn segment(&mut self, segment: &Segment, bytes: &Bytes<'_>) {
        self.counts.segments += 1;
        let is_reset = segment.flags.has(TcpFlags::RST);
        self.counts.resets += u64::from(is_reset);
        let key = key(segment.source, segment.destination);
        let reopened = match self.connections.get(&key) {
            Some(connection) => connection.is_reopened_by(connection.sender(segment.source), segment),
            None if is_reset => {
                self.counts.lonely_resets += 1;
                return;
            }
            None => true,
        };
        if reopened {
            self.open(key, segment);
        }
        let Some(connection) = self.connections.get(&key) else { return };
        let from = connection.sender(segment.source);
        let is_copy = connection.ends[from].is_copy(segment);
        self.counts.seen_twice += u64::from(connection.ends[from].is_seen_twice);
        if is_copy {
            self.counts.copies += 1;
            return;
        }
        let first_words = segment.payload > 0 && connection.ends[from].segments == 0;
        let by_opener = from == connection.initiator;
        if is_reset {
            self.counts.lonely_resets += u64::from(connection.is_stray());
            self.sightings.extend(connection.is_reset(from, segment, bytes));
        } else {
            connection.takes(from, segment, bytes);
        }
        if first_words {
            self.census.speaks(segment, bytes, by_opener);
        }
        if segment.flags.has(TcpFlags::SYN) {
            self.handshake(key, segment);
        }
    }

    /// Takes an ICMP error.
    pub fn unreachable(&mut self, message: &Unreachable) {
        let Unreachable { time, error } = message;
        if let Some(connection) = self.connections.get(&key(error.local, error.remote)) {
            let from = connection.sender(error.local);
            connection.is_unreachable(from, *time, error);
        }
    }

    fn open(&mut self, key: Key, segment: &Segment) {
        self.counts.connections += 1;
        let connection = Connection::new(self.counts.connections, segment, self.opener(segment));
        self.counts.preexisting += u64::from(connection.opened.is_none());
        let full = self.connections.is_full();
        if let Some(mut gone) = self.connections.insert(key, connection) {
            let same = self::key(gone.addresses[0], gone.addresses[1]) == key;
            self.counts.evicted += u64::from(full && !same);
            self.close(&mut gone);
        }
    }

    /// Which end of a connection without a SYN opened it: the one that is no known listener, else the one with
    /// the higher port.
    fn opener(&self, segment: &Segment) -> usize {
        let (source, destination) = (segment.source, segment.destination);
        match (self.census.listens(source), self.census.listens(destination)) {
            (true, false) => 1,
            (false, true) => 0,
            _ => usize::from(source.port() < destination.port()),
        }
    }

    /// A SYN asks, a SYN-ACK accepts and teaches what to expect of that host.
    fn handshake(&mut self, key: Key, segment: &Segment) {
        if !segment.flags.has(TcpFlags::ACK) {
            self.census.asks(segment.source, segment.destination);
            let history = self.histories.get(&segment.destination.ip()).copied();
            if let Some(connection) = self.connections.get(&key) {
                connection.history = history;
            }
            return;
        }
        self.census.accepts(segment.source);
        let opened = self.connections.get(&key).and_then(|connection| connection.opened);
        let Some(took) = opened.map(|opened| segment.time.saturating_sub(opened) / 1_000) else { return };
        if self.histories.len() >= HOSTS && !self.histories.contains_key(&segment.source.ip()) {
            return;
        }
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        let history = self.histories.entry(segment.source.ip()).or_insert(PeerHistory {
            ttl: segment.ttl,
            handshakes: 0,
            min_handshake_us: took,
            last_syn_ack: Mono(0),
        });
        history.ttl = segment.ttl;
        history.handshakes = history.handshakes.saturating_add(1);
        history.min_handshake_us = history.min_handshake_us.min(took);
        history.last_syn_ack = Mono(segment.time);
    }

    fn close(&mut self, connection: &mut Connection) {
        let mut seen = last_words(connection, &mut self.counts);
        for sighting in &mut seen {
            recall(&self.histories, sighting);
        }
        self.sightings.extend(seen);
    }

    /// Sightings of everything that has settled `before` this time, without waiting for the end.
    pub fn settle(&mut self, before: u64) {
        for connection in self.connections.values_mut() {
            self.sightings.extend(connection.settles(before));
        }
    }

    /// The capture is over.
    pub fn finish(&mut self) {
        for connection in self.connections.values_mut() {
            let mut seen = last_words(connection, &mut self.counts);
            for sighting in &mut seen {
                recall(&self.histories, sighting);
            }
            self.sightings.extend(seen);
        }
        self.connections = Table::new(1);
    }
}

/// What the listening host answered to others while this connection stayed without an answer.
fn recall(histories: &HashMap<IpAddr, PeerHistory, RandomState>, sighting: &mut Sighting) {
    if matches!(sighting.what, What::Unanswered { by: 0 }) {
        sighting.ends[0].peer_history = histories.get(&sighting.listener().ip()).copied();
    }
}

fn last_words(connection: &mut Connection, counts: &mut Counts) -> Vec<Sighting> {
    let gaps = connection.ends.iter().any(|end| end.gaps > 0);
    counts.gaps += u64::from(gaps);
    let seen = connection.ends();
    counts.half_open += u64::from(seen.is_empty() && connection.accepted && !connection.established);
    seen
}

fn key(one: SocketAddr, other: SocketAddr) -> Key {
    if one <= other { (one, other) } else { (other, one) }
}
