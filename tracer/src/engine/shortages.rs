//! Workers that had no connection left. Nginx says so once a second at most, and of no connection
//! (`ngx_drain_connections`, `ngx_get_connection`), so one line may speak of several clients.

use std::collections::VecDeque;
use std::time::Duration;

use crate::join::EARLY;
use crate::model::{LogRecord, LogSide, MessageKind, Mono, Side};
use crate::timeline::Incident;

/// What the line says holds for the rest of its second, and for what a client sends into a close of that time.
const HOLDS: Duration = Duration::from_millis(1_500);
/// Remembered lines; a worker writes one per second.
const MOST: usize = 64;

/// The last lines, and when each appeared.
#[derive(Debug, Default)]
pub struct Shortages(VecDeque<(Mono, LogRecord)>);

impl Shortages {
    /// Remembers a line that appeared at `at`, if it is about this.
    pub fn note(&mut self, record: &LogRecord, at: Mono) {
        if record.kind != MessageKind::WORKER_CONNECTIONS || record.side != LogSide::None {
            return;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((at, record.clone()));
    }

    /// The line that holds where Nginx's end of a client connection sent a RST.
    pub fn around(&self, incident: &Incident) -> Option<&LogRecord> {
        let end = incident.reset_sent().filter(|_| incident.side() == Some(Side::Client))?.time;
        let holds = |at: Mono| at.before(EARLY) <= end && end <= at.after(HOLDS);
        let same = |record: &LogRecord| {
            record.pid.zip(incident.worker()).is_none_or(|(writer, owner)| writer == owner)
        };
        self.0.iter().rev().find(|(at, record)| holds(*at) && same(record)).map(|(_, record)| record)
    }
}
