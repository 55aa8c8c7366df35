//! What the service manager is told: that the daemon is ready, that it lives, and how it is, in one line.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sd_notify::NotifyState;

use super::allocator::Trim;
use super::coverage::Coverage;
use super::notify::notify;
use super::patterns::Patterns;
use super::{Journal, Level};
use crate::metrics::Shared;
use crate::output::SessionHeader;
use crate::output::layout::count;
use crate::session::Pulse;

/// Tells the service manager, and the metrics, with every pulse.
pub(super) struct Status {
    shared: Arc<Shared>,
    journal: Journal,
    ready: bool,
    said: String,
    problems: Vec<String>,
    patterns: Patterns,
    /// Nginx's processes at the last pulse.
    processes: Vec<u32>,
    coverage: Coverage,
    trim: Trim,
}

impl Status {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal, patterns: Patterns, coverage: Coverage) -> Self {
        Self {
            shared,
            journal,
            ready: false,
            said: String::new(),
            problems: Vec::new(),
            patterns,
            processes: Vec::new(),
            coverage,
            trim: Trim::new(),
        }
    }

    /// Watching begins.
    pub(super) fn header(&self, page: &SessionHeader) {
        let masters: Vec<String> = page.nginx.iter().map(|nginx| nginx.master.to_string()).collect();
        let ports: Vec<_> =
            page.filters.iter().filter_map(|filter| filter.strip_prefix("--listen-port ")).collect();
        let what = if ports.is_empty() {
            format!("Nginx (master {})", masters.join(", "))
        } else {
            format!("what listens on port {}, for `rstscope correlate`", ports.join(", "))
        };
        let text = format!(
            "watching {what}: {}, {}, {}",
            count(number(page.listeners.len()), "listen socket"),
            count(number(page.upstreams.len()), "upstream"),
            count(number(page.logs.len()), "log"),
        );
        self.journal.line(Level::Notice, &text);
        for log in page.logs.iter().filter(|log| log.problem.is_some()) {
            let why = log.problem.as_deref().unwrap_or_default();
            self.journal.line(Level::Warning, &format!("log {} is not followed: {why}", log.path));
        }
        for note in &page.notes {
            self.journal.line(Level::Warning, note);
        }
    }

    /// One more second has passed in order.
    pub(super) fn pulse(&mut self, pulse: Pulse) {
        let text = self.text(&pulse);
        if self.processes != pulse.processes {
            self.patterns.mark();
            self.coverage.changed();
            self.processes.clone_from(&pulse.processes);
        }
        pulse.upstream_changes.iter().for_each(|change| self.patterns.change(change));
        self.coverage.pulse(&pulse);
        self.trim.pulse(pulse.engine.events + pulse.engine.lines);
        self.shared.beat(pulse);
        self.shared.store.take_news().iter().for_each(|news| self.journal.line(Level::Error, news));
        self.tell_problems();
        let mut states = vec![NotifyState::Watchdog];
        if !self.ready {
            states.push(NotifyState::Ready);
        }
        if text != self.said {
            states.push(NotifyState::Status(&text));
        }
        // What a busy service manager did not take is told again with the next pulse.
        if notify(&states).is_ok() {
            self.ready = true;
            self.said = text;
        }
    }

    /// Nothing more is watched.
    pub(super) fn end(&mut self) {
        self.coverage.end_stretch();
    }

    fn text(&self, pulse: &Pulse) -> String {
        let watched = match pulse.masters {
            0 => "waiting for an Nginx".to_owned(),
            masters => {
                let workers = count(number(pulse.workers), "worker");
                format!("watching {} with {workers}", count(number(masters), "Nginx master"))
            }
        };
        let stored = self.shared.store.stored.load(Ordering::Relaxed);
        let mut parts = vec![watched, format!("{} stored", count(stored, "verdict"))];
        let off: Vec<&str> =
            pulse.hooks.iter().filter(|hook| !hook.running).map(|hook| hook.name.as_str()).collect();
        if !off.is_empty() {
            parts.push(format!("hooks off: {}", off.join(", ")));
        }
        if self.shared.store.failing.load(Ordering::Relaxed) {
            parts.push("the store takes no verdicts".to_owned());
        }
        let engine: u64 = pulse.engine.lost().iter().map(|(_, lost)| lost).sum();
        let lost = pulse.losses.total() + engine + self.shared.store.lost();
        if lost > 0 {
            parts.push(format!("{lost} lost"));
        }
        parts.join("; ")
    }

    /// Says what is newly wrong, and what is right again.
    fn tell_problems(&mut self) {
        let problems = self.shared.problems();
        for new in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            self.journal.line(Level::Warning, new);
        }
        for gone in self.problems.iter().filter(|problem| !problems.contains(problem)) {
            self.journal.line(Level::Notice, &format!("no longer: {gone}"));
        }
        self.problems = problems;
    }
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
