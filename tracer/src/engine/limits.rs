//! Bounds of every table of the engine, and what it counts when a bound is met.

use serde::Serialize;

use crate::timeline::Bounds;

/// How much the engine keeps at most. Everything beyond is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Living incidents; beyond, the one next to settle is judged early.
    pub incidents: usize,
    /// Events kept per incident and witness (Nginx's socket, the other end, the aftermath).
    pub events_per_incident: usize,
    /// Judged incidents remembered for five seconds.
    pub judged: usize,
    /// Lines of the log that wait for their incident.
    pub lines: usize,
    /// Processes known.
    pub processes: usize,
    /// Overflows remembered.
    pub overflows: usize,
    /// Refused resets remembered.
    pub asides: usize,
    /// Verdicts that wait to be fetched.
    pub verdicts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            incidents: 4096,
            events_per_incident: 16,
            judged: 8192,
            lines: 4096,
            processes: 4096,
            overflows: 256,
            asides: 256,
            verdicts: 16_384,
        }
    }
}

impl Limits {
    pub(super) fn bounds(self) -> Bounds {
        Bounds {
            incidents: self.incidents,
            events: self.events_per_incident,
            judged: self.judged,
            asides: self.asides,
        }
    }
}

/// What the engine did so far. The numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Events of the kernel taken in.
    pub events: u64,
    /// Lines of the log taken in.
    pub lines: u64,
    /// Verdicts handed out.
    pub verdicts: u64,
    /// Events that joined an incident that was already there.
    pub merged: u64,
    /// Events of connections judged already.
    pub absorbed: u64,
    /// Events beyond the bound of their incident.
    pub beyond: u64,
    /// Events that concern no connection of Nginx.
    pub unrelated: u64,
    /// Incidents judged early because the table was full.
    pub evicted: u64,
    /// Lines thrown away because too many were waiting.
    pub lines_dropped: u64,
    /// Lines that no incident matched and that are no incident themselves.
    pub lines_unmatched: u64,
    /// Lines that came after their incident had been judged.
    pub lines_late: u64,
    /// Connections of which only the other end was seen, and nobody at Nginx took notice.
    pub unnoticed: u64,
    /// Verdicts thrown away because nobody fetched them.
    pub verdicts_dropped: u64,
}

impl Counters {
    /// What was taken in and thrown away for want of room, by hand-over.
    pub fn lost(&self) -> [(&'static str, u64); 2] {
        [("log lines waiting", self.lines_dropped), ("verdicts waiting", self.verdicts_dropped)]
    }
}
