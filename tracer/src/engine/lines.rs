//! Lines of the log that wait for their incident, and which of them are incidents of their own.

use std::collections::VecDeque;
use std::time::Duration;

use crate::join::{ANNOUNCED, Line, announces};
use crate::model::{Level, LogRecord, MessageClass, MessageKind, Mono};

/// How long a line waits for an event of the kernel.
pub const PATIENCE: Duration = Duration::from_millis(1_500);

/// Waiting lines in the order in which they came.
#[derive(Debug)]
pub struct Lines {
    waiting: VecDeque<(Mono, Line)>,
    /// Lines that say why Nginx will close a connection, long before it does; no incidents of their own.
    announced: VecDeque<(Mono, Line)>,
    limit: usize,
}

impl Lines {
    /// Room for `limit` lines.
    pub fn new(limit: usize) -> Self {
        Self { waiting: VecDeque::new(), announced: VecDeque::new(), limit: limit.max(1) }
    }

    /// Takes a line that waits from `now`; gives back the oldest when there is no room.
    pub fn push(&mut self, now: Mono, line: Line) -> Option<Line> {
        let queue = if announces(&line.record) { &mut self.announced } else { &mut self.waiting };
        let oldest = (queue.len() >= self.limit).then(|| queue.pop_front()).flatten();
        queue.push_back((now, line));
        oldest.map(|(_, line)| line)
    }

    /// Completes the last line that was broken before the end of this file.
    pub fn complete(&mut self, rest: &LogRecord) {
        let broken = |line: &Line| {
            let record = &line.record;
            (record.kind, &record.file) == (MessageKind::PROXY_PROTOCOL_BROKEN, &rest.file)
                && record.client.is_none()
        };
        if let Some((_, line)) = self.waiting.iter_mut().rev().find(|(_, line)| broken(line)) {
            line.complete(rest);
        }
    }

    /// When the next line has waited long enough.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.front().map(|(since, _)| since.after(PATIENCE))
    }

    /// Takes out the oldest line.
    pub fn pop(&mut self) -> Option<Line> {
        self.waiting.pop_front().map(|(_, line)| line)
    }

    /// Forgets announcements that nothing followed; gives their number.
    pub fn expire(&mut self, now: Mono) -> u64 {
        let before = self.announced.len();
        self.announced.retain(|(since, _)| now.since(*since) <= ANNOUNCED);
        u64::try_from(before - self.announced.len()).unwrap_or(0)
    }

    /// Takes out one line.
    pub fn take(&mut self, number: u64) -> Option<Line> {
        let mut queues = [&mut self.waiting, &mut self.announced].into_iter();
        queues.find_map(|queue| {
            let index = queue.iter().position(|(_, line)| line.number == number)?;
            queue.remove(index).map(|(_, line)| line)
        })
    }

    /// The waiting lines, to be told more about.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Line> {
        self.announced.iter_mut().chain(&mut self.waiting).map(|(_, line)| line)
    }

    /// The waiting lines, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.announced.iter().chain(&self.waiting).map(|(_, line)| line)
    }
}

/// Whether a line that nothing in the kernel matches is an incident: it speaks of a failed connection, or of
/// what keeps Nginx from making one, and Nginx itself calls it an error.
pub fn is_incident(record: &LogRecord) -> bool {
    use MessageClass as C;
    let severe = record.level.is_some_and(|level| level <= Level::Error);
    // A failed question to one name server; that no server answered is said once more, with the request.
    let is_question = record.action.as_deref() == Some("resolving") && record.request.is_none();
    // The upstream refused the stream of a request, which fails by that; its connection need not.
    let is_rejected = record.kind == MessageKind::UPSTREAM_STREAM_REJECTED;
    let is_failure = is_rejected
        || record.kind == MessageKind::PROXY_PROTOCOL_BROKEN
        || matches!(
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
        );
    // Nginx's own words for a request that its client gave up, however orderly its connection ended.
    let is_abort = record.kind == MessageKind::CLIENT_ABORTED_UPSTREAM_CLOSED;
    is_abort || (severe && !is_question && is_failure)
}
