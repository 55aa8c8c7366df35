//! `rstscope log`: its flags, which files in which order, and where the result goes.

mod input;
mod progress;

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use self::input::Interruption;
use self::progress::{Interim, Sign, complain, so_far};
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

/// Time between interim reports on a terminal that nobody asked to have otherwise.
const EVERY: Duration = Duration::from_secs(5);
/// Moves to the upper left corner of the terminal and clears it.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";
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

    /// Show what has been found so far this often; every 5 s when standard input is read and the text goes to a
    /// terminal
    #[arg(long, value_name = "TIME", value_parser = value::span)]
    pub every: Option<Duration>,

    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write one JSON object per line of the log instead of a report
    #[arg(long, conflicts_with_all = ["format", "access_log", "since", "until", "every"])]
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
    let interruption = Interruption::watch().context("cannot receive signals")?;
    let mut reading = Reading {
        args,
        source: Source { zone: zone_name(&zone), ..Source::default() },
        counts: Aggregate::new(zone.clone(), range),
        interim: interim(args),
        interruption: &interruption,
        is_unwanted: false,
    };
    let mut failed = false;
    for path in in_time_order(&args.files, &zone) {
        if !reading.goes_on() {
            break;
        }
        let read = reading.count(&path);
        failed |= note(read, &mut reading.source);
    }
    let mut access = AccessCounts::default();
    for path in args.access_log.iter().filter(|_| !interruption.has_come()) {
        access.begin(format_of(args, path));
        let read = each_line(path, &interruption, |line| access.line(line));
        failed |= note(read, &mut Source::default());
    }
    let access = (!args.access_log.is_empty()).then(|| access.report());
    let Reading { source, mut counts, is_unwanted, .. } = reading;
    if !is_unwanted {
        let source = Source { interrupted: interruption.has_come(), ..source };
        let report = Report::new(&mut counts, source, access);
        show(args, &report, zone, false)?;
    }
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

/// Interim reports: asked for, or on a terminal while standard input is read.
fn interim(args: &LogArgs) -> Option<Interim> {
    let is_endless = args.files.iter().any(|path| path == Path::new("-"));
    let is_watched = is_endless && io::stdout().is_terminal() && args.format == Format::Text;
    args.every.or(is_watched.then_some(EVERY)).map(Interim::new)
}

/// The reading of the logs, and what is shown meanwhile.
struct Reading<'a> {
    args: &'a LogArgs,
    source: Source,
    counts: Aggregate,
    interim: Option<Interim>,
    interruption: &'a Interruption,
    /// Nobody reads standard output any more.
    is_unwanted: bool,
}

impl Reading<'_> {
    /// Counts the lines of a log.
    fn count(&mut self, path: &Path) -> Result<Progress, ArchiveError> {
        self.source.files.push(path.display().to_string());
        let archive = self.interruption.open(path)?;
        let mut counting = Counting { sign: Sign::new(path, archive.size), reading: self };
        let read = archive.visit(&mut counting);
        counting.sign.clear();
        read
    }

    fn goes_on(&self) -> bool {
        !self.is_unwanted && !self.interruption.has_come()
    }

    /// Shows what has been found so far.
    fn report(&mut self) {
        let zone = self.counts.zone().clone();
        let report = Report::new(&mut self.counts, self.source.clone(), None);
        self.is_unwanted = show(self.args, &report, zone, true).is_err();
    }
}

struct Counting<'a, 'b> {
    sign: Sign,
    reading: &'a mut Reading<'b>,
}

impl Visit for Counting<'_, '_> {
    fn line(&mut self, line: &[u8]) {
        self.reading.counts.line(line);
    }

    fn block(&mut self, progress: Progress) -> bool {
        let lines = self.reading.counts.lines;
        match self.reading.interim.as_mut().map(|interim| interim.is_due(lines)) {
            Some(true) => self.reading.report(),
            Some(false) => {}
            None => self.sign.update(progress, || so_far(&self.reading.counts)),
        }
        self.reading.goes_on()
    }
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

/// Writes a report to standard output; an interim one takes the place of the one before it on a terminal.
fn show(args: &LogArgs, report: &Report, zone: TimeZone, is_interim: bool) -> anyhow::Result<()> {
    let mut bytes = match args.format {
        Format::Text => text::text(report, &options(args.color, zone)).into_bytes(),
        Format::Markdown => markdown::markdown(report).into_bytes(),
        Format::Json => json::report(report).context("cannot make the report JSON")?,
    };
    if args.format != Format::Json && io::stdout().is_terminal() && is_interim {
        bytes.splice(0..0, CLEAR.iter().copied());
    } else if args.format != Format::Json && is_interim {
        bytes.push(b'\n');
    }
    // A reader that went away is an ordinary end.
    let mut sink = Sink::stdout();
    let closed = sink.record(&bytes).is_err();
    match sink.first_problem() {
        Some(problem) => anyhow::bail!("{problem}"),
        None if closed && is_interim => anyhow::bail!("nobody reads standard output"),
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

fn each_line(
    path: &Path,
    interruption: &Interruption,
    line: impl FnMut(&[u8]),
) -> Result<Progress, ArchiveError> {
    let archive = interruption.open(path)?;
    let mut sign = Sign::new(path, archive.size);
    let read = archive.lines(line, |progress| {
        sign.update(progress, String::new);
        !interruption.has_come()
    });
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

fn refuse(why: &str) -> Exit {
    complain(&format!("rstscope: {}\n", sanitize::line(why, 2000)));
    Exit::Usage
}
