//! A bounded memory of judged incidents, so that what the kernel says about a dead connection afterwards
//! does not become a new incident, and a consequence finds its cause.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::model::{Event, Mono};

use super::{Incident, Tuple};

/// How long a judged incident is remembered (evidence: a peer that speaks again does so within this time).
pub const REMEMBER: Duration = Duration::from_secs(5);

/// How long it is remembered that a connection's failure was told. A socket that Nginx has closed goes on trying for this
/// long at most (`tcp_orphan_retries`: eight, at the longest distance of two minutes).
const ENDS: Duration = Duration::from_mins(16);
/// Connections of which that is remembered.
const MOST_ENDS: usize = 16_384;

/// A socket: inode of its network namespace, and cookie.
type Key = (u32, u64);

/// A judged incident.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The incident as it was judged.
    pub incident: Incident,
    /// A line of the log was joined to it.
    pub logged: bool,
    /// Its verdict was handed out (a connection nobody at Nginx noticed gives none).
    pub told: bool,
}

/// Judged incidents of the last [`REMEMBER`] by order of judgement.
#[derive(Debug, Default)]
pub struct Memory {
    order: VecDeque<(Mono, u64)>,
    judged: HashMap<u64, Judged>,
    by_tuple: HashMap<Tuple, u64>,
    limit: usize,
    told: HashSet<Key>,
    told_order: VecDeque<(Mono, Key)>,
}

impl Memory {
    /// A memory of at most `limit` incidents.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), ..Self::default() }
    }

    /// Keeps an incident judged at `now`.
    pub fn remember(&mut self, now: Mono, judged: Judged) {
        while self.order.len() >= self.limit {
            self.forget_oldest();
        }
        if let Some(key) = judged.incident.own.iter().find_map(key).filter(|_| judged.told) {
            self.note_told(now, key);
        }
        let number = judged.incident.number;
        if let Some(tuple) = judged.incident.tuple() {
            self.by_tuple.insert(tuple, number);
        }
        self.order.push_back((now, number));
        self.judged.insert(number, judged);
    }

    /// The event is of a socket that Nginx has closed, and what failed on its connection was told before: the kernel
    /// gives up on it, or is answered at last.
    pub fn has_told(&self, event: &Event) -> bool {
        let given_up = event.socket.as_ref().is_some_and(|socket| socket.orphan);
        given_up && key(event).is_some_and(|key| self.told.contains(&key))
    }

    fn note_told(&mut self, now: Mono, key: Key) {
        if self.told_order.len() >= MOST_ENDS {
            self.forget_told();
        }
        if self.told.insert(key) {
            self.told_order.push_back((now, key));
        }
    }

    fn forget_told(&mut self) {
        if let Some((_, key)) = self.told_order.pop_front() {
            self.told.remove(&key);
        }
    }

    /// Forgets what is older than [`REMEMBER`], and which connections failed long ago.
    pub fn expire(&mut self, now: Mono) {
        while self.told_order.front().is_some_and(|(at, _)| now.since(*at) > ENDS) {
            self.forget_told();
        }
        while self.order.front().is_some_and(|(at, _)| now.since(*at) > REMEMBER) {
            self.forget_oldest();
        }
    }

    /// The latest judged incident of a tuple.
    pub fn of(&self, tuple: Tuple) -> Option<&Judged> {
        self.judged.get(self.by_tuple.get(&tuple)?)
    }

    /// The judged incident with this number.
    pub fn get(&self, number: u64) -> Option<&Judged> {
        self.judged.get(&number)
    }

    /// Every judged incident, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Judged> {
        self.order.iter().filter_map(|(_, number)| self.judged.get(number))
    }

    /// Notes that a line belongs to a judged incident.
    pub fn mark_logged(&mut self, number: u64) {
        if let Some(judged) = self.judged.get_mut(&number) {
            judged.logged = true;
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, number)) = self.order.pop_front() else { return };
        let Some(judged) = self.judged.remove(&number) else { return };
        let Some(tuple) = judged.incident.tuple() else { return };
        if self.by_tuple.get(&tuple) == Some(&number) {
            self.by_tuple.remove(&tuple);
        }
    }
}

/// The socket of an event, where its kernel knows cookies.
fn key(event: &Event) -> Option<Key> {
    event.socket.as_ref().map(|socket| (socket.netns, socket.cookie)).filter(|(_, cookie)| *cookie != 0)
}
