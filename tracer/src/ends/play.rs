//! Plays the first recording with what the second tells, and says what became of each verdict by that.

use std::collections::HashMap;
use std::io::{self, BufRead};

use crate::engine::{Engine, Limits};
use crate::model::verdict::{Cause, Certainty, Party};
use crate::model::{Clock, Event, HostFacts, Input, Mono, Utc, Verdict};
use crate::recording::{Call, Reader, Recorder, Sink, Writer};

use super::account::told;
use super::clock::{Bounds, Clocks, Offset, by_wall};
use super::witness::{Witness, traces_all_resets};

/// How the verdicts were without the second host's recordings, one for each run of its tracer, and what the clock was.
#[derive(Debug)]
pub struct Second {
    runs: Vec<Run>,
    alone: HashMap<String, (Party, Cause, Certainty)>,
}

/// One run of the second host's tracer.
#[derive(Debug)]
pub struct Run {
    witness: Witness,
    clocks: Clocks,
    /// What the flows say of the wall clocks.
    pub offset: Option<Offset>,
}

/// What became of the verdicts of the first recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Another party or cause.
    pub overturned: usize,
    /// The same, with more certainty.
    pub raised: usize,
    /// The same, with less certainty.
    pub lowered: usize,
    /// As they were.
    pub unchanged: usize,
    /// Only with the second recording.
    pub added: usize,
    /// The first recording can be read to its end.
    pub is_whole: bool,
    /// First step.
    pub from: Utc,
    /// Last step.
    pub to: Utc,
}

/// Plays the first recording alone, which also tells how far the clocks are apart.
pub fn compare<R: BufRead>(first: &mut Reader<R>, witnesses: Vec<Witness>) -> Second {
    let (mut engine, mut clock) = (Engine::new(Limits::default()), Clock::default());
    let mut learned: Vec<_> = witnesses.into_iter().map(|witness| (witness, Bounds::default())).collect();
    let mut verdicts = Vec::new();
    let mut now = Mono(0);
    // For the search by addresses alone any moment will do: numbers decide where there are some.
    let anywhere = |_: Mono| (Mono(0), Mono(u64::MAX));
    for step in first.by_ref().map_while(Result::ok) {
        now = step.now;
        match step.call {
            Call::Handle(input) => {
                if let Input::Event(event) = &input
                    && let Some(socket) = &event.socket
                {
                    for (witness, bounds) in &mut learned {
                        witness.find(socket, anywhere).iter().for_each(|flow| bounds.learn(event, flow));
                    }
                }
                if let Input::Clock(told) = &input {
                    clock = *told;
                }
                engine.handle(now, input);
            }
            Call::Advance => verdicts.extend(engine.advance(now)),
            Call::Finish | Call::Stopped(_) => break,
        }
    }
    verdicts.extend(engine.finish(now));
    let run = |(witness, bounds): (Witness, Bounds)| {
        let wall = by_wall(clock, &witness);
        Run { clocks: bounds.clocks(wall), offset: bounds.offset(wall), witness }
    };
    let decided = |verdict: Verdict| (verdict.id, (verdict.party, verdict.cause, verdict.certainty));
    Second {
        runs: learned.into_iter().map(run).collect(),
        alone: verdicts.into_iter().map(decided).collect(),
    }
}

impl Second {
    /// Name of the second host.
    pub fn host(&self) -> &str {
        self.runs.first().map_or("", |run| &run.witness.host)
    }

    /// The runs of its tracer.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Plays the first recording again, with what the second tells; `show` gets the verdicts, its error ends it.
    pub fn play<R: BufRead>(
        &self,
        first: &mut Reader<R>,
        writer: Option<Writer>,
        mut show: impl FnMut(&[Verdict]) -> io::Result<()>,
    ) -> io::Result<(Outcome, Recorder)> {
        let mut engine = Recorder::new(Engine::new(Limits::default()), writer.map(Sink::File));
        let mut outcome = Outcome { is_whole: true, ..Outcome::default() };
        let (mut now, mut sees_resets, mut clock, mut began) = (Mono(0), false, Clock::default(), None);
        for step in first {
            let Ok(step) = step else {
                outcome.is_whole = false;
                break;
            };
            now = step.now;
            began.get_or_insert(now);
            match step.call {
                Call::Handle(input) => {
                    match &input {
                        Input::Host(host) => sees_resets = sees_own_resets(host),
                        Input::Clock(told) => clock = *told,
                        _ => {}
                    }
                    let more = self.beside(&input, sees_resets);
                    engine.handle(now, input);
                    for event in more {
                        engine.handle(now, Input::Event(Box::new(event)));
                    }
                }
                Call::Advance => {}
                Call::Finish | Call::Stopped(_) => break,
            }
            let verdicts = engine.advance(now);
            self.count(&mut outcome, &verdicts);
            show(&verdicts)?;
        }
        let verdicts = engine.finish(now);
        self.count(&mut outcome, &verdicts);
        show(&verdicts)?;
        (outcome.from, outcome.to) = (clock.utc(began.unwrap_or(now)), clock.utc(now));
        Ok((outcome, engine))
    }

    fn beside(&self, input: &Input, sees_resets: bool) -> Vec<Event> {
        let Input::Event(event) = input else { return Vec::new() };
        self.runs.iter().flat_map(|run| told(&run.witness, &run.clocks, event, sees_resets)).collect()
    }

    fn count(&self, outcome: &mut Outcome, verdicts: &[Verdict]) {
        for verdict in verdicts {
            let counted = match self.alone.get(&verdict.id) {
                None => &mut outcome.added,
                Some((party, cause, _)) if (*party, *cause) != (verdict.party, verdict.cause) => {
                    &mut outcome.overturned
                }
                // `Certainty` is declared from `proven` down.
                Some((.., certainty)) if verdict.certainty < *certainty => &mut outcome.raised,
                Some((.., certainty)) if verdict.certainty > *certainty => &mut outcome.lowered,
                Some(_) => &mut outcome.unchanged,
            };
            *counted += 1;
        }
    }
}

fn sees_own_resets(host: &HostFacts) -> bool {
    host.has_hook("tcp_send_reset") && traces_all_resets(&host.kernel)
}
