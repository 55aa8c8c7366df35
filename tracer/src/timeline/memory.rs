//! A bounded memory of judged incidents, so that what the kernel says about a dead connection afterwards
//! does not become a new incident, and a consequence finds its cause.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::model::Mono;

use super::{Incident, Tuple};

/// How long a judged incident is remembered (evidence: a peer that speaks again does so within this time).
pub const REMEMBER: Duration = Duration::from_secs(5);

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
        let number = judged.incident.number;
        if let Some(tuple) = judged.incident.tuple() {
            self.by_tuple.insert(tuple, number);
        }
        self.order.push_back((now, number));
        self.judged.insert(number, judged);
    }

    /// Forgets what is older than [`REMEMBER`].
    pub fn expire(&mut self, now: Mono) {
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
