//! How long verdicts are kept: by age and by size. The oldest go first, a few at a time, so that nothing waits
//! long for the one writer there can be.

use std::time::Duration;

use rusqlite::params;

use super::{Store, StoreError};

/// Rows deleted in one statement.
const PIECE: i64 = 100;
/// Free pages given back to the file system at once.
const PAGES: i64 = 4096;
/// Of the permitted size, how much is kept when it was exceeded; without a margin every batch would delete.
const KEPT: (u64, u64) = (19, 20);

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Longest age; `None` for ever.
    pub age: Option<Duration>,
    /// Largest size of the database, bytes; `None` without a bound.
    pub bytes: Option<u64>,
}

impl Store {
    /// Deletes what is not to be kept at `now` (nanoseconds since 1970). Gives the number of verdicts deleted.
    pub fn retain(&self, retention: Retention, now: i64) -> Result<u64, StoreError> {
        let mut deleted = 0;
        if let Some(age) = retention.age {
            let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            let before = now.saturating_sub(age);
            deleted += self.delete_before(before)?;
            self.forget_coverage_before(before)?;
        }
        if let Some(most) = retention.bytes.filter(|most| self.bytes().is_ok_and(|bytes| bytes > *most)) {
            deleted += self.shrink_to(most / KEPT.1 * KEPT.0)?;
            self.forget_coverage_before(self.oldest()?.unwrap_or(now))?;
        }
        if deleted > 0 {
            self.give_back()?;
        }
        Ok(deleted)
    }

    fn delete_before(&self, time: i64) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let gone = self.delete_oldest(time)?;
            deleted += gone;
            if gone == 0 {
                return Ok(deleted);
            }
        }
    }

    fn shrink_to(&self, bytes: u64) -> Result<u64, StoreError> {
        let mut deleted = 0;
        while self.bytes()? > bytes {
            let gone = self.delete_oldest(i64::MAX)?;
            deleted += gone;
            if gone == 0 {
                break;
            }
        }
        Ok(deleted)
    }

    fn delete_oldest(&self, before: i64) -> Result<u64, StoreError> {
        const DELETE: &str = "DELETE FROM verdicts WHERE number IN
            (SELECT number FROM verdicts WHERE time < ?1 ORDER BY time LIMIT ?2)";
        let gone = self.connection.prepare_cached(DELETE)?.execute(params![before, PIECE])?;
        Ok(u64::try_from(gone).unwrap_or(u64::MAX))
    }

    /// Gives free pages back to the file system, and what is in the log to the database.
    fn give_back(&self) -> Result<(), StoreError> {
        // Each step of this statement gives one page back.
        let mut vacuum = self.connection.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut steps = vacuum.query([])?;
        while steps.next()?.is_some() {}
        // A reader in the middle of a question only puts this off.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}
