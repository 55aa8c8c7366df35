//! The input of a report: tells a store, a capture, a recording and verdicts apart by their first bytes, and reads each
//! in one pass or as a whole. Progress is shown on a terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, IsTerminal as _, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::captured::{self, CaptureArgs, Captured, CapturedError};
use crate::report::{self, Collected, FileSource, Selection, SourceError, StoreSource, Wanted};

/// Bytes read at once.
const BUFFER: usize = 1 << 18;
/// Least time between two signs of progress.
const PAUSE: Duration = Duration::from_millis(200);
/// First bytes of a store (`SQLite` file format, section 1.3).
const STORE: &[u8] = b"SQLite format 3\0";
/// Longest input that is redacted or packed, bytes: both need it in memory.
pub const MOST: u64 = 1 << 30;

/// A file that a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Where it is; `-` is standard input.
    pub path: &'a Path,
    /// What a reader is told of it, where that is not its path.
    pub title: Option<(&'a str, &'static str)>,
    /// How it is judged if it is a capture.
    pub capture: &'a CaptureArgs,
    /// Addresses known to be upstreams, for a capture.
    pub upstreams: &'a [SocketAddr],
}

/// Why an input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be opened.
    #[error("cannot read: {0}")]
    Open(#[from] io::Error),
    /// It is no source of verdicts.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It cannot be judged.
    #[error(transparent)]
    Captured(#[from] CapturedError),
    /// There is no room for it.
    #[error(
        "it is longer than {MOST} bytes, which is the most that is redacted or packed; a selection of time makes a store shorter"
    )]
    TooLong,
}

type Bytes = BufReader<Watched<Box<dyn Read>>>;

enum Opened {
    Bytes(Bytes),
    Store(StoreSource),
    Capture(Captured),
}

/// An input in memory, for what needs it as a whole.
#[derive(Debug)]
pub struct Whole {
    /// A recording, or verdicts as JSON lines.
    pub bytes: Vec<u8>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Bytes,
    /// What the first pass over the store found.
    Store(Box<Collected>),
    Capture(Captured),
}

impl Input<'_> {
    /// Reads it once.
    pub fn collect(&self, selection: &Selection, wanted: Wanted) -> Result<Collected, InputError> {
        match self.open(selection)? {
            Opened::Bytes(bytes) => self.stream(bytes, selection, wanted),
            Opened::Store(mut store) => Ok(report::collect(&mut store, selection, wanted)?),
            Opened::Capture(mut captured) => {
                let bytes = std::mem::take(&mut captured.recording);
                let mut collected = self.stream(Cursor::new(bytes), selection, wanted)?;
                captured.tell(&mut collected.origin);
                Ok(collected)
            }
        }
    }

    /// It is a store, which hands out what is selected and is no file that could be packed.
    pub fn is_store(&self) -> Result<bool, InputError> {
        Ok(self.path != Path::new("-") && open(self.path)?.fill_buf()?.starts_with(STORE))
    }

    /// All of it; of a store, what is selected.
    pub fn whole(&self, selection: &Selection) -> Result<Whole, InputError> {
        let size = std::fs::metadata(self.path).map_or(0, |file| file.len());
        match self.open(selection)? {
            Opened::Bytes(_) if size > MOST => Err(InputError::TooLong),
            Opened::Bytes(bytes) => Ok(Whole { bytes: all(bytes)?, kind: Kind::Bytes }),
            Opened::Store(mut store) => {
                let wanted = Wanted { lines: true, ..Wanted::default() };
                let mut collected = report::collect(&mut store, selection, wanted)?;
                let bytes = collected.lines.take().unwrap_or_default();
                Ok(Whole { bytes, kind: Kind::Store(Box::new(collected)) })
            }
            Opened::Capture(mut captured) => {
                let bytes = std::mem::take(&mut captured.recording);
                Ok(Whole { bytes, kind: Kind::Capture(captured) })
            }
        }
    }

    /// Reads what [`Self::whole`] gave, with other bytes if they were redacted.
    pub fn collect_whole(
        &self,
        whole: &mut Whole,
        selection: &Selection,
        wanted: Wanted,
    ) -> Result<Collected, InputError> {
        let mut collected = self.stream(Cursor::new(&whole.bytes), selection, wanted)?;
        match std::mem::replace(&mut whole.kind, Kind::Bytes) {
            Kind::Bytes => {}
            Kind::Capture(captured) => captured.tell(&mut collected.origin),
            Kind::Store(first) => {
                collected.origin = first.origin;
                // Addresses and names stand in it, too, and it is not part of what was redacted.
                collected.origin.last_host = None;
                collected.read = first.read;
                collected.window.harmless = first.window.harmless;
            }
        }
        Ok(collected)
    }

    fn stream(
        &self,
        bytes: impl BufRead,
        selection: &Selection,
        wanted: Wanted,
    ) -> Result<Collected, InputError> {
        let mut source = FileSource::new(self.path.display().to_string(), bytes);
        let mut collected = report::collect(&mut source, selection, wanted)?;
        if let Some((name, kind)) = self.title {
            collected.origin.inputs = vec![(name.to_owned(), kind.into())];
        }
        Ok(collected)
    }

    fn open(&self, selection: &Selection) -> Result<Opened, InputError> {
        let mut bytes = open(self.path)?;
        let start = bytes.fill_buf()?;
        if self.path != Path::new("-") && start.starts_with(STORE) {
            let (since, until) = selection.bounds();
            return Ok(Opened::Store(StoreSource::open(self.path, since, until)?));
        }
        if !captured::is_capture(start) {
            return Ok(Opened::Bytes(bytes));
        }
        let start = start.to_vec();
        let judged =
            captured::judged(Box::new(bytes), &start, self.path, self.capture, self.upstreams, MOST)?;
        Ok(Opened::Capture(judged))
    }
}

fn all(bytes: Bytes) -> Result<Vec<u8>, InputError> {
    let mut all = Vec::new();
    bytes.take(MOST + 1).read_to_end(&mut all)?;
    if all.len() as u64 > MOST { Err(InputError::TooLong) } else { Ok(all) }
}

fn open(path: &Path) -> io::Result<Bytes> {
    let (input, size): (Box<dyn Read>, u64) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), 0)
    } else {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        (Box::new(file), size)
    };
    Ok(BufReader::with_capacity(BUFFER, Watched::new(input, size)))
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
