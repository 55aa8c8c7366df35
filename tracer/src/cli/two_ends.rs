//! `rstscope correlate` with two recordings: what is opened, and what is said on standard error about them. A folder of
//! a daemon holds several, one for each of its runs; each is judged with those of the other host from the same time.

use super::correlate::CorrelateArgs;
use super::exit::Exit;
use super::recordings::{self, Source, pairs};
use super::{replay, trace};
use crate::collect::clock;
use crate::ends::{Offset, Outcome, Second, Witness, compare};
use crate::model::Utc;
use crate::output::Closing;
use crate::output::layout::count;
use crate::recording::Recorder;
use crate::session::{View, record};

/// Why nothing was judged.
struct Refused(String, Exit);

/// Judges the first recordings with what the second ones tell.
pub fn run(args: &CorrelateArgs) -> anyhow::Result<Exit> {
    if !args.judged.of_captures().is_empty() {
        let flags = args.judged.of_captures().join(", ");
        return Ok(trace::refuse(format!("{flags}: recordings know that themselves"), Exit::Usage));
    }
    let pairs = match paired(args) {
        Ok(pairs) => pairs,
        Err(Refused(why, exit)) => return Ok(trace::refuse(why, exit)),
    };
    let outputs = match args.judged.shown.outputs() {
        Ok(outputs) => outputs,
        Err(error) => return Ok(trace::refuse(&error, Exit::Output)),
    };
    let mut view = View::new(args.judged.shown.selection(), outputs);
    let mut closing = Closing::default();
    let mut is_whole = true;
    for (near, far) in &pairs {
        let outcome = match judged(args, near, far, &mut view) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => return Ok(Exit::Success), // Nobody reads any more.
            Err(Refused(why, exit)) => return Ok(trace::refuse(why, exit)),
        };
        is_whole &= outcome.is_whole;
        closing.to = outcome.to.rfc3339();
        if closing.from.is_empty() {
            closing.from = outcome.from.rfc3339();
        }
    }
    closing.tally = view.tally().clone();
    finish(args, view, &closing, is_whole)
}

fn finish(args: &CorrelateArgs, mut view: View, closing: &Closing, is_whole: bool) -> anyhow::Result<Exit> {
    let lost = view.losses();
    // A reader that went away does not want the summary either.
    let _shown = view.finish(closing);
    if let Some(path) = args.judged.shown.stats() {
        trace::write_stats(path, closing)?;
    }
    view.problems().iter().for_each(|problem| trace::notice(problem));
    Ok(match (lost.total() > 0, is_whole) {
        (true, _) => Exit::Output,
        (false, false) => Exit::Input,
        (false, true) => Exit::Success,
    })
}

/// Each recording of the Nginx host with those of the other host that go with it.
fn paired(args: &CorrelateArgs) -> Result<Vec<(Source, Vec<Source>)>, Refused> {
    let of = |path| recordings::of(path).map_err(|why| Refused(why, Exit::Input));
    let (near, far) = (of(&args.near)?, of(&args.far)?);
    let found = pairs(&begins(&near)?, &begins(&far)?, clock::measure().utc(clock::now()));
    let pairs: Vec<_> = found
        .into_iter()
        .filter_map(|(first, second)| {
            let second = second.into_iter().filter_map(|index| far.get(index).cloned());
            Some((near.get(first)?.clone(), second.collect()))
        })
        .collect();
    match pairs.len() {
        0 => {
            let why = format!(
                "{} and {} have no time in common: nothing that the one tells can be seen in the other",
                args.near.display(),
                args.far.display()
            );
            Err(Refused(why, Exit::Input))
        }
        1 => Ok(pairs),
        _ if args.judged.record.is_some() => {
            let names: Vec<_> = pairs.iter().map(|(near, _)| near.name()).collect();
            let why = format!(
                "--record takes one run of the daemon, and there are several, which begin with {}",
                names.join(", ")
            );
            Err(Refused(why, Exit::Usage))
        }
        _ => Ok(pairs),
    }
}

fn begins(sources: &[Source]) -> Result<Vec<Utc>, Refused> {
    let begin = |source: &Source| {
        let recording = source.open()?;
        let began = recording.header().began.parse::<jiff::Timestamp>();
        let began = began.map_err(|error| format!("cannot use {}: {error}", source.name()))?;
        Ok(Utc(i64::try_from(began.as_nanosecond()).unwrap_or(i64::MAX)))
    };
    sources.iter().map(begin).collect::<Result<_, _>>().map_err(|why| Refused(why, Exit::Input))
}

/// Judges one recording with others; nothing if nobody reads the verdicts any more.
fn judged(
    args: &CorrelateArgs,
    near: &Source,
    far: &[Source],
    view: &mut View,
) -> Result<Option<Outcome>, Refused> {
    let open = |source: &Source| source.open().map_err(|why| Refused(why, Exit::Input));
    let witness = |far: &Source| {
        Witness::read(&mut open(far)?)
            .map_err(|error| Refused(format!("{} cannot be the other end: {error}", far.name()), Exit::Input))
    };
    let (fit, unfit): (Vec<_>, Vec<_>) = far.iter().map(witness).partition(Result::is_ok);
    // A run that ended before it had found anything says nothing, and the others may.
    let witnesses = if fit.is_empty() { unfit } else { fit };
    let witnesses = witnesses.into_iter().collect::<Result<Vec<_>, _>>()?;
    let second: Second = compare(&mut open(near)?, witnesses);
    second.runs().iter().for_each(|run| trace::notice(&clocks(run.offset)));
    let mut first = open(near)?;
    trace::notice(&replay::origin(first.header()));
    let header = first.header().clone();
    let writer = args.judged.record.as_deref().map(|path| record::open(path, u64::MAX, &header));
    let writer =
        writer.transpose().map_err(|error| Refused(format!("cannot record: {error}"), Exit::Output))?;
    let played =
        second.play(&mut first, writer, |verdicts| verdicts.iter().try_for_each(|it| view.verdict(it)));
    let Ok((outcome, engine)) = played else { return Ok(None) };
    trace::notice(&became(second.host(), outcome));
    tell_recording(args, &engine);
    Ok(Some(outcome))
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
