//! The report as plain text, for mail. Every text passes `output::sanitize` on its way.

use crate::output::layout::{hang, length, wrap};
use crate::output::sanitize;

use super::super::document::{Answer, Block, Chart, Document, Field, Ladder, Path, Section, Table, Way};

/// Columns of a page.
const WIDTH: usize = 100;
/// Longest piece of text, characters; the JSON has all of it.
const MOST: usize = 4000;
/// Widest column of a table that is set as columns.
const MOST_COLUMN: usize = 40;

/// The report as text.
pub fn text(document: &Document) -> String {
    let mut out = String::new();
    out.push_str(&safe(&document.title));
    out.push('\n');
    out.push_str(&"=".repeat(length(&safe(&document.title)).min(WIDTH)));
    out.push('\n');
    for section in &document.sections {
        self::section(&mut out, section, 0);
    }
    out
}

fn safe(text: &str) -> String {
    sanitize::line(text, MOST).into_owned()
}

fn section(out: &mut String, section: &Section, depth: usize) {
    let title = safe(&section.title);
    out.push('\n');
    out.push_str(&title);
    out.push('\n');
    let mark = if depth == 0 { "-" } else { "." };
    out.push_str(&mark.repeat(length(&title).min(WIDTH)));
    out.push('\n');
    for block in &section.blocks {
        self::block(out, block);
    }
    for inner in &section.sections {
        self::section(out, inner, depth + 1);
    }
}

fn block(out: &mut String, block: &Block) {
    match block {
        Block::Paragraph { text } => entry(out, "", text),
        Block::Answer(answer) => self::answer(out, answer),
        Block::Fields { fields } => self::fields(out, fields),
        Block::List { items } => items.iter().for_each(|item| entry(out, "- ", item)),
        Block::Statement { text } => entry(out, "    ", text),
        Block::Folded { summary, blocks } => {
            entry(out, "", summary);
            for block in blocks {
                self::block(out, block);
            }
        }
        Block::Lines { source, lines } => {
            entry(out, "", &format!("{source}:"));
            for line in lines {
                entry(out, "  | ", line);
            }
        }
        Block::Table(table) => self::table(out, table),
        Block::Path(path) => self::path(out, path),
        Block::Ladder(ladder) => self::ladder(out, ladder),
        Block::Chart(chart) => self::chart(out, chart),
    }
}

fn entry(out: &mut String, first: &str, text: &str) {
    hang(out, first, length(first), &safe(text), Some(WIDTH));
}

fn answer(out: &mut String, answer: &Answer) {
    entry(out, "What happened  ", &answer.what);
    if let Some(when) = &answer.when {
        entry(out, "When           ", when);
    }
    entry(out, "Whose doing    ", &answer.who);
    if let Some(effect) = answer.effect {
        entry(out, "Effect         ", effect);
    }
    entry(out, "How sure       ", &answer.sure);
    for (at, next) in answer.next.iter().enumerate() {
        entry(out, if at == 0 { "What to do     " } else { "               " }, next);
    }
}

fn fields(out: &mut String, fields: &[Field]) {
    let widest = fields.iter().map(|field| length(&field.name)).max().unwrap_or(0).min(MOST_COLUMN);
    for field in fields {
        let name = safe(&field.name);
        let first = format!("{name:<widest$}  ");
        entry(out, &first, &field.value);
    }
}

/// Set in columns where it fits the page, else row by row.
fn table(out: &mut String, table: &Table) {
    let cells: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(|cell| safe(cell)).collect()).collect();
    let widths: Vec<usize> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let of_cells = cells.iter().filter_map(|row| row.get(at)).map(|cell| length(cell)).max();
            of_cells.unwrap_or(0).max(length(column.title))
        })
        .collect();
    entry(out, "", &format!("{}:", table.caption));
    if let Some(widths) = fitted(&widths) {
        return in_columns(out, table, &cells, &widths);
    }
    for row in &cells {
        for (column, cell) in table.columns.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
            entry(out, &format!("  {:<15} ", column.title), cell);
        }
        out.push('\n');
    }
}

/// Widths that fit the page: only the widest columns give, and none becomes too narrow to read.
fn fitted(widths: &[usize]) -> Option<Vec<usize>> {
    /// Columns that are no wider than this keep their width: times, ids, numbers, slugs.
    const KEPT: usize = 30;
    let room = WIDTH.checked_sub(2 * widths.len())?;
    let mut widths = widths.to_vec();
    while widths.iter().sum::<usize>() > room {
        let widest = widths.iter_mut().max()?;
        if *widest <= KEPT {
            return None;
        }
        *widest -= 1;
    }
    Some(widths)
}

fn in_columns(out: &mut String, table: &Table, cells: &[Vec<String>], widths: &[usize]) {
    let titles: Vec<String> = table.columns.iter().map(|column| column.title.to_owned()).collect();
    for row in std::iter::once(&titles).chain(cells) {
        let broken: Vec<Vec<String>> =
            row.iter().zip(widths).map(|(cell, width)| wrap(cell, Some(*width))).collect();
        let height = broken.iter().map(Vec::len).max().unwrap_or(1);
        for at in 0..height {
            let mut line = String::new();
            for ((column, cell), width) in table.columns.iter().zip(&broken).zip(widths) {
                let cell = cell.get(at).map_or("", String::as_str);
                let cell = if column.number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str("  ");
                line.push_str(&cell);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

fn path(out: &mut String, path: &Path) {
    for (at, segment) in path.segments.iter().enumerate() {
        let mark = if segment.culprit { format!("  <== {}", path.mark) } else { String::new() };
        let detail = if segment.detail.is_empty() { String::new() } else { format!(" ({})", segment.detail) };
        entry(out, "", &format!("{}. {}{detail}{mark}", at + 1, segment.name));
    }
}

fn ladder(out: &mut String, ladder: &Ladder) {
    entry(out, "", &format!("{}  <->  {}", ladder.left, ladder.right));
    if let Some(device) = ladder.between() {
        entry(out, "", &format!("D is {device}"));
    }
    for rung in &ladder.rungs {
        let arrow = match rung.way {
            Way::Right => "|---->|",
            Way::Left => "|<----|",
            Way::RightFromPath => "|. D->|",
            Way::LeftFromPath => "|<-D .|",
            Way::AtLeft => "*     |",
            Way::AtRight => "|     *",
        };
        let decides = if rung.deciding { "  <== decides" } else { "" };
        let first = format!("{:>14}  {arrow}  ", rung.offset);
        entry(out, &first, &format!("{} [{}]{decides}", rung.label, rung.source));
    }
    entry(out, "", &ladder.note);
}

fn chart(out: &mut String, chart: &Chart) {
    entry(
        out,
        "",
        &format!("{}, {} to {}, one column is {}:", chart.caption, chart.from, chart.to, chart.bucket),
    );
    let widest = chart.series.iter().map(|series| length(&series.name)).max().unwrap_or(0);
    for series in &chart.series {
        let name = safe(&series.name);
        let total: u64 = series.counts.iter().sum();
        let lines = wrap(&crate::history::render::text::sparkline(&series.counts), Some(WIDTH - 20));
        for (at, line) in lines.iter().enumerate() {
            let (name, total) =
                if at == 0 { (name.as_str(), total.to_string()) } else { ("", String::new()) };
            out.push_str(format!("  {name:<widest$} {total:>8} {line}").trim_end());
            out.push('\n');
        }
    }
}
