//! Which verdicts are shown: `--only` and `--include-harmless`. What is hidden is still counted.

use crate::model::Verdict;
use crate::model::verdict::{Impact, Party};

/// What the user wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Parties shown; empty means all.
    pub only: Vec<Party>,
    /// Harmless incidents are shown, too.
    pub include_harmless: bool,
}

impl Selection {
    /// Whether `verdict` is shown.
    pub fn shows(&self, verdict: &Verdict) -> bool {
        let harmless_hidden = verdict.impact == Impact::Harmless && !self.include_harmless;
        !harmless_hidden && (self.only.is_empty() || self.only.contains(&verdict.party))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn harmless_is_hidden_unless_asked_for() {
        let late = samples::client_late_reset();
        assert!(!Selection::default().shows(&late));
        assert!(Selection { include_harmless: true, ..Selection::default() }.shows(&late));
        assert!(Selection::default().shows(&samples::upstream_abort()));
    }

    #[test]
    fn only_names_the_parties_shown() {
        let only = Selection { only: vec![Party::Middlebox], include_harmless: true };
        assert!(only.shows(&samples::forged_reset()));
        assert!(!only.shows(&samples::upstream_abort()));
        assert!(!only.shows(&samples::client_late_reset()));
    }
}
