//! The evidence capture of a session: which number each packet of a verdict has in it.
//!
//! Packets are numbered in the order in which verdicts are handed out, within one by time, and a packet of two
//! incidents has one number. So a replay numbers them the same, and no packet has to be kept here.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use serde::{Deserialize, Serialize};

use crate::judge::{Role, Seen, Step};
use crate::model::{Clock, Packet, Utc};

/// Packets whose number is remembered. Incidents that share one are judged within seconds of each other.
const REMEMBERED: usize = 16_384;

/// One packet of the evidence capture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Captured {
    /// Its index in the evidence capture.
    pub index: u32,
    /// When it was captured.
    pub time: Utc,
    /// That moment is the capture's own; otherwise it is the nearest moment known.
    pub exact: bool,
    /// What it is in the incident.
    pub role: Role,
    /// Inode number of the network namespace it arrived in, zero if not known.
    pub netns: u32,
    /// The packet.
    pub packet: Packet,
}

/// What stands behind one verdict: everything that belonged to its incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dossier {
    /// The verdict's id.
    pub id: String,
    /// What belonged to the incident, in the order of time.
    pub steps: Vec<Step>,
    /// Its packets, in the order of time.
    pub packets: Vec<Captured>,
    /// Events that were counted and not kept.
    pub beyond: u32,
}

/// Gives packets their numbers.
#[derive(Debug, Default)]
pub struct Numbering {
    next: u32,
    known: HashMap<u64, u32>,
    order: VecDeque<u64>,
}

impl Numbering {
    /// The numbers of an incident's packets.
    pub fn number(&mut self, seen: &[Seen]) -> Vec<u32> {
        seen.iter().map(|one| self.one(key(one))).collect()
    }

    fn one(&mut self, key: u64) -> u32 {
        if let Some(number) = self.known.get(&key) {
            return *number;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.known.insert(key, number);
        self.order.push_back(key);
        number
    }
}

/// The packets of an incident with their numbers.
pub fn captured(seen: Vec<Seen>, numbers: &[u32], clock: Clock) -> Vec<Captured> {
    let pairs = seen.into_iter().zip(numbers);
    pairs
        .map(|(seen, index)| Captured {
            index: *index,
            time: clock.utc(seen.time),
            exact: seen.exact,
            role: seen.role,
            netns: seen.netns,
            packet: seen.packet,
        })
        .collect()
}

/// The same on every machine: `DefaultHasher` without keys is a fixed function.
fn key(seen: &Seen) -> u64 {
    let packet = &seen.packet;
    BuildHasherDefault::<DefaultHasher>::default().hash_one((
        seen.time,
        seen.netns,
        &packet.raw,
        packet.source,
        packet.destination,
        (packet.seq, packet.ack, packet.flags),
    ))
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{active_reset, at, play_witnessing, received, stateless_reset, upstream};
    use crate::judge::Role;
    use crate::model::{Clock, Input, Packet, Socket};

    /// A reset whose connection was opened by a SYN-ACK that was seen, of connection `number`.
    fn reset(number: u16, milliseconds: u64) -> (u64, Input) {
        let mut socket = Socket { cookie: 100 + u64::from(number), ..upstream() };
        socket.local.set_port(40_000 + number);
        socket.syn_ack = Some(Packet { time: Some(at(1)), ..stateless_reset(&socket) });
        let packet = active_reset(&socket);
        received(milliseconds, socket, Some(packet))
    }

    #[test]
    fn packets_are_numbered_through_the_session_in_the_order_of_the_verdicts() {
        let (verdicts, dossiers) = play_witnessing(vec![reset(1, 100), reset(2, 200)]);
        let numbers: Vec<&[u32]> = verdicts.iter().map(|verdict| verdict.packets.as_slice()).collect();
        assert_eq!(numbers, [&[0, 1][..], &[2, 3]]);
        for (verdict, dossier) in verdicts.iter().zip(&dossiers) {
            assert_eq!(verdict.id, dossier.id);
            let indexes: Vec<u32> = dossier.packets.iter().map(|packet| packet.index).collect();
            assert_eq!(indexes, verdict.packets);
        }
    }

    #[test]
    fn the_time_of_a_packet_is_that_of_its_capture_where_that_is_known() {
        let (_, dossiers) = play_witnessing(vec![reset(1, 100)]);
        let packets = &dossiers[0].packets;
        let clock = Clock { offset_ns: 1_790_000_000_000_000_000 };
        assert_eq!((packets[0].role, packets[0].exact), (Role::SynAck, true));
        assert_eq!(packets[0].time, clock.utc(at(1)));
        assert_eq!((packets[1].role, packets[1].exact), (Role::ResetReceived, false));
        assert_eq!(packets[1].time, clock.utc(at(100)));
    }

    #[test]
    fn a_packet_seen_twice_is_one_packet() {
        let (verdicts, _) = play_witnessing(vec![reset(1, 100), reset(1, 100)]);
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].packets, [0, 1]);
    }
}
