//! What is shown: which verdicts, where, and what they add up to.

use std::io;
use std::sync::Arc;

use crate::engine::Dossier;
use crate::model::{Losses, Verdict};
use crate::output::{Closing, Fanout, Selection, Tally};

/// Selection, outputs and totals of a session.
#[derive(Default)]
pub struct View {
    selection: Selection,
    outputs: Fanout,
    tally: Tally,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl View {
    /// A view of the selected verdicts on `outputs`.
    pub fn new(selection: Selection, outputs: Fanout) -> Self {
        Self { selection, outputs, tally: Tally::default() }
    }

    /// Counts one verdict, and shows it unless it was not asked for.
    /// The only error is a reader that went away.
    pub fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.tally.add(verdict);
        if self.selection.shows(verdict) { self.outputs.verdict(verdict) } else { Ok(()) }
    }

    /// As [`View::verdict`], with what stands behind it.
    pub fn witnessed(&mut self, verdict: &Verdict, dossier: &Arc<Dossier>) -> io::Result<()> {
        self.tally.add(verdict);
        if self.selection.shows(verdict) { self.outputs.witnessed(verdict, dossier) } else { Ok(()) }
    }

    /// The verdicts so far, added up.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Records that could not be written.
    pub fn losses(&self) -> Losses {
        self.outputs.losses()
    }

    /// What went wrong with the outputs, naming each place once.
    pub fn problems(&self) -> Vec<String> {
        self.outputs.problems().map(str::to_owned).collect()
    }

    /// Ends the outputs; lines for people end with the summary.
    pub fn finish(&mut self, closing: &Closing) -> io::Result<()> {
        self.outputs.finish(closing)
    }
}
