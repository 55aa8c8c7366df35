//! Adds up what was lost, per hand-over: ring buffer reservations per hook, channels, log lines, output.
//! Only counts; who reports which losses is decided where they happen.

use std::collections::BTreeMap;

use crate::model::Losses;

/// Hand-overs that are kept apart; further ones are counted under [`OTHER`].
pub const MAX_HANDOVERS: usize = 64;

/// Where losses of the hand-overs beyond [`MAX_HANDOVERS`] are counted.
pub const OTHER: &str = "other";

/// Running totals of losses. A total never shrinks.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
}

/// What one hand-over reported: the counter as last read, and what earlier lives of it had reached.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    last: u64,
    settled: u64,
}

impl Entry {
    fn total(self) -> u64 {
        self.settled.saturating_add(self.last)
    }
}

impl Ledger {
    /// Takes over a counter that only grows, as it stands now. A smaller value than before means
    /// that the counter began anew (a program was loaded again): both lives are added.
    pub fn observe(&mut self, handover: &str, counter: u64) {
        let entry = self.entry(handover);
        if counter < entry.last {
            entry.settled = entry.total();
        }
        entry.last = counter;
    }

    /// Takes over a per-CPU counter, one value per CPU.
    pub fn observe_per_cpu(&mut self, handover: &str, counters: &[u64]) {
        self.observe(handover, counters.iter().fold(0, |sum, counter| sum.saturating_add(*counter)));
    }

    /// Counts `lost` more.
    pub fn add(&mut self, handover: &str, lost: u64) {
        let entry = self.entry(handover);
        entry.settled = entry.settled.saturating_add(lost);
    }

    /// The losses so far; hand-overs that lost nothing are left out.
    pub fn losses(&self) -> Losses {
        let lost = self.entries.iter().filter(|(_, entry)| entry.total() > 0);
        Losses { by_handover: lost.map(|(name, entry)| (name.clone(), entry.total())).collect() }
    }

    fn entry(&mut self, handover: &str) -> &mut Entry {
        let known = self.entries.contains_key(handover) || self.entries.len() < MAX_HANDOVERS;
        self.entries.entry(if known { handover } else { OTHER }.to_owned()).or_default()
    }
}

/// Both losses added, hand-over by hand-over.
#[must_use]
pub fn merge(mut one: Losses, other: &Losses) -> Losses {
    for (handover, lost) in &other.by_handover {
        let sum = one.by_handover.entry(handover.clone()).or_default();
        *sum = sum.saturating_add(*lost);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(pairs: &[(&str, u64)]) -> Losses {
        Losses { by_handover: pairs.iter().map(|(name, lost)| ((*name).to_owned(), *lost)).collect() }
    }

    #[test]
    fn a_counter_is_taken_over_not_added() {
        let mut ledger = Ledger::default();
        ledger.observe("tcp_send_reset", 3);
        ledger.observe("tcp_send_reset", 5);
        ledger.observe("quiet", 0);
        assert_eq!(ledger.losses(), losses(&[("tcp_send_reset", 5)]));
    }

    #[test]
    fn a_counter_that_began_anew_keeps_its_first_life() {
        let mut ledger = Ledger::default();
        for value in [5, 2, 4, 1] {
            ledger.observe("ring", value);
        }
        assert_eq!(ledger.losses().total(), 5 + 4 + 1);
    }

    #[test]
    fn cpus_are_summed_and_single_losses_added() {
        let mut ledger = Ledger::default();
        ledger.observe_per_cpu("ring", &[1, 0, 4, u64::MAX]);
        ledger.add("channel", 2);
        ledger.add("channel", 3);
        assert_eq!(ledger.losses(), losses(&[("channel", 5), ("ring", u64::MAX)]));
    }

    #[test]
    fn names_are_bounded_and_nothing_is_forgotten() {
        let mut ledger = Ledger::default();
        for number in 0..1000 {
            ledger.add(&format!("handover {number}"), 1);
        }
        let seen = ledger.losses();
        assert!(seen.by_handover.len() <= MAX_HANDOVERS + 1);
        assert_eq!(seen.total(), 1000);
    }

    #[test]
    fn merging_adds_by_name() {
        let sum = merge(losses(&[("a", 1), ("b", 2)]), &losses(&[("b", 3), ("c", 4)]));
        assert_eq!(sum, losses(&[("a", 1), ("b", 5), ("c", 4)]));
    }
}
