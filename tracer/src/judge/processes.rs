//! What is known of processes of this host, beyond the events in which they acted.

use std::collections::BTreeMap;

use crate::bounded;
use crate::model::{Event, EventKind, ExitStatus, Mono, ProcessFacts};

/// What is known of processes, by pid.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    /// Facts read from `/proc`.
    pub facts: BTreeMap<u32, ProcessFacts>,
    /// Processes the OOM killer chose.
    pub oom: BTreeMap<u32, Mono>,
    /// Processes of Nginx that have ended, and how.
    pub ended: BTreeMap<u32, (Mono, ExitStatus)>,
}

impl Processes {
    /// Keeps what an event tells of a process; at most so many of each.
    pub fn note(&mut self, event: &Event, most: usize) {
        let Event { time, task, .. } = event;
        match (&event.kind, task.exiting) {
            (EventKind::OomVictim, _) => bounded::insert(&mut self.oom, task.pid, *time, most),
            (EventKind::ProcessExit, Some(exit)) if task.is_nginx => {
                bounded::insert(&mut self.ended, task.pid, (*time, exit), most);
            }
            _ => {}
        }
    }
}
