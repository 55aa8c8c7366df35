//! `rstscope report`: its flags, progress, and where each form goes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, IsTerminal as _, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::{trace, value};
use crate::model::Verdict;
use crate::model::verdict::{Cause, Party};
use crate::report::form::{html, json, markdown, text};
use crate::report::{self, Collected, FileSource, Material, Selection};

/// Bytes read at once.
const BUFFER: usize = 1 << 18;
/// Least time between two signs of progress.
const PAUSE: Duration = Duration::from_millis(200);

/// Form of the report.
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

/// Flags of `rstscope report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// A recording (trace --record), or verdicts (trace --format json); - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Only the incident with this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "until", "party", "cause", "upstream"])]
    pub id: Option<String>,

    /// Only incidents from this time on: RFC 3339, "YYYY/MM/DD HH:MM:SS" (UTC), or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only incidents before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Only incidents of these parties: client, nginx, upstream, middlebox, unknown
    #[arg(long, value_name = "PARTY", value_delimiter = ',', value_parser = value::party)]
    pub party: Vec<Party>,

    /// Only incidents of these causes
    #[arg(long, value_name = "CAUSE", value_delimiter = ',', value_parser = value::cause)]
    pub cause: Vec<Cause>,

    /// Only incidents of these upstreams: ADDR, ADDR:PORT or [ADDR6]:PORT
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = value::upstream)]
    pub upstream: Vec<SocketAddr>,

    /// Harmless incidents, too
    #[arg(long)]
    pub include_harmless: bool,

    /// Incidents that are shown in full
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub top: u16,

    /// Form; without it the name of --output tells, else it is text
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Write to this file, readable by its owner only; - is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs `rstscope report`.
pub fn run(args: &ReportArgs) -> anyhow::Result<Exit> {
    let selection = match selection(args) {
        Ok(selection) => selection,
        Err(why) => return Ok(trace::refuse(why, Exit::Usage)),
    };
    let name = args.file.display().to_string();
    let format = args.format.or_else(|| by_name(args.output.as_deref()?)).unwrap_or(Format::Text);
    let collected = match collect(&args.file, &selection, format == Format::Pcapng) {
        Ok(collected) => collected,
        Err(error) => return Ok(trace::refuse(format!("{name}: {error}"), Exit::Input)),
    };
    if let (Some(id), 0) = (&selection.id, collected.window.total + collected.window.consequences) {
        let read = collected.read;
        return Ok(trace::refuse(
            format!("none of the {read} verdicts of {name} has the id {id}"),
            Exit::Failure,
        ));
    }
    let bytes = rendered(collected, selection, args.top, format)?;
    Ok(match write(args.output.as_deref(), &bytes) {
        Ok(()) => Exit::Success,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => trace::refuse(format!("cannot write the report: {error}"), Exit::Output),
    })
}

fn rendered(collected: Collected, selection: Selection, top: u16, format: Format) -> anyhow::Result<Vec<u8>> {
    let made = format!("{:.0}", jiff::Timestamp::now());
    let Collected { origin, window, capture, .. } = collected;
    if let (Format::Pcapng, Some(capture)) = (format, &capture) {
        if capture.is_empty() {
            trace::notice(
                "there is no packet: only a recording of trace carries packets, and only those that hooks saw",
            );
        }
        return Ok(capture.file(&origin, &made)?);
    }
    let material = Material { selection, origin, window, made, redaction: Vec::new(), top: usize::from(top) };
    let document = report::document(&material);
    Ok(match format {
        Format::Html => html::html(&document).into_bytes(),
        Format::Markdown => markdown::markdown(&document).into_bytes(),
        Format::Text | Format::Pcapng => text::text(&document).into_bytes(),
        Format::Json => {
            let shown = report::shown(&material);
            let verdicts: Vec<&Verdict> = shown.iter().map(|entry| &entry.verdict).collect();
            json::json(&document, &verdicts)?
        }
    })
}

/// What the report is about.
pub(super) fn selection(args: &ReportArgs) -> Result<Selection, String> {
    let bound = |flag: &str, text: &Option<String>| match text {
        Some(text) => moment(text).map(Some).map_err(|why| format!("{flag}: {why}")),
        None => Ok(None),
    };
    Ok(Selection {
        id: args.id.as_ref().map(|id| id.to_ascii_uppercase()),
        since: bound("--since", &args.since)?,
        until: bound("--until", &args.until)?,
        parties: args.party.clone(),
        causes: args.cause.clone(),
        upstreams: args.upstream.clone(),
        harmless: args.include_harmless,
    })
}

/// A moment in the form of `verdict.time`.
pub(super) fn moment(text: &str) -> Result<String, String> {
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return Ok(format!("{stamp:.9}"));
    }
    let seconds = value::moment(text, &TimeZone::UTC, jiff::Timestamp::now().as_second())?;
    let stamp = jiff::Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
    Ok(format!("{stamp:.9}"))
}

/// The form that a file's name asks for.
fn by_name(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "html" | "htm" => Some(Format::Html),
        "md" => Some(Format::Markdown),
        "json" => Some(Format::Json),
        "txt" => Some(Format::Text),
        "pcapng" => Some(Format::Pcapng),
        _ => None,
    }
}

/// Reads the file once.
pub(super) fn collect(
    path: &Path,
    selection: &Selection,
    packets: bool,
) -> Result<Collected, report::SourceError> {
    let (input, size): (Box<dyn Read>, u64) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), 0)
    } else {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        (Box::new(file), size)
    };
    let input = BufReader::with_capacity(BUFFER, Watched::new(input, size));
    let mut source = FileSource::new(path.display().to_string(), input);
    report::collect(&mut source, selection, packets)
}

/// Writes a report that may name clients and requests: for its owner only.
pub(super) fn write(path: Option<&Path>, bytes: &[u8]) -> io::Result<()> {
    match path.filter(|path| *path != Path::new("-")) {
        None => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        Some(path) => {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            file.write_all(bytes)
        }
    }
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
