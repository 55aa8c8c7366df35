//! How the daemon's time was watched, stretch by stretch: adds up pulses and hands each minute to the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::metrics::Shared;
use crate::model::{HostFacts, Losses, Utc};
use crate::session::Pulse;
use crate::store::{Run, Stretch, Writer};

/// Longest stretch.
const LONGEST: Duration = Duration::from_mins(1);

/// Counts since the daemon's start.
#[derive(Clone, Default)]
struct Counts {
    connections: u64,
    lost: BTreeMap<String, u64>,
}

/// Adds up pulses.
pub(super) struct Coverage {
    writer: Arc<Writer>,
    shared: Arc<Shared>,
    /// When the daemon was started.
    run: Utc,
    /// When the present stretch began, as the clock of the day had it then, and by one that is never set.
    began: Utc,
    since: Instant,
    /// What was counted until then, and until now.
    before: Counts,
    latest: Counts,
    /// Changes of Nginx's processes in the present stretch.
    changes: u64,
}

impl Coverage {
    /// Watching begins now.
    pub(super) fn new(writer: Arc<Writer>, shared: Arc<Shared>) -> Self {
        let run = now();
        writer.watches(run_of(run, None));
        let (before, latest) = <(Counts, Counts)>::default();
        Self { writer, shared, run, began: run, since: Instant::now(), before, latest, changes: 0 }
    }

    /// Nginx has other processes than before.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
    }

    /// One more second was watched.
    pub(super) fn pulse(&mut self, pulse: &Pulse) {
        if pulse.host.is_some() {
            self.writer.watches(run_of(self.run, pulse.host.clone()));
        }
        let mut lost = pulse.losses.by_handover.clone();
        lost.insert("store".to_owned(), self.shared.store.lost());
        self.latest = Counts { connections: pulse.connections, lost };
        if self.since.elapsed() >= LONGEST {
            self.end_stretch();
        }
    }

    /// Ends the present stretch. It is as long as was watched, also where the clock of the day was set meanwhile.
    pub(super) fn end_stretch(&mut self) {
        let length = i64::try_from(self.since.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let (before, latest) = (&self.before, &self.latest);
        self.writer.watched(Stretch {
            began: self.began,
            ended: Utc(self.began.0.saturating_add(length)),
            run: self.run,
            connections: latest.connections.saturating_sub(before.connections),
            changes: self.changes,
            losses: Losses { by_handover: grown(&before.lost, &latest.lost) },
        });
        (self.began, self.since) = (now(), Instant::now());
        (self.before, self.changes) = (self.latest.clone(), 0);
    }
}

/// What was added to each count.
fn grown(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = now.iter().map(|(name, number)| {
        let before = before.get(name).copied().unwrap_or(0);
        (name.clone(), number.saturating_sub(before))
    });
    more.filter(|(_, number)| *number > 0).collect()
}

fn run_of(began: Utc, host: Option<Box<HostFacts>>) -> Run {
    Run { began, version: env!("CARGO_PKG_VERSION").to_owned(), host }
}

fn now() -> Utc {
    Utc(i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Retention, Store};

    #[test]
    fn a_clock_that_was_set_loses_no_stretch_and_lengthens_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdicts.db");
        let store = Store::create(&path).unwrap();
        let writer = Writer::start(store, Retention::default(), Box::new(|_, _| ()), || ()).unwrap();
        let writer = Arc::new(writer);
        let shared = Shared::new(writer.account(), crate::metrics::Notices::default(), 8);
        let mut coverage = Coverage::new(Arc::clone(&writer), Arc::new(shared));
        let present = coverage.began.0;
        for (began, connections) in [(present + 3_600_000_000_000, 10), (present - 3_600_000_000_000, 30)] {
            coverage.began = Utc(began);
            coverage.pulse(&Pulse { connections, ..Pulse::default() });
            coverage.end_stretch();
        }
        drop((coverage, writer));
        let found = Store::open(&path).unwrap().coverage(None, None).unwrap();
        assert_eq!((found.spans.len(), found.connections), (2, 30));
        assert!(
            found.spans.iter().all(|(from, to)| (0..60_000_000_000).contains(&(to.0 - from.0))),
            "{found:?}"
        );
    }

    #[test]
    fn only_what_grew_is_a_loss_of_the_stretch() {
        let of = |pairs: &[(&str, u64)]| {
            pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
        };
        let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (of(&[("a", 3), ("b", 4)]), of(&[("a", 3), ("b", 9), ("c", 1)]));
        assert_eq!(grown(&before, &after), of(&[("b", 5), ("c", 1)]));
    }
}
