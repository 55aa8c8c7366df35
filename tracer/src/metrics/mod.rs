//! Numbers for Prometheus. What is counted here is bounded: label values are slugs, addresses or names of our own,
//! and beyond a bound they are `other`.
//!
//! [`Shared`] is filled by the session and by the threads beside it; [`page`] makes it text. Nobody who fills it ever
//! waits for a scrape longer than it takes to copy a few numbers.

mod collect;
pub mod family;
mod incidents;
mod plain;
mod process;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use collect::families;
pub use incidents::Incidents;
pub use plain::plain;

use crate::model::Verdict;
use crate::outbound;
use crate::session::Pulse;
use crate::store;

/// A pulse older than this means that the event loop does not turn any more. It comes once a second.
const STALE: Duration = Duration::from_secs(10);

/// Everything the metrics are made of.
#[derive(Debug)]
pub struct Shared {
    pulse: Mutex<Option<(Instant, Arc<Pulse>)>>,
    incidents: Mutex<Incidents>,
    /// What became of the verdicts that were to be stored.
    pub store: Arc<store::Account>,
    /// The readers of the socket.
    pub live: LiveCounts,
    /// Verdicts that the search for patterns did not take.
    pub patterns_lost: AtomicU64,
    patterns: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// Lines that the journal did not take.
    pub journal_lost: AtomicU64,
    /// What became of the notices, by receiver.
    pub notices: Notices,
    /// What became of what was to be sent by OTLP.
    pub otlp: Arc<outbound::otlp::Account>,
    /// Scrapes answered.
    pub scrapes: AtomicU64,
}

/// What became of the notices, by receiver.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    /// The webhook.
    pub webhook: Arc<outbound::Account>,
    /// The command.
    pub command: Arc<outbound::Account>,
}

impl Notices {
    /// Each with its name.
    pub(super) fn named(&self) -> [(&'static str, &outbound::Account); 2] {
        [("webhook", &self.webhook), ("command", &self.command)]
    }
}

/// What the readers of the socket are like. The numbers only grow, except `readers`.
#[derive(Debug, Default)]
pub struct LiveCounts {
    /// Readers now.
    pub readers: AtomicU64,
    /// Readers that were too slow and were cut.
    pub cut: AtomicU64,
    /// Readers that were turned away.
    pub refused: AtomicU64,
    /// Verdicts that slow readers did not get.
    pub missed: AtomicU64,
}

impl Shared {
    /// Numbers of a daemon that has just started; so many upstreams get a label of their own.
    pub fn new(store: Arc<store::Account>, notices: Notices, upstreams: usize) -> Self {
        Self {
            pulse: Mutex::new(None),
            incidents: Mutex::new(Incidents::new(upstreams)),
            store,
            live: LiveCounts::default(),
            patterns_lost: AtomicU64::new(0),
            patterns: Mutex::default(),
            journal_lost: AtomicU64::new(0),
            notices,
            otlp: Arc::default(),
            scrapes: AtomicU64::new(0),
        }
    }

    /// Takes the latest pulse of the session.
    pub fn beat(&self, pulse: Pulse) {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::new(pulse)));
    }

    /// Counts a verdict.
    pub fn count(&self, verdict: &Verdict) {
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner).add(verdict);
    }

    /// Counts a notice of a pattern, by its slug and that of its group of incidents.
    pub fn note_pattern(&self, pattern: &'static str, group: &'static str) {
        *self.patterns.lock().unwrap_or_else(PoisonError::into_inner).entry((pattern, group)).or_default() +=
            1;
    }

    fn patterns(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.patterns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The latest pulse, and whether it is fresh.
    pub fn pulse(&self) -> (Option<Arc<Pulse>>, bool) {
        let pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fresh = pulse.as_ref().is_some_and(|(taken, _)| taken.elapsed() < STALE);
        (pulse.map(|(_, pulse)| pulse), fresh)
    }

    fn incidents(&self) -> Incidents {
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong at the moment, a sentence each; empty when everything is as it should be.
    pub fn problems(&self) -> Vec<String> {
        let (pulse, fresh) = self.pulse();
        let mut problems = Vec::new();
        if !fresh {
            problems.push("the event loop gave no sign of life for ten seconds".to_owned());
        }
        if let Some(pulse) = pulse {
            let off = pulse.hooks.iter().filter(|hook| !hook.running);
            problems.extend(off.map(|hook| format!("hook {} does not run: {}", hook.name, why(hook))));
            problems
                .extend(pulse.log_problems.iter().map(|problem| format!("a log is not followed: {problem}")));
        }
        problems.extend(self.store.problem().map(|why| format!("verdicts are not stored: {why}")));
        problems.extend(self.otlp.problem().map(|why| format!("nothing new is sent by OTLP: {why}")));
        problems
    }

    /// Whether verdicts are given and kept: the loop turns, the kernel is looked at, and the store takes them.
    pub fn is_ready(&self) -> bool {
        let (pulse, fresh) = self.pulse();
        fresh
            && pulse.is_some_and(|pulse| pulse.sees_the_kernel())
            && !self.store.failing.load(Ordering::Relaxed)
    }
}

fn why(hook: &crate::model::HookState) -> &str {
    hook.problem.as_deref().unwrap_or("no reason known")
}

/// The metrics in the OpenMetrics text format.
pub fn page(shared: &Arc<Shared>) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collect::Collector(Arc::clone(shared))));
    let mut text = String::with_capacity(16 << 10);
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests;
