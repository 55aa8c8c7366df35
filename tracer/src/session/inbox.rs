//! What waits to be looked at: events of the kernel and lines of the logs, taken in the order in which they happened.
//!
//! A session that falls behind would otherwise judge an incident while its line is still waiting. So its time is that
//! of what it takes, and only when nothing waits is it the time of the clock.
//!
//! A session that did not run at all for a while finds lines of which only their own time stamp tells when they were
//! written, and none of them may have been read yet when the first event is there. Its time stands still until they
//! were.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::model::{Event, Mono};
use crate::nginx::tail::TailedLine;

/// Inputs of one kind taken from their channel at once.
const BATCH: usize = 256;
/// A session that runs looks at the clock every second; one that did not for so long was kept from running.
const STALL: Duration = Duration::from_secs(3);
/// How long the logs are read then before anything is taken.
const READING: Duration = Duration::from_millis(300);
/// Inputs that may wait meanwhile.
const GATHERED: usize = 8192;

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
    /// When the clock was looked at last; zero before the first time.
    looked: Mono,
    behind: Option<Behind>,
}

/// A session that was kept from running.
#[derive(Debug, Clone, Copy)]
struct Behind {
    /// When it last ran.
    since: Mono,
    /// When it ran again.
    resumed: Mono,
}

impl Behind {
    /// When the logs will have been read.
    fn read(self) -> Mono {
        self.resumed.after(READING)
    }
}

impl Inbox {
    /// An inbox for these channels.
    pub fn new(events: Receiver<Event>, lines: Receiver<TailedLine>) -> Self {
        let (waiting_events, waiting_lines) = (VecDeque::new(), VecDeque::new());
        Self { events, lines, waiting_events, waiting_lines, now: Mono(0), looked: Mono(0), behind: None }
    }

    /// Waits until something is there. Loses nothing when it is given up before.
    pub async fn filled(&mut self) {
        if let Some(behind) = self.behind {
            // Full, or nobody sends any more: before the time is over.
            let left = behind.read().since(self.looked);
            let _early = timeout(left, self.gathered()).await;
            return;
        }
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

    /// Waits until as many wait as may.
    async fn gathered(&mut self) {
        while self.waiting() < GATHERED {
            let (events, lines) = (&mut self.waiting_events, &mut self.waiting_lines);
            tokio::select! {
                Some(line) = self.lines.recv() => lines.push_back(line),
                Some(event) = self.events.recv() => events.push_back(event),
                else => return,
            }
        }
    }

    fn waiting(&self) -> usize {
        self.waiting_events.len() + self.waiting_lines.len()
    }

    /// Goes on after a stall, once the lines that were written meanwhile have been read: `printed` tells by their own
    /// time stamp where they belong.
    pub fn catch_up(&mut self, clock: Mono, printed: impl Fn(&TailedLine) -> Option<Mono>) {
        let Some(behind) = self.behind else { return };
        let is_ended = self.events.is_closed() && self.lines.is_closed();
        if clock < behind.read() && self.waiting() < GATHERED && !is_ended {
            return;
        }
        self.behind = None;
        for line in &mut self.waiting_lines {
            if let Some(printed) = printed(line).filter(|printed| *printed < behind.resumed) {
                line.arrival = printed.clamp(behind.since.min(line.arrival), line.arrival);
                line.is_old = true;
            }
        }
        self.waiting_lines.make_contiguous().sort_by_key(|line| line.arrival);
    }

    /// The input that happened first, with the time at which it is taken.
    pub fn next(&mut self, clock: Mono) -> Option<(Mono, Arrived)> {
        if self.is_behind(clock) {
            return None;
        }
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
        let idle = !self.is_behind(clock)
            && self.waiting_events.is_empty()
            && self.waiting_lines.is_empty()
            && self.events.is_empty()
            && self.lines.is_empty();
        if idle { self.move_on(clock) } else { self.now }
    }

    /// Whether the session was kept from running, and has not caught up yet.
    fn is_behind(&mut self, clock: Mono) -> bool {
        let looked = std::mem::replace(&mut self.looked, clock);
        if looked != Mono(0) && clock.since(looked) >= STALL {
            let since = self.behind.map_or(looked, |behind| behind.since);
            self.behind = Some(Behind { since, resumed: clock });
        }
        self.behind.is_some()
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

    #[tokio::test]
    async fn after_a_stall_lines_take_the_place_that_their_time_stamp_gives_them() {
        const SECOND: u64 = 1_000_000_000;
        let ((events, event_end), (lines, line_end)) = (channel(8), channel(8));
        let mut inbox = Inbox::new(event_end, line_end);
        let printed = |line: &TailedLine| Some(Mono(line.offset * SECOND));
        assert_eq!(inbox.now(Mono(10 * SECOND)), Mono(10 * SECOND));
        for second in [12, 16] {
            events.try_send(event(second * SECOND + 7)).unwrap();
        }
        let back = 20 * SECOND;
        assert_eq!(inbox.now(Mono(back)), Mono(10 * SECOND), "nothing is over: the lines are not read yet");
        for (offset, arrival) in [(12, back + 5), (16, back + 6), (21, back + 8)] {
            lines.try_send(TailedLine { offset, ..line(arrival) }).unwrap();
        }
        inbox.catch_up(Mono(back + 9), printed);
        assert_eq!(times(&mut inbox, back + 9), []);
        inbox.filled().await;
        let caught_up = back + READING.as_nanos() as u64 + 1;
        inbox.catch_up(Mono(caught_up), printed);
        let lines: Vec<(bool, u64)> =
            inbox.waiting_lines.iter().map(|line| (line.is_old, line.offset)).collect();
        assert_eq!(lines, [(true, 12), (true, 16), (false, 21)]);
        let (early, late) = (12 * SECOND, 16 * SECOND);
        let taken = [(early, 'l'), (early + 7, 'e'), (late, 'l'), (late + 7, 'e'), (back + 8, 'l')];
        assert_eq!(times(&mut inbox, caught_up), taken);
        assert_eq!(inbox.now(Mono(caught_up + 1)), Mono(caught_up + 1));
    }

    #[tokio::test]
    async fn the_end_of_a_session_waits_for_nothing() {
        let ((events, event_end), (lines, line_end)) = (channel(8), channel::<TailedLine>(8));
        let mut inbox = Inbox::new(event_end, line_end);
        inbox.now(Mono(1));
        let late = 1 + STALL.as_nanos() as u64;
        events.try_send(event(7)).unwrap();
        drop((events, lines));
        assert_eq!(inbox.now(Mono(late)), Mono(1));
        inbox.catch_up(Mono(late + 1), |_| None);
        assert_eq!(times(&mut inbox, late + 1), [(7, 'e')]);
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
