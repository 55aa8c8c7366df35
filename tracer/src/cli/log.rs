//! `rstscope log`: its flags, which files in which order, progress, and where the result goes.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::exit::Exit;
use super::value;
use crate::history::access::AccessCounts;
use crate::history::render::{json, markdown, text};
use crate::history::{Aggregate, Range, Report, Source};
use crate::nginx::access;
use crate::nginx::archive::{Archive, ArchiveError, Progress, Visit};
use crate::nginx::config::LogFormat;
use crate::nginx::discover::discover;
use crate::nginx::parse;
use crate::output::{ColorChoice, Fate as _, Palette, Sink, TextOptions, sanitize, terminal};

/// Least time between two signs of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);
/// Lines at the start of a file in which its first time is looked for.
const HEAD_LINES: usize = 200;

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One object, see docs/log.md
    Json,
    /// For tickets and chats
    Markdown,
}

/// Flags of `rstscope log`.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// error.log files, plain, gzip or zstd; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Count statuses and retries of this access.log, too
    #[arg(long, value_name = "FILE")]
    pub access_log: Vec<PathBuf>,

    /// The `log_format` of that access.log, as the configuration has it; without it the format that a running Nginx
    /// writes this file in counts, else it is guessed
    #[arg(long, value_name = "FORMAT", requires = "access_log")]
    pub access_format: Option<String>,

    /// Only lines from this time on: RFC 3339, "YYYY/MM/DD HH:MM:SS", or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only lines up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write one JSON object per line of the log instead of a report
    #[arg(long, conflicts_with_all = ["format", "access_log", "since", "until"])]
    pub records: bool,

    /// Time zone of the Nginx that wrote the log: UTC, Europe/Berlin, +02:00
    #[arg(long, value_name = "ZONE", value_parser = value::zone)]
    pub zone: Option<TimeZone>,

    /// Colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// Runs `rstscope log`.
pub fn run(args: &LogArgs) -> anyhow::Result<Exit> {
    let zone = args.zone.clone().unwrap_or_else(TimeZone::system);
    let range = match range(args, &zone) {
        Ok(range) => range,
        Err(why) => return Ok(refuse(&why)),
    };
    if args.records { records(args, &zone) } else { report(args, zone, range) }
}

fn range(args: &LogArgs, zone: &TimeZone) -> Result<Range, String> {
    let now = jiff::Timestamp::now().as_second();
    let bound = |name: &str, text: &Option<String>| match text {
        Some(text) => value::moment(text, zone, now).map(Some).map_err(|why| format!("{name}: {why}")),
        None => Ok(None),
    };
    Ok(Range { since: bound("--since", &args.since)?, until: bound("--until", &args.until)? })
}

fn report(args: &LogArgs, zone: TimeZone, range: Range) -> anyhow::Result<Exit> {
    let mut source = Source { zone: zone_name(&zone), ..Source::default() };
    let files = in_time_order(&args.files, &zone);
    let mut counts = Aggregate::new(zone.clone(), range);
    let mut failed = false;
    for path in &files {
        let read = count(path, &mut counts);
        source.files.push(path.display().to_string());
        failed |= note(read, &mut source);
    }
    let mut access = AccessCounts::default();
    for path in &args.access_log {
        access.begin(format_of(args, path));
        failed |= note(each_line(path, |line| access.line(line)), &mut Source::default());
    }
    let access = (!args.access_log.is_empty()).then(|| access.report());
    let report = Report::new(&mut counts, source, access);
    show(args, &report, zone)?;
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

/// The format of an access.log: the one given, or that of an Nginx on this host that writes the file.
fn format_of(args: &LogArgs, path: &Path) -> Option<access::Format> {
    if let Some(text) = &args.access_format {
        let escape = if text.trim_start().starts_with('{') { "json" } else { "default" };
        let format = LogFormat { name: "given".to_owned(), escape: escape.to_owned(), format: text.clone() };
        return Some(access::Format::new(&format));
    }
    let path = path.canonicalize().ok()?;
    let instances = discover(None, None);
    let mut logs = instances
        .iter()
        .filter(|instance| instance.root == Path::new("/"))
        .flat_map(|instance| instance.configuration.access_logs.iter().map(move |log| (instance, log)));
    let (instance, log) = logs.find(|(_, log)| log.path.canonicalize().is_ok_and(|one| one == path))?;
    instance.configuration.format_of(log).map(|format| access::Format::new(&format))
}

/// Adds what was read; a file that could not be read to its end is said and does not stop the others.
fn note(read: Result<Progress, ArchiveError>, source: &mut Source) -> bool {
    match read {
        Ok(progress) => {
            source.bytes += progress.bytes;
            source.overlong += progress.overlong;
            false
        }
        Err(error) => {
            complain(&format!("rstscope: {}\n", sanitize::line(&error.to_string(), 2000)));
            true
        }
    }
}

fn show(args: &LogArgs, report: &Report, zone: TimeZone) -> anyhow::Result<()> {
    let bytes = match args.format {
        Format::Text => text::text(report, &options(args.color, zone)).into_bytes(),
        Format::Markdown => markdown::markdown(report).into_bytes(),
        Format::Json => json::report(report).context("cannot make the report JSON")?,
    };
    // A reader that went away is an ordinary end.
    let mut sink = Sink::stdout();
    let _closed = sink.record(&bytes);
    match sink.first_problem() {
        Some(problem) => anyhow::bail!("{problem}"),
        None => Ok(()),
    }
}

/// How text is laid out for standard output.
pub(super) fn options(color: ColorChoice, zone: TimeZone) -> TextOptions {
    let stdout = io::stdout();
    TextOptions {
        palette: Palette { colour: color.for_stream(&stdout) },
        width: terminal::width(&stdout),
        zone,
    }
}

fn records(args: &LogArgs, zone: &TimeZone) -> anyhow::Result<Exit> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut number, mut failed) = (0, false);
    for path in &args.files {
        let archive = Archive::open(path)?;
        let result = std::cell::RefCell::new(Ok(()));
        archive.lines(
            |line| {
                number += 1;
                let mut result = result.borrow_mut();
                if result.is_ok() {
                    *result =
                        json::record(number, &parse(line, zone)).and_then(|bytes| out.write_all(&bytes));
                }
            },
            |_| result.borrow().is_ok(),
        )?;
        failed |= ended(result.into_inner())?;
        if failed {
            return Ok(Exit::Success);
        }
    }
    ended(out.flush()).map(|_| Exit::Success)
}

/// Whether the reader of standard output went away.
fn ended(result: io::Result<()>) -> anyhow::Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Counts the lines of a log and shows meanwhile what has been found.
fn count(path: &Path, counts: &mut Aggregate) -> Result<Progress, ArchiveError> {
    let archive = Archive::open(path)?;
    let mut counting = Counting { sign: Sign::new(path, archive.size), counts };
    let read = archive.visit(&mut counting);
    counting.sign.clear();
    read
}

struct Counting<'a> {
    sign: Sign,
    counts: &'a mut Aggregate,
}

impl Visit for Counting<'_> {
    fn line(&mut self, line: &[u8]) {
        self.counts.line(line);
    }

    fn block(&mut self, progress: Progress) -> bool {
        let counts = &*self.counts;
        self.sign.update(progress, || so_far(counts))
    }
}

/// What has been found, in a few words.
fn so_far(counts: &Aggregate) -> String {
    let incidents = counts.window.total();
    match counts.leading() {
        Some(title) => format!("{incidents} incidents, mostly: {title}"),
        None => "no incident".to_owned(),
    }
}

fn each_line(path: &Path, line: impl FnMut(&[u8])) -> Result<Progress, ArchiveError> {
    let archive = Archive::open(path)?;
    let mut sign = Sign::new(path, archive.size);
    let read = archive.lines(line, |progress| sign.update(progress, String::new));
    sign.clear();
    read
}

/// The files, oldest first, by the first time each prints. One without a time keeps its place.
fn in_time_order(files: &[PathBuf], zone: &TimeZone) -> Vec<PathBuf> {
    if files.len() < 2 || files.iter().any(|path| path == Path::new("-")) {
        return files.to_vec();
    }
    let mut timed: Vec<(Option<i64>, &PathBuf)> =
        files.iter().map(|path| (first_time(path, zone), path)).collect();
    if timed.iter().all(|(time, _)| time.is_some()) {
        timed.sort_by_key(|(time, _)| *time);
    }
    timed.into_iter().map(|(_, path)| path.clone()).collect()
}

fn first_time(path: &Path, zone: &TimeZone) -> Option<i64> {
    let (mut found, mut seen) = (None, 0);
    let look = |bytes: &[u8]| {
        seen += 1;
        if found.is_none() && seen <= HEAD_LINES {
            found = parse(bytes, zone).time;
        }
    };
    Archive::open(path).ok()?.lines(look, |_| false).ok()?;
    found.map(|time| time.0)
}

fn zone_name(zone: &TimeZone) -> String {
    zone.iana_name().map_or_else(|| "the given offset".to_owned(), str::to_owned)
}

/// The sign of progress on a terminal.
struct Sign {
    name: String,
    size: Option<u64>,
    started: Instant,
    last: Instant,
    is_shown: bool,
    is_terminal: bool,
}

impl Sign {
    fn new(path: &Path, size: Option<u64>) -> Self {
        let now = Instant::now();
        let name = sanitize::line(&path.display().to_string(), 40).into_owned();
        Self { name, size, started: now, last: now, is_shown: false, is_terminal: io::stderr().is_terminal() }
    }

    /// Always true: reading goes on.
    fn update(&mut self, progress: Progress, found: impl Fn() -> String) -> bool {
        if !self.is_terminal || self.last.elapsed() < PROGRESS_PAUSE {
            return true;
        }
        self.last = Instant::now();
        self.is_shown = true;
        let done = progress.bytes >> 20;
        let rate = u128::from(done) * 1000 / self.started.elapsed().as_millis().max(1);
        let part = self.size.map(|size| format!("{:3} % ", progress.bytes * 100 / size.max(1)));
        let part = part.unwrap_or_default();
        complain(&format!("\r\x1b[2K{} {part}{done} MiB, {rate} MiB/s; {}", self.name, found()));
        true
    }

    fn clear(&self) {
        if self.is_shown {
            complain("\r\x1b[2K");
        }
    }
}

fn refuse(why: &str) -> Exit {
    complain(&format!("rstscope: {}\n", sanitize::line(why, 2000)));
    Exit::Usage
}

/// Standard error may be closed; then nobody wanted to know.
fn complain(text: &str) {
    let _closed = io::stderr().write_all(text.as_bytes());
}
