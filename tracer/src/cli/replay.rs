//! `rstscope replay`: its flags, and what is said on standard error about the recording.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::exit::Exit;
use super::recordings::{self, Recording, Source};
use super::shown::{Format, ShownArgs};
use super::trace;
use crate::engine::{Engine, Limits};
use crate::output::layout::count;
use crate::output::{Closing, explanation, ndjson};
use crate::recording::{End, Header, Played, play};
use crate::session::View;

/// Flags of `rstscope replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// What `rstscope trace --record` wrote, or the store of a daemon, beside which it records
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// What is shown.
    #[command(flatten)]
    pub shown: ShownArgs,

    /// Show how the verdict with this id came about, step by step, instead of all verdicts
    #[arg(long, value_name = "ID", conflicts_with_all = ["output", "only", "include_harmless", "stats"])]
    pub explain: Option<String>,
}

/// Runs `rstscope replay`.
pub fn run(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let opened = recordings::of(&args.file).and_then(|mut sources| {
        let newest = sources.pop().ok_or("there is no recording")?;
        Ok((newest.open()?, sources))
    });
    let (mut recording, earlier) = match opened {
        Ok(opened) => opened,
        Err(why) => return Ok(trace::refuse(why, Exit::Input)),
    };
    trace::notice(&origin(recording.header()));
    if let Some(text) = of_earlier_runs(&earlier) {
        trace::notice(&text);
    }
    match &args.explain {
        Some(id) => explain(args, &mut recording, id),
        None => show(args, &mut recording),
    }
}

/// The folder of a daemon has a recording for each of its runs.
fn of_earlier_runs(earlier: &[Source]) -> Option<String> {
    let last = earlier.last()?;
    Some(format!(
        "this is the daemon's latest run; what it recorded in {} is played by file, the newest being {}",
        count(earlier.len() as u64, "earlier run"),
        last.last_file()
    ))
}

/// Shows the verdicts as the session did.
fn show(args: &ReplayArgs, recording: &mut Recording) -> anyhow::Result<Exit> {
    let outputs = match args.shown.outputs() {
        Ok(outputs) => outputs,
        Err(error) => return Ok(trace::refuse(&error, Exit::Output)),
    };
    let mut view = View::new(args.shown.selection(), outputs);
    let mut engine = Engine::new(Limits::default());
    let played = play(recording, &mut engine, |verdicts| {
        verdicts.iter().try_for_each(|verdict| view.verdict(verdict))
    });
    let Ok(played) = played else { return Ok(Exit::Success) }; // Nobody reads any more.
    let lost = view.losses();
    // A reader that went away does not want the summary either.
    let closing = closing(&view, &played);
    let _shown = view.finish(&closing);
    if let Some(path) = args.shown.stats() {
        trace::write_stats(path, &closing)?;
    }
    view.problems().iter().for_each(|problem| trace::notice(problem));
    let exit = tell_end(&played);
    Ok(if lost.total() > 0 { Exit::Output } else { exit })
}

/// Shows how one verdict came about.
fn explain(args: &ReplayArgs, recording: &mut Recording, id: &str) -> anyhow::Result<Exit> {
    let mut engine = Engine::explaining(Limits::default(), id.to_ascii_uppercase());
    let mut verdicts = 0;
    let played = play(recording, &mut engine, |more| {
        verdicts += more.len();
        Ok(())
    });
    let exit = tell_end(&played.context("cannot replay")?);
    let Some(explained) = engine.explanation() else {
        let message = format!("none of the {verdicts} verdicts of this recording has the id {id}");
        return Ok(trace::refuse(message, Exit::Failure));
    };
    let text = match args.shown.format {
        Format::Text => explanation::text(explained, &args.shown.on_stdout()).into_bytes(),
        Format::Json => ndjson::line(explained).context("cannot make the explanation JSON")?,
    };
    match io::stdout().write_all(&text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(exit),
    }
}

fn closing(view: &View, played: &Played) -> Closing {
    Closing {
        from: played.clock.utc(played.from).rfc3339(),
        to: played.clock.utc(played.to).rfc3339(),
        tally: view.tally().clone(),
        losses: played.losses.clone(),
        hooks: played.hooks.clone(),
        ..Closing::default()
    }
}

/// Where the recording comes from. The verdicts of another version may be others.
pub(super) fn origin(header: &Header) -> String {
    let Header { version, host, kernel, began, .. } = header;
    let ours = env!("CARGO_PKG_VERSION");
    let other = if version == ours { String::new() } else { format!("; judged anew by version {ours}") };
    format!("replaying {host} (kernel {kernel}), recorded from {began} by version {version}{other}")
}

/// Says how the recording ends, unless it ends as it should.
fn tell_end(played: &Played) -> Exit {
    let pending = "what was pending there is judged as it stood";
    match &played.end {
        End::Finished => return Exit::Success,
        End::Stopped(why) => {
            trace::notice(&format!("the recording ends before its session did: {why}; {pending}"));
        }
        End::Open => trace::notice(&format!(
            "the recording has no end: its tracer was killed, or the file was cut after step {}; {pending}",
            played.steps
        )),
        End::Damaged(damage) => {
            let steps = played.steps;
            return trace::refuse(
                format!(
                    "the recording is damaged in {damage}; {steps} steps before it were replayed, {pending}"
                ),
                Exit::Input,
            );
        }
    }
    Exit::Success
}
