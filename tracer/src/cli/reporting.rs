//! What `report` and `compare` share: moments, forms, and where they are written.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use clap::ValueEnum;
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::{trace, value};
use crate::model::Verdict;
use crate::report::Document;
use crate::report::form::{html, json, markdown, text};

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One self-contained file for a browser
    Html,
    /// For tickets
    Markdown,
    /// For machines
    Json,
    /// For mail
    Text,
    /// The packets, for Wireshark
    Pcapng,
}

/// The form that a file's name asks for.
pub fn by_name(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "html" | "htm" => Some(Format::Html),
        "md" => Some(Format::Markdown),
        "json" => Some(Format::Json),
        "txt" => Some(Format::Text),
        "pcapng" => Some(Format::Pcapng),
        _ => None,
    }
}

/// A document in one of its forms; packets are none.
pub fn rendered(document: &Document, verdicts: &[&Verdict], format: Format) -> io::Result<Vec<u8>> {
    Ok(match format {
        Format::Html => html::html(document).into_bytes(),
        Format::Markdown => markdown::markdown(document).into_bytes(),
        Format::Json => json::json(document, verdicts)?,
        Format::Text | Format::Pcapng => text::text(document).into_bytes(),
    })
}

/// A moment in the form of `verdict.time`.
pub fn moment(text: &str) -> Result<String, String> {
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return Ok(format!("{stamp:.9}"));
    }
    let seconds = value::moment(text, &TimeZone::UTC, jiff::Timestamp::now().as_second())?;
    let stamp = jiff::Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
    Ok(format!("{stamp:.9}"))
}

/// Now, as a report says when it was made.
pub fn made() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

/// Writes a report, and says why if that fails. A reader that went away is an ordinary end.
pub fn write(path: Option<&Path>, bytes: &[u8]) -> Exit {
    match to(path, bytes) {
        Ok(()) => Exit::Success,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => trace::refuse(format!("cannot write the report: {error}"), Exit::Output),
    }
}

/// A report may name clients and requests: a file is for its owner only.
fn to(path: Option<&Path>, bytes: &[u8]) -> io::Result<()> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        return out.flush();
    };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
