//! A bounded table in the order of last use: what was silent longest goes first when there is no room.
//! Knows nothing of what it keeps.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// No neighbour.
const NONE: usize = usize::MAX;

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    newer: usize,
    older: usize,
}

/// The table.
#[derive(Debug)]
pub struct Table<K, V> {
    places: HashMap<K, usize, RandomState>,
    slots: Vec<Slot<K, V>>,
    newest: usize,
    oldest: usize,
    limit: usize,
}

impl<K: Hash + Eq + Copy, V> Table<K, V> {
    /// Room for `limit` entries.
    pub fn new(limit: usize) -> Self {
        let places = HashMap::with_hasher(RandomState::default());
        Self { places, slots: Vec::new(), newest: NONE, oldest: NONE, limit: limit.max(1) }
    }

    /// An entry, which thereby becomes the newest.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let place = *self.places.get(key)?;
        self.renew(place);
        self.slots.get_mut(place).map(|slot| &mut slot.value)
    }

    /// Adds or replaces an entry. Gives back what had to go: the entry before, or the oldest one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(before) = self.get(&key) {
            return Some(std::mem::replace(before, value));
        }
        if self.slots.len() < self.limit {
            let place = self.slots.len();
            self.slots.push(Slot { key, value, newer: NONE, older: NONE });
            self.places.insert(key, place);
            self.link_newest(place);
            return None;
        }
        let place = self.oldest;
        self.unlink(place);
        let slot = self.slots.get_mut(place)?;
        self.places.remove(&slot.key);
        slot.key = key;
        let gone = std::mem::replace(&mut slot.value, value);
        self.places.insert(key, place);
        self.link_newest(place);
        Some(gone)
    }

    /// Whether the next new entry pushes another one out.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.limit
    }

    /// Every entry, in no particular order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().map(|slot| &mut slot.value)
    }

    fn renew(&mut self, place: usize) {
        if place != self.newest {
            self.unlink(place);
            self.link_newest(place);
        }
    }

    fn unlink(&mut self, place: usize) {
        let Some((newer, older)) = self.slots.get(place).map(|slot| (slot.newer, slot.older)) else { return };
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, place: usize) {
        let older = self.newest;
        if let Some(slot) = self.slots.get_mut(older) {
            slot.newer = place;
        }
        if let Some(slot) = self.slots.get_mut(place) {
            (slot.newer, slot.older) = (NONE, older);
        }
        self.newest = place;
        if self.oldest == NONE {
            self.oldest = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Table;

    #[test]
    fn what_was_used_least_lately_goes_first() {
        let mut table = Table::new(2);
        assert_eq!(table.insert(1, "a"), None);
        assert_eq!(table.insert(2, "b"), None);
        assert_eq!(table.get(&1), Some(&mut "a"));
        assert_eq!(table.insert(3, "c"), Some("b"));
        assert_eq!(table.insert(3, "d"), Some("c"));
        assert_eq!(table.get(&2), None);
        assert_eq!(table.insert(4, "e"), Some("a"));
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_list(uses in prop::collection::vec((0u8..12, any::<bool>()), 0..200)) {
            let mut table = Table::new(5);
            let mut list: Vec<(u8, u8)> = Vec::new();
            for (step, (key, insert)) in (0u8..).zip(uses) {
                let place = list.iter().position(|(known, _)| *known == key);
                if insert {
                    let gone = match place {
                        Some(place) => Some(list.remove(place).1),
                        None if list.len() == 5 => Some(list.remove(0).1),
                        None => None,
                    };
                    list.push((key, step));
                    prop_assert_eq!(table.insert(key, step), gone);
                } else {
                    let found = place.map(|place| { let entry = list.remove(place); list.push(entry); entry.1 });
                    prop_assert_eq!(table.get(&key).copied(), found);
                }
            }
        }
    }
}
