//! Statements that change the store. A batch of verdicts is stored whole or not at all.

use rusqlite::{TransactionBehavior, params};

use super::{Row, Store, StoreError, schema};

const INSERT: &str = "INSERT OR IGNORE INTO verdicts
    (id, time, party, cause, certainty, impact, upstream, client, words, verdict, dossier)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

impl Store {
    /// Stores rows; they are on the disk when this returns. One whose id is there already stays as it is.
    pub fn insert(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for row in rows {
                let Row { id, time, party, cause, certainty, impact, .. } = row;
                let Row { upstream, client, words, json, dossier, .. } = row;
                insert.execute(params![
                    id, time, party, cause, certainty, impact, upstream, client, words, json, dossier
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Bytes of the database that hold something; the write-ahead log and free pages are not counted.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let of = |pragma| schema::number(&self.connection, pragma);
        let pages = of("page_count")?.saturating_sub(of("freelist_count")?);
        Ok(u64::try_from(pages.saturating_mul(of("page_size")?)).unwrap_or(0))
    }

    /// Time of the oldest verdict, nanoseconds since 1970.
    pub fn oldest(&self) -> Result<Option<i64>, StoreError> {
        Ok(self.connection.query_row("SELECT min(time) FROM verdicts", [], |row| row.get(0))?)
    }

    /// Time of the latest verdict or moment of watching, nanoseconds since 1970.
    pub fn latest(&self) -> Result<Option<i64>, StoreError> {
        const LATEST: &str = "SELECT max(time) FROM (SELECT max(time) AS time FROM verdicts UNION SELECT max(ended) FROM stretches)";
        Ok(self.connection.query_row(LATEST, [], |row| row.get(0))?)
    }

    /// Whether the pages of the file agree with each other; the first complaint where they do not.
    pub fn verify(&self) -> Result<Option<String>, StoreError> {
        let said: String = self.connection.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
        Ok((said != "ok").then_some(said))
    }

    /// Refuses to let the file grow beyond so many bytes: a bound that holds even where retention cannot keep up.
    pub fn limit(&self, bytes: u64) -> Result<(), StoreError> {
        let page = schema::number(&self.connection, "page_size")?.max(1);
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page;
        self.connection.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))?;
        Ok(())
    }
}
