//! `rstscope report`: its flags, and what each of them makes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::Exit;
use super::reporting::{self, Format, by_name, moment, rendered, write};
use super::{trace, value};
use crate::model::Verdict;
use crate::model::verdict::{Cause, Party};
use crate::report::bundle::{self, Manifest, Member};
use crate::report::redact::{What, redact};
use crate::report::{self, Collected, Document, Material, Selection, SourceError, Wanted};

/// Longest input that is redacted or packed, bytes: both need it in memory.
const MOST: u64 = 1 << 30;

/// Flags of `rstscope report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// A recording (trace --record), verdicts (trace --format json) or a store of the daemon; - is standard input
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
}

/// What was read for a report.
struct Read {
    collected: Collected,
    /// The input, where it was needed as a whole.
    input: Option<Vec<u8>>,
    redaction: Vec<String>,
}

/// Runs `rstscope report`.
pub fn run(args: &ReportArgs) -> anyhow::Result<Exit> {
    let selection = match selection(args) {
        Ok(selection) => selection,
        Err(why) => return Ok(trace::refuse(why, Exit::Usage)),
    };
    let name = args.file.display();
    let format = args.format.or_else(|| by_name(args.output.as_deref()?)).unwrap_or(Format::Text);
    let read = match read(args, &selection, format) {
        Ok(read) => read,
        Err(error) => return Ok(trace::refuse(format!("{name}: {error}"), Exit::Input)),
    };
    let found = read.collected.window.total + read.collected.window.consequences;
    if let (Some(id), 0) = (&selection.id, found) {
        let number = read.collected.read;
        return Ok(trace::refuse(
            format!("none of the {number} verdicts of {name} has the id {id}"),
            Exit::Failure,
        ));
    }
    match &args.bundle {
        Some(path) => packed(args, read, selection, path),
        None => Ok(write(args.output.as_deref(), &one_form(args, read, selection, format)?)),
    }
}

fn read(args: &ReportArgs, selection: &Selection, format: Format) -> Result<Read, SourceError> {
    let wanted =
        Wanted { packets: format == Format::Pcapng || args.bundle.is_some(), lines: args.bundle.is_some() };
    if args.redact.is_empty() && args.bundle.is_none() {
        let collected = reporting::collect(&args.file, selection, wanted)?;
        return Ok(Read { collected, input: None, redaction: Vec::new() });
    }
    let mut input = reporting::whole(&args.file, MOST)?;
    let mut redaction = Vec::new();
    if !args.redact.is_empty() {
        let redacted = redact(&input, &args.redact);
        input = redacted.bytes;
        redaction = redacted.statement;
    }
    let collected = reporting::collect_from(&args.file, &input, selection, wanted)?;
    Ok(Read { collected, input: Some(input), redaction })
}

fn one_form(args: &ReportArgs, read: Read, selection: Selection, format: Format) -> anyhow::Result<Vec<u8>> {
    if let (Format::Pcapng, Some(capture)) = (format, &read.collected.capture) {
        if capture.is_empty() {
            trace::notice(
                "there is no packet: only a recording of trace carries packets, and only those that hooks saw",
            );
        }
        return Ok(capture.file(&read.collected.origin, &reporting::made())?);
    }
    let material = material(args, read, selection).0;
    let document = report::document(&material);
    let shown = report::shown(&material);
    let verdicts: Vec<&Verdict> = shown.iter().map(|entry| &entry.verdict).collect();
    Ok(rendered(&document, &verdicts, format)?)
}

/// What a report is made of, and what only a bundle has beside it.
fn material(args: &ReportArgs, read: Read, selection: Selection) -> (Material, Extra) {
    let Collected { origin, window, capture, lines, .. } = read.collected;
    let extra = Extra { capture, lines, input: read.input };
    let (made, redaction, top) = (reporting::made(), read.redaction, usize::from(args.top));
    (Material { selection, origin, window, made, redaction, top }, extra)
}

struct Extra {
    capture: Option<report::Capture>,
    lines: Option<Vec<u8>>,
    input: Option<Vec<u8>>,
}

/// Writes the bundle and says its checksum, which can be sent another way.
fn packed(args: &ReportArgs, read: Read, selection: Selection, path: &Path) -> anyhow::Result<Exit> {
    let (material, extra) = material(args, read, selection);
    let document = report::document(&material);
    let shown = report::shown(&material);
    let verdicts: Vec<&Verdict> = shown.iter().map(|entry| &entry.verdict).collect();
    let mut members = forms(&document, &verdicts)?;
    if let Some(capture) = extra.capture.filter(|capture| !capture.is_empty()) {
        let bytes = capture.file(&material.origin, &material.made)?;
        members.push(Member { name: "packets.pcapng", bytes });
    }
    members.push(Member { name: "host.json", bytes: bundle::host(&material.origin)? });
    members.push(Member { name: bundle::VERDICTS, bytes: extra.lines.unwrap_or_default() });
    // Verdicts as JSON lines begin with a brace, a recording does not.
    let recording = extra.input.filter(|input| input.first().is_some_and(|first| *first != b'{'));
    let mut notes = material.origin.notes.clone();
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
        verdicts: material.window.total + material.window.consequences,
        redaction: material.redaction.clone(),
        notes,
        files: Vec::new(),
    };
    let bytes = bundle::pack(manifest, &members)?;
    let exit = write(Some(path), &bytes);
    if exit == Exit::Success {
        trace::notice(&format!("the bundle has sha256 {}", bundle::sha256(&bytes)));
    }
    Ok(exit)
}

fn forms(document: &Document, verdicts: &[&Verdict]) -> anyhow::Result<Vec<Member>> {
    const FORMS: [(&str, Format); 4] = [
        ("report.html", Format::Html),
        ("report.md", Format::Markdown),
        ("report.json", Format::Json),
        ("report.txt", Format::Text),
    ];
    let one = |(name, format): &(&'static str, Format)| {
        Ok(Member { name, bytes: rendered(document, verdicts, *format)? })
    };
    FORMS.iter().map(one).collect()
}

/// What the report is about.
fn selection(args: &ReportArgs) -> Result<Selection, String> {
    let bound = |flag: &str, text: &Option<String>| match text {
        Some(text) => moment(text).map(Some).map_err(|why| format!("{flag}: {why}")),
        None => Ok(None),
    };
    Ok(Selection {
        id: args.id.as_ref().map(|id| id.to_ascii_uppercase()),
        redacted: !args.redact.is_empty(),
        since: bound("--since", &args.since)?,
        until: bound("--until", &args.until)?,
        parties: args.party.clone(),
        causes: args.cause.clone(),
        upstreams: args.upstream.clone(),
        harmless: args.include_harmless,
    })
}
