//! The report as text. The first screen is what an engineer acts on: who, where, what, when, what next; what the
//! log can't show stands beside it. Everything that came from the log passes `sanitize`.

use crate::history::pattern::Dimension;
use crate::history::report::{Ranking, Report, TopicRow, local};
use crate::history::words::percent;
use crate::model::verdict::Party;
use crate::output::layout::{count, hang};
use crate::output::sanitize;
use crate::output::text::TextOptions;

/// Columns that labels take.
const LABEL: usize = 11;
/// Columns in a pipe, and the most on a terminal.
const WIDTH: usize = 100;
/// Longest text of a line.
const MAX_CHARS: usize = 600;
/// Longest key.
const MAX_KEY: usize = 60;
/// Columns of a full bar.
const BAR: usize = 20;
/// Rows of the situations and of a ranking.
const MAX_TOPICS: usize = 6;
const MAX_KEYS: usize = 4;
/// Patterns shown.
const MAX_PATTERNS: usize = 6;

/// The report as text.
pub fn text(report: &Report, options: &TextOptions) -> String {
    let mut page = Page { out: String::new(), options };
    page.head(report);
    if report.incidents > 0 {
        page.parties(report);
        page.topics(report);
        page.ranking(report, Dimension::Upstream, "upstreams");
        page.ranking(report, Dimension::Uri, "URIs");
        page.ranking(report, Dimension::Client, "clients");
        page.time(report);
        page.patterns(report);
    }
    page.access(report);
    page.list("can't show", &report.blind);
    page.next(report);
    page.out
}

struct Page<'a> {
    out: String,
    options: &'a TextOptions,
}

impl Page<'_> {
    fn row(&mut self, label: &str, text: &str) {
        let padding = " ".repeat(LABEL.saturating_sub(label.len()));
        let first = format!("{}{padding}", self.options.palette.bold(label));
        let width = self.options.width.map_or(WIDTH, |width| width.min(WIDTH));
        hang(&mut self.out, &first, LABEL, &sanitize::line(text, MAX_CHARS), Some(width));
    }

    /// RFC 3339 as the clock of the log's zone showed it.
    fn clock(&self, rfc3339: &str) -> String {
        let seconds = rfc3339.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second);
        seconds.map_or_else(|_| rfc3339.to_owned(), |seconds| local(seconds, &self.options.zone))
    }

    fn list(&mut self, label: &str, rows: &[String]) {
        for (at, row) in rows.iter().enumerate() {
            self.row(if at == 0 { label } else { "" }, row);
        }
    }

    /// A row of a table, which is cut and not broken.
    fn cells(&mut self, label: &str, text: &str) {
        let width = self.options.width.map_or(WIDTH, |width| width.min(WIDTH)).saturating_sub(LABEL);
        let text = sanitize::line(text.trim_end(), width).into_owned();
        let padding = " ".repeat(LABEL.saturating_sub(label.len()));
        for part in [&self.options.palette.bold(label), &padding, &text, "\n"] {
            self.out.push_str(part);
        }
    }

    fn head(&mut self, report: &Report) {
        let span = report.time_line.as_ref();
        let span = span.map(|line| format!(", {} to {}", self.clock(&line.from), self.clock(&line.to)));
        let text = format!(
            "{}: {}{} (printed times read as {})",
            report.source.files.join(", "),
            count(report.lines, "line"),
            span.unwrap_or_default(),
            report.source.zone
        );
        self.row("log", &text);
        if report.source.interrupted {
            self.row("", "reading was interrupted: this is what was read until then");
        }
        let others: Vec<String> =
            report.other_lines.iter().take(4).map(|row| format!("{} {}", row.count, row.name)).collect();
        let harmless = format!(", and {} harmless (nobody waited)", report.harmless);
        let others_said = format!("; other lines: {}", others.join(", "));
        let counted = [
            count(report.incidents, "incident"),
            if report.harmless > 0 { harmless } else { String::new() },
            if others.is_empty() { String::new() } else { others_said },
        ];
        let counted = counted.concat();
        self.row("found", &counted);
        if report.lines_outside > 0 {
            self.row("", &format!("{} outside the time asked for", count(report.lines_outside, "line")));
        }
        self.out.push('\n');
    }

    fn parties(&mut self, report: &Report) {
        for (at, party) in report.parties.iter().enumerate() {
            let name = if party.name == Party::Unknown.slug() { "undecidable" } else { party.name };
            let filled = usize::try_from(crate::history::pattern::chance::whole(party.share * 20.0));
            let bar = "█".repeat(filled.unwrap_or(0).clamp(1, BAR));
            let text = format!("{name:<12}{:>6}  {bar:<BAR$} {}", percent(party.share), party.count);
            self.cells(if at == 0 { "who (weak)" } else { "" }, &text);
        }
        let segments: Vec<String> =
            report.segments.iter().map(|row| format!("{} {}", row.name, percent(row.share))).collect();
        self.row("where", &segments.join(", "));
        self.out.push('\n');
    }

    fn topics(&mut self, report: &Report) {
        let rows: Vec<&TopicRow> = report.topics.iter().filter(|row| !row.harmless).collect();
        for (at, row) in rows.iter().take(MAX_TOPICS).enumerate() {
            let text =
                format!("{:>8} {:>6}  {} [{}]", row.count, percent(row.share), row.title, row.party.slug());
            self.cells(if at == 0 { "what" } else { "" }, &text);
        }
        if let Some(rest) = rows.get(MAX_TOPICS..).filter(|rest| !rest.is_empty()) {
            let sum: u64 = rest.iter().map(|row| row.count).sum();
            self.cells("", &format!("{sum:>8}         {} more", rest.len()));
        }
        if let Some(top) = rows.first() {
            let text = format!(
                "the first: usually taken for `{}`; no proof, since {}; {}",
                top.usually_concluded, top.not_proof_because, top.tracing_would
            );
            self.row("", &text);
        }
        self.out.push('\n');
    }

    fn ranking(&mut self, report: &Report, dimension: Dimension, label: &str) {
        let Some(ranking) = report.ranking(dimension).filter(|ranking| !ranking.rows.is_empty()) else {
            return;
        };
        for (at, row) in ranking.rows.iter().take(MAX_KEYS).enumerate() {
            let key = sanitize::line(&row.key, MAX_KEY);
            let mostly = row.mostly.map(|title| format!("  mostly: {title}")).unwrap_or_default();
            self.cells(if at == 0 { label } else { "" }, &format!("{:>8}  {key}{mostly}", row.count));
        }
        let rest = beyond(ranking);
        if rest > 0 {
            self.cells("", &format!("{rest:>8}  others"));
        }
    }

    fn time(&mut self, report: &Report) {
        let Some(line) = &report.time_line else { return };
        self.out.push('\n');
        self.cells("when", &sparkline(&line.parts));
        self.cells("", &format!("{:<30}{:>30}", self.clock(&line.from), self.clock(&line.to)));
    }

    fn patterns(&mut self, report: &Report) {
        let rows: Vec<String> =
            report.patterns.iter().take(MAX_PATTERNS).map(|row| row.text.clone()).collect();
        self.list("patterns", &rows);
        if rows.is_empty() {
            self.row("patterns", "none that chance does not explain");
        }
        self.out.push('\n');
    }

    fn access(&mut self, report: &Report) {
        let Some(access) = &report.access else { return };
        let wanted = [400, 408, 444, 499, 500, 502, 503, 504, 0];
        let statuses = wanted.iter().filter_map(|status| Some((status, access.statuses.get(status)?)));
        let statuses: Vec<String> = statuses.map(|(status, count)| format!("{status:03}: {count}")).collect();
        let statuses = if statuses.is_empty() { "no failed request".to_owned() } else { statuses.join(", ") };
        let cut = if access.cut > 0 { format!("; {} cut", access.cut) } else { String::new() };
        let text = format!(
            "{} of access.log; {statuses}; {} retried, {} of them repaired{cut}; {} without a status",
            count(access.lines, "line"),
            access.retried,
            access.repaired,
            access.unreadable
        );
        self.row("access", &text);
        for (pattern, number) in access.failing.iter().take(MAX_KEYS) {
            let pattern = sanitize::line(pattern, MAX_KEY);
            self.cells("", &format!("{number:>8}  {pattern}"));
        }
        self.out.push('\n');
    }

    fn next(&mut self, report: &Report) {
        let steps = report.next.iter().enumerate().map(|(at, step)| format!("{}. {step}", at + 1));
        self.list("next", &steps.collect::<Vec<_>>());
    }
}

/// Incidents of a ranking that the first rows do not show.
fn beyond(ranking: &Ranking) -> u64 {
    ranking.other + ranking.rows.iter().skip(MAX_KEYS).map(|row| row.count).sum::<u64>()
}

/// One block per part; an empty part is a dot, so that silence shows.
pub fn sparkline(parts: &[u64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = parts.iter().copied().max().unwrap_or(0).max(1);
    let block = |part: u64| match part {
        0 => '·',
        part => BLOCKS[usize::try_from((part * 8).div_ceil(most)).unwrap_or(8).clamp(1, 8) - 1],
    };
    parts.iter().map(|part| block(*part)).collect()
}
