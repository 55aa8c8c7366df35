//! When a daemon watched, and what it saw and lost meanwhile: without that a count of verdicts is no rate. A row for
//! each minute or so, with the counts of that stretch alone, so that any window can be added up.

use rusqlite::params;

use super::{Store, StoreError};
use crate::model::{HostFacts, Losses, Utc};

/// Stretches this close to each other are one, nanoseconds: a daemon that was stopped is away for longer.
const SEAM: i64 = 2_000_000_000;

/// A stretch of time in which a daemon watched. All counts are those of the stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Its beginning.
    pub began: Utc,
    /// Its end.
    pub ended: Utc,
    /// When the daemon that watched was started.
    pub run: Utc,
    /// Connections that Nginx had.
    pub connections: u64,
    /// How often other processes were Nginx's than before: started, reloaded, stopped, replaced.
    pub changes: u64,
    /// What was lost, by hand-over.
    pub losses: Losses,
}

/// A daemon that watched, from its start to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// When it was started.
    pub began: Utc,
    /// Its version.
    pub version: String,
    /// What it knew of the host at last; `None` where it never found an Nginx, or where another version wrote it.
    pub host: Option<Box<HostFacts>>,
}

/// How a window of time was watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Coverage {
    /// When, earliest first; stretches that follow each other are one.
    pub spans: Vec<(Utc, Utc)>,
    /// Connections that Nginx had, of stretches whose middle is in the window.
    pub connections: u64,
    /// Changes of Nginx's processes, of the same.
    pub changes: u64,
    /// What was lost in the same.
    pub losses: Losses,
    /// Who watched, earliest first.
    pub runs: Vec<Run>,
}

impl Store {
    /// Stores a stretch; it is on the disk when this returns. One with the same beginning gives way.
    pub fn insert_stretch(&mut self, stretch: &Stretch) -> Result<(), StoreError> {
        const INSERT: &str =
            "INSERT OR REPLACE INTO stretches (began, ended, run, connections, changes, lost)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let lost =
            serde_json::to_string(&stretch.losses).map_err(|why| StoreError::Verdict(why.to_string()))?;
        let Stretch { began, ended, run, .. } = stretch;
        let (connections, changes) = (signed(stretch.connections), signed(stretch.changes));
        let mut insert = self.connection.prepare_cached(INSERT)?;
        insert.execute(params![began.0, ended.0, run.0, connections, changes, lost])?;
        Ok(())
    }

    /// Stores who watches, or what is newly known of its host.
    pub fn insert_run(&mut self, run: &Run) -> Result<(), StoreError> {
        const INSERT: &str = "INSERT INTO runs (began, version, host) VALUES (?1, ?2, ?3)
            ON CONFLICT (began) DO UPDATE SET host = excluded.host";
        let host = run.host.as_ref().map(serde_json::to_string).transpose();
        let host = host.map_err(|why| StoreError::Verdict(why.to_string()))?;
        self.connection.execute(INSERT, params![run.began.0, run.version, host])?;
        Ok(())
    }

    /// How the time between two moments was watched; an end that is left out is open.
    pub fn coverage(&self, from: Option<Utc>, to: Option<Utc>) -> Result<Coverage, StoreError> {
        const BETWEEN: &str = "SELECT began, ended, run, connections, changes, lost FROM stretches
            WHERE ended > ?1 AND began < ?2 ORDER BY began";
        let (from, to) = (from.map_or(i64::MIN, |from| from.0), to.map_or(i64::MAX, |to| to.0));
        let mut coverage = Coverage::default();
        let mut runs: Vec<i64> = Vec::new();
        let mut statement = self.connection.prepare(BETWEEN)?;
        let mut rows = statement.query(params![from, to])?;
        while let Some(row) = rows.next()? {
            let (began, ended): (i64, i64) = (row.get(0)?, row.get(1)?);
            runs.push(row.get(2)?);
            coverage.span(began.max(from), ended.min(to));
            let middle = began.midpoint(ended);
            if (from..to).contains(&middle) {
                let lost: String = row.get(5)?;
                coverage.add(row.get(3)?, row.get(4)?, &serde_json::from_str(&lost).unwrap_or_default());
            }
        }
        runs.sort_unstable();
        runs.dedup();
        for began in runs {
            coverage.runs.extend(self.run(began)?);
        }
        Ok(coverage)
    }

    fn run(&self, began: i64) -> Result<Option<Run>, StoreError> {
        const BY_START: &str = "SELECT version, host FROM runs WHERE began = ?1";
        let mut statement = self.connection.prepare_cached(BY_START)?;
        let mut rows = statement.query(params![began])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let host: Option<String> = row.get(1)?;
        let host = host.and_then(|host| serde_json::from_str(&host).ok());
        Ok(Some(Run { began: Utc(began), version: row.get(0)?, host }))
    }

    /// Deletes what is known of the time before a moment, nanoseconds since 1970. Where verdicts were deleted, a
    /// stretch without any would look as if nothing had happened.
    pub(super) fn forget_coverage_before(&self, time: i64) -> Result<(), StoreError> {
        const STRETCHES: &str = "DELETE FROM stretches WHERE began < ?1";
        const UNUSED: &str = "DELETE FROM runs WHERE began < ?1 AND began NOT IN (SELECT run FROM stretches)";
        for statement in [STRETCHES, UNUSED] {
            self.connection.prepare_cached(statement)?.execute(params![time])?;
        }
        Ok(())
    }
}

impl Coverage {
    fn span(&mut self, from: i64, to: i64) {
        match self.spans.last_mut() {
            Some((_, end)) if from.saturating_sub(end.0) <= SEAM => end.0 = end.0.max(to),
            _ => self.spans.push((Utc(from), Utc(to))),
        }
    }

    fn add(&mut self, connections: i64, changes: i64, losses: &Losses) {
        self.connections = self.connections.saturating_add(u64::try_from(connections).unwrap_or(0));
        self.changes = self.changes.saturating_add(u64::try_from(changes).unwrap_or(0));
        for (handover, lost) in &losses.by_handover {
            let sum = self.losses.by_handover.entry(handover.clone()).or_default();
            *sum = sum.saturating_add(*lost);
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    fn stretch(minute: i64, run: i64, connections: u64, lost: u64) -> Stretch {
        let losses = Losses { by_handover: [("channel".to_owned(), lost)].into() };
        let (began, ended) = (Utc(minute * MINUTE), Utc((minute + 1) * MINUTE));
        Stretch { began, ended, run: Utc(run * MINUTE), connections, changes: 1, losses }
    }

    fn run(minute: i64, version: &str) -> Run {
        let host = Some(Box::new(HostFacts { host: "edge1".to_owned(), ..HostFacts::default() }));
        Run { began: Utc(minute * MINUTE), version: version.to_owned(), host }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::create(&folder.path().join("a.db")).unwrap();
        for (minute, of) in [(1, 1), (2, 1), (3, 1), (9, 9), (10, 9)] {
            store.insert_stretch(&stretch(minute, of, 100, 2)).unwrap();
        }
        store.insert_run(&run(1, "1.0")).unwrap();
        store.insert_run(&run(9, "1.1")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_window_is_added_up_and_cut_and_its_gap_stays_one() {
        let (_folder, store) = store();
        let all = store.coverage(None, None).unwrap();
        let minutes = |spans: &[(Utc, Utc)]| -> Vec<(i64, i64)> {
            spans.iter().map(|(from, to)| (from.0 / MINUTE, to.0 / MINUTE)).collect()
        };
        assert_eq!(minutes(&all.spans), [(1, 4), (9, 11)]);
        assert_eq!((all.connections, all.changes, all.losses.total()), (500, 5, 10));
        assert_eq!(all.runs, [run(1, "1.0"), run(9, "1.1")]);
        let cut = store.coverage(Some(Utc(2 * MINUTE + 1)), Some(Utc(9 * MINUTE + MINUTE / 4))).unwrap();
        assert_eq!(cut.spans[0], (Utc(2 * MINUTE + 1), Utc(4 * MINUTE)));
        assert_eq!(cut.spans[1], (Utc(9 * MINUTE), Utc(9 * MINUTE + MINUTE / 4)));
        assert_eq!((cut.connections, cut.losses.total()), (200, 4));
        assert_eq!(
            store.coverage(Some(Utc(5 * MINUTE)), Some(Utc(6 * MINUTE))).unwrap(),
            Coverage::default()
        );
    }

    #[test]
    fn what_is_newly_known_of_a_run_replaces_the_old() {
        let (_folder, mut store) = store();
        store.insert_run(&Run { host: None, ..run(9, "1.1") }).unwrap();
        assert_eq!(store.coverage(Some(Utc(9 * MINUTE)), None).unwrap().runs[0].host, None);
    }

    #[test]
    fn time_whose_verdicts_are_gone_is_not_watched_time() {
        let (_folder, store) = store();
        store.forget_coverage_before(5 * MINUTE).unwrap();
        let left = store.coverage(None, None).unwrap();
        assert_eq!((left.connections, left.runs.len()), (200, 1));
        let runs: i64 =
            store.connection.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
        assert_eq!(runs, 1);
    }
}
