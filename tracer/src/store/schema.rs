//! The tables of the store and how an older store becomes one of this version: a list of steps, one per schema
//! number, each applied whole or not at all.

use rusqlite::{Connection, Result, TransactionBehavior};

use super::{APPLICATION_ID, LOG_BYTES, PATIENCE};

/// Step `n` leads from schema `n` to schema `n + 1`. A step that was released is never changed.
pub const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE verdicts (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        time INTEGER NOT NULL, -- nanoseconds since 1970, UTC
        party TEXT NOT NULL,
        cause TEXT NOT NULL,
        certainty TEXT NOT NULL,
        impact TEXT NOT NULL,
        upstream TEXT, -- address and port
        client TEXT, -- address without port
        words TEXT NOT NULL, -- what a search for text looks at
        verdict TEXT NOT NULL -- the whole record, JSON
    ) STRICT;
    CREATE INDEX verdicts_by_time ON verdicts (time);
    CREATE INDEX verdicts_by_cause ON verdicts (cause, time);
    CREATE INDEX verdicts_by_upstream ON verdicts (upstream, time) WHERE upstream IS NOT NULL;
    CREATE INDEX verdicts_by_client ON verdicts (client, time) WHERE client IS NOT NULL;
",
    "
    ALTER TABLE verdicts ADD COLUMN dossier BLOB; -- what stands behind it: JSON, zlib
    CREATE TABLE runs (
        began INTEGER PRIMARY KEY, -- nanoseconds since 1970, UTC
        version TEXT NOT NULL,
        host TEXT -- JSON
    ) STRICT;
    CREATE TABLE stretches (
        began INTEGER PRIMARY KEY, -- nanoseconds since 1970, UTC
        ended INTEGER NOT NULL,
        run INTEGER NOT NULL,
        connections INTEGER NOT NULL,
        changes INTEGER NOT NULL,
        lost TEXT NOT NULL -- by hand-over, JSON
    ) STRICT;
",
    // With what verdicts are chosen by besides, so that no record is read only to be counted or passed over.
    "
    DROP INDEX verdicts_by_time;
    DROP INDEX verdicts_by_cause;
    DROP INDEX verdicts_by_upstream;
    DROP INDEX verdicts_by_client;
    CREATE INDEX verdicts_by_time ON verdicts (time, impact, party, cause, certainty);
    CREATE INDEX verdicts_by_cause ON verdicts (cause, time, impact, party, certainty);
    CREATE INDEX verdicts_by_upstream ON verdicts (upstream, time, impact) WHERE upstream IS NOT NULL;
    CREATE INDEX verdicts_by_client ON verdicts (client, time, impact) WHERE client IS NOT NULL;
",
];

/// Schema of this version.
#[expect(clippy::cast_possible_truncation, reason = "a handful of steps")]
pub const KNOWN: u32 = MIGRATIONS.len() as u32;

/// What must be said before the first table is made, and on every connection that writes.
pub(super) fn set_up(connection: &Connection) -> Result<()> {
    connection.busy_timeout(PATIENCE)?;
    if number(connection, "page_count")? == 0 {
        // Only an empty file takes these two.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A verdict that was acknowledged survives a power failure, too; batches keep that cheap.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.pragma_update(None, "cache_size", -2048_i64) // Negative: KiB.
}

/// Applies the steps that are not applied yet.
pub fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let done = usize::try_from(number(&transaction, "user_version")?).unwrap_or(usize::MAX);
    for step in steps.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    let reached = i64::try_from(steps.len().max(done)).unwrap_or(i64::MAX);
    transaction.pragma_update(None, "user_version", reached)?;
    transaction.commit()
}

/// The value of a pragma that is a number.
pub(super) fn number(connection: &Connection, pragma: &str) -> Result<i64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}
