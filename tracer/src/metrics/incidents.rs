//! Incidents by the labels people alert on, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Impact, Kind, Party};
use crate::output::sanitize;
use crate::store::upstream_of;

/// Label of what is beyond a bound.
pub const OTHER: &str = "other";
/// Label of an incident that concerns no upstream.
const NONE: &str = "none";
/// Characters of a label.
const MAX_LABEL: usize = 64;
/// Sets of labels; beyond it the upstream is left out.
const MOST_SETS: usize = 2000;

/// The labels of an incident.
pub type Labels = (Party, Cause, Certainty, Impact, String);

/// Counts of incidents. They only grow.
#[derive(Debug, Clone)]
pub struct Incidents {
    most_upstreams: usize,
    upstreams: BTreeSet<String>,
    /// Incidents by their labels.
    pub counts: BTreeMap<Labels, u64>,
    /// Incidents by how log and kernel were joined.
    pub joins: BTreeMap<&'static str, u64>,
    /// Joins that more than one line or event would have fitted.
    pub ambiguous: u64,
    /// By upstream: the last idle time after which it ended a kept-alive connection, seconds.
    pub idle_seconds: BTreeMap<String, f64>,
}

impl Incidents {
    /// None yet; so many upstreams get a label of their own.
    pub fn new(most_upstreams: usize) -> Self {
        Self {
            most_upstreams,
            upstreams: BTreeSet::new(),
            counts: BTreeMap::new(),
            joins: BTreeMap::new(),
            ambiguous: 0,
            idle_seconds: BTreeMap::new(),
        }
    }

    /// Counts one.
    pub fn add(&mut self, verdict: &Verdict) {
        let upstream = self.upstream(verdict);
        let key = |upstream: &str| {
            (verdict.party, verdict.cause, verdict.certainty, verdict.impact, upstream.to_owned())
        };
        let mut labels = key(&upstream);
        if self.counts.len() >= MOST_SETS && !self.counts.contains_key(&labels) {
            labels = key(OTHER);
        }
        *self.counts.entry(labels).or_default() += 1;
        *self.joins.entry(join(verdict)).or_default() += 1;
        self.ambiguous += u64::from(verdict.matched.as_ref().is_some_and(|matched| matched.candidates > 1));
        self.note_idle(verdict, upstream);
    }

    /// The upstream as a label, of which there are only so many.
    fn upstream(&mut self, verdict: &Verdict) -> String {
        let Some(upstream) = upstream_of(verdict) else { return NONE.to_owned() };
        let label = sanitize::line(&upstream, MAX_LABEL).into_owned();
        if !self.upstreams.contains(&label) {
            if self.upstreams.len() >= self.most_upstreams {
                return OTHER.to_owned();
            }
            self.upstreams.insert(label.clone());
        }
        label
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of an idle time")]
    fn note_idle(&mut self, verdict: &Verdict, upstream: String) {
        let idle = verdict.connection.as_ref().and_then(|connection| connection.idle_ms);
        if let (Cause::UpstreamKeepaliveRace, Some(idle)) = (verdict.cause, idle) {
            self.idle_seconds.insert(upstream, idle as f64 / 1000.0);
        }
    }
}

/// How log and kernel were joined, or which of the two speaks alone.
fn join(verdict: &Verdict) -> &'static str {
    match (&verdict.matched, verdict.kind, &verdict.log) {
        (Some(matched), ..) => matched.method.slug(),
        (None, Kind::LogOnly, _) | (None, _, Some(_)) => "log_only",
        (None, _, None) => "kernel_only",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::output::samples;

    #[test]
    fn requests_to_an_upstream_of_the_log_alone_are_no_labels() {
        let mut incidents = Incidents::new(8);
        let mut verdict = samples::no_live_upstreams();
        for number in 0..100 {
            verdict.log.as_mut().unwrap().upstream = Some(format!("http://unix:/run/app.sock:/?n={number}"));
            incidents.add(&verdict);
        }
        let labels: Vec<_> =
            incidents.counts.iter().map(|((.., upstream), count)| (&**upstream, *count)).collect();
        assert_eq!(labels, [("unix:/run/app.sock", 100)]);
    }

    #[test]
    fn upstreams_are_bounded_and_nothing_is_forgotten() {
        let mut incidents = Incidents::new(3);
        let mut verdict = samples::upstream_abort();
        for number in 0..5000 {
            verdict.connection.as_mut().unwrap().remote =
                format!("10.0.{}.{}:80", number / 250, number % 250);
            incidents.add(&verdict);
        }
        assert_eq!(incidents.counts.len(), 4);
        assert_eq!(incidents.counts.values().sum::<u64>(), 5000);
        assert_eq!(incidents.counts.iter().find(|(labels, _)| labels.4 == OTHER).unwrap().1, &4997);
    }

    #[test]
    fn sets_of_labels_are_bounded_whatever_is_configured() {
        let mut incidents = Incidents::new(usize::MAX);
        let mut verdict = samples::upstream_abort();
        for number in 0..3000 {
            verdict.connection.as_mut().unwrap().remote =
                format!("10.0.{}.{}:80", number / 250, number % 250);
            incidents.add(&verdict);
        }
        assert_eq!(incidents.counts.len(), MOST_SETS + 1);
        assert_eq!(incidents.counts.values().sum::<u64>(), 3000);
    }

    #[test]
    fn the_idle_time_of_an_upstream_is_the_measured_one() {
        let mut incidents = Incidents::new(8);
        let verdict = samples::keepalive_race();
        incidents.add(&verdict);
        let idle = verdict.connection.unwrap();
        assert_eq!(incidents.idle_seconds.keys().next(), Some(&idle.remote));
        let measured = Duration::from_secs_f64(incidents.idle_seconds[&idle.remote]);
        assert_eq!(measured, Duration::from_millis(idle.idle_ms.unwrap()));
    }

    #[test]
    fn every_incident_says_how_it_was_joined() {
        let mut incidents = Incidents::new(8);
        let all = samples::all();
        for verdict in &all {
            incidents.add(verdict);
        }
        assert_eq!(incidents.joins.values().sum::<u64>(), all.len() as u64);
        assert!(incidents.joins.contains_key("log_only") && incidents.joins.contains_key("address"));
    }
}
