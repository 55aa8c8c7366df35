//! When events were lost: the counters only grow, so a growth between two reports is a stretch of time in
//! which something may be missing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{LossReport, Losses, Mono};

/// Stretches remembered; incidents are judged within seconds.
const STRETCHES: usize = 64;
/// A loss this long before an incident may have been part of it.
const BEFORE: Duration = Duration::from_secs(1);

/// Stretches of loss.
#[derive(Debug, Default)]
pub struct LossLog {
    reported: Option<(Mono, Losses)>,
    stretches: VecDeque<(Mono, Mono, String)>,
}

impl LossLog {
    /// Takes a report.
    pub fn report(&mut self, now: Mono, report: &LossReport) {
        let (since, before) = self.reported.take().unwrap_or_default();
        let until = report.read.map_or(now, |read| read.max(now));
        let words = growth(&before, &report.losses);
        if !words.is_empty() {
            if self.stretches.len() >= STRETCHES {
                self.stretches.pop_front();
            }
            self.stretches.push_back((since, until, words));
        }
        self.reported = Some((until, report.losses.clone()));
    }

    /// What was lost while an incident that began at `first` was open until `until`.
    pub fn during(&self, first: Mono, until: Mono) -> Option<String> {
        let from = first.before(BEFORE);
        let (_, _, words) = self.stretches.iter().find(|(since, to, _)| *to >= from && *since <= until)?;
        Some(words.clone())
    }
}

fn growth(before: &Losses, now: &Losses) -> String {
    let grown = now.by_handover.iter().filter_map(|(name, count)| {
        let lost = count.saturating_sub(before.by_handover.get(name).copied().unwrap_or(0));
        (lost > 0).then(|| format!("{name} lost {lost}"))
    });
    grown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(count: u64) -> LossReport {
        Losses { by_handover: [("ring".to_owned(), count)].into() }.into()
    }

    fn second(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn a_session_that_is_behind_is_told_of_what_it_has_not_reached_yet() {
        let mut log = LossLog::default();
        log.report(second(10), &lost(0));
        log.report(second(11), &LossReport { read: Some(second(30)), ..lost(7) });
        assert!(log.during(second(28), second(29)).is_some());
        assert_eq!(log.during(second(40), second(41)), None);
    }

    #[test]
    fn only_growth_inside_the_window_counts() {
        let mut log = LossLog::default();
        log.report(second(10), &lost(0));
        log.report(second(20), &lost(0));
        log.report(second(30), &lost(7));
        assert_eq!(log.during(second(12), second(15)), None);
        assert_eq!(log.during(second(25), second(26)), Some("ring lost 7".to_owned()));
        assert_eq!(log.during(second(40), second(41)), None);
    }
}
