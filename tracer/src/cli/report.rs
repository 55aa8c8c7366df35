//! `rstscope report`: its flags, and what each of them makes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::captured::CaptureArgs;
use super::exit::Exit;
use super::input::{Input, InputError};
use super::reporting::{self, Format, by_name, moment, rendered, write};
use super::{trace, value};
use crate::model::Verdict;
use crate::model::verdict::{Cause, Party};
use crate::output::layout::count;
use crate::report::bundle::{self, Manifest, Member, Recipe};
use crate::report::member;
use crate::report::redact::{What, redact};
use crate::report::{self, Collected, Material, Selection, Wanted};

/// Incidents shown in full unless told otherwise.
const TOP: u16 = 10;

/// Flags of `rstscope report`.
#[derive(Debug, Clone, Default, Args)]
pub struct ReportArgs {
    /// A recording (trace --record), a capture (pcap, pcapng), a store of the daemon, or verdicts (trace --format
    /// json); - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Only the incident with this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "until", "party", "cause"])]
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

    /// Only incidents of these upstreams: ADDR, ADDR:PORT or [ADDR6]:PORT; in a capture they are taken for upstreams
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = value::upstream)]
    pub upstream: Vec<SocketAddr>,

    /// Harmless incidents, too
    #[arg(long)]
    pub include_harmless: bool,

    /// Incidents that are shown in full
    #[arg(long, value_name = "NUMBER", default_value_t = TOP)]
    pub top: u16,

    /// Replace these by pseudonyms, the same ones in every part
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub redact: Vec<What>,

    /// Form; without it the name of --output tells, else it is text
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Write to this file, readable by its owner only; - is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write every form, the packets and the recording as one file, for `rstscope verify`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["format", "output"])]
    pub bundle: Option<PathBuf>,

    /// How a capture is judged.
    #[command(flatten)]
    pub capture: CaptureArgs,
}

impl ReportArgs {
    /// A report on everything in a file, in the form that the name of the output tells.
    pub fn on(file: PathBuf, output: &Path) -> Self {
        let is_bundle = output.extension().is_some_and(|extension| extension == "zst");
        let output = Some(output.to_owned());
        let (output, bundle) = if is_bundle { (None, output) } else { (output, None) };
        Self { file, top: TOP, output, bundle, ..Self::default() }
    }
}

/// What was read for a report.
struct Read {
    collected: Collected,
    /// The input, where it was needed as a whole.
    input: Option<Vec<u8>>,
    redaction: Vec<String>,
}

/// What is written, and what is said of it.
pub(super) struct Made {
    pub(super) bytes: Vec<u8>,
    pub(super) notice: Option<String>,
}

/// Why there is no report.
pub(super) struct Refusal {
    pub(super) why: String,
    pub(super) exit: Exit,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { why: format!("cannot make the report: {error}"), exit: Exit::Failure }
    }
}

/// Runs `rstscope report`.
pub fn run(args: &ReportArgs) -> anyhow::Result<Exit> {
    let made = match made(args, None) {
        Ok(made) => made,
        Err(Refusal { why, exit }) => return Ok(trace::refuse(why, exit)),
    };
    let path = args.bundle.as_deref().or(args.output.as_deref());
    let exit = write(path, &made.bytes);
    if let (Exit::Success, Some(notice)) = (exit, &made.notice) {
        trace::notice(notice);
    }
    Ok(exit)
}

/// Makes the report, or says why there is none. `title` is what a reader is told of the input instead of its path.
pub(super) fn made(args: &ReportArgs, title: Option<(&str, &'static str)>) -> Result<Made, Refusal> {
    let selection = selection(args).map_err(|why| Refusal { why, exit: Exit::Usage })?;
    let name = args.file.display();
    let format = args.format.or_else(|| by_name(args.output.as_deref()?)).unwrap_or(Format::Text);
    let input = Input { path: &args.file, title, capture: &args.capture, upstreams: &args.upstream };
    let read = read(args, &input, &selection, format)
        .map_err(|error| Refusal { why: format!("{name}: {error}"), exit: Exit::Input })?;
    let found = read.collected.window.total + read.collected.window.consequences;
    if let (Some(id), 0) = (&selection.id, found) {
        let why = format!("none of the {} verdicts of {name} has the id {id}", read.collected.read);
        return Err(Refusal { why, exit: Exit::Failure });
    }
    if args.bundle.is_some() {
        return Ok(packed(args, read, selection)?);
    }
    Ok(Made { bytes: one_form(args, read, selection, format)?, notice: None })
}

fn read(
    args: &ReportArgs,
    input: &Input<'_>,
    selection: &Selection,
    format: Format,
) -> Result<Read, InputError> {
    let wanted =
        Wanted { packets: format == Format::Pcapng || args.bundle.is_some(), lines: args.bundle.is_some() };
    if args.redact.is_empty() && (args.bundle.is_none() || input.is_store()?) {
        let collected = input.collect(selection, wanted)?;
        return Ok(Read { collected, input: None, redaction: Vec::new() });
    }
    let mut whole = input.whole(selection)?;
    let mut redaction = Vec::new();
    if !args.redact.is_empty() {
        let redacted = redact(&whole.bytes, &args.redact);
        whole.bytes = redacted.bytes;
        redaction = redacted.statement;
    }
    let collected = input.collect_whole(&mut whole, selection, wanted)?;
    Ok(Read { collected, input: Some(whole.bytes), redaction })
}

fn one_form(args: &ReportArgs, read: Read, selection: Selection, format: Format) -> io::Result<Vec<u8>> {
    if let (Format::Pcapng, Some(capture)) = (format, &read.collected.capture) {
        if capture.is_empty() {
            trace::notice(
                "there is no packet: only a recording of trace carries packets, and only those that hooks saw",
            );
        }
        return capture.file(&read.collected.origin, &reporting::made());
    }
    let material = material(args, read, selection).0;
    let document = report::document(&material);
    let shown = report::shown(&material);
    let verdicts: Vec<&Verdict> = shown.iter().map(|entry| &entry.verdict).collect();
    rendered(&document, &verdicts, format)
}

/// What a report is made of, and what only a bundle has beside it.
fn material(args: &ReportArgs, read: Read, selection: Selection) -> (Material, Extra) {
    let Collected { origin, window, capture, lines, read: verdicts } = read.collected;
    let extra = Extra { capture, lines, input: read.input, verdicts };
    let (made, redaction, top) = (reporting::made(), read.redaction, usize::from(args.top));
    (Material { selection, origin, window, made, redaction, top }, extra)
}

struct Extra {
    capture: Option<report::Capture>,
    lines: Option<Vec<u8>>,
    input: Option<Vec<u8>>,
    /// Verdicts of the whole session.
    verdicts: u64,
}

/// What else is in a bundle that is about a part of a session.
fn beyond(selected: u64, all: u64) -> Option<String> {
    let others = count(all.saturating_sub(selected), "verdict");
    (all > selected).then(|| {
        format!(
            "The recording in it is that of the whole session, with {others} that this report is not about, their clients \
             and requests; the configuration is not cut either."
        )
    })
}

/// The bundle and its checksum, which can be sent another way.
fn packed(args: &ReportArgs, read: Read, selection: Selection) -> io::Result<Made> {
    let (material, extra) = material(args, read, selection);
    let mut members = member::members(&material, extra.capture.as_ref())?;
    members.push(Member { name: bundle::VERDICTS, bytes: extra.lines.unwrap_or_default() });
    // Verdicts as JSON lines begin with a brace, a recording does not.
    let recording = extra.input.filter(|input| input.first().is_some_and(|first| *first != b'{'));
    let mut notes = material.origin.notes.clone();
    let recipe = recording.is_some().then(|| Recipe::of(&material));
    let selected = material.window.total + material.window.consequences;
    let beyond = recording.as_ref().and_then(|_| beyond(selected, extra.verdicts));
    notes.extend(beyond.clone());
    match recording {
        Some(bytes) => members.push(Member { name: bundle::RECORDING, bytes }),
        None => notes.push(
            "There is no recording in it: it was made from verdicts, so nothing can be replayed.".to_owned(),
        ),
    }
    let manifest = Manifest {
        schema: bundle::SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made: material.made.clone(),
        verdicts: selected,
        redaction: material.redaction.clone(),
        notes,
        recipe,
        files: Vec::new(),
    };
    let bytes = bundle::pack(manifest, &members)?;
    let sum = format!("the bundle has sha256 {}", bundle::sha256(&bytes));
    let notice = beyond.map_or_else(|| sum.clone(), |beyond| format!("{sum}. {beyond}"));
    Ok(Made { bytes, notice: Some(notice) })
}

/// What the report is about.
fn selection(args: &ReportArgs) -> Result<Selection, String> {
    let bound = |flag: &str, text: &Option<String>| match text {
        Some(text) => moment(text).map(Some).map_err(|why| format!("{flag}: {why}")),
        None => Ok(None),
    };
    Ok(Selection {
        id: args.id.as_ref().map(|id| id.to_ascii_uppercase()),
        redacted: args.redact.clone(),
        since: bound("--since", &args.since)?,
        until: bound("--until", &args.until)?,
        parties: args.party.clone(),
        causes: args.cause.clone(),
        upstreams: args.upstream.clone(),
        harmless: args.include_harmless,
    })
}
