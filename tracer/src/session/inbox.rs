//! What waits to be looked at: events of the kernel and lines of the logs, taken in the order in which they happened.
//!
//! A session that falls behind would otherwise judge an incident while its line is still waiting. So its time is that
//! of what it takes, and only when nothing waits is it the time of the clock.

use std::collections::VecDeque;

use tokio::sync::mpsc::Receiver;

use crate::model::{Event, Mono};
use crate::nginx::tail::TailedLine;

/// Inputs of one kind taken from their channel at once.
const BATCH: usize = 256;

/// One input.
#[derive(Debug)]
pub enum Arrived {
    /// Of the kernel.
    Event(Box<Event>),
    /// Of a log.
    Line(Box<TailedLine>),
}

/// The channels, and what was taken out of them.
#[derive(Debug)]
pub struct Inbox {
    events: Receiver<Event>,
    lines: Receiver<TailedLine>,
    waiting_events: VecDeque<Event>,
    waiting_lines: VecDeque<TailedLine>,
    /// Time of the session; never goes back.
    now: Mono,
}

impl Inbox {
    /// An inbox for these channels.
    pub fn new(events: Receiver<Event>, lines: Receiver<TailedLine>) -> Self {
        let (waiting_events, waiting_lines) = (VecDeque::new(), VecDeque::new());
        Self { events, lines, waiting_events, waiting_lines, now: Mono(0) }
    }

    /// Waits until something is there. Loses nothing when it is given up before.
    pub async fn filled(&mut self) {
        if !(self.waiting_events.is_empty() && self.waiting_lines.is_empty()) {
            return;
        }
        let (events, lines) = (&mut self.waiting_events, &mut self.waiting_lines);
        tokio::select! {
            Some(line) = self.lines.recv() => lines.push_back(line),
            Some(event) = self.events.recv() => events.push_back(event),
            else => std::future::pending().await,
        }
    }

    /// The input that happened first, with the time at which it is taken.
    pub fn next(&mut self, clock: Mono) -> Option<(Mono, Arrived)> {
        refill(&mut self.events, &mut self.waiting_events);
        refill(&mut self.lines, &mut self.waiting_lines);
        let event = self.waiting_events.front().map(|event| event.time);
        let line = self.waiting_lines.front().map(|line| line.arrival);
        let first_is_line = match (event, line) {
            (None, None) => return None,
            (Some(event), Some(line)) => line < event,
            (event, _) => event.is_none(),
        };
        let (time, arrived) = if first_is_line {
            (line?, Arrived::Line(Box::new(self.waiting_lines.pop_front()?)))
        } else {
            (event?, Arrived::Event(Box::new(self.waiting_events.pop_front()?)))
        };
        Some((self.move_on(time.min(clock)), arrived))
    }

    /// Time of the session: that of what was taken last, or of the clock when nothing waits.
    pub fn now(&mut self, clock: Mono) -> Mono {
        let idle = self.waiting_events.is_empty()
            && self.waiting_lines.is_empty()
            && self.events.is_empty()
            && self.lines.is_empty();
        if idle { self.move_on(clock) } else { self.now }
    }

    fn move_on(&mut self, time: Mono) -> Mono {
        self.now = self.now.max(time);
        self.now
    }
}

fn refill<T>(channel: &mut Receiver<T>, waiting: &mut VecDeque<T>) {
    if !waiting.is_empty() {
        return;
    }
    while waiting.len() < BATCH
        && let Ok(input) = channel.try_recv()
    {
        waiting.push_back(input);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::engine::testing;
    use crate::model::EventKind;

    fn line(arrival: u64) -> TailedLine {
        TailedLine {
            file: Arc::from("error.log"),
            offset: 0,
            arrival: Mono(arrival),
            bytes: Vec::new(),
            is_cut: false,
            is_old: false,
            identity: None,
            reader: 0,
        }
    }

    fn event(time: u64) -> Event {
        Event {
            time: Mono(time),
            kind: EventKind::ProcessExit,
            socket: None,
            packet: None,
            task: testing::nobody(),
            netns: 1,
            elsewhere: None,
        }
    }

    fn times(inbox: &mut Inbox, clock: u64) -> Vec<(u64, char)> {
        std::iter::from_fn(|| inbox.next(Mono(clock)))
            .map(|(now, arrived)| (now.0, if matches!(arrived, Arrived::Line(_)) { 'l' } else { 'e' }))
            .collect()
    }

    #[test]
    fn what_happened_first_is_taken_first_whatever_came_first() {
        let ((events, event_end), (lines, line_end)) = (channel(8), channel(8));
        let mut inbox = Inbox::new(event_end, line_end);
        for time in [10, 30] {
            lines.try_send(line(time)).unwrap();
        }
        for time in [5, 20, 40] {
            events.try_send(event(time)).unwrap();
        }
        assert_eq!(inbox.now(Mono(100)), Mono(0), "nothing is over before it was taken");
        assert_eq!(times(&mut inbox, 100), [(5, 'e'), (10, 'l'), (20, 'e'), (30, 'l'), (40, 'e')]);
        assert_eq!(inbox.now(Mono(100)), Mono(100));
    }

    #[test]
    fn time_never_goes_back_nor_ahead_of_the_clock() {
        let ((events, event_end), (_lines, line_end)) = (channel(8), channel::<TailedLine>(8));
        let mut inbox = Inbox::new(event_end, line_end);
        events.try_send(event(50)).unwrap();
        events.try_send(event(20)).unwrap();
        events.try_send(event(900)).unwrap();
        assert_eq!(times(&mut inbox, 100), [(50, 'e'), (50, 'e'), (100, 'e')]);
    }
}
