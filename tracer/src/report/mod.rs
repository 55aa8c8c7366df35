//! Reports: proof material that a reader who doubts it can check.
//!
//! A [`source::Source`] hands out verdicts, [`window::Window`] counts them, [`page`] and [`incident`] lay them out as a
//! [`document::Document`], and [`form`] renders that. Everything but the sources is pure.

pub mod bundle;
pub mod comparison;
pub mod document;
pub mod form;
pub mod frames;
pub mod headers;
pub mod incident;
pub mod ladder;
mod ladder_order;
pub mod lore;
pub mod member;
pub mod observed;
pub mod packet_bytes;
pub mod page;
pub mod pcapng;
pub mod pcapng_block;
pub mod poisson;
pub mod premise;
pub mod rebuilt;
pub mod redact;
pub mod relevant;
pub mod selection;
pub mod setting;
pub mod source;
pub mod titles;
pub mod verify;
pub mod window;
pub mod words;

use crate::model::Verdict;
use crate::model::verdict::Impact;
use crate::output::ndjson;

pub use comparison::Side;
pub use document::Document;
pub use page::{Material, document, shown};
pub use pcapng::Capture;
pub use selection::Selection;
pub use source::{Entry, FileSource, Origin, Source, SourceError, StoreSource};
pub use window::Window;

/// What is kept beside the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The packets of the incidents.
    pub packets: bool,
    /// Their verdicts as JSON lines.
    pub lines: bool,
}

/// Everything a report needs, from one pass over a source.
#[derive(Debug, Default)]
pub struct Collected {
    /// What is known of the session.
    pub origin: Origin,
    /// The incidents.
    pub window: Window,
    /// Their packets, if they were wanted.
    pub capture: Option<Capture>,
    /// Their verdicts as JSON lines, if they were wanted.
    pub lines: Option<Vec<u8>>,
    /// Verdicts read, selected or not.
    pub read: u64,
}

/// Reads a source once and keeps what a report on `selection` needs.
pub fn collect(
    source: &mut dyn Source,
    selection: &Selection,
    wanted: Wanted,
) -> Result<Collected, SourceError> {
    let mut collected = Collected {
        capture: wanted.packets.then(Capture::default),
        lines: wanted.lines.then(Vec::new),
        ..Collected::default()
    };
    let Collected { origin, window, capture, lines, read } = &mut collected;
    source.each(origin, &mut |entry| {
        *read += 1;
        if !selection.holds(&entry.verdict) {
            window.harmless += u64::from(only_harmless(selection, &entry.verdict));
            return;
        }
        if let Some(capture) = capture {
            capture.add(&entry);
        }
        if let Some(lines) = lines {
            // A verdict that was read or judged can be written.
            lines.extend(ndjson::line(&entry.verdict).unwrap_or_default());
        }
        // Who asks for one incident wants to see it, whatever it followed from.
        if selection.id.is_some() { window.take(entry) } else { window.add(entry) }
    })?;
    Ok(collected)
}

/// A verdict that only its harmlessness keeps out.
fn only_harmless(selection: &Selection, verdict: &Verdict) -> bool {
    let with = Selection { harmless: true, ..selection.clone() };
    verdict.impact == Impact::Harmless && selection.id.is_none() && with.holds(verdict)
}
