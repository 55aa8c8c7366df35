//! Writes a recording beside the engine: the one place through which every call of a session goes.
//! A recording in one file that cannot be written any more ends, and the session goes on without it; a recording with
//! a hole would give other verdicts, so nothing is written behind the first failure.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::{Call, Header, MAX_LINE, Segments, Step, framed};
use crate::engine::{Counters, Dossier, Engine};
use crate::model::{Input, Mono, Verdict};

/// Room kept for the last line, which says why the recording ends.
const LAST_LINE: u64 = 512;
/// What was recorded reaches the file at least this often.
const FLUSH: Duration = Duration::from_secs(1);

/// An engine whose calls are recorded, if that was asked for.
pub struct Recorder {
    engine: Engine,
    sink: Option<Sink>,
}

/// Where calls are recorded.
pub enum Sink {
    /// In one file, to its limit.
    File(Writer),
    /// In files of which the oldest make room for the newest.
    Segments(Box<Segments>),
}

impl Sink {
    fn step(&mut self, now: Mono, call: Call<&Input>) {
        match self {
            Self::File(writer) => writer.step(&Step { now, call }),
            Self::Segments(segments) => segments.step(now, &call),
        }
    }

    fn flush_sometimes(&mut self, now: Mono) {
        match self {
            Self::File(writer) => writer.flush_sometimes(now),
            Self::Segments(segments) => segments.flush_sometimes(now),
        }
    }

    fn flush(&mut self, now: Mono) {
        match self {
            Self::File(writer) => writer.flush(now),
            Self::Segments(segments) => segments.flush(now),
        }
    }

    fn recorded(&self) -> Recorded {
        match self {
            Self::File(writer) => writer.recorded(),
            Self::Segments(segments) => segments.recorded(),
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Records the calls of `engine` in `sink`; without one they only pass through.
    pub fn new(engine: Engine, sink: Option<Sink>) -> Self {
        Self { engine, sink }
    }

    /// As [`Engine::handle`].
    pub fn handle(&mut self, now: Mono, input: Input) {
        self.record(now, Call::Handle(&input));
        self.engine.handle(now, input);
    }

    /// As [`Engine::advance`].
    pub fn advance(&mut self, now: Mono) -> Vec<Verdict> {
        let verdicts = self.engine.advance(now);
        if !verdicts.is_empty() {
            self.record(now, Call::Advance);
        }
        if let Some(sink) = &mut self.sink {
            sink.flush_sometimes(now);
        }
        verdicts
    }

    /// As [`Engine::finish`]. The recording is complete behind it.
    pub fn finish(&mut self, now: Mono) -> Vec<Verdict> {
        self.record(now, Call::Finish);
        if let Some(sink) = &mut self.sink {
            sink.flush(now);
        }
        self.engine.finish(now)
    }

    /// As [`Engine::take_dossiers`].
    pub fn take_dossiers(&mut self) -> Vec<Dossier> {
        self.engine.take_dossiers()
    }

    /// As [`Engine::next_deadline`].
    pub fn next_deadline(&self) -> Option<Mono> {
        self.engine.next_deadline()
    }

    /// As [`Engine::counters`].
    pub fn counters(&self) -> Counters {
        self.engine.counters()
    }

    /// What became of the recording so far; `None` when there is none.
    pub fn recorded(&self) -> Option<Recorded> {
        self.sink.as_ref().map(Sink::recorded)
    }

    fn record(&mut self, now: Mono, call: Call<&Input>) {
        if let Some(sink) = &mut self.sink {
            sink.step(now, call);
        }
    }
}

/// What became of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// Lines written, the header not counted.
    pub steps: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Calls that are not in the recording because it had ended.
    pub left_out: u64,
    /// Why it ended before the session did.
    pub stopped: Option<String>,
    /// It ended because writing failed.
    pub failed: bool,
}

/// Writes the lines of a recording.
pub struct Writer {
    inner: Box<dyn Write + Send>,
    limit: u64,
    state: Recorded,
    flushed: Mono,
}

impl Writer {
    /// Begins a recording of at most `limit` bytes; `inner` should be buffered.
    pub fn new(inner: Box<dyn Write + Send>, limit: u64, header: &Header) -> io::Result<Self> {
        let mut writer = Self { inner, limit, state: Recorded::default(), flushed: Mono(0) };
        let header = framed(&serde_json::to_vec(header)?);
        writer.inner.write_all(&header)?;
        writer.inner.flush()?;
        writer.state.bytes = bytes(&header);
        Ok(writer)
    }

    /// What became of it so far.
    pub fn recorded(&self) -> Recorded {
        self.state.clone()
    }

    fn step<I: Serialize>(&mut self, step: &Step<I>) {
        if self.state.stopped.is_some() {
            self.state.left_out = self.state.left_out.saturating_add(1);
            return;
        }
        if let Err(refusal) = self.try_step(step) {
            self.stop(step.now, refusal);
        }
    }

    /// Writes a step; after a refusal the recording has a hole and must not go on.
    pub(super) fn try_step<I: Serialize>(&mut self, step: &Step<I>) -> Result<(), Refusal> {
        match serde_json::to_vec(step) {
            Ok(json) if json.len() + super::CHECKSUM >= MAX_LINE => {
                Err(Refusal::Ending(format!("an input is longer than {MAX_LINE} bytes")))
            }
            Ok(json) => self.write(&framed(&json)),
            Err(error) => Err(Refusal::Ending(format!("an input cannot be written as JSON: {error}"))),
        }
    }

    fn write(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if self.state.bytes.saturating_add(bytes(line)).saturating_add(LAST_LINE) > self.limit {
            return Err(Refusal::Ending(format!("its limit of {} bytes was reached", self.limit)));
        }
        self.inner.write_all(line)?;
        self.state.bytes = self.state.bytes.saturating_add(bytes(line));
        self.state.steps = self.state.steps.saturating_add(1);
        Ok(())
    }

    /// Ends the recording with a line that says why, where the file still takes one.
    fn stop(&mut self, now: Mono, refusal: Refusal) {
        self.state.left_out = self.state.left_out.saturating_add(1);
        match refusal {
            Refusal::Failed(error) => self.fail(&error),
            Refusal::Ending(why) => {
                let last = Step { now, call: Call::<&Input>::Stopped(why.clone()) };
                self.state.stopped = Some(why);
                let written = serde_json::to_vec(&last).map_err(io::Error::from);
                let written = written.and_then(|json| self.last(&framed(&json)));
                if let Err(error) = written {
                    self.fail(&error);
                }
            }
        }
    }

    fn last(&mut self, line: &[u8]) -> io::Result<()> {
        self.inner.write_all(line)?;
        self.state.bytes = self.state.bytes.saturating_add(bytes(line));
        self.inner.flush()
    }

    /// Whether it is time to.
    pub(super) fn is_flush_due(&self, now: Mono) -> bool {
        now.since(self.flushed) >= FLUSH
    }

    fn flush_sometimes(&mut self, now: Mono) {
        if self.is_flush_due(now) {
            self.flush(now);
        }
    }

    pub(super) fn flush(&mut self, now: Mono) {
        self.flushed = now;
        if self.state.stopped.is_some() {
            return;
        }
        if let Err(error) = self.inner.flush() {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.state.failed = true;
        self.state.stopped = Some(format!("it cannot be written: {error}"));
    }
}

/// Why a line was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The file takes no more.
    #[error("it cannot be written: {0}")]
    Failed(io::Error),
    /// It may not be written.
    #[error("{0}")]
    Ending(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

fn bytes(line: &[u8]) -> u64 {
    u64::try_from(line.len()).unwrap_or(u64::MAX)
}
