//! The report as one HTML file: no request, no script but its own, readable without any.
//!
//! `maud` escapes every text; [`safe`] makes visible what would reorder or hide. The policy in the head allows exactly
//! the style and the script below, by their hashes, and nothing else.

use std::collections::BTreeMap;

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
    let mut numbers = Numbers { links: links(document), ..Numbers::default() };
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

/// Numbers for names that a page needs only once, and where its incidents stand.
#[derive(Debug, Default)]
struct Numbers {
    last: u32,
    /// Places of incidents on the page by their ids.
    links: BTreeMap<String, String>,
}

impl Numbers {
    fn next(&mut self, kind: &str) -> String {
        self.last += 1;
        format!("{kind}-{}", self.last)
    }

    /// Text in which the id of an incident that stands on the page leads there.
    fn linked(&self, text: &str) -> Markup {
        let id_of = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        html! {
            @for (at, word) in safe(text).split(' ').enumerate() {
                @if at > 0 { " " }
                @match self.links.get(&id_of(word)) {
                    Some(place) => a href=(format!("#{place}")) { (word) },
                    None => (word),
                }
            }
        }
    }
}

/// Where the incidents of a page stand that it shows in full.
fn links(document: &Document) -> BTreeMap<String, String> {
    let sections = document.sections.iter().flat_map(|section| &section.sections);
    sections.filter_map(|section| Some((section.incident.clone()?, section.id.clone()))).collect()
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
    if section.folded {
        let inner = html! {
            @for block in &section.blocks { (self::block(block, numbers)) }
            @for inner in &section.sections { (self::section(inner, level + 1, numbers)) }
        };
        return html! { div id=(section.id) { (folded(&section.title, &inner)) } };
    }
    html! {
        section id=(section.id) aria-labelledby=(format!("{}-title", section.id)) {
            (heading(section, level))
            @for block in &section.blocks { (self::block(block, numbers)) }
            @for inner in &section.sections { (self::section(inner, level + 1, numbers)) }
        }
    }
}

/// What is shown when asked for; printed, it is left out, and that is said.
fn folded(summary: &str, inner: &Markup) -> Markup {
    html! {
        details class="fold" { summary { (safe(summary)) } (inner) }
        p class="left-out" { (safe(summary)) ": left out in print; the page shows it." }
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
        Block::Folded { summary, blocks } => {
            let inner = html! { @for block in blocks { (self::block(block, numbers)) } };
            folded(summary, &inner)
        }
        Block::Answer(answer) => self::answer(answer, numbers),
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

fn answer(answer: &Answer, numbers: &Numbers) -> Markup {
    html! {
        div class="answer" {
            dl {
                dt { "What happened" }
                dd class="what" { (safe(&answer.what)) }
                @if let Some(when) = &answer.when {
                    dt { "When" }
                    dd { (safe(when)) }
                }
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
                    dd { ol { @for next in &answer.next { li { (numbers.linked(next)) } } } }
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
        div class="scroll" role="region" aria-label=(safe(&table.caption)) {
            table id=(id) class=(classes(table)) {
                caption { (safe(&table.caption)) }
                thead { tr { @for column in &table.columns {
                    th scope="col" class=[column.number.then_some("n")] { (column.title) }
                } } }
                tbody { @for row in &table.rows { tr {
                    @for (column, cell) in table.columns.iter().zip(row) {
                        td class=[class(column.number, cell)] data-label=(column.title) { (numbers.linked(cell)) }
                    }
                } } }
            }
        }
    }
}

/// A table with many rows or columns is set closer where there is little room.
fn classes(table: &Table) -> &'static str {
    match (table.searchable, table.columns.len()) {
        (true, _) => "cards close",
        (false, 6..) => "cards wide",
        (false, _) => "cards",
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
            figcaption { (safe(&ladder.note)) }
        }
    }
}

/// A slug that may be broken behind its underscores.
fn broken(slug: &str) -> Markup {
    html! { @for part in safe(slug).split_inclusive('_') { (part) wbr; } }
}

fn step(ladder: &Ladder, rung: &Rung) -> String {
    let way = match rung.way {
        Way::Right => format!("{} to {}", ladder.left, ladder.right),
        Way::Left => format!("{} to {}", ladder.right, ladder.left),
        Way::RightFromPath => from_path(ladder, &ladder.left, &ladder.right),
        Way::LeftFromPath => from_path(ladder, &ladder.right, &ladder.left),
        Way::AtLeft => format!("at {}", ladder.left),
        Way::AtRight => format!("at {}", ladder.right),
    };
    let decides = if rung.deciding { " This decides." } else { "" };
    safe(&format!("{}, {way}: {} ({}).{decides}", rung.offset, rung.label, rung.source))
}

/// A segment of one that stands between the ends.
fn from_path(ladder: &Ladder, named: &str, to: &str) -> String {
    let device = ladder.device.as_deref().unwrap_or("a device on the path");
    if ladder.in_anothers_name {
        return format!("{device}, in the name of {named}, to {to}");
    }
    format!("{device} to {to}")
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
                div class="scroll" role="region" aria-label=(safe(&chart.caption)) {
                    table class="counts" {
                        thead { tr {
                            th scope="col" { "From (UTC)" }
                            @for series in &chart.series { th scope="col" class="n" { (broken(&series.name)) } }
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
