//! `rstscope verify`: checks a bundle and says what holds.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::trace;
use crate::output::layout::count;
use crate::output::sanitize;
use crate::report::verify::{Checked, Replay, State, verify};

/// Flags of `rstscope verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// What `rstscope report --bundle` wrote
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
}

/// Runs `rstscope verify`.
pub fn run(args: &VerifyArgs) -> anyhow::Result<Exit> {
    let name = args.bundle.display();
    let checked = match File::open(&args.bundle).map_err(Into::into).and_then(verify) {
        Ok(checked) => checked,
        Err(error) => return Ok(trace::refuse(format!("{name}: {error}"), Exit::Input)),
    };
    match io::stdout().write_all(text(&checked).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if checked.holds() { Exit::Success } else { Exit::Failure })
}

/// What holds and what does not, one line each.
fn text(checked: &Checked) -> String {
    let manifest = &checked.manifest;
    let safe = |text: &str| sanitize::line(text, 400).into_owned();
    let mut lines = vec![format!(
        "made by rstscope {} at {}, {}",
        safe(&manifest.version),
        safe(&manifest.made),
        count(manifest.verdicts, "verdict")
    )];
    lines.extend(checked.files.iter().map(|(name, state)| {
        let state = match state {
            State::Same => "ok      ",
            State::Changed => "CHANGED ",
            State::Missing => "MISSING ",
        };
        format!("{state} {}", safe(name))
    }));
    lines.extend(checked.unnamed.iter().map(|name| format!("UNNAMED  {}", safe(name))));
    lines.push(format!("         {} has sha256 {}", "manifest.json", checked.manifest_sha256));
    lines.push(replay(checked.replay.as_ref()));
    lines.extend(manifest.redaction.iter().map(|text| format!("redacted {}", safe(text))));
    lines.extend(manifest.notes.iter().map(|text| format!("note     {}", safe(text))));
    let verdict = if checked.holds() { "everything holds" } else { "NOT everything holds" };
    lines.push(verdict.to_owned());
    lines.join("\n") + "\n"
}

fn replay(replay: Option<&Replay>) -> String {
    let Some(Replay { same, different, problem }) = replay else {
        return "replay   there is no recording in it, so nothing was replayed".to_owned();
    };
    let problem = problem.as_ref().map(|why| format!("; {}", sanitize::line(why, 400))).unwrap_or_default();
    if different.is_empty() {
        return format!("replay   {} came out the same, byte for byte{problem}", count(*same, "verdict"));
    }
    let ids: Vec<String> = different.iter().take(10).map(|id| sanitize::line(id, 40).into_owned()).collect();
    format!("REPLAY   {same} came out the same, {} did not: {}{problem}", different.len(), ids.join(", "))
}
