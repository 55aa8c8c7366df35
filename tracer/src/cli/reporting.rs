//! What `report` and `compare` share: sources with progress, moments, forms, and where they are written.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Cursor, IsTerminal as _, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::{trace, value};
use crate::model::Verdict;
use crate::report::form::{html, json, markdown, text};
use crate::report::{self, Collected, Document, FileSource, Selection, SourceError, StoreSource, Wanted};

/// Bytes read at once.
const BUFFER: usize = 1 << 18;
/// Least time between two signs of progress.
const PAUSE: Duration = Duration::from_millis(200);
/// First bytes of a store (`SQLite` file format, section 1.3).
const STORE: &[u8] = b"SQLite format 3\0";

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

/// Reads a recording, verdicts, or a store, once; progress is shown on a terminal.
pub fn collect(path: &Path, selection: &Selection, wanted: Wanted) -> Result<Collected, SourceError> {
    let mut input = open(path)?;
    if path != Path::new("-") && input.fill_buf()?.starts_with(STORE) {
        return report::collect(&mut StoreSource::open(path)?, selection, wanted);
    }
    report::collect(&mut FileSource::new(path.display().to_string(), input), selection, wanted)
}

/// Reads what is in memory already.
pub fn collect_from(
    name: &Path,
    bytes: &[u8],
    selection: &Selection,
    wanted: Wanted,
) -> Result<Collected, SourceError> {
    let mut source = FileSource::new(name.display().to_string(), Cursor::new(bytes));
    report::collect(&mut source, selection, wanted)
}

/// The whole file, if it is not longer than `limit` bytes.
pub fn whole(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<BufReader<Watched<Box<dyn Read>>>> {
    let (input, size): (Box<dyn Read>, u64) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), 0)
    } else {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        (Box::new(file), size)
    };
    Ok(BufReader::with_capacity(BUFFER, Watched::new(input, size)))
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

/// An input whose progress is shown on a terminal.
struct Watched<R> {
    inner: R,
    size: u64,
    read: u64,
    shown: Option<Instant>,
    terminal: bool,
}

impl<R> Watched<R> {
    fn new(inner: R, size: u64) -> Self {
        Self { inner, size, read: 0, shown: None, terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self) {
        if !self.terminal || self.shown.is_some_and(|shown| shown.elapsed() < PAUSE) {
            return;
        }
        self.shown = Some(Instant::now());
        let part = (self.read * 100).checked_div(self.size).map(|part| format!(" ({part} %)"));
        let megabytes = self.read >> 20;
        // A terminal that takes no sign of progress is no reason to stop.
        let _shown = write!(io::stderr(), "\rreading: {megabytes} MB{} ", part.unwrap_or_default());
    }

    fn clear(&self) {
        if self.shown.is_some() {
            let _cleared = write!(io::stderr(), "\r{:30}\r", "");
        }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        if read == 0 {
            self.clear();
        } else {
            self.show();
        }
        Ok(read)
    }
}
