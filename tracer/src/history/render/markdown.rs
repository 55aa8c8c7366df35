//! The report as Markdown, for tickets and chats. Text from the log stands in code spans whose fence it can't close,
//! with bars escaped, so that it makes neither markup nor columns of its own.

use std::fmt::Write as _;

use super::text::sparkline;
use crate::history::report::{Ranking, Report, Share};
use crate::history::words::percent;
use crate::output::sanitize;

/// Longest piece of text from the log.
const MAX_CHARS: usize = 120;

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut out = String::from("# Connections of Nginx: what the log says\n\n");
    head(&mut out, report);
    shares(&mut out, "Party (as far as the log allows)", &report.parties);
    shares(&mut out, "Segment", &report.segments);
    topics(&mut out, report);
    report.rankings.iter().for_each(|found| ranking(&mut out, found));
    time(&mut out, report);
    list(&mut out, "Patterns", report.patterns.iter().map(|row| row.text.as_str()));
    list(&mut out, "What this log can't show", report.blind.iter().map(String::as_str));
    list(&mut out, "Next", report.next.iter().map(String::as_str));
    out
}

/// Text from the log in a code span.
pub fn code(text: &str) -> String {
    let text = sanitize::line(text, MAX_CHARS).replace('`', "'").replace('|', "\\|");
    format!("`{text}`")
}

/// A sentence of ours that may quote the log: markup characters are escaped, except our own code spans.
fn sentence(text: &str) -> String {
    let text = sanitize::line(text, 1000);
    let mut out = String::with_capacity(text.len());
    let mut in_code = false;
    for character in text.chars() {
        in_code ^= character == '`';
        if !in_code && "*_[]<>|#\\~!".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    if in_code {
        out.push('`');
    }
    out
}

fn head(out: &mut String, report: &Report) {
    let files: Vec<String> = report.source.files.iter().map(|file| code(file)).collect();
    line(
        out,
        &format!("{}: {} lines, times read as {}.", files.join(", "), report.lines, report.source.zone),
    );
    if report.source.interrupted {
        line(out, "Reading was interrupted: this is what was read until then.");
    }
    line(out, &format!("{} incidents, {} more that nobody waited for.\n", report.incidents, report.harmless));
}

/// Writing to a string cannot fail.
fn line(out: &mut String, text: &str) {
    let _infallible = writeln!(out, "{text}");
}

fn shares(out: &mut String, title: &str, rows: &[Share]) {
    if rows.is_empty() {
        return;
    }
    line(out, &format!("| {title} | incidents | share |\n|---|---:|---:|"));
    for row in rows {
        line(out, &format!("| {} | {} | {} |", row.name, row.count, percent(row.share)));
    }
    out.push('\n');
}

fn topics(out: &mut String, report: &Report) {
    if report.topics.is_empty() {
        return;
    }
    line(
        out,
        "| What | incidents | party | certainty | cause | tracing would decide |\n|---|---:|---|---|---|---|",
    );
    for row in &report.topics {
        let cells = [
            row.title.to_owned(),
            row.count.to_string(),
            row.party.to_string(),
            row.certainty.to_string(),
            row.cause.to_string(),
            sentence(row.tracing_would),
        ];
        line(out, &format!("| {} |", cells.join(" | ")));
    }
    out.push('\n');
}

fn ranking(out: &mut String, found: &Ranking) {
    if found.rows.is_empty() {
        return;
    }
    line(out, &format!("| {} | incidents | first | last |\n|---|---:|---|---|", found.dimension));
    for row in found.rows.iter().take(10) {
        let time = |time: &Option<String>| time.clone().unwrap_or_default();
        line(
            out,
            &format!("| {} | {} | {} | {} |", code(&row.key), row.count, time(&row.first), time(&row.last)),
        );
    }
    let rest = found.other + found.rows.iter().skip(10).map(|row| row.count).sum::<u64>();
    line(out, &format!("| *others* | {rest} | | |\n"));
}

fn time(out: &mut String, report: &Report) {
    let Some(found) = &report.time_line else { return };
    line(out, &format!("{} to {}:\n\n```\n{}\n```\n", found.from, found.to, sparkline(&found.parts)));
}

fn list<'a>(out: &mut String, title: &str, rows: impl Iterator<Item = &'a str>) {
    let rows: Vec<String> = rows.map(|row| format!("- {}", sentence(row))).collect();
    if !rows.is_empty() {
        line(out, &format!("## {title}\n\n{}\n", rows.join("\n")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_the_log_makes_no_markup() {
        assert_eq!(code("a`b|c\x1b[31m"), "`a'b\\|c\\x1b[31m`");
        assert_eq!(
            sentence("<img src=x> **b** `rm *` [a](b)"),
            "\\<img src=x\\> \\*\\*b\\*\\* `rm *` \\[a\\](b)"
        );
        assert_eq!(sentence("open ` end"), "open ` end`");
    }
}
