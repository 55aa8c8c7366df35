//! The wall clock is set while the tracer runs: verdicts are the same, only their times are others.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use crate::engine::{Engine, Limits};
use crate::model::verdict::{Cause, Certainty, Party};
use crate::model::{Clock, Input, Mono, Utc, Verdict};
use crate::recording::{Call, Reader, Step};

/// What a clock step must not change.
type Said = (Party, Cause, Certainty, Option<String>, Option<String>);

fn said(verdict: Verdict) -> Said {
    let connection =
        verdict.connection.map(|connection| format!("{} {}", connection.local, connection.remote));
    let log = verdict.log.map(|log| format!("{} {}", log.offset, log.message));
    (verdict.party, verdict.cause, verdict.certainty, connection, log)
}

/// A bench of the lab.
fn steps() -> Vec<Step> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings/lab-01-error.rec");
    Reader::open(BufReader::new(File::open(file).unwrap())).unwrap().map(Result::unwrap).collect()
}

/// From the middle on the wall clock is this much ahead: Nginx prints it at once, the tracer measures it in its turn.
fn changed(seconds: i64, middle: Mono, step: &mut Step) {
    let Call::Handle(input) = &mut step.call else { return };
    let nanoseconds = seconds * 1_000_000_000;
    match input {
        Input::Clock(clock) if step.now > middle => {
            *clock = Clock { offset_ns: clock.offset_ns + nanoseconds };
        }
        Input::Log(record) if step.now > middle => {
            record.time = record.time.map(|Utc(time)| Utc(time + nanoseconds));
        }
        _ => {}
    }
}

fn judged(seconds: i64) -> Vec<Said> {
    let mut steps = steps();
    let middle = steps[steps.len() / 2].now.before(Duration::from_millis(300));
    for step in &mut steps {
        changed(seconds, middle, step);
    }
    let (mut engine, mut verdicts, mut last) = (Engine::new(Limits::default()), Vec::new(), Mono(0));
    for step in steps {
        last = step.now;
        match step.call {
            Call::Handle(input) => engine.handle(step.now, input),
            Call::Advance => verdicts.extend(engine.advance(step.now)),
            Call::Finish | Call::Stopped(_) => {}
        }
    }
    verdicts.extend(engine.finish(last));
    let mut said: Vec<Said> = verdicts.into_iter().map(said).collect();
    said.sort_by_key(|one| format!("{one:?}"));
    said
}

#[test]
fn a_clock_step_changes_no_verdict() {
    let as_it_was = judged(0);
    assert!(as_it_was.len() > 50, "{}", as_it_was.len());
    for seconds in [3_600, -3_600, 2, -2] {
        assert_eq!(judged(seconds), as_it_was, "{seconds} s");
    }
}
