//! Closes that only a line makes worth a word: an upstream that closed too early, or that did not answer in time, as the
//! log says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rstscope_ebpf::abi::Departed;

use super::kernel::KernelSide;
use crate::collect::departed;
use crate::model::{Event, LogRecord, LogSide, MessageClass, Mono};

/// Nginx writes the line first and closes the connection right after; this long the close is waited for.
const CLOSE_FOLLOWS: Duration = Duration::from_millis(50);
/// How long before its line a connection that the upstream closed can have been closed by Nginx.
const PREMATURE: Duration = Duration::from_secs(1);
/// Lines that may wait for their close; beyond it the oldest goes without its connection.
const MOST_PREMATURE: usize = 4096;

/// Lines that call an upstream's close premature, or its answer late, until the close can be looked up: alone it would
/// not have been worth a word of the kernel side.
#[derive(Debug, Default)]
pub struct PrematureCloses {
    waiting: VecDeque<Waiting>,
}

/// A line whose close is to come.
#[derive(Debug)]
struct Waiting {
    arrival: Mono,
    pid: u32,
    upstream: SocketAddr,
    /// Nginx closed first: it had waited long enough.
    by_nginx: bool,
}

impl Waiting {
    fn new(record: &LogRecord) -> Option<Self> {
        let by_nginx = match record.class() {
            MessageClass::ClosedEarly => false,
            MessageClass::TimedOut => true,
            _ => return None,
        };
        let (pid, upstream, arrival) = (record.pid?, record.upstream_addr()?, record.arrival?);
        (record.side == LogSide::Upstream).then_some(Self { arrival, pid, upstream, by_nginx })
    }

    /// Whether a close can be the one that the line is about.
    fn is_about(&self, departed: &Departed) -> bool {
        let within = if self.by_nginx { CLOSE_FOLLOWS } else { PREMATURE };
        Mono(departed.time_ns).distance(self.arrival) <= within
    }

    fn close(&self, kernel: &mut KernelSide) -> Option<Event> {
        let departed = kernel.departed(self.pid, self.upstream, self.by_nginx).ok().flatten();
        let ours = departed.filter(|departed| self.is_about(departed))?;
        Some(departed::event(&ours, self.pid, self.upstream, self.by_nginx))
    }
}

impl PrematureCloses {
    /// Notes a line, if it is one of those.
    pub fn note(&mut self, record: &LogRecord) {
        let Some(line) = Waiting::new(record) else { return };
        if self.waiting.len() >= MOST_PREMATURE {
            self.waiting.pop_front();
        }
        self.waiting.push_back(line);
    }

    /// When the next close can be looked up.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.front().map(|line| line.arrival.after(CLOSE_FOLLOWS))
    }

    /// The closes that can be looked up at `now`, as events.
    /// A map that cannot be read only leaves the line without its connection.
    pub fn due(&mut self, kernel: &mut KernelSide, now: Mono) -> Vec<Event> {
        let mut events = Vec::new();
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            events.extend(self.waiting.pop_front().and_then(|line| line.close(kernel)));
        }
        events
    }
}
