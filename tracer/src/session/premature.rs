//! Closes that only a line makes worth a word: an upstream that closed too early, as the log says.

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

/// Lines that call an upstream's close premature, until the close can be looked up: alone it would not have been
/// worth a word of the kernel side.
#[derive(Debug, Default)]
pub struct PrematureCloses {
    waiting: VecDeque<(Mono, u32, SocketAddr)>,
}

impl PrematureCloses {
    /// Notes a line, if it is one of those.
    pub fn note(&mut self, record: &LogRecord) {
        let ends_early = record.class() == MessageClass::ClosedEarly && record.side == LogSide::Upstream;
        if let (true, Some(pid), Some(upstream), Some(arrival)) =
            (ends_early, record.pid, record.upstream_addr(), record.arrival)
        {
            if self.waiting.len() >= MOST_PREMATURE {
                self.waiting.pop_front();
            }
            self.waiting.push_back((arrival, pid, upstream));
        }
    }

    /// When the next close can be looked up.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.front().map(|(arrival, ..)| arrival.after(CLOSE_FOLLOWS))
    }

    /// The closes that can be looked up at `now`, as events.
    /// A map that cannot be read only leaves the line without its connection.
    pub fn due(&mut self, kernel: &mut KernelSide, now: Mono) -> Vec<Event> {
        let mut events = Vec::new();
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            let Some((arrival, pid, upstream)) = self.waiting.pop_front() else { break };
            let departed = kernel.departed(pid, upstream).ok().flatten();
            let recent = |departed: &Departed| Mono(departed.time_ns).distance(arrival) <= PREMATURE;
            events.extend(departed.filter(recent).map(|departed| departed::event(&departed, pid, upstream)));
        }
        events
    }
}
