//! Lines of the log that wait for their incident, and which of them are incidents of their own.

use std::collections::VecDeque;
use std::time::Duration;

use crate::join::Line;
use crate::model::{Level, LogRecord, MessageClass, Mono};

/// How long a line waits for an event of the kernel.
pub const PATIENCE: Duration = Duration::from_millis(1_500);

/// Waiting lines in the order in which they came.
#[derive(Debug)]
pub struct Lines {
    waiting: VecDeque<(Mono, Line)>,
    limit: usize,
}

impl Lines {
    /// Room for `limit` lines.
    pub fn new(limit: usize) -> Self {
        Self { waiting: VecDeque::new(), limit: limit.max(1) }
    }

    /// Takes a line that waits from `now`; gives back the oldest when there is no room.
    pub fn push(&mut self, now: Mono, line: Line) -> Option<Line> {
        let oldest = (self.waiting.len() >= self.limit).then(|| self.waiting.pop_front()).flatten();
        self.waiting.push_back((now, line));
        oldest.map(|(_, line)| line)
    }

    /// When the next line has waited long enough.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.front().map(|(since, _)| since.after(PATIENCE))
    }

    /// Takes out the oldest line.
    pub fn pop(&mut self) -> Option<Line> {
        self.waiting.pop_front().map(|(_, line)| line)
    }

    /// Takes out one line.
    pub fn take(&mut self, number: u64) -> Option<Line> {
        let index = self.waiting.iter().position(|(_, line)| line.number == number)?;
        self.waiting.remove(index).map(|(_, line)| line)
    }

    /// The waiting lines, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.waiting.iter().map(|(_, line)| line)
    }
}

/// Whether a line that nothing in the kernel matches is an incident: it speaks of a failed connection, or of
/// what keeps Nginx from making one, and Nginx itself calls it an error.
pub fn is_incident(record: &LogRecord) -> bool {
    use MessageClass as C;
    let severe = record.level.is_some_and(|level| level <= Level::Error);
    severe
        && matches!(
            record.class(),
            C::SocketError
                | C::ResetByPeer
                | C::BrokenPipe
                | C::Refused
                | C::Unreachable
                | C::TimedOut
                | C::LocalAbort
                | C::ClosedEarly
                | C::HandshakeFailed
                | C::TlsFailed
                | C::NoLiveUpstreams
                | C::ConfigLimit
                | C::ResourceLimit
                | C::Permission
                | C::SocketMissing
                | C::InvalidResponse
                | C::ResolveFailed
                | C::WorkerExit
        )
}
