//! Entries that a full table forgot while they could still be of use.
//!
//! The kernel makes room in such tables without a word, so this is reckoned: of a table with room for 100, of which
//! 150 entries were made within the time that one is of use, at least 50 were forgotten too early. Never too many.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::Mono;

/// Readings kept of one table; the time that an entry is of use is divided into so many steps at most.
const READINGS: u32 = 64;

/// One table.
#[derive(Debug, Clone)]
pub struct Table {
    room: u64,
    of_use: Duration,
    /// Entries ever made, as read at these moments, oldest first.
    readings: VecDeque<(Mono, u64)>,
    last: u64,
    forgotten: u64,
}

impl Table {
    /// A table with room for so many entries, each of use for so long.
    pub fn new(room: u32, of_use: Duration) -> Self {
        Self { room: room.into(), of_use, readings: VecDeque::new(), last: 0, forgotten: 0 }
    }

    /// Takes over how many entries were ever made; gives how many were forgotten too early so far.
    pub fn observe(&mut self, now: Mono, made: u64) -> u64 {
        let old = self.made_before(now);
        // Those that made room since the last reading, without those that were of no use any more.
        let gone = made.saturating_sub(self.room);
        let known = self.last.saturating_sub(self.room).max(old);
        self.forgotten = self.forgotten.saturating_add(gone.saturating_sub(known));
        self.last = made;
        let step = self.of_use / READINGS;
        if self.readings.back().is_none_or(|(time, _)| now.since(*time) >= step) {
            self.readings.push_back((now, made));
        }
        self.forgotten
    }

    /// Entries that are of no use any more: made before an entry's time began. Older readings go.
    fn made_before(&mut self, now: Mono) -> u64 {
        let is_old = |(time, _): &(Mono, u64)| now.since(*time) >= self.of_use;
        while self.readings.get(1).is_some_and(is_old) {
            self.readings.pop_front();
        }
        self.readings.front().filter(|reading| is_old(reading)).map_or(0, |(_, made)| *made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> Mono {
        Mono(number * 1_000_000_000)
    }

    #[test]
    fn what_fits_is_not_forgotten() {
        let mut table = Table::new(100, Duration::from_secs(10));
        assert_eq!((1..=10).map(|time| table.observe(second(time), time * 10)).max(), Some(0));
    }

    #[test]
    fn what_is_beyond_the_room_within_its_time_is() {
        let mut table = Table::new(100, Duration::from_secs(10));
        assert_eq!(table.observe(second(1), 90), 0);
        assert_eq!(table.observe(second(2), 150), 50);
        assert_eq!(table.observe(second(3), 150), 50, "and counted once");
        assert_eq!(table.observe(second(4), 160), 60);
    }

    #[test]
    fn old_entries_make_room_without_loss() {
        let mut table = Table::new(100, Duration::from_secs(10));
        // Nine a second: never more than a hundred within ten seconds, however long it goes on.
        assert_eq!((0..10_000).map(|time| table.observe(second(time), time * 9)).max(), Some(0));
        assert!(table.readings.len() <= READINGS as usize + 2);
    }

    #[test]
    fn a_burst_after_a_long_time_counts_only_itself() {
        let mut table = Table::new(100, Duration::from_secs(10));
        (0..1_000).for_each(|time| {
            table.observe(second(time), time * 9);
        });
        let before = 999 * 9;
        let forgotten = table.observe(second(1_000), before + 200);
        assert!((100..=200).contains(&forgotten), "{forgotten}");
    }
}
