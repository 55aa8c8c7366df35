//! Views of the verdict: text, NDJSON, session header, closing summary.
//!
//! A view shows; it never judges, and changes no field. Text from outside passes [`sanitize`] first.

pub mod csv;
pub mod explanation;
pub mod fanout;
pub mod full;
pub mod header;
pub mod layout;
pub mod listing;
pub mod ndjson;
pub mod parts;
pub mod sanitize;
pub mod schema;
pub mod selection;
pub mod sink;
pub mod style;
pub mod summary;
pub mod tally;
pub mod terminal;
pub mod text;

#[cfg(test)]
pub(crate) mod hostile;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod session_snapshots;
#[cfg(test)]
mod snapshots;

use std::io;
use std::sync::Arc;

pub use fanout::Fanout;
pub use header::{HookTier, SessionHeader, WatchedLog, WatchedNginx};
pub use ndjson::Ndjson;
pub use selection::Selection;
pub use sink::{OpenError, Sink};
pub use style::{ColorChoice, Palette};
pub use summary::Closing;
pub use tally::Tally;
pub use text::{Text, TextOptions};

use crate::engine::Dossier;
use crate::model::Verdict;

/// A place verdicts are shown or written.
pub trait Output {
    /// Shows one verdict. The only error is [`io::ErrorKind::BrokenPipe`]: nobody reads any more, stop cleanly.
    /// Other failures are counted by the [`Sink`].
    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()>;

    /// Shows one verdict together with what stands behind it. Most show the verdict alone.
    fn witnessed(&mut self, verdict: &Verdict, _dossier: &Arc<Dossier>) -> io::Result<()> {
        self.verdict(verdict)
    }

    /// Shows what is to be said at the end. Errors as in [`Output::verdict`].
    fn finish(&mut self, closing: &Closing) -> io::Result<()>;

    /// What became of what was shown.
    fn fate(&self) -> &dyn Fate;
}

/// What became of the verdicts that an output was given.
pub trait Fate {
    /// The hand-over where they were lost, if any were.
    fn handover(&self) -> &'static str;

    /// Verdicts that were lost.
    fn lost(&self) -> u64;

    /// Nobody reads any more.
    fn is_closed(&self) -> bool;

    /// The first failure, naming the place, for one line of warning.
    fn first_problem(&self) -> Option<&str>;
}
