//! A counter per key that never holds more than a fixed number of keys.
//!
//! When it is full, the rarer half of the keys (with its ties) moves into `other`; a key that comes often later gets in again.
//! So the sum is always exact, and a shown count is exact or a lower bound. Keys are bytes, cut to a length.

use std::hash::BuildHasher as _;

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

impl Cell {
    /// As many more as `other` counted.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// The table: open addressing over entries that lie side by side, because a line costs five of these.
#[derive(Debug, Clone)]
pub struct Table {
    /// Where an entry is looked for, twice as many as entries; empty until the first key comes.
    places: Vec<Place>,
    entries: Vec<Entry>,
    /// The keys, one after the other.
    text: Vec<u8>,
    hasher: Hasher,
    room: usize,
    other: u64,
    evicted: u64,
    total: u64,
}

/// A place that an entry may have. Most strangers are told apart by the tag alone.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Upper half of the hash.
    tag: u32,
    /// Number of the entry, from 1; 0 is free.
    entry: u32,
}

/// A key and its counts, as small as can be: several of these are looked at per line.
#[derive(Debug, Clone, Copy)]
struct Entry {
    ends: Ends,
    start: u32,
    length: u32,
    count: u64,
    /// Later than `last` while no line had a time.
    first: i64,
    last: i64,
}

/// The first and the last eight bytes of a key, which overlap in a short one: with its length they are all of it, up to
/// 16 bytes. Most keys are that short, and are compared and hashed without a look at their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    first: u64,
    last: u64,
}

impl Ends {
    /// Longest key that its ends cover.
    const COVER: usize = 16;

    #[inline]
    fn of(key: &[u8]) -> Self {
        if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
            return Self { first: u64::from_le_bytes(*first), last: u64::from_le_bytes(*last) };
        }
        if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
            let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
            return Self { first: half(first), last: half(last) };
        }
        let byte = |at: usize| key.get(at).map_or(0, |byte| u64::from(*byte));
        Self { first: byte(0) | byte(1) << 8 | byte(2) << 16, last: 0 }
    }
}

/// Hashes keys with numbers that nobody outside knows, so that no log can make them collide.
#[derive(Debug, Clone)]
struct Hasher {
    long: RandomState,
    seeds: [u64; 2],
}

impl Default for Hasher {
    fn default() -> Self {
        let long = RandomState::default();
        let seeds = [long.hash_one(1_u8), long.hash_one(2_u8)];
        Self { long, seeds }
    }
}

impl Hasher {
    #[inline]
    fn hash(&self, key: &[u8], ends: Ends) -> u64 {
        if key.len() > Ends::COVER {
            return self.long.hash_one(key);
        }
        let [one, other] = self.seeds;
        let product = u128::from(ends.first ^ one) * u128::from(ends.last ^ other ^ key.len() as u64);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

impl Entry {
    fn add(&mut self, time: Option<i64>) {
        self.count += 1;
        if let Some(time) = time {
            self.first = self.first.min(time);
            self.last = self.last.max(time);
        }
    }

    fn cell(&self) -> Cell {
        let is_timed = self.first <= self.last;
        let (first, last) = (is_timed.then_some(self.first), is_timed.then_some(self.last));
        Cell { count: self.count, first, last }
    }

    fn set(&mut self, cell: Cell) {
        self.count = cell.count;
        (self.first, self.last) = (cell.first.unwrap_or(i64::MAX), cell.last.unwrap_or(i64::MIN));
    }
}

impl Table {
    /// A table for at most `room` keys (at least two).
    pub fn new(room: usize) -> Self {
        Self {
            places: Vec::new(),
            entries: Vec::new(),
            text: Vec::new(),
            hasher: Hasher::default(),
            room: room.max(2),
            other: 0,
            evicted: 0,
            total: 0,
        }
    }

    /// Counts `key` once.
    pub fn add(&mut self, key: &[u8], time: Option<i64>) {
        self.total += 1;
        self.entry(key).add(time);
    }

    /// Counts `key` as often as `counted` says.
    pub fn merge(&mut self, key: &[u8], counted: Cell) {
        self.total += counted.count;
        let entry = self.entry(key);
        let mut cell = entry.cell();
        cell.merge(counted);
        entry.set(cell);
    }

    /// Counts occurrences whose keys nobody holds any more; `keys` is how many keys that were.
    pub fn merge_other(&mut self, count: u64, keys: u64) {
        self.total += count;
        self.other += count;
        self.evicted += keys;
    }

    /// How often `key` was counted, as far as it is held.
    pub fn get(&self, key: &[u8]) -> Option<Cell> {
        let key = &key[..key.len().min(MAX_KEY)];
        let ends = Ends::of(key);
        let number = self.find(key, ends, self.hasher.hash(key, ends))?;
        Some(self.entries[number].cell())
    }

    /// The keys, most frequent first, the same order on every run.
    pub fn ranked(&self) -> Vec<(&[u8], Cell)> {
        let mut rows: Vec<_> = self.entries.iter().map(|entry| (self.key(entry), entry.cell())).collect();
        rows.sort_by(|a, b| b.1.count.cmp(&a.1.count).then(a.0.cmp(b.0)));
        rows
    }

    /// Keys held.
    pub fn keys(&self) -> usize {
        self.entries.len()
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

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.text[entry.start as usize..(entry.start + entry.length) as usize]
    }

    /// The entry of a key, which is put in if it is new.
    fn entry(&mut self, key: &[u8]) -> &mut Entry {
        let key = &key[..key.len().min(MAX_KEY)];
        let ends = Ends::of(key);
        let hash = self.hasher.hash(key, ends);
        let number = self.find(key, ends, hash).unwrap_or_else(|| self.insert(key, ends, hash));
        &mut self.entries[number]
    }

    fn find(&self, key: &[u8], ends: Ends, hash: u64) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.first_place(hash);
        loop {
            let place = self.places[at];
            let number = (place.entry as usize).checked_sub(1)?;
            if place.tag == tag(hash) && self.is_key(&self.entries[number], key, ends) {
                return Some(number);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }

    #[inline]
    fn is_key(&self, entry: &Entry, key: &[u8], ends: Ends) -> bool {
        entry.ends == ends
            && entry.length as usize == key.len()
            && (key.len() <= Ends::COVER || is_equal(self.key(entry), key))
    }

    fn insert(&mut self, key: &[u8], ends: Ends, hash: u64) -> usize {
        if self.entries.len() >= self.room {
            self.evict();
        }
        if self.places.is_empty() {
            self.places = vec![Place::default(); (2 * self.room).next_power_of_two()];
        }
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        self.text.extend_from_slice(key);
        self.entries.push(Entry { ends, start, length, count: 0, first: i64::MAX, last: i64::MIN });
        self.place(hash, self.entries.len());
        self.entries.len() - 1
    }

    fn first_place(&self, hash: u64) -> usize {
        hash as usize & (self.places.len() - 1)
    }

    /// Enters the entry with this number, from 1. There is always a free place.
    fn place(&mut self, hash: u64, number: usize) {
        let mut at = self.first_place(hash);
        while self.places[at].entry != 0 {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = Place { tag: tag(hash), entry: u32::try_from(number).unwrap_or(u32::MAX) };
    }

    fn evict(&mut self) {
        let mut counts: Vec<u64> = self.entries.iter().map(|entry| entry.count).collect();
        let middle = counts.len() / 2;
        let (_, median, _) = counts.select_nth_unstable(middle);
        let median = *median;
        let entries = std::mem::take(&mut self.entries);
        let text = std::mem::take(&mut self.text);
        self.places.fill(Place::default());
        for entry in entries {
            // Ties go together: which of them stayed would depend on the order of hashing.
            if entry.count <= median {
                self.other += entry.count;
                self.evicted += 1;
                continue;
            }
            let key = &text[entry.start as usize..(entry.start + entry.length) as usize];
            let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
            self.text.extend_from_slice(key);
            self.entries.push(Entry { start, ..entry });
            self.place(self.hasher.hash(key, entry.ends), self.entries.len());
        }
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Equality of texts in words of eight bytes, the last of which may overlap: on texts this short a call of `memcmp`
/// costs more than it saves.
pub(super) fn is_equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (words, rest) = one.as_chunks::<8>();
    let (other_words, other_rest) = other.as_chunks::<8>();
    let differs = |a: &[u8; 8], b: &[u8; 8]| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b);
    let difference = words.iter().zip(other_words).fold(0, |sum, (a, b)| sum | differs(a, b));
    let end = match (one.last_chunk(), other.last_chunk()) {
        (Some(a), Some(b)) => differs(a, b) == 0,
        _ => rest.iter().zip(other_rest).all(|(a, b)| a == b),
    };
    difference == 0 && end
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
        assert_eq!(table.get(&100_u32.to_le_bytes()).map(|cell| cell.count), Some(1));
        assert_eq!(table.get(&0_u32.to_le_bytes()), None);
    }

    #[test]
    fn texts_are_equal_only_in_every_byte() {
        for length in 0..40 {
            let one: Vec<u8> = (0..length).collect();
            assert!(is_equal(&one, &one.clone()));
            assert!(!is_equal(&one, &[&one[..], b"x"].concat()));
            for at in 0..one.len() {
                let mut other = one.clone();
                other[at] ^= 1;
                assert!(!is_equal(&one, &other), "{length} {at}");
            }
        }
    }

    #[test]
    fn keys_of_every_length_are_told_apart() {
        let mut table = Table::new(1000);
        let keys: Vec<Vec<u8>> = (0..40)
            .flat_map(|length| {
                (0..=length).map(move |at| (0..length).map(|byte| u8::from(byte == at)).collect())
            })
            .collect();
        for key in &keys {
            table.add(key, None);
        }
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(table.keys(), distinct.len());
        assert!(keys.iter().all(|key| table.get(key).is_some()));
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
