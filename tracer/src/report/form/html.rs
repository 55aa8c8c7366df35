//! The report as one HTML file: no request, no script but its own, readable without any.
//!
//! `maud` escapes every text; [`safe`] makes visible what would reorder or hide. The policy in the head allows exactly
//! the style and the script below, by their hashes, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::output::sanitize;

use super::super::document::{
    Answer, Block, Chart, Document, Field, Ladder, Path, Rung, Section, Table, Way,
};
use super::svg;

/// The page's style.
const STYLE: &str = include_str!("report.css");
/// The page's script.
const SCRIPT: &str = include_str!("report.js");
/// Longest piece of text, characters; the JSON has all of it.
const MOST: usize = 4000;

/// Text with what would reorder or hide made visible. Escaping is `maud`'s.
pub fn safe(text: &str) -> String {
    sanitize::line(text, MOST).into_owned()
}

/// The report as HTML.
pub fn html(document: &Document) -> String {
    let mut numbers = Numbers::default();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (safe(&document.title)) " · rstscope" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#answer" { "Skip to the answer" }
                header { h1 { (safe(&document.title)) } }
                main { @for section in &document.sections {
                    (self::section(section, 2, &mut numbers))
                    @if section.id == "answer" { (contents(document)) }
                } }
                footer { "Made by rstscope " (env!("CARGO_PKG_VERSION")) ". This file loads nothing and sends nothing." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// Numbers for names that a page needs only once.
#[derive(Debug, Default)]
struct Numbers(u32);

impl Numbers {
    fn next(&mut self, kind: &str) -> String {
        self.0 += 1;
        format!("{kind}-{}", self.0)
    }
}

fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn contents(document: &Document) -> Markup {
    html! {
        nav aria-label="Contents" {
            ul { @for section in &document.sections {
                li { a href=(format!("#{}", section.id)) { (safe(&section.title)) } }
            } }
        }
    }
}

fn section(section: &Section, level: u8, numbers: &mut Numbers) -> Markup {
    html! {
        section id=(section.id) aria-labelledby=(format!("{}-title", section.id)) {
            (heading(section, level))
            @for block in &section.blocks { (self::block(block, numbers)) }
            @for inner in &section.sections { (self::section(inner, level + 1, numbers)) }
        }
    }
}

fn heading(section: &Section, level: u8) -> Markup {
    let (id, title) = (format!("{}-title", section.id), safe(&section.title));
    html! {
        @match level {
            2 => h2 id=(id) { (title) },
            3 => h3 id=(id) { (title) },
            4 => h4 id=(id) { (title) },
            _ => h5 id=(id) { (title) },
        }
    }
}

fn block(block: &Block, numbers: &mut Numbers) -> Markup {
    match block {
        Block::Paragraph { text } => html! { p { (safe(text)) } },
        Block::Answer(answer) => self::answer(answer),
        Block::Fields { fields } => self::fields(fields),
        Block::List { items } => html! { ul { @for item in items { li { (safe(item)) } } } },
        Block::Statement { text } => statement(text, numbers),
        Block::Lines { source, lines } => html! {
            figure {
                figcaption { (safe(source)) }
                @for line in lines { pre { (safe(line)) } }
            }
        },
        Block::Table(table) => self::table(table, numbers),
        Block::Path(path) => self::path(path),
        Block::Ladder(ladder) => self::ladder(ladder),
        Block::Chart(chart) => self::chart(chart),
    }
}

fn answer(answer: &Answer) -> Markup {
    html! {
        div class="answer" {
            dl {
                dt { "What happened" }
                dd class="what" { (safe(&answer.what)) }
                dt { "Whose doing" }
                dd { @if let Some(party) = answer.party { span class="badge" { (party) } } (safe(&answer.who)) }
                @if let Some(effect) = answer.effect {
                    dt { "Effect" }
                    dd { (effect) }
                }
                dt { "How sure" }
                dd { (safe(&answer.sure)) }
                @if !answer.next.is_empty() {
                    dt { "What to do" }
                    dd { ol { @for next in &answer.next { li { (safe(next)) } } } }
                }
            }
        }
    }
}

fn fields(fields: &[Field]) -> Markup {
    html! {
        dl class="fields" { @for field in fields { dt { (safe(&field.name)) } dd { (safe(&field.value)) } } }
    }
}

fn statement(text: &str, numbers: &mut Numbers) -> Markup {
    let id = numbers.next("statement");
    html! {
        blockquote id=(id) { p { (safe(text)) } }
        button type="button" data-select=(id) hidden { "Select the paragraph" }
    }
}

fn table(table: &Table, numbers: &mut Numbers) -> Markup {
    let id = numbers.next("table");
    html! {
        @if table.searchable {
            div class="filter" data-filter=(id) hidden {
                label for=(format!("{id}-search")) { "Search these rows" }
                input type="search" id=(format!("{id}-search")) autocomplete="off";
                output for=(format!("{id}-search")) aria-live="polite" {}
            }
        }
        div class="scroll" role="region" aria-label=(safe(&table.caption)) tabindex="0" {
            table id=(id) class="cards" {
                caption { (safe(&table.caption)) }
                thead { tr { @for column in &table.columns {
                    th scope="col" class=[column.number.then_some("n")] { (column.title) }
                } } }
                tbody { @for row in &table.rows { tr {
                    @for (column, cell) in table.columns.iter().zip(row) {
                        td class=[class(column.number, cell)] data-label=(column.title) { (safe(cell)) }
                    }
                } } }
            }
        }
    }
}

/// Numbers stand to the right; times and slugs are not broken.
fn class(number: bool, cell: &str) -> Option<&'static str> {
    let short = cell.len() <= 30 && !cell.contains(' ');
    match (number, short) {
        (true, _) => Some("n"),
        (false, true) => Some("t"),
        (false, false) => None,
    }
}

fn path(path: &Path) -> Markup {
    html! {
        ol class="path" { @for (at, segment) in path.segments.iter().enumerate() {
            li class=(if segment.culprit { "culprit" } else if at % 2 == 0 { "way" } else { "end" }) {
                b { (safe(&segment.name)) }
                @if !segment.detail.is_empty() { small { (safe(&segment.detail)) } }
                @if segment.culprit {
                    span class="here" { "▲ " (path.mark) }
                }
            }
        } }
    }
}

/// The picture, and the same as a list for who cannot see it or has no room for it.
fn ladder(ladder: &Ladder) -> Markup {
    html! {
        figure class="ladder" {
            (svg::ladder(ladder))
            ol class="steps" { @for rung in &ladder.rungs {
                li class=[rung.deciding.then_some("decides")] { (step(ladder, rung)) }
            } }
            @if let Some(first) = ladder.rungs.first() {
                figcaption { "+0 is " (first.time) ". An arrow without “captured” was not captured as a packet; its source stands below it." }
            }
        }
    }
}

fn step(ladder: &Ladder, rung: &Rung) -> String {
    let way = match rung.way {
        Way::Right => format!("{} to {}", ladder.left, ladder.right),
        Way::Left => format!("{} to {}", ladder.right, ladder.left),
        Way::AtLeft => format!("at {}", ladder.left),
        Way::AtRight => format!("at {}", ladder.right),
    };
    let decides = if rung.deciding { " This decides." } else { "" };
    safe(&format!("{}, {way}: {} ({}).{decides}", rung.offset, rung.label, rung.source))
}

/// The picture, and its numbers.
fn chart(chart: &Chart) -> Markup {
    let any = |at: usize| chart.series.iter().any(|series| series.counts.get(at).copied().unwrap_or(0) > 0);
    html! {
        figure {
            figcaption { (safe(&chart.caption)) "; one bar is " (chart.bucket) ", all rows have the same scale" }
            (svg::chart(chart))
            details {
                summary { "The numbers" }
                div class="scroll" role="region" aria-label=(safe(&chart.caption)) tabindex="0" {
                    table {
                        thead { tr {
                            th scope="col" { "From (UTC)" }
                            @for series in &chart.series { th scope="col" class="n" { (safe(&series.name)) } }
                        } }
                        tbody { @for (at, time) in chart.times.iter().enumerate().filter(|(at, _)| any(*at)) { tr {
                            td class="t" { (time) }
                            @for series in &chart.series {
                                td class="n" { (series.counts.get(at).copied().unwrap_or(0)) }
                            }
                        } } }
                    }
                }
            }
        }
    }
}
