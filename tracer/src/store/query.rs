//! Questions to the store: a filter becomes one statement whose values are always bound, never pasted.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, params, params_from_iter};

use super::{Store, StoreError};
use crate::model::verdict::{Cause, Certainty, Impact, Party};

/// What is asked for. Empty lists and `None` ask for everything; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before, nanoseconds since 1970.
    pub from: Option<i64>,
    /// Not after, nanoseconds since 1970.
    pub to: Option<i64>,
    /// One of these parties.
    pub parties: Vec<Party>,
    /// One of these causes.
    pub causes: Vec<Cause>,
    /// One of these certainties.
    pub certainties: Vec<Certainty>,
    /// One of these impacts.
    pub impacts: Vec<Impact>,
    /// Harmless ones are left out.
    pub without_harmless: bool,
    /// This upstream: address and port, or the address with any port.
    pub upstream: Option<String>,
    /// This client address.
    pub client: Option<String>,
    /// All of these words stand in the verdict, whatever their case.
    pub text: Vec<String>,
    /// At most so many, the latest.
    pub limit: Option<u64>,
    /// What stands behind the verdicts, too.
    pub with_dossiers: bool,
}

/// Which come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The oldest.
    #[default]
    Oldest,
    /// The latest.
    Latest,
}

/// One verdict found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number in the store.
    pub number: i64,
    /// The whole record, JSON.
    pub json: String,
    /// What stands behind it, packed, where that was kept and asked for.
    pub dossier: Option<Vec<u8>>,
}

impl Store {
    /// Where the lines of the log stand that the verdicts of the last `span` before the latest tell of, at most so
    /// many: file, offset, and Nginx's number of the connection.
    pub fn latest_lines(&self, span: Duration, most: u32) -> Result<HashSet<(String, u64, u64)>, StoreError> {
        const LINES: &str =
            "SELECT json_extract(verdict, '$.log.file'), json_extract(verdict, '$.log.offset'),
            json_extract(verdict, '$.log.connection') FROM (SELECT verdict FROM verdicts
            WHERE time >= (SELECT max(time) FROM verdicts) - ?1 ORDER BY time DESC LIMIT ?2)";
        let mut statement = self.connection.prepare(LINES)?;
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let span = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let lines = statement.query_map(params![span, most], |row| {
            let (file, offset) = (row.get::<_, Option<String>>(0)?, number(row.get(1)?));
            Ok(file.zip(offset).zip(number(row.get(2)?)))
        })?;
        let line = |((file, offset), connection)| (file, offset, connection);
        Ok(lines.filter_map(Result::transpose).map(|found| found.map(line)).collect::<Result<_, _>>()?)
    }

    /// Calls `take` with every verdict that fits, until it breaks off. Nothing is collected: the answer may be
    /// larger than memory.
    pub fn query(
        &self,
        filter: &Filter,
        order: Order,
        mut take: impl FnMut(Found) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (statement, values) = statement(filter, order);
        let mut statement = self.connection.prepare(&statement)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let found = Found { number: row.get(0)?, json: row.get(1)?, dossier: row.get(2)? };
            if take(found).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// How many verdicts fit.
    pub fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        let (statement, values) = counting(filter);
        let count: i64 = self.connection.query_row(&statement, params_from_iter(values), |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// How many verdicts fit, if they are not more than `most`; otherwise one more than that. Counting them all may mean
    /// reading the whole store.
    pub fn count_up_to(&self, filter: &Filter, most: u64) -> Result<u64, StoreError> {
        let (condition, mut values) = condition(filter);
        values.push(Value::Integer(i64::try_from(most.saturating_add(1)).unwrap_or(i64::MAX)));
        let statement = format!("SELECT count(*) FROM (SELECT 1 FROM verdicts {condition} LIMIT ?)");
        let count: i64 = self.connection.query_row(&statement, params_from_iter(values), |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The JSON of the verdict with this id.
    pub fn by_id(&self, id: &str) -> Result<Option<String>, StoreError> {
        const BY_ID: &str = "SELECT verdict FROM verdicts WHERE id = ?1";
        Ok(self.connection.query_row(BY_ID, params![id], |row| row.get(0)).optional()?)
    }

    /// Ids that begin like this, at most `most`.
    pub fn ids_like(&self, start: &str, most: u32) -> Result<Vec<String>, StoreError> {
        // `[` follows `Z`, the last letter of an id.
        const LIKE: &str = "SELECT id FROM verdicts WHERE id >= ?1 AND id < ?1 || '[' LIMIT ?2";
        let mut statement = self.connection.prepare_cached(LIKE)?;
        let ids = statement.query_map(params![start, most], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }
}

pub(super) fn statement(filter: &Filter, order: Order) -> (String, Vec<Value>) {
    let (condition, mut values) = condition(filter);
    let direction = if order == Order::Latest { "DESC" } else { "ASC" };
    let dossier = if filter.with_dossiers { "dossier" } else { "NULL" };
    let Some(limit) = filter.limit else {
        let all =
            format!("SELECT number, verdict, {dossier} FROM verdicts {condition} ORDER BY time {direction}");
        return (all, values);
    };
    values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    // The text of the records is read only for those that are shown.
    let latest = format!("SELECT number, time FROM verdicts {condition} ORDER BY time DESC LIMIT ?");
    let some = format!(
        "SELECT verdicts.number, verdict, {dossier} FROM ({latest}) AS latest JOIN verdicts USING (number) \
         ORDER BY latest.time {direction}"
    );
    (some, values)
}

pub(super) fn counting(filter: &Filter) -> (String, Vec<Value>) {
    let (condition, values) = condition(filter);
    (format!("SELECT count(*) FROM verdicts {condition}"), values)
}

fn condition(filter: &Filter) -> (String, Vec<Value>) {
    let mut parts = Parts::default();
    parts.push_value("time >= ?", filter.from.map(Value::Integer));
    parts.push_value("time <= ?", filter.to.map(Value::Integer));
    parts.push_any("party", filter.parties.iter().map(|party| party.slug()));
    parts.push_any("cause", filter.causes.iter().map(|cause| cause.slug()));
    parts.push_any("certainty", filter.certainties.iter().map(|certainty| certainty.slug()));
    parts.push_any("impact", filter.impacts.iter().map(|impact| impact.slug()));
    if filter.without_harmless {
        parts.push_value("impact <> ?", Some(Value::Text(Impact::Harmless.slug().to_owned())));
    }
    if let Some(upstream) = &filter.upstream {
        // `;` follows `:`: every port of an address, by the index.
        let every_port = [format!("{upstream}:"), format!("{upstream};")];
        parts.conditions.push("(upstream = ? OR (upstream >= ? AND upstream < ?))".to_owned());
        parts.values.push(Value::Text(upstream.clone()));
        parts.values.extend(every_port.map(Value::Text));
    }
    parts.push_value("client = ?", filter.client.clone().map(Value::Text));
    for word in &filter.text {
        parts.push_value("instr(words, ?) > 0", Some(Value::Text(word.to_lowercase())));
    }
    parts.finish()
}

#[derive(Default)]
struct Parts {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Parts {
    fn push_value(&mut self, condition: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.conditions.push(condition.to_owned());
            self.values.push(value);
        }
    }

    fn push_any<'a>(&mut self, column: &str, slugs: impl ExactSizeIterator<Item = &'a str>) {
        if slugs.len() > 0 {
            let places = vec!["?"; slugs.len()].join(", ");
            self.conditions.push(format!("{column} IN ({places})"));
            self.values.extend(slugs.map(|slug| Value::Text(slug.to_owned())));
        }
    }

    fn finish(self) -> (String, Vec<Value>) {
        if self.conditions.is_empty() {
            return (String::new(), self.values);
        }
        (format!("WHERE {}", self.conditions.join(" AND ")), self.values)
    }
}
