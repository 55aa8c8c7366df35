//! The closing summary: what happened, what to change, what was lost, and whether the kernel agrees.
//!
//! Shows a [`Closing`]; the numbers come from [`super::tally`] and [`crate::account`].

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use jiff::Timestamp;
use serde::Serialize;

use super::header::silent_hooks;
use super::layout::{count, hang, length, span};
use super::parts::party_of;
use super::tally::{RankedAdvice, Row, Tally};
use super::text::{TextOptions, clock};
use super::{parts, sanitize, style};
use crate::account::reconcile::{Agreement, Row as Counted};
use crate::model::verdict::{Cause, Certainty, Party};
use crate::model::{HookState, Losses};

/// Columns of the summary in a pipe, and the most it takes on a terminal.
const WIDTH: usize = 100;
/// Columns that the labels take.
const LABEL_WIDTH: usize = 11;
/// Narrower terminals get the incident table without party and times.
const WIDTH_FOR_ALL: usize = 96;
/// Columns between two columns of a table.
const GAP: u16 = 2;
/// Longer words of a table may be broken. The longest slug has 25 characters, an IPv4 address with port 21.
const MAX_WORD: usize = 25;
/// Rows of the table that are shown; the rest is in `--stats`.
const MAX_ROWS: usize = 40;
/// Pieces of advice that are shown.
const MAX_ADVICE: usize = 5;

/// Everything that is said at the end.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// Start of the session, RFC 3339 UTC.
    pub from: String,
    /// End of the session, RFC 3339 UTC.
    pub to: String,
    /// The verdicts, added up.
    pub tally: Tally,
    /// What was lost, per hand-over.
    pub losses: Losses,
    /// Hooks, running or not.
    pub hooks: Vec<HookState>,
    /// Our counts against the kernel's.
    pub reconciliation: Vec<Counted>,
    /// Records that the kernel programs put into the ring buffer.
    pub ring_records: u64,
    /// Connections of Nginx that were followed.
    pub connections: u64,
}

/// The summary as data, for `--stats`.
#[derive(Debug, Serialize)]
pub struct Stats<'a> {
    /// `rstscope.stats/1`.
    pub schema: &'static str,
    /// Start of the session, RFC 3339 UTC.
    pub from: &'a str,
    /// End of the session, RFC 3339 UTC.
    pub to: &'a str,
    /// Incidents that were not harmless.
    pub incidents: u64,
    /// The same by party, cause and place.
    pub rows: Vec<&'a Row>,
    /// Harmless incidents per cause.
    pub harmless: &'a BTreeMap<Cause, u64>,
    /// What to change, most useful first.
    pub advice: Vec<&'a RankedAdvice>,
    /// Times that advice came up for which there was no room left.
    pub advice_dropped: u64,
    /// Losses per hand-over.
    pub losses: &'a BTreeMap<String, u64>,
    /// Hooks that did not run.
    pub hooks_not_running: Vec<&'a HookState>,
    /// Our counts against the kernel's.
    pub reconciliation: &'a [Counted],
    /// Records that the kernel programs put into the ring buffer.
    pub ring_records: u64,
    /// Connections of Nginx that were followed.
    pub connections: u64,
}

impl Closing {
    /// The summary as data.
    pub fn stats(&self) -> Stats<'_> {
        Stats {
            schema: "rstscope.stats/1",
            from: &self.from,
            to: &self.to,
            incidents: self.tally.incidents(),
            rows: self.tally.rows(),
            harmless: self.tally.harmless(),
            advice: self.tally.advice(),
            advice_dropped: self.tally.advice_dropped(),
            losses: &self.losses.by_handover,
            hooks_not_running: self.hooks.iter().filter(|hook| !hook.running).collect(),
            reconciliation: &self.reconciliation,
            ring_records: self.ring_records,
            connections: self.connections,
        }
    }
}

/// The summary as text.
pub fn text(closing: &Closing, options: &TextOptions) -> String {
    let mut page = Page { out: String::new(), options };
    page.out.push('\n');
    page.labelled("summary", &opening(closing, options));
    incidents(&mut page, &closing.tally);
    harmless(&mut page, &closing.tally);
    advice(&mut page, &closing.tally);
    followed(&mut page, closing);
    losses(&mut page, &closing.losses);
    for line in silent_hooks(&closing.hooks) {
        page.labelled("hook off", &line);
    }
    reconciliation(&mut page, &closing.reconciliation);
    page.out
}

struct Page<'a> {
    out: String,
    options: &'a TextOptions,
}

impl Page<'_> {
    fn width(&self) -> usize {
        self.options.width.map_or(WIDTH, |width| width.min(WIDTH))
    }

    fn labelled(&mut self, label: &str, text: &str) {
        let padding = " ".repeat(LABEL_WIDTH.saturating_sub(label.len()));
        let first = format!("{}{padding}", self.options.palette.bold(label));
        let text = sanitize::line(text, 500);
        let width = self.width();
        hang(&mut self.out, &first, LABEL_WIDTH, &text, Some(width));
    }

    /// A table without borders; `numbers` are the columns aligned to the right.
    fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>, numbers: &[usize]) {
        let lower: Vec<ColumnConstraint> =
            (0..header.len()).map(|at| lower_boundary(header, &rows, at)).collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(self.width()).unwrap_or(u16::MAX));
        table.set_header(header.iter().copied()).add_rows(rows).set_constraints(lower);
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        for index in numbers {
            if let Some(column) = table.column_mut(*index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for (index, line) in table.lines().enumerate() {
            self.table_line(line.trim_end(), index == 0);
        }
    }

    /// Paints the word a line begins with when it is a party or a cause.
    fn table_line(&mut self, line: &str, header: bool) {
        let palette = self.options.palette;
        let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
        let party = Party::from_slug(word).or_else(|| Cause::from_slug(word).map(party_of));
        let painted = match party {
            _ if header => palette.dim(line),
            Some(party) => format!("{}{rest}", palette.paint(style::party(party), word)),
            None => line.to_owned(),
        };
        self.out.push_str(&painted);
        self.out.push('\n');
    }
}

/// A column is at least as wide as its longest word, so that no slug and no IPv4 address is broken.
/// IPv6 addresses may be.
fn lower_boundary(header: &[&str], rows: &[Vec<String>], column: usize) -> ColumnConstraint {
    let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str).chain([header[column]]);
    let words = cells.flat_map(str::split_whitespace).filter(|word| !word.starts_with('['));
    let longest = words.map(length).max().unwrap_or(0).min(MAX_WORD);
    ColumnConstraint::LowerBoundary(Width::Fixed(u16::try_from(longest).unwrap_or(u16::MAX) + GAP))
}

fn opening(closing: &Closing, options: &TextOptions) -> String {
    let harmless: u64 = closing.tally.harmless().values().sum();
    let incidents = match closing.tally.incidents() {
        0 => "no incident".to_owned(),
        number => count(number, "incident"),
    };
    let time = |text: &str| seconds(text, options);
    let (from, to) = (time(&closing.from), time(&closing.to));
    let lasted = duration(&closing.from, &closing.to).map(|span| format!(" in {span}")).unwrap_or_default();
    format!("{incidents}{lasted}, {from} to {to}; {harmless} harmless")
}

fn incidents(page: &mut Page<'_>, tally: &Tally) {
    const HEADER: [&str; 7] = ["party", "cause", "where", "count", "certainty", "impact", "when"];
    let rows = tally.rows();
    if rows.is_empty() {
        return;
    }
    // The cause's name begins with the party's, and the times are the least of it.
    let shown = if page.width() < WIDTH_FOR_ALL { 1..6 } else { 0..7 };
    let cells = |row: &&Row| incident_row(row, page.options)[shown.clone()].to_vec();
    let cells: Vec<Vec<String>> = rows.iter().take(MAX_ROWS).map(cells).collect();
    page.out.push('\n');
    page.table(&HEADER[shown.clone()], cells, &[3 - shown.start]);
    if rows.len() > MAX_ROWS {
        page.labelled("", &format!("{} more rows, see --stats", rows.len() - MAX_ROWS));
    }
    page.out.push('\n');
}

fn incident_row(row: &Row, options: &TextOptions) -> [String; 7] {
    let (first, last) = (seconds(&row.first, options), seconds(&row.last, options));
    [
        row.party.slug().to_owned(),
        row.cause.slug().to_owned(),
        row.place.clone(),
        row.count.to_string(),
        spread(&row.certainty, Certainty::slug),
        spread(&row.impact, parts::impact),
        if first == last { first } else { format!("{first} {last}") },
    ]
}

/// `proven` when all are alike, otherwise `11 proven, 1 weak`.
fn spread<T: Copy>(numbers: &BTreeMap<T, u64>, name: impl Fn(T) -> &'static str) -> String {
    if let (1, Some(only)) = (numbers.len(), numbers.keys().next()) {
        return name(*only).to_owned();
    }
    numbers.iter().map(|(value, number)| format!("{number} {}", name(*value))).collect::<Vec<_>>().join(", ")
}

fn harmless(page: &mut Page<'_>, tally: &Tally) {
    let mut counted: Vec<(&Cause, &u64)> = tally.harmless().iter().collect();
    if counted.is_empty() {
        return;
    }
    counted.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let text: Vec<String> = counted.iter().map(|(cause, number)| format!("{number} {cause}")).collect();
    page.labelled("harmless", &text.join(", "));
}

fn advice(page: &mut Page<'_>, tally: &Tally) {
    let advice = tally.advice();
    for ranked in advice.iter().take(MAX_ADVICE) {
        let incidents = count(ranked.incidents, "incident");
        page.labelled("advice", &format!("{incidents}: {}", parts::advice(&ranked.advice)));
    }
    if advice.len() > MAX_ADVICE {
        page.labelled("advice", &format!("{} more, see --stats", advice.len() - MAX_ADVICE));
    }
}

/// That nothing was reported must not look like nothing was watched.
fn followed(page: &mut Page<'_>, closing: &Closing) {
    let connections = count(closing.connections, "new connection");
    let records = count(closing.ring_records, "kernel record");
    page.labelled("watched", &format!("{connections} of Nginx followed, {records} made"));
}

fn losses(page: &mut Page<'_>, losses: &Losses) {
    let lost: Vec<String> = losses
        .by_handover
        .iter()
        .filter(|(_, lost)| **lost > 0)
        .map(|(name, lost)| format!("{lost} {name}"))
        .collect();
    if lost.is_empty() {
        page.labelled("lost", "nothing was lost");
        return;
    }
    let text = format!("{}: {}", count(losses.total(), "event"), lost.join(", "));
    page.labelled("lost", &text);
}

fn reconciliation(page: &mut Page<'_>, rows: &[Counted]) {
    if rows.is_empty() {
        return;
    }
    page.out.push('\n');
    let cells = rows.iter().map(counted_row).collect();
    page.table(&["kernel counter", "kernel", "seen", "explanation"], cells, &[1, 2]);
}

fn counted_row(row: &Counted) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let explanation = match row.agreement {
        Agreement::Equal if row.explanation.is_empty() => "equal".to_owned(),
        Agreement::Equal => format!("equal: {}", row.explanation),
        Agreement::Suspect => format!("SUSPECT: {}", row.explanation),
        _ => row.explanation.clone(),
    };
    vec![row.counter.name(), number(row.kernel), number(row.seen), explanation]
}

/// Local time without the milliseconds.
fn seconds(time: &str, options: &TextOptions) -> String {
    let clock = clock(time, &options.zone);
    clock.split_once('.').map_or(clock.as_ref(), |(seconds, _)| seconds).to_owned()
}

fn duration(from: &str, to: &str) -> Option<String> {
    let (from, to) = (from.parse::<Timestamp>().ok()?, to.parse::<Timestamp>().ok()?);
    Some(span(u64::try_from(to.as_millisecond() - from.as_millisecond()).ok()?))
}
