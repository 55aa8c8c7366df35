//! Lines of access.log of the last seconds, and what they add: the port behind a `*N` of error.log, and how the
//! request of an incident ended.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::join::{self, Access};
use crate::model::{AccessRecord, LogRecord, Mono};
use crate::timeline::Incident;

/// How long a line is of use.
const REMEMBER: Duration = Duration::from_secs(15);
/// Lines remembered.
const MOST_LINES: usize = 4096;
/// Connections whose other end is remembered; numbers only grow, so the lowest goes first.
const MOST_PEERS: usize = 65_536;

/// What is remembered of access.log.
#[derive(Debug, Default)]
pub struct Accesses {
    lines: VecDeque<Access>,
    peers: BTreeMap<u64, SocketAddr>,
}

impl Accesses {
    /// Takes a line.
    pub fn add(&mut self, access: Access) {
        if let (Some(connection), Some(peer)) = (access.record.connection, access.record.peer()) {
            if self.peers.len() >= MOST_PEERS {
                self.peers.pop_first();
            }
            self.peers.insert(connection, peer);
        }
        if self.lines.len() >= MOST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(access);
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Mono) {
        while self.lines.front().is_some_and(|access| now.since(access.at) > REMEMBER) {
            self.lines.pop_front();
        }
    }

    /// The other end of the client connection with this number.
    pub fn peer(&self, connection: Option<u64>) -> Option<SocketAddr> {
        self.peers.get(&connection?).copied()
    }

    /// How the request of an incident ended.
    pub fn ending(&self, incident: &Incident, line: Option<&LogRecord>) -> Option<&AccessRecord> {
        join::ending(self.lines.iter(), incident, line)
    }
}
