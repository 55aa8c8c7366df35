//! Everything that can reach the engine, in one type. A recording is a list of these.

use serde::{Deserialize, Serialize};

use super::{AccessRecord, Clock, Event, HostFacts, LogRecord, LossReport, ProcessFacts};

/// One input of the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "input")]
pub enum Input {
    /// The kernel reported something.
    Event(Box<Event>),
    /// A line of error.log.
    Log(Box<LogRecord>),
    /// A line of access.log.
    Access(Box<AccessRecord>),
    /// The host, its hooks or Nginx's configuration are (now) like this.
    Host(Box<HostFacts>),
    /// A process is like this.
    Process(ProcessFacts),
    /// Losses so far.
    Losses(LossReport),
    /// The clocks are this far apart.
    Clock(Clock),
}
