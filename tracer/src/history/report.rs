//! The result as plain data: shares, rankings, patterns, what the log can't show and what to do next.
//! The renderers show it and compute nothing. Text is raw here; every renderer makes it safe in its own way.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::aggregate::{Aggregate, has_level};
use super::classify::Other;
use super::pattern::{self, Dimension, Group, Window, burst};
use super::table::{Cell, Table};
use super::topic::{TOPICS, Topic};
use super::{advice, words};
use crate::model::verdict::{Cause, Certainty, Party, Segment};
use crate::model::{Level, Utc};

/// Rows kept of a ranking.
const MAX_ROWS: usize = 20;
/// Parts of the time line.
const PARTS: usize = 60;

/// What was read, beside the counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Names of the files.
    pub files: Vec<String>,
    /// Bytes, after decompression.
    pub bytes: u64,
    /// Lines that were too long and cut.
    pub overlong: u64,
    /// Time zone in which the printed times were read.
    pub zone: String,
    /// The reading was broken off by a signal; what is said rests on what was read until then.
    pub interrupted: bool,
}

/// A part of a whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// Slug.
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// Part of all incidents, 0 to 1.
    pub share: f64,
}

/// A situation and how often it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopicRow {
    /// Slug of the situation.
    pub topic: &'static str,
    /// What happened.
    pub title: &'static str,
    /// Whose doing the log lets one suspect.
    pub party: Party,
    /// Where.
    pub segment: Segment,
    /// The cause as far as the log carries it.
    pub cause: Cause,
    /// Never above `weak`.
    pub certainty: Certainty,
    /// Nobody waited.
    pub harmless: bool,
    /// How many.
    pub count: u64,
    /// Part of all incidents, 0 to 1; of harmless ones 0.
    pub share: f64,
    /// RFC 3339 UTC.
    pub first: Option<String>,
    /// RFC 3339 UTC.
    pub last: Option<String>,
    /// The usual conclusion.
    pub usually_concluded: &'static str,
    /// Why it is not proof.
    pub not_proof_because: &'static str,
    /// What tracing would decide.
    pub tracing_would: &'static str,
}

/// A row of a ranking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyRow {
    /// The key.
    pub key: String,
    /// At least so many.
    pub count: u64,
    /// RFC 3339 UTC.
    pub first: Option<String>,
    /// RFC 3339 UTC.
    pub last: Option<String>,
    /// The most frequent situation, for upstreams.
    pub mostly: Option<&'static str>,
}

/// Counts by one key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// By what.
    pub dimension: &'static str,
    /// The most frequent keys.
    pub rows: Vec<KeyRow>,
    /// Keys that are not in `rows`, as far as they were held.
    pub more_keys: u64,
    /// Incidents with a key that is not in `rows`.
    pub other: u64,
    /// Incidents whose line names no such key.
    pub unnamed: u64,
}

/// A pattern in words, with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatternRow {
    /// Slug of the pattern.
    pub pattern: &'static str,
    /// Slug of the group of incidents; absent for all of them.
    pub group: Option<&'static str>,
    /// Incidents of the group.
    pub events: u64,
    /// In a sentence.
    pub text: String,
    /// The numbers that it rests on.
    pub numbers: serde_json::Value,
}

/// Incidents over the time that the log covers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeLine {
    /// RFC 3339 UTC.
    pub from: String,
    /// RFC 3339 UTC.
    pub to: String,
    /// Incidents per equal part of that time.
    pub parts: Vec<u64>,
}

/// Everything that is said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `rstscope.log/1`.
    pub schema: &'static str,
    /// What was read.
    pub source: Source,
    /// Lines read.
    pub lines: u64,
    /// Lines outside `--since` and `--until`.
    pub lines_outside: u64,
    /// Lines that tell of no connection, by what they are about.
    pub other_lines: Vec<Share>,
    /// What was wrong with lines, and how often.
    pub problems: std::collections::BTreeMap<String, u64>,
    /// Incidents that somebody may have noticed.
    pub incidents: u64,
    /// Incidents that nobody waited for.
    pub harmless: u64,
    /// By party, as far as the log allows.
    pub parties: Vec<Share>,
    /// By segment.
    pub segments: Vec<Share>,
    /// By situation, most frequent first, harmless ones last.
    pub topics: Vec<TopicRow>,
    /// By upstream, URI, client network, server, worker.
    pub rankings: Vec<Ranking>,
    /// Per hour of the day, as printed.
    pub hours: [u64; 24],
    /// Over time.
    pub time_line: Option<TimeLine>,
    /// Patterns.
    pub patterns: Vec<PatternRow>,
    /// What this log can't show.
    pub blind: Vec<String>,
    /// What to do next, most useful first.
    pub next: Vec<String>,
    /// Counts of access.log, if one was given.
    pub access: Option<super::access::AccessReport>,
}

impl Report {
    /// Draws the conclusions from the counts.
    pub fn new(counts: &mut Aggregate, source: Source, access: Option<super::access::AccessReport>) -> Self {
        counts.settle();
        let counts = &*counts;
        let incidents = counts.window.total();
        let topics = topics(counts, incidents);
        let findings = pattern::find(&counts.window);
        let rankings: Vec<Ranking> =
            Dimension::ALL.iter().map(|dimension| ranking(counts, *dimension, incidents)).collect();
        let mut report = Self {
            schema: "rstscope.log/1",
            source,
            lines: counts.lines,
            lines_outside: counts.outside,
            other_lines: other_lines(counts),
            problems: problems(counts),
            incidents,
            harmless: topics.iter().filter(|row| row.harmless).map(|row| row.count).sum(),
            parties: shares(&topics, incidents, Party::ALL, |row| row.party, Party::slug),
            segments: shares(&topics, incidents, Segment::ALL, |row| row.segment, Segment::slug),
            topics,
            rankings,
            hours: counts.hours,
            time_line: time_line(&counts.window),
            patterns: findings.iter().map(|finding| words::pattern(finding, counts.zone())).collect(),
            blind: advice::blind(has_level(counts, Level::Info), incidents),
            next: Vec::new(),
            access,
        };
        report.next = advice::next(&report, &findings, counts.zone());
        report
    }

    /// The ranking by a dimension.
    pub fn ranking(&self, dimension: Dimension) -> Option<&Ranking> {
        self.rankings.iter().find(|ranking| ranking.dimension == dimension.slug())
    }
}

/// `part` of `whole`, zero if there is none.
pub fn share(part: u64, whole: u64) -> f64 {
    pattern::chance::float(part) / pattern::chance::float(whole.max(1))
}

/// Seconds of UTC as RFC 3339.
pub fn rfc3339(seconds: i64) -> String {
    let text = Utc(seconds.saturating_mul(1_000_000_000)).rfc3339();
    text.replace(".000000000", "")
}

/// Seconds of UTC as the clock of `zone` showed them, the way a timer is set.
pub fn local(seconds: i64, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(stamp) => stamp.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string(),
        Err(_) => rfc3339(seconds),
    }
}

fn topics(counts: &Aggregate, incidents: u64) -> Vec<TopicRow> {
    let seen = TOPICS.iter().zip(&counts.topics).filter(|(_, cell)| cell.count > 0);
    let mut rows: Vec<TopicRow> = seen.map(|(topic, cell)| topic_row(topic, *cell, incidents)).collect();
    rows.sort_by(|a, b| (a.harmless, b.count).cmp(&(b.harmless, a.count)));
    rows
}

fn topic_row(topic: &Topic, cell: Cell, incidents: u64) -> TopicRow {
    TopicRow {
        topic: topic.slug,
        title: topic.title,
        party: topic.party,
        segment: topic.segment,
        cause: topic.cause,
        certainty: topic.certainty,
        harmless: topic.harmless,
        count: cell.count,
        share: if topic.harmless { 0.0 } else { share(cell.count, incidents) },
        first: cell.first.map(rfc3339),
        last: cell.last.map(rfc3339),
        usually_concluded: topic.usual,
        not_proof_because: topic.but,
        tracing_would: topic.tracing,
    }
}

/// Adds the situations up by one of their properties, most frequent first.
fn shares<T: Copy + PartialEq>(
    topics: &[TopicRow],
    incidents: u64,
    all: &[T],
    of: impl Fn(&TopicRow) -> T,
    slug: impl Fn(T) -> &'static str,
) -> Vec<Share> {
    let count = |value: T| {
        let rows = topics.iter().filter(|row| !row.harmless && of(row) == value);
        rows.map(|row| row.count).sum::<u64>()
    };
    let rows = all.iter().map(|value| (slug(*value), count(*value))).filter(|(_, count)| *count > 0);
    let mut rows: Vec<Share> =
        rows.map(|(name, count)| Share { name, count, share: share(count, incidents) }).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}

fn problems(counts: &Aggregate) -> std::collections::BTreeMap<String, u64> {
    counts.problems.iter().map(|(problem, count)| (problem.to_string(), *count)).collect()
}

fn other_lines(counts: &Aggregate) -> Vec<Share> {
    let others = Other::ALL.iter().map(|other| (other.slug(), counts.others[*other as usize]));
    let rest = [
        ("companion", counts.companions),
        ("lifecycle", counts.lifecycle),
        ("unreadable", counts.unreadable),
    ];
    let rows = others.chain(rest).filter(|(_, count)| *count > 0);
    let mut rows: Vec<Share> =
        rows.map(|(name, count)| Share { name, count, share: share(count, counts.lines) }).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}

/// Counts of one dimension over all groups.
fn ranking(counts: &Aggregate, dimension: Dimension, incidents: u64) -> Ranking {
    let tables: Vec<_> = Group::ALL.iter().map(|group| counts.window.table(*group, dimension)).collect();
    let mut sums = std::collections::BTreeMap::<&[u8], Cell>::new();
    for (key, cell) in tables.iter().flat_map(|table| table.ranked()) {
        sums.entry(key).or_default().merge(cell);
    }
    let named: u64 = tables.iter().map(|table| table.total()).sum();
    let mut rows: Vec<(&[u8], Cell)> = sums.into_iter().collect();
    rows.sort_by(|a, b| b.1.count.cmp(&a.1.count).then(a.0.cmp(b.0)));
    let more_keys = rows.len().saturating_sub(MAX_ROWS) as u64;
    rows.truncate(MAX_ROWS);
    let shown: u64 = rows.iter().map(|row| row.1.count).sum();
    Ranking {
        dimension: dimension.slug(),
        rows: rows.into_iter().map(|(key, cell)| key_row(counts, dimension, key, cell)).collect(),
        more_keys,
        other: named - shown,
        unnamed: incidents.saturating_sub(named),
    }
}

fn key_row(counts: &Aggregate, dimension: Dimension, key: &[u8], cell: Cell) -> KeyRow {
    KeyRow {
        key: words::key(dimension, key),
        count: cell.count,
        first: cell.first.map(rfc3339),
        last: cell.last.map(rfc3339),
        mostly: (dimension == Dimension::Upstream).then(|| mostly(counts, key)).flatten(),
    }
}

/// The most frequent situation of an upstream.
fn mostly(counts: &Aggregate, upstream: &[u8]) -> Option<&'static str> {
    let times = |table: &Table| table.get(upstream).map_or(0, |cell| cell.count);
    let by_topic = TOPICS.iter().zip(&counts.upstreams).map(|(topic, table)| (topic, times(table)));
    let (topic, times) = by_topic.max_by_key(|(_, times)| *times)?;
    (times > 0).then_some(topic.title)
}

fn time_line(window: &Window) -> Option<TimeLine> {
    let span = window.span().filter(|_| window.all().count() > 0)?;
    Some(TimeLine {
        from: rfc3339(span.0),
        to: rfc3339(span.1),
        parts: burst::outline(window.all(), span, PARTS),
    })
}
