//! Pictures of a report as inline SVG: the ladder diagram and counts over time. Colours come from the page's style,
//! and none stands alone: what it says is written beside it.

use maud::{Markup, html};

use crate::output::layout::wrap;

use super::super::document::{Chart, Ladder, Rung, Series, Way};
use super::html::safe;

/// Width of a picture in its own units.
const WIDTH: usize = 1000;
/// Where the two ends stand.
const LEFT: usize = 120;
const RIGHT: usize = 960;
/// Where what is between them stands.
const MIDDLE: usize = usize::midpoint(LEFT, RIGHT);
/// Characters of a label that fit between them.
const LABEL: usize = 108;
/// Height of one line of text.
const LINE: usize = 17;
/// Height of the names above a diagram.
const HEAD: usize = 46;
/// Width of a bar and the gap behind it.
const BUCKET: usize = 8;
/// Height of the longest bar.
const BAR: usize = 34;

/// The ladder diagram.
pub fn ladder(ladder: &Ladder) -> Markup {
    let mut top = HEAD;
    let mut rungs = Vec::new();
    for rung in &ladder.rungs {
        let lines = wrap(&safe(&rung.label), Some(LABEL));
        let height = LINE * lines.len() + 38;
        rungs.push((top, height, lines, rung));
        top += height;
    }
    let bottom = top + 8;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {bottom}")) aria-hidden="true" focusable="false" {
            text x=(LEFT) y="18" { (safe(&ladder.left)) }
            text x=(RIGHT) y="18" text-anchor="end" { (safe(&ladder.right)) }
            @if let Some(device) = ladder.between() {
                text class="name" x=(MIDDLE) y="36" text-anchor="middle" { "◆ " (safe(&device)) }
            }
            line class="life" x1=(LEFT) x2=(LEFT) y1="26" y2=(bottom) {}
            line class="life" x1=(RIGHT) x2=(RIGHT) y1="26" y2=(bottom) {}
            @for (top, height, lines, rung) in &rungs { (self::rung(*top, *height, lines, rung, ladder.in_anothers_name)) }
        }
    }
}

fn rung(top: usize, height: usize, lines: &[String], rung: &Rung, beyond: bool) -> Markup {
    let wire = top + LINE * lines.len() + 8;
    let (x, anchor) = match rung.way {
        Way::Right | Way::Left | Way::RightFromPath | Way::LeftFromPath => (MIDDLE, "middle"),
        Way::AtLeft => (LEFT + 16, "start"),
        Way::AtRight => (RIGHT - 16, "end"),
    };
    html! {
        g class=(if rung.deciding { "decides" } else { "step" }) {
            @if rung.deciding {
                rect class="band" x=(LEFT + 3) y=(top) width=(RIGHT - LEFT - 6) height=(height - 6) {}
                text class="mark" x="4" y=(wire + 18) { "decides ▶" }
            }
            text x="4" y=(wire + 4) { (rung.offset) }
            @for (at, line) in lines.iter().enumerate() {
                text class="label" x=(x) y=(top + LINE * (at + 1) - 3) text-anchor=(anchor) { (line) }
            }
            (arrow(rung.way, wire, beyond))
            text class="dim" x=(x) y=(wire + 16) text-anchor=(anchor) { (safe(&rung.source)) }
        }
    }
}

/// `beyond`: what comes from the middle is drawn on, dashed, to the end in whose name it is.
fn arrow(way: Way, y: usize, beyond: bool) -> Markup {
    let (from, to) = (LEFT + 2, RIGHT - 2);
    html! {
        @match way {
            Way::Right => {
                line class="wire" x1=(from) x2=(to - 8) y1=(y) y2=(y) {}
                path class="tip" d=(format!("M{} {} l-11 -5 v10 z", to, y)) {}
            }
            Way::Left => {
                line class="wire" x1=(from + 8) x2=(to) y1=(y) y2=(y) {}
                path class="tip" d=(format!("M{} {} l11 -5 v10 z", from, y)) {}
            }
            Way::RightFromPath => {
                @if beyond { line class="wire beyond" x1=(from) x2=(MIDDLE) y1=(y) y2=(y) {} }
                line class="wire" x1=(MIDDLE) x2=(to - 8) y1=(y) y2=(y) {}
                path class="tip" d=(format!("M{} {} l-11 -5 v10 z", to, y)) {}
                (diamond(y))
            }
            Way::LeftFromPath => {
                line class="wire" x1=(from + 8) x2=(MIDDLE) y1=(y) y2=(y) {}
                @if beyond { line class="wire beyond" x1=(MIDDLE) x2=(to) y1=(y) y2=(y) {} }
                path class="tip" d=(format!("M{} {} l11 -5 v10 z", from, y)) {}
                (diamond(y))
            }
            Way::AtLeft => { circle class="tip" cx=(LEFT) cy=(y) r="6" {} }
            Way::AtRight => { circle class="tip" cx=(RIGHT) cy=(y) r="6" {} }
        }
    }
}

/// What sends from between the ends.
fn diamond(y: usize) -> Markup {
    html! { path class="tip" d=(format!("M{MIDDLE} {} l6 6 l-6 6 l-6 -6 z", y - 6)) {} }
}

/// Counts over time, one row of bars per line, all to the same scale. Names and ends stand beside the pictures, so
/// that they keep their size however wide the page is.
pub fn chart(chart: &Chart) -> Markup {
    let most = chart.series.iter().flat_map(|series| &series.counts).copied().max().unwrap_or(0).max(1);
    html! {
        div class="chart" {
            @for series in &chart.series { (row(series, most, &chart.times)) }
            span {}
            span class="ends" { span { (chart.from) } span { (chart.to) } }
        }
    }
}

fn row(series: &Series, most: u64, times: &[String]) -> Markup {
    let width = series.counts.len().max(1) * BUCKET;
    let total: u64 = series.counts.iter().sum();
    let highest = series.counts.iter().copied().max().unwrap_or(0);
    let name = safe(&series.name);
    html! {
        span class="series" { b { (name) } " " small { (total) " in all, at most " (highest) " at once" } }
        svg viewBox=(format!("0 0 {width} {}", BAR + 1)) preserveAspectRatio="none" role="img"
            aria-label=(format!("{name}: {total} in all, at most {highest} in one bar; the numbers are in the table below")) {
            rect class="axis" x="0" y=(BAR) width=(width) height="1" {}
            @for (at, count) in series.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                @let tall = tall(*count, most);
                rect class="bar" x=(at * BUCKET) y=(BAR - tall) width=(BUCKET - 1) height=(tall) {
                    title { (times.get(at).map_or("", String::as_str)) ": " (count) }
                }
            }
        }
    }
}

/// Height of a bar; one that counts anything can be seen.
fn tall(count: u64, most: u64) -> usize {
    let scaled = u128::from(count) * BAR as u128 / u128::from(most.max(1));
    usize::try_from(scaled).unwrap_or(BAR).max(2)
}
