//! `rstscope verify`: checks a bundle and says what holds.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::trace;
use crate::output::layout::count;
use crate::output::sanitize;
use crate::report::verify::{Checked, Remade, Replay, State, verify};

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
    lines.extend(remade(&checked.remade));
    lines.extend(manifest.redaction.iter().map(|text| format!("redacted {}", safe(text))));
    lines.extend(manifest.notes.iter().map(|text| format!("note     {}", safe(text))));
    lines.push(conclusion(checked).to_owned());
    lines.push(format!(
        "Nothing here is signed: it proves that the parts belong to this manifest, not who made it. Compare its sha256, {}, \
         with one that came another way.",
        checked.manifest_sha256
    ));
    lines.join("\n") + "\n"
}

fn conclusion(checked: &Checked) -> &'static str {
    let replayed = checked.replay.is_some() && matches!(checked.remade, Remade::Compared { .. });
    match (checked.holds(), replayed) {
        (false, _) => "NOT everything holds",
        (true, true) => "everything holds",
        (true, false) => "everything that can be checked holds",
    }
}

/// Whether the parts of the report are what the recording gives.
fn remade(remade: &Remade) -> Option<String> {
    let names = |names: &[String]| {
        let names: Vec<String> =
            names.iter().take(10).map(|name| sanitize::line(name, 100).into_owned()).collect();
        names.join(", ")
    };
    match remade {
        Remade::Nothing => None,
        Remade::OtherVersion(version) => Some(format!(
            "parts    not made anew: they are of version {}, this is {}",
            sanitize::line(version, 40),
            env!("CARGO_PKG_VERSION")
        )),
        Remade::Compared { same, different } if different.is_empty() => Some(format!(
            "parts    {} made anew from the recording, the same byte for byte",
            count(*same, "file")
        )),
        Remade::Compared { different, .. } => {
            Some(format!("PARTS    not what the recording gives: {}", names(different)))
        }
    }
}

fn replay(replay: Option<&Replay>) -> String {
    let Some(Replay { same, different, problem }) = replay else {
        return "replay   there is no recording in it, so nothing was replayed and no part made anew"
            .to_owned();
    };
    let problem = problem.as_ref().map(|why| format!("; {}", sanitize::line(why, 400))).unwrap_or_default();
    if different.is_empty() {
        let name = if problem.is_empty() { "replay  " } else { "REPLAY  " };
        return format!("{name} {} came out the same, byte for byte{problem}", count(*same, "verdict"));
    }
    let ids: Vec<String> = different.iter().take(10).map(|id| sanitize::line(id, 40).into_owned()).collect();
    format!("REPLAY   {same} came out the same, {} did not: {}{problem}", different.len(), ids.join(", "))
}
