//! What the engine was told of losses, and when it must be told again.

use std::time::Duration;

use crate::model::{LossReport, Losses, Mono};

/// Nothing is judged by losses that were read longer ago than this.
const FRESH: Duration = Duration::from_millis(50);

/// Losses as read last.
#[derive(Debug, Default)]
pub(super) struct KnownLosses {
    known: Losses,
    read: Mono,
}

impl KnownLosses {
    /// As they were read last.
    pub(super) fn known(&self) -> &Losses {
        &self.known
    }

    /// Whether they have to be read again for what is judged at `now`.
    pub(super) fn are_old(&self, now: Mono) -> bool {
        now.since(self.read) >= FRESH
    }

    /// Takes what was read at this moment. Gives what the engine has to be told, if that is anything new.
    pub(super) fn update(&mut self, losses: Losses, read: Mono) -> Option<LossReport> {
        self.read = read;
        if losses == self.known {
            return None;
        }
        self.known.clone_from(&losses);
        Some(LossReport { losses, read: Some(read) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told_and_only_what_is_old_is_read_again() {
        let lost = |count| Losses { by_handover: [("ring".to_owned(), count)].into() };
        let after = |time: Duration| Mono(1_000_000_000).after(time);
        let mut losses = KnownLosses::default();
        assert!(losses.are_old(after(Duration::ZERO)));
        let told = losses.update(lost(1), after(Duration::ZERO)).unwrap();
        assert_eq!((told.losses.total(), told.read), (1, Some(after(Duration::ZERO))));
        assert!(!losses.are_old(after(FRESH / 2)));
        assert!(losses.are_old(after(FRESH)));
        assert_eq!(losses.update(lost(1), after(FRESH)), None);
        assert!(!losses.are_old(after(FRESH)));
    }
}
