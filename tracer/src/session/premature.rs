//! Closes that only a line makes worth a word: an upstream that closed too early, or that did not answer in time, as the
//! log says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::kernel::KernelSide;
use crate::collect::departed;
use crate::model::{Event, LogRecord, LogSide, MessageClass, Mono, Socket};

/// Nginx writes the line and closes the connection in the same turn of its loop.
const CLOSE_FOLLOWS: Duration = Duration::from_millis(10);
/// A worker that was interrupted between the two is looked after once more.
const CLOSE_FOLLOWS_LATE: Duration = Duration::from_millis(50);
/// How long before its line a connection that the upstream closed can have been closed by Nginx.
const PREMATURE: Duration = Duration::from_secs(1);
/// Lines that may wait for their close; beyond it the oldest goes without its connection.
const MOST_PREMATURE: usize = 4096;

/// What Nginx does before any of the answer is there.
const BEFORE_ANSWER: &str = "reading response header";

/// Lines that call an upstream's close premature, or its answer late, until the close can be looked up: alone it would
/// not have been worth a word of the kernel side.
#[derive(Debug, Default)]
pub struct PrematureCloses {
    waiting: VecDeque<Waiting>,
    late: VecDeque<Waiting>,
}

/// A line whose close is to come. Only the latest close of a worker with an upstream can be looked up.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    arrival: Mono,
    pid: u32,
    upstream: SocketAddr,
    /// Nginx closed first: it had waited long enough.
    by_nginx: bool,
    /// It had nothing of the answer.
    before_answer: bool,
}

impl Waiting {
    fn new(record: &LogRecord) -> Option<Self> {
        let by_nginx = match record.class() {
            MessageClass::ClosedEarly => false,
            MessageClass::TimedOut => true,
            _ => return None,
        };
        let (pid, upstream, arrival) = (record.pid?, record.upstream_addr()?, record.arrival?);
        let before_answer = record.action.as_deref().is_some_and(|doing| doing.starts_with(BEFORE_ANSWER));
        let waiting = Self { arrival, pid, upstream, by_nginx, before_answer };
        (record.side == LogSide::Upstream).then_some(waiting)
    }

    /// Whether a close can be the one that the line is about, and is not that of a healthy connection.
    fn is_about(self, close: &Event) -> bool {
        let within = if self.by_nginx { CLOSE_FOLLOWS_LATE } else { PREMATURE };
        let waited = |socket: &Socket| socket.awaits_answer() || socket.is_tied();
        let waited = close.socket.as_ref().is_some_and(waited);
        close.time.distance(self.arrival) <= within && (waited || self.by_nginx || !self.before_answer)
    }
}

impl PrematureCloses {
    /// Notes a line, if it is one of those.
    pub fn note(&mut self, record: &LogRecord) {
        if let Some(line) = Waiting::new(record) {
            keep(&mut self.waiting, line);
        }
    }

    /// When the next close can be looked up.
    pub fn next_deadline(&self) -> Option<Mono> {
        let first = self.waiting.front().map(|line| line.arrival.after(CLOSE_FOLLOWS));
        let late = self.late.front().map(|line| line.arrival.after(CLOSE_FOLLOWS_LATE));
        [first, late].into_iter().flatten().min()
    }

    /// The closes that can be looked up at `now`, as events.
    /// A map that cannot be read only leaves the line without its connection.
    pub fn due(&mut self, kernel: &mut KernelSide, now: Mono) -> Vec<Event> {
        self.due_by(now, |line| {
            let departed = kernel.departed(line.pid, line.upstream, line.by_nginx).ok().flatten();
            departed.map(|departed| departed::event(&departed, line.pid, line.upstream, line.by_nginx))
        })
    }

    fn due_by(&mut self, now: Mono, mut latest: impl FnMut(Waiting) -> Option<Event>) -> Vec<Event> {
        let mut close = |line: Waiting| latest(line).filter(|close| line.is_about(close));
        let mut closes = Vec::new();
        while let Some(line) = due(&mut self.waiting, CLOSE_FOLLOWS, now) {
            match close(line) {
                Some(close) => closes.push(close),
                None => keep(&mut self.late, line),
            }
        }
        while let Some(line) = due(&mut self.late, CLOSE_FOLLOWS_LATE, now) {
            closes.extend(close(line));
        }
        closes
    }
}

fn keep(lines: &mut VecDeque<Waiting>, line: Waiting) {
    if lines.len() >= MOST_PREMATURE {
        lines.pop_front();
    }
    lines.push_back(line);
}

fn due(lines: &mut VecDeque<Waiting>, after: Duration, now: Mono) -> Option<Waiting> {
    lines.pop_front_if(|line| line.arrival.after(after) <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{at, upstream};
    use crate::model::{EventKind, Task, TcpState};

    fn closed(milliseconds: u64, socket: Socket) -> Event {
        let kind = EventKind::Closed { old: TcpState::CloseWait, new: TcpState::LastAck };
        let (time, socket, task) = (at(milliseconds), Some(socket), Task::nobody());
        Event { time, kind, socket, packet: None, task, netns: 0, elsewhere: None }
    }

    fn waiting(before_answer: bool) -> PrematureCloses {
        let (arrival, upstream) = (at(1_000), upstream().remote);
        let line = Waiting { arrival, pid: 7, upstream, by_nginx: false, before_answer };
        PrematureCloses { waiting: [line].into(), ..PrematureCloses::default() }
    }

    /// It had answered the last request in full.
    fn healthy() -> Socket {
        Socket { last_sent_ms: Some(30), last_received_ms: Some(5), bytes_received: 300, ..upstream() }
    }

    fn cut_off() -> Socket {
        Socket { last_sent_ms: Some(30), last_received_ms: None, bytes_received: 0, ..upstream() }
    }

    #[test]
    fn a_healthy_close_is_not_taken_for_one_before_the_answer() {
        let mut closes = waiting(true);
        let later = |_| Some(closed(1_008, healthy()));
        assert!(closes.due_by(at(1_010), later).is_empty());
        assert!(closes.due_by(at(1_050), later).is_empty());
        assert_eq!(closes.next_deadline(), None);
    }

    #[test]
    fn a_close_is_looked_for_once_more_if_it_is_not_there_at_once() {
        let mut closes = waiting(true);
        assert!(closes.due_by(at(1_009), |_| Some(closed(1_001, cut_off()))).is_empty(), "not yet due");
        assert!(closes.due_by(at(1_010), |_| None).is_empty());
        assert_eq!(closes.next_deadline(), Some(at(1_050)));
        assert_eq!(closes.due_by(at(1_050), |_| Some(closed(1_030, cut_off()))).len(), 1);
        assert_eq!(waiting(false).due_by(at(1_010), |_| Some(closed(1_001, healthy()))).len(), 1);
    }
}
