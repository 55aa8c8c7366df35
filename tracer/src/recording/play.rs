//! Plays a recording into an engine. What comes out is what came out when it was recorded.

use std::io::{self, BufRead};

use super::{Call, Damage, Reader};
use crate::engine::Engine;
use crate::model::{Clock, HookState, HostFacts, Input, Losses, Mono, Verdict};

/// What a replay went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// Steps played.
    pub steps: u64,
    /// Time of the first step.
    pub from: Mono,
    /// Time of the last input.
    pub latest: Mono,
    /// Time of the last step.
    pub to: Mono,
    /// How the recording ends.
    pub end: End,
    /// Host facts as first recorded.
    pub first_host: Option<Box<HostFacts>>,
    /// Host facts as last recorded.
    pub last_host: Option<Box<HostFacts>>,
    /// How often host facts came between the first and those of the end: each time Nginx was found changed.
    pub changes: u64,
    /// Hooks as last recorded.
    pub hooks: Vec<HookState>,
    /// Losses as last recorded.
    pub losses: Losses,
    /// The clocks as last recorded.
    pub clock: Clock,
}

/// How a recording ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With the session.
    Finished,
    /// Before the session did, as the recording itself says.
    Stopped(String),
    /// Between two lines: the tracer was killed, or the file was cut there.
    Open,
    /// With a line that cannot be read.
    Damaged(Damage),
}

/// Plays everything that can be read and hands verdicts to `show`, whose error ends the replay.
/// Where the recording does not say how the session ended, what is pending is judged at its last moment.
pub fn play<R: BufRead>(
    reader: &mut Reader<R>,
    engine: &mut Engine,
    mut show: impl FnMut(&[Verdict]) -> io::Result<()>,
) -> io::Result<Played> {
    play_with(reader, engine, |_, verdicts| show(&verdicts))
}

/// As [`play`], for a reader of the verdicts that asks the engine for more.
pub fn play_with<R: BufRead>(
    reader: &mut Reader<R>,
    engine: &mut Engine,
    mut show: impl FnMut(&mut Engine, Vec<Verdict>) -> io::Result<()>,
) -> io::Result<Played> {
    let mut played = Played::new();
    for step in reader {
        let step = match step {
            Ok(step) => step,
            Err(damage) => {
                played.end = End::Damaged(damage);
                break;
            }
        };
        played.note(step.now);
        match step.call {
            Call::Handle(input) => {
                played.latest = step.now;
                played.facts(&input);
                engine.handle(step.now, input);
            }
            Call::Advance => {
                let verdicts = engine.advance(step.now);
                show(engine, verdicts)?;
            }
            Call::Finish => {
                // The last facts come with the end and tell of the counters.
                played.changes = played.changes.saturating_sub(1);
                played.end = End::Finished;
                break;
            }
            Call::Stopped(why) => {
                played.end = End::Stopped(why);
                break;
            }
        }
    }
    let verdicts = engine.finish(played.to);
    show(engine, verdicts)?;
    Ok(played)
}

impl Played {
    fn new() -> Self {
        Self {
            steps: 0,
            from: Mono(0),
            latest: Mono(0),
            to: Mono(0),
            end: End::Open,
            first_host: None,
            last_host: None,
            changes: 0,
            hooks: Vec::new(),
            losses: Losses::default(),
            clock: Clock::default(),
        }
    }

    fn note(&mut self, now: Mono) {
        if self.steps == 0 {
            self.from = now;
        }
        self.steps += 1;
        self.to = now;
    }

    /// Facts that the closing summary shows.
    fn facts(&mut self, input: &Input) {
        match input {
            Input::Host(host) => {
                self.hooks.clone_from(&host.hooks);
                self.first_host.get_or_insert_with(|| host.clone());
                self.changes += u64::from(self.last_host.is_some());
                self.last_host = Some(host.clone());
            }
            Input::Losses(report) => self.losses.clone_from(&report.losses),
            Input::Clock(clock) => self.clock = *clock,
            Input::Event(_) | Input::Log(_) | Input::Access(_) | Input::Process(_) => {}
        }
    }
}
