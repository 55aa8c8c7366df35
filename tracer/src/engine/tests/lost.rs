//! An event is lost, and counted as lost: whatever verdict is left names nobody else for sure.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::engine::{Engine, Limits};
use crate::model::verdict::{Certainty, Party};
use crate::model::{Input, LossReport, Losses, Mono, Verdict};
use crate::recording::{Call, Reader, Step};

/// Steps of a recording; those of whole benches are too long to be played once for each of their events.
const SHORT: usize = 150;

/// Recordings in which something else happened to the connection right after what is lost, so that what is left looks
/// whole: the upstream's own reset behind a device's, its end behind a silence.
const LOOKS_WHOLE: [&str; 2] = ["lab-ends-forged-then-real", "two-ends-forgot"];

fn recordings() -> Vec<(PathBuf, Vec<Step>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rec"));
    let read = |path: PathBuf| {
        let reader = Reader::open(BufReader::new(File::open(&path).unwrap())).unwrap();
        let steps: Vec<Step> = reader.map(Result::unwrap).collect();
        (path, steps)
    };
    let hidden = |path: &Path| LOOKS_WHOLE.iter().any(|name| path.to_string_lossy().contains(name));
    files.map(read).filter(|(path, steps)| steps.len() <= SHORT && !hidden(path)).collect()
}

/// The ring was full once, until then.
fn loss(read: Mono) -> Input {
    let losses = Losses { by_handover: [("ring".to_owned(), 1)].into() };
    Input::Losses(LossReport { losses, read: Some(read) })
}

/// Plays the steps; in place of the one at `lost` a loss is told.
fn judged(steps: &[Step], lost: Option<usize>) -> Vec<Verdict> {
    let mut engine = Engine::new(Limits::default());
    let mut verdicts = Vec::new();
    let mut end = Mono(0);
    for (number, step) in steps.iter().enumerate() {
        end = step.now;
        match &step.call {
            Call::Handle(_) if lost == Some(number) => engine.handle(step.now, loss(step.now)),
            Call::Handle(Input::Losses(_)) | Call::Finish | Call::Stopped(_) => {}
            Call::Handle(input) => engine.handle(step.now, input.clone()),
            Call::Advance => verdicts.extend(engine.advance(step.now)),
        }
    }
    verdicts.extend(engine.finish(end));
    verdicts
}

fn party_of(verdicts: &[Verdict], wanted: &Verdict) -> Option<Party> {
    let ends = |verdict: &Verdict| {
        let connection = verdict.connection.as_ref()?;
        Some((connection.local.clone(), connection.remote.clone()))
    };
    let same = verdicts.iter().find(|verdict| ends(verdict).is_some() && ends(verdict) == ends(wanted));
    same.map(|verdict| verdict.party)
}

#[test]
fn no_verdict_is_sure_of_another_party_where_a_loss_was_counted() {
    let mut played = 0;
    let mut wrong = Vec::new();
    for (path, steps) in recordings() {
        let truth = judged(&steps, None);
        let events = steps.iter().enumerate();
        let events = events.filter(|(_, step)| matches!(step.call, Call::Handle(Input::Event(_))));
        for (number, _) in events {
            played += 1;
            for verdict in judged(&steps, Some(number)) {
                let sure = matches!(verdict.certainty, Certainty::Proven | Certainty::Strong);
                let other = party_of(&truth, &verdict).is_some_and(|party| party != verdict.party);
                if sure && other {
                    wrong.push(format!(
                        "{} without step {number}: {:?} {:?} {:?}",
                        path.display(),
                        verdict.party,
                        verdict.cause,
                        verdict.certainty
                    ));
                }
            }
        }
    }
    assert!(played > 300, "{played}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
