//! Tables of processes that never grow beyond a limit.

use std::collections::BTreeMap;

/// Inserts or replaces an entry; a new one for which there is no room takes that of the lowest key.
pub fn insert<V>(table: &mut BTreeMap<u32, V>, key: u32, value: V, limit: usize) {
    while table.len() >= limit.max(1) && !table.contains_key(&key) {
        table.pop_first();
    }
    table.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_entry_takes_the_room_of_the_lowest_and_a_known_one_of_none() {
        let mut table = BTreeMap::from([(1, 'a'), (2, 'b')]);
        insert(&mut table, 2, 'c', 2);
        assert_eq!(table, BTreeMap::from([(1, 'a'), (2, 'c')]));
        insert(&mut table, 3, 'd', 2);
        assert_eq!(table, BTreeMap::from([(2, 'c'), (3, 'd')]));
    }
}
