//! Drops of a listener: the kernel counts from its start on and reports now and then, events say what is new.

use std::collections::HashMap;

use crate::model::{Event, EventKind, Overflow};
use crate::probe::filter::Dropped;

/// What has been reported of each listener. Bounded by the kernel's own table of listeners that overflowed.
#[derive(Debug, Default)]
pub struct Overflows {
    listeners: HashMap<(u32, u16), Known>,
}

#[derive(Debug)]
struct Known {
    total: u64,
    /// The latest event, to report drops that no record was made for.
    event: Event,
}

impl Overflows {
    /// Turns the kernel's running number in an overflow event into the difference. Other events are left alone.
    pub fn event(&mut self, event: &mut Event) {
        let EventKind::ListenOverflow(overflow) = &mut event.kind else { return };
        let (key, total) = (key(overflow), u64::from(overflow.dropped));
        let before = self.listeners.get(&key).map_or(0, |known| known.total);
        overflow.dropped = difference(total, before);
        self.listeners.insert(key, Known { total, event: event.clone() });
    }

    /// Drops that were counted after the last record of their listener.
    pub fn unreported(&mut self, dropped: &[Dropped]) -> Vec<Event> {
        dropped.iter().filter_map(|now| self.rest(now)).collect()
    }

    fn rest(&mut self, now: &Dropped) -> Option<Event> {
        let known = self.listeners.get_mut(&(now.netns, now.port))?;
        let new = difference(now.total, known.total);
        if new == 0 {
            return None;
        }
        known.total = now.total;
        let mut event = known.event.clone();
        if let EventKind::ListenOverflow(overflow) = &mut event.kind {
            overflow.dropped = new;
        }
        Some(event)
    }
}

fn key(overflow: &Overflow) -> (u32, u16) {
    (overflow.netns, overflow.listener.port())
}

/// A number that shrank began anew: the kernel's table had to make room.
fn difference(total: u64, before: u64) -> u32 {
    u32::try_from(total.checked_sub(before).unwrap_or(total)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mono, QueueKind, Side, Task};

    fn event(total: u32) -> Event {
        let overflow = Overflow {
            listener: "10.0.0.1:80".parse().unwrap(),
            netns: 7,
            queue: 5,
            limit: 4,
            queue_kind: QueueKind::Accept,
            dropped: total,
            client: None,
            side: Side::Client,
        };
        let task = Task::nobody();
        Event {
            time: Mono(1),
            kind: EventKind::ListenOverflow(overflow),
            socket: None,
            packet: None,
            task,
            netns: 1,
            elsewhere: None,
        }
    }

    fn dropped(event: &Event) -> u32 {
        let EventKind::ListenOverflow(overflow) = &event.kind else { panic!("not an overflow") };
        overflow.dropped
    }

    #[test]
    fn every_drop_is_reported_once() {
        let mut overflows = Overflows::default();
        let mut sum = 0;
        for total in [1, 5, 9] {
            let mut event = event(total);
            overflows.event(&mut event);
            sum += dropped(&event);
        }
        let rest = overflows.unreported(&[Dropped { netns: 7, port: 80, total: 12 }]);
        sum += rest.iter().map(dropped).sum::<u32>();
        assert_eq!(sum, 12);
        assert!(overflows.unreported(&[Dropped { netns: 7, port: 80, total: 12 }]).is_empty());
        assert!(overflows.unreported(&[Dropped { netns: 8, port: 80, total: 12 }]).is_empty(), "never seen");
    }

    #[test]
    fn a_number_that_shrank_began_anew() {
        assert_eq!(difference(3, 10), 3);
    }
}
