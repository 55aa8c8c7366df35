//! Where verdicts go: standard output in the form asked for, and a file of JSON lines beside it.

use std::io;
use std::path::Path;

use crate::model::{Losses, Verdict};
use crate::output::{Closing, Ndjson, OpenError, Output, Selection, Sink, Tally, Text, TextOptions};

/// What is shown where.
pub struct View {
    selection: Selection,
    live: Box<dyn Output>,
    file: Option<Ndjson>,
    tally: Tally,
    is_text: bool,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl View {
    /// A view on standard output, as lines for people with `text`, as JSON lines without, and on `file`.
    pub fn open(selection: Selection, text: Option<TextOptions>, file: Option<&Path>) -> Result<Self, OpenError> {
        let is_text = text.is_some();
        let live: Box<dyn Output> = match text {
            Some(options) => Box::new(Text::new(Sink::stdout(), options)),
            None => Box::new(Ndjson::new(Sink::stdout())),
        };
        let file = file.map(Sink::create).transpose()?.map(Ndjson::new);
        Ok(Self { selection, live, file, tally: Tally::default(), is_text })
    }

    /// Shows one verdict, unless it was not asked for; it is counted in any case.
    /// The only error is a reader that went away.
    pub fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.tally.add(verdict);
        if !self.selection.shows(verdict) {
            return Ok(());
        }
        if let Some(file) = &mut self.file {
            file.verdict(verdict)?;
        }
        self.live.verdict(verdict)
    }

    /// The verdicts so far, added up.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Records that could not be written.
    pub fn lost(&self) -> Losses {
        let mut losses = Losses::default();
        let file = self.file.as_ref().map_or(0, |file| file.sink().lost());
        for (name, lost) in [("standard output", self.live.sink().lost()), ("output file", file)] {
            if lost > 0 {
                losses.by_handover.insert(name.to_owned(), lost);
            }
        }
        losses
    }

    /// Ends the outputs; lines for people end with the summary.
    pub fn finish(&mut self, closing: &Closing) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.finish(closing)?;
        }
        self.live.finish(closing)
    }

    /// The summary has been shown by `finish`.
    pub fn shows_summary(&self) -> bool {
        self.is_text
    }
}
