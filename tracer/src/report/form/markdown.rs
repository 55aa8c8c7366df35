//! The report as Markdown, for tickets. A text from outside can begin no markup: whatever could is escaped, and lines
//! of a log stand in a fence that they cannot close.

use std::fmt::Write as _;

use crate::output::sanitize;

use super::super::document::{Answer, Block, Chart, Document, Ladder, Path, Section, Table, Way};

/// Longest piece of text, characters; the JSON has all of it.
const MOST: usize = 4000;
/// Characters that Markdown, or the HTML within it, gives a meaning.
const MARKUP: &str = "\\`*_{}[]<>()#+-.!|~&$@:=^";

/// The report as Markdown.
pub fn markdown(document: &Document) -> String {
    let mut out = String::new();
    line(&mut out, &format!("# {}", safe(&document.title)));
    for section in &document.sections {
        self::section(&mut out, section, 2);
    }
    out
}

/// Writing to a string does not fail.
fn line(out: &mut String, text: &str) {
    let _infallible = writeln!(out, "{text}");
}

/// Text that is shown as it is. Punctuation that means something only beside more of it is left readable.
pub fn safe(text: &str) -> String {
    let text = sanitize::line(text, MOST);
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let after = rest.peek().copied().unwrap_or(' ');
        if MARKUP.contains(character) && !is_plain(before, character, after) {
            out.push('\\');
        }
        out.push(character);
        before = character;
    }
    out
}

/// Text that is pasted elsewhere: outside a table a bar between two letters means nothing.
fn prose(text: &str) -> String {
    safe(text).replace("\\|", "|")
}

/// Punctuation of addresses, times and numbers inside a word, which no Markdown reads as markup.
fn is_plain(before: char, character: char, after: char) -> bool {
    let word = |character: char| character.is_ascii_alphanumeric();
    match character {
        // A dot or colon between digits is an address or a time; between letters it could become a link.
        '.' | ':' => {
            (before.is_ascii_digit() && after.is_ascii_hexdigit() && !after.is_ascii_alphabetic())
                || after == ' '
        }
        '-' | '_' => word(before) && word(after),
        '(' => before == ' ',
        ')' | '+' | '=' => before != ' ' && before != ']',
        _ => false,
    }
}

fn section(out: &mut String, section: &Section, depth: usize) {
    out.push('\n');
    line(out, &format!("{} {}", "#".repeat(depth.min(6)), safe(&section.title)));
    for block in &section.blocks {
        out.push('\n');
        self::block(out, block);
    }
    for inner in &section.sections {
        self::section(out, inner, depth + 1);
    }
}

fn block(out: &mut String, block: &Block) {
    match block {
        Block::Paragraph { text } => line(out, &safe(text)),
        Block::Answer(answer) => self::answer(out, answer),
        Block::Fields { fields } => {
            for field in fields {
                line(out, &format!("- **{}**: {}", safe(&field.name), safe(&field.value)));
            }
        }
        Block::List { items } => items.iter().for_each(|item| line(out, &format!("- {}", safe(item)))),
        Block::Statement { text } => line(out, &format!("> {}", prose(text))),
        Block::Folded { summary, blocks } => {
            line(out, &safe(summary));
            for block in blocks {
                out.push('\n');
                self::block(out, block);
            }
        }
        Block::Lines { source, lines } => self::lines(out, source, lines),
        Block::Table(table) => self::table(out, table),
        Block::Path(path) => self::path(out, path),
        Block::Ladder(ladder) => self::ladder(out, ladder),
        Block::Chart(chart) => self::chart(out, chart),
    }
}

fn answer(out: &mut String, answer: &Answer) {
    line(out, &format!("**What happened**: {}\n", safe(&answer.what)));
    if let Some(when) = &answer.when {
        line(out, &format!("**When**: {}\n", safe(when)));
    }
    line(out, &format!("**Whose doing**: {}\n", safe(&answer.who)));
    if let Some(effect) = answer.effect {
        line(out, &format!("**Effect**: {effect}\n"));
    }
    line(out, &format!("**How sure**: {}", safe(&answer.sure)));
    if !answer.next.is_empty() {
        line(out, "\n**What to do**:\n");
    }
    for (at, next) in answer.next.iter().enumerate() {
        line(out, &format!("{}. {}", at + 1, safe(next)));
    }
}

/// A fence longer than any run of backticks within it.
fn lines(out: &mut String, source: &str, lines: &[String]) {
    let lines: Vec<String> = lines.iter().map(|text| sanitize::line(text, MOST).into_owned()).collect();
    let longest = lines.iter().map(|text| run_of_backticks(text)).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    line(out, &format!("{}:\n", safe(source)));
    line(out, &format!("{fence}text"));
    for text in &lines {
        line(out, text);
    }
    line(out, &fence);
}

fn run_of_backticks(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

fn table(out: &mut String, table: &Table) {
    line(out, &format!("{}:\n", safe(&table.caption)));
    row(out, table.columns.iter().map(|column| safe(column.title)));
    row(out, table.columns.iter().map(|column| if column.number { "---:" } else { "---" }.to_owned()));
    for cells in &table.rows {
        row(out, cells.iter().map(|cell| safe(cell)));
    }
}

fn row(out: &mut String, cells: impl Iterator<Item = String>) {
    line(out, &format!("| {} |", cells.collect::<Vec<_>>().join(" | ")));
}

fn path(out: &mut String, path: &Path) {
    for (at, segment) in path.segments.iter().enumerate() {
        let detail =
            if segment.detail.is_empty() { String::new() } else { format!(" ({})", safe(&segment.detail)) };
        let mark = if segment.culprit { format!(" **← {}**", path.mark) } else { String::new() };
        line(out, &format!("{}. {}{detail}{mark}", at + 1, safe(&segment.name)));
    }
}

fn ladder(out: &mut String, ladder: &Ladder) {
    row(
        out,
        ["Time (UTC)", "After", &safe(&ladder.left), "", &safe(&ladder.right), "Known from"]
            .map(str::to_owned)
            .into_iter(),
    );
    row(out, ["---", "---:", "---", "---", "---", "---"].map(str::to_owned).into_iter());
    for rung in &ladder.rungs {
        let arrow = match rung.way {
            Way::Right => "→",
            Way::Left => "←",
            Way::RightFromPath => "┄ ◆ →",
            Way::LeftFromPath => "← ◆ ┄",
            Way::AtLeft | Way::AtRight => "•",
        };
        let label =
            if rung.deciding { format!("**{}** (decides)", safe(&rung.label)) } else { safe(&rung.label) };
        let (left, right) = match rung.way {
            Way::Right | Way::RightFromPath | Way::AtLeft => (label, String::new()),
            Way::Left | Way::LeftFromPath | Way::AtRight => (String::new(), label),
        };
        let cells = [safe(&rung.time), safe(&rung.offset), left, arrow.to_owned(), right, safe(&rung.source)];
        row(out, cells.into_iter());
    }
    if let Some(device) = ladder.between() {
        line(out, &format!("\n◆ is {}.", safe(&device)));
    }
    line(out, &format!("\n{}", safe(&ladder.note)));
}

fn chart(out: &mut String, chart: &Chart) {
    line(
        out,
        &format!(
            "{}, {} to {}, one column is {}:\n",
            safe(&chart.caption),
            safe(&chart.from),
            safe(&chart.to),
            safe(&chart.bucket)
        ),
    );
    row(out, ["Row", "Incidents", "Over time"].map(str::to_owned).into_iter());
    row(out, ["---", "---:", "---"].map(str::to_owned).into_iter());
    for series in &chart.series {
        let total: u64 = series.counts.iter().sum();
        let line = crate::history::render::text::sparkline(&series.counts);
        row(out, [safe(&series.name), total.to_string(), line].into_iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped_and_addresses_stay_readable() {
        assert_eq!(safe("10.0.0.1:80 at 2026-11-21T10:00:00Z"), "10.0.0.1:80 at 2026-11-21T10:00:00Z");
        assert_eq!(safe("<img src=x>"), "\\<img src=x\\>");
        assert_eq!(safe("[a](http://b)"), "\\[a\\]\\(http\\://b)");
        assert_eq!(safe("| a | ```"), "\\| a \\| \\`\\`\\`");
        assert_eq!(prose("PSH|ACK `x` \\|"), "PSH|ACK \\`x\\` \\\\|");
        assert_eq!(safe("- item"), "\\- item");
        assert_eq!(safe("1. x"), "1. x");
        assert_eq!(safe("# x"), "\\# x");
    }

    #[test]
    fn a_fence_cannot_be_closed_from_inside() {
        let mut out = String::new();
        lines(&mut out, "f", &["````".to_owned(), "```\n# x".to_owned()]);
        assert!(out.contains("`````text\n") && out.ends_with("\n`````\n"), "{out}");
        assert!(!out.contains("\n# x"));
    }
}
