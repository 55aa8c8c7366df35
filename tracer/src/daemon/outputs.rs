//! The one output of the daemon's session: counts a verdict for the metrics and hands it to the store.

use std::io;
use std::sync::Arc;

use super::patterns::Patterns;
use crate::engine::Dossier;
use crate::metrics::Shared;
use crate::model::Verdict;
use crate::output::{Closing, Fate, Output};
use crate::store::Writer;

/// Hands verdicts over, and never waits.
pub(super) struct HandOver {
    writer: Arc<Writer>,
    shared: Arc<Shared>,
    patterns: Patterns,
}

impl HandOver {
    pub(super) fn new(writer: Arc<Writer>, shared: Arc<Shared>, patterns: Patterns) -> Self {
        Self { writer, shared, patterns }
    }

    fn hand_over(&self, verdict: &Verdict, dossier: Option<&Arc<Dossier>>) {
        self.shared.count(verdict);
        self.patterns.verdict(verdict);
        self.writer.hand_over(Arc::new(verdict.clone()), dossier);
    }
}

impl Output for HandOver {
    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.hand_over(verdict, None);
        Ok(())
    }

    fn witnessed(&mut self, verdict: &Verdict, dossier: &Arc<Dossier>) -> io::Result<()> {
        self.hand_over(verdict, Some(dossier));
        Ok(())
    }

    fn finish(&mut self, _closing: &Closing) -> io::Result<()> {
        Ok(())
    }

    fn fate(&self) -> &dyn Fate {
        self
    }
}

/// What the store loses is counted in its own account: it makes no verdict less certain.
impl Fate for HandOver {
    fn handover(&self) -> &'static str {
        "store"
    }

    fn lost(&self) -> u64 {
        0
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn first_problem(&self) -> Option<&str> {
        None
    }
}
