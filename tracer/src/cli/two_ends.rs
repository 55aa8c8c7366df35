//! `rstscope correlate` with two recordings: what is opened, and what is said on standard error about them.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use super::correlate::CorrelateArgs;
use super::exit::Exit;
use super::{replay, trace};
use crate::ends::{Offset, Outcome, Second, Witness, compare};
use crate::output::Closing;
use crate::output::layout::count;
use crate::recording::{Reader, Recorder};
use crate::session::{View, record};

/// First bytes of a store.
const STORE: &[u8] = b"SQLite format 3\0";

/// What a file that `correlate` is given is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Packets.
    Capture,
    /// What `rstscope trace --record` wrote.
    Recording,
    /// The daemon's store.
    Store,
}

impl Form {
    /// By the first bytes; what cannot be read is for the reader of captures to complain about.
    pub fn of(path: &Path) -> Self {
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
        match () {
            () if read.is_err() => Self::Capture,
            () if start.starts_with(STORE) => Self::Store,
            () if start.get(8..20) == Some(b" {\"schema\":\"") => Self::Recording,
            () => Self::Capture,
        }
    }
}

type Recording = Reader<BufReader<File>>;

/// Judges the first recording with what the second tells.
pub fn run(args: &CorrelateArgs) -> anyhow::Result<Exit> {
    if !args.judged.of_captures().is_empty() {
        let flags = args.judged.of_captures().join(", ");
        return Ok(trace::refuse(format!("{flags}: recordings know that themselves"), Exit::Usage));
    }
    let second = match open(&args.near).and_then(|first| Ok((first, open(&args.far)?))) {
        Ok((mut first, mut second)) => match Witness::read(&mut second) {
            Ok(witness) => compare(&mut first, witness),
            Err(error) => {
                let why = format!("{} cannot be the other end: {error}", args.far.display());
                return Ok(trace::refuse(why, Exit::Input));
            }
        },
        Err(why) => return Ok(trace::refuse(why, Exit::Input)),
    };
    trace::notice(&clocks(second.offset));
    show(args, &second)
}

fn open(path: &Path) -> Result<Recording, String> {
    let name = path.display();
    let file = File::open(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    Reader::open(BufReader::new(file)).map_err(|error| format!("cannot use {name}: {error}"))
}

fn show(args: &CorrelateArgs, second: &Second) -> anyhow::Result<Exit> {
    let mut first = match open(&args.near) {
        Ok(first) => first,
        Err(why) => return Ok(trace::refuse(why, Exit::Input)),
    };
    trace::notice(&replay::origin(first.header()));
    let outputs = match args.judged.shown.outputs() {
        Ok(outputs) => outputs,
        Err(error) => return Ok(trace::refuse(&error, Exit::Output)),
    };
    let header = first.header().clone();
    let writer = match args.judged.record.as_deref().map(|path| record::open(path, u64::MAX, &header)) {
        Some(Err(error)) => return Ok(trace::refuse(format!("cannot record: {error}"), Exit::Output)),
        writer => writer.and_then(Result::ok),
    };
    let mut view = View::new(args.judged.shown.selection(), outputs);
    let played =
        second.play(&mut first, writer, |verdicts| verdicts.iter().try_for_each(|it| view.verdict(it)));
    let Ok((outcome, engine)) = played else { return Ok(Exit::Success) }; // Nobody reads any more.
    let lost = view.losses();
    let (from, to) = (outcome.from.rfc3339(), outcome.to.rfc3339());
    let closing = Closing { from, to, tally: view.tally().clone(), ..Closing::default() };
    // A reader that went away does not want the summary either.
    let _shown = view.finish(&closing);
    if let Some(path) = args.judged.shown.stats() {
        trace::write_stats(path, &closing)?;
    }
    trace::notice(&became(second.host(), outcome));
    tell_recording(args, &engine);
    view.problems().iter().for_each(|problem| trace::notice(problem));
    Ok(match (lost.total() > 0, outcome.is_whole) {
        (true, _) => Exit::Output,
        (false, false) => Exit::Input,
        (false, true) => Exit::Success,
    })
}

fn tell_recording(args: &CorrelateArgs, engine: &Recorder) {
    if let (Some(path), Some(recorded)) = (&args.judged.record, engine.recorded()) {
        trace::notice(&trace::recording(path, &recorded));
    }
}

fn clocks(offset: Option<Offset>) -> String {
    let Some(offset) = offset else {
        return "no connection that both tracers tell of bounds the distance of their clocks from both sides; they are taken to agree within 2 s".to_owned();
    };
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let (apart, doubt) = (offset.nanoseconds as f64 / 1e6, offset.uncertainty as f64 / 1e6);
    format!(
        "the clock of the second host is {apart:+.3} ms from that of the first, at most {doubt:.3} ms more or less, by {} of connections that both tell of",
        count(offset.flows as u64, "event")
    )
}

fn became(host: &str, outcome: Outcome) -> String {
    let Outcome { overturned, raised, lowered, unchanged, added, .. } = outcome;
    let added = if added > 0 { format!(", {added} new") } else { String::new() };
    format!(
        "with what {host} saw: {raised} raised, {overturned} overturned, {lowered} lowered, {unchanged} as without{added}"
    )
}
