//! What is shown while a log is read: a sign of progress on a terminal, and when an interim report is due.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::history::Aggregate;
use crate::nginx::archive::Progress;
use crate::output::sanitize;

/// Least time between two signs of progress.
const PAUSE: Duration = Duration::from_millis(200);

/// The sign of progress on a terminal.
pub(super) struct Sign {
    name: String,
    size: Option<u64>,
    started: Instant,
    last: Instant,
    is_shown: bool,
    is_terminal: bool,
}

impl Sign {
    pub(super) fn new(path: &Path, size: Option<u64>) -> Self {
        let now = Instant::now();
        let name = sanitize::line(&path.display().to_string(), 40).into_owned();
        Self { name, size, started: now, last: now, is_shown: false, is_terminal: io::stderr().is_terminal() }
    }

    pub(super) fn update(&mut self, progress: Progress, found: impl Fn() -> String) {
        if !self.is_terminal || self.last.elapsed() < PAUSE {
            return;
        }
        self.last = Instant::now();
        self.is_shown = true;
        let done = progress.bytes >> 20;
        let rate = u128::from(done) * 1000 / self.started.elapsed().as_millis().max(1);
        let part = self.size.map(|size| format!("{:3} % ", progress.bytes * 100 / size.max(1)));
        let part = part.unwrap_or_default();
        complain(&format!("\r\x1b[2K{} {part}{done} MiB, {rate} MiB/s; {}", self.name, found()));
    }

    pub(super) fn clear(&self) {
        if self.is_shown {
            complain("\r\x1b[2K");
        }
    }
}

/// What has been found, in a few words.
pub(super) fn so_far(counts: &Aggregate) -> String {
    let incidents = counts.window.total();
    match counts.leading() {
        Some(title) => format!("{incidents} incidents, mostly: {title}"),
        None => "no incident".to_owned(),
    }
}

/// When the next interim report is due.
pub(super) struct Interim {
    every: Duration,
    last: Instant,
    lines: u64,
}

impl Interim {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, last: Instant::now(), lines: 0 }
    }

    /// Whether it is time for one, and there is anything new to say.
    pub(super) fn is_due(&mut self, lines: u64) -> bool {
        if lines == self.lines || self.last.elapsed() < self.every {
            return false;
        }
        (self.last, self.lines) = (Instant::now(), lines);
        true
    }
}

/// Standard error may be closed; then nobody wanted to know.
pub(super) fn complain(text: &str) {
    let _closed = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_without_new_lines_or_before_its_time() {
        let mut interim = Interim::new(Duration::ZERO);
        assert!(!interim.is_due(0));
        assert!(interim.is_due(1));
        assert!(!interim.is_due(1));
        assert!(interim.is_due(2));
        assert!(!Interim::new(Duration::from_hours(1)).is_due(1));
    }
}
