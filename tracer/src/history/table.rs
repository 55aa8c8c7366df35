//! A counter per key that never holds more than a fixed number of keys.
//!
//! When it is full, the rarer half of the keys (with its ties) moves into `other`; a key that comes often later gets in again.
//! So the sum is always exact, and a shown count is exact or a lower bound. Keys are bytes, cut to a length.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Longest key, bytes.
pub const MAX_KEY: usize = 200;

/// How often, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// How often.
    pub count: u64,
    /// First time, seconds of UTC; `None` if no line had one.
    pub first: Option<i64>,
    /// Last time, seconds of UTC.
    pub last: Option<i64>,
}

impl Cell {
    const EMPTY: Self = Self { count: 0, first: None, last: None };

    /// One more.
    pub fn add(&mut self, time: Option<i64>) {
        self.count += 1;
        let Some(time) = time else { return };
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// The table.
#[derive(Debug, Clone)]
pub struct Table {
    cells: HashMap<Box<[u8]>, Cell, RandomState>,
    room: usize,
    other: u64,
    evicted: u64,
    total: u64,
}

impl Table {
    /// A table for at most `room` keys (at least two).
    pub fn new(room: usize) -> Self {
        Self { cells: HashMap::default(), room: room.max(2), other: 0, evicted: 0, total: 0 }
    }

    /// Counts `key` once.
    pub fn add(&mut self, key: &[u8], time: Option<i64>) {
        let key = &key[..key.len().min(MAX_KEY)];
        self.total += 1;
        if let Some(cell) = self.cells.get_mut(key) {
            return cell.add(time);
        }
        if self.cells.len() >= self.room {
            self.evict();
        }
        let mut cell = Cell::EMPTY;
        cell.add(time);
        self.cells.insert(key.into(), cell);
    }

    /// The keys, most frequent first, the same order on every run.
    pub fn ranked(&self) -> Vec<(&[u8], Cell)> {
        let mut rows: Vec<_> = self.cells.iter().map(|(key, cell)| (&**key, *cell)).collect();
        rows.sort_by(|a, b| b.1.count.cmp(&a.1.count).then(a.0.cmp(b.0)));
        rows
    }

    /// Keys held.
    pub fn keys(&self) -> usize {
        self.cells.len()
    }

    /// Occurrences whose key is no longer held.
    pub fn other(&self) -> u64 {
        self.other
    }

    /// How many keys were given up; one that returned may be counted twice.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// All occurrences.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn evict(&mut self) {
        let mut counts: Vec<u64> = self.cells.values().map(|cell| cell.count).collect();
        let middle = counts.len() / 2;
        let (_, median, _) = counts.select_nth_unstable(middle);
        let median = *median;
        let (mut other, mut evicted) = (0, 0);
        self.cells.retain(|_, cell| {
            // Ties go together: which of them stayed would depend on the order of hashing.
            let stays = cell.count > median;
            other += if stays { 0 } else { cell.count };
            evicted += u64::from(!stays);
            stays
        });
        self.other += other;
        self.evicted += evicted;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_heavy_key_gets_in() {
        let mut table = Table::new(8);
        for key in 0..1000_u32 {
            table.add(&key.to_le_bytes(), None);
        }
        for _ in 0..100 {
            table.add(b"late", Some(5));
        }
        assert_eq!(table.ranked()[0], (&b"late"[..], Cell { count: 100, first: Some(5), last: Some(5) }));
    }

    #[test]
    fn equal_keys_go_together() {
        let mut table = Table::new(100);
        (0..101_u32).for_each(|key| table.add(&key.to_le_bytes(), None));
        assert_eq!((table.keys(), table.evicted(), table.other()), (1, 100, 100));
    }

    proptest! {
        #[test]
        fn the_bound_and_the_sum_hold(
            keys in prop::collection::vec(0_u16..300, 0..2000), room in 2_usize..40,
        ) {
            let mut table = Table::new(room);
            for key in &keys {
                table.add(&key.to_le_bytes(), Some(i64::from(*key)));
                prop_assert!(table.keys() <= room);
            }
            let held: u64 = table.ranked().iter().map(|row| row.1.count).sum();
            prop_assert_eq!(held + table.other(), table.total());
            prop_assert_eq!(table.total(), keys.len() as u64);
            for (key, cell) in table.ranked() {
                let key = u16::from_le_bytes([key[0], key[1]]);
                let real = keys.iter().filter(|other| **other == key).count() as u64;
                prop_assert!(cell.count <= real);
            }
        }
    }
}
