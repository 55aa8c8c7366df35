//! The live view: a first line that says who and why, then the proof and the change in a few lines.
//!
//! Shows one verdict at a time and knows nothing of the others. Harmless incidents get the first line only.
//! Every string is made safe to show before it is painted.

use std::borrow::Cow;
use std::io;

use anstyle::Style;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::layout::{hang, length, span};
use super::style::{self, Palette};
use super::{Closing, Fate, Output, Sink, parts, sanitize, summary};
use crate::model::Verdict;
use crate::model::verdict::{Advice, Certainty, Connection, Evidence, Impact, LogLine, Weight};

/// Columns that the labels of the following lines take, indent included.
const LABEL_WIDTH: usize = 16;
/// Indent of what belongs to the first line.
const INDENT: &str = "    ";
/// Characters of one following line's text, before it is broken.
const MAX_DETAIL: usize = 300;
/// Characters of the last field of the first line.
const MAX_TAIL: usize = 160;
/// Characters of a request that are worth showing on the first line.
const GLANCE: usize = 20;
/// Idle times below this are not worth a word, milliseconds.
const NOTABLE_IDLE_MS: u64 = 1000;

/// How text is shown.
#[derive(Debug, Clone)]
pub struct TextOptions {
    /// Colours.
    pub palette: Palette,
    /// Columns of the terminal; `None` in a pipe: lines are never broken.
    pub width: Option<usize>,
    /// Time zone of the times shown.
    pub zone: TimeZone,
}

/// Writes text for people.
pub struct Text {
    sink: Sink,
    options: TextOptions,
}

impl Text {
    /// Writes to `sink`.
    pub fn new(sink: Sink, options: TextOptions) -> Self {
        Self { sink, options }
    }
}

impl Output for Text {
    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.sink.record(incident(verdict, &self.options).as_bytes())
    }

    fn finish(&mut self, closing: &Closing) -> io::Result<()> {
        self.sink.record(summary::text(closing, &self.options).as_bytes())
    }

    fn fate(&self) -> &dyn Fate {
        &self.sink
    }
}

/// One incident, as lines.
pub fn incident(verdict: &Verdict, options: &TextOptions) -> String {
    let mut out = String::new();
    if verdict.impact == Impact::Harmless {
        head(&mut out, verdict, (&harmless_tail(verdict), MAX_DETAIL), options);
        return out;
    }
    head(&mut out, verdict, (&parts::impact_and_request(verdict), GLANCE), options);
    hang(&mut out, INDENT, INDENT.len(), &sanitize::line(&verdict.summary, MAX_DETAIL), options.width);
    connection(&mut out, verdict, options);
    for piece in strongest(&verdict.evidence) {
        labelled(&mut out, piece.weight.slug(), style::weight(piece.weight), &piece.detail, options);
    }
    missing(&mut out, verdict, options);
    if let Some(line) = &verdict.log {
        labelled(&mut out, "log", Style::new(), &log_position(line), options);
    }
    advice(&mut out, &verdict.advice, options);
    out
}

/// Local time with milliseconds; the text itself when it is no time.
pub fn clock<'a>(time: &'a str, zone: &TimeZone) -> Cow<'a, str> {
    match time.parse::<Timestamp>() {
        Ok(stamp) => stamp.to_zoned(zone.clone()).strftime("%H:%M:%S.%3f").to_string().into(),
        Err(_) => sanitize::line(time, 30),
    }
}

/// Time, party, certainty, cause, address, then the tail, which moves to its own line when there is no room
/// for all of it nor for the number of characters given.
fn head(out: &mut String, verdict: &Verdict, tail: (&str, usize), options: &TextOptions) {
    let party = verdict.party.slug().to_uppercase();
    let fields = [
        (clock(&verdict.time, &options.zone).into_owned(), Style::new()),
        (format!("{party:<9}"), style::party(verdict.party)),
        (format!("{:<6}", verdict.certainty), style::certainty(verdict.certainty)),
        (verdict.cause.slug().to_owned(), Style::new().bold()),
        (parts::culprit(verdict), Style::new()),
    ];
    let mut taken = 0;
    for (text, style) in fields.iter().filter(|(text, _)| !text.is_empty()) {
        taken = append(out, taken, text, *style, options);
    }
    append_tail(out, taken, tail, options);
    out.push('\n');
}

/// Appends one field, on a new line when it would not fit. Returns the columns taken on the line.
fn append(out: &mut String, taken: usize, text: &str, style: Style, options: &TextOptions) -> usize {
    let wanted = length(text);
    let gap = if taken == 0 { 0 } else { 2 };
    let fits = options.width.is_none_or(|width| taken + gap + wanted <= width);
    let start = if fits || taken == 0 {
        out.push_str(&" ".repeat(gap));
        taken + gap
    } else {
        out.push('\n');
        out.push_str(INDENT);
        INDENT.len()
    };
    out.push_str(&options.palette.paint(style, text));
    start + wanted
}

/// The last field may be shortened to what is left of the line, if that is enough.
fn append_tail(out: &mut String, taken: usize, (tail, enough): (&str, usize), options: &TextOptions) {
    if tail.is_empty() {
        return;
    }
    let room = options.width.map_or(MAX_TAIL, |width| width.saturating_sub(taken + 2));
    let own_line = options.width.map_or(MAX_TAIL, |width| width.saturating_sub(INDENT.len()));
    let whole = sanitize::line(tail, MAX_TAIL);
    let limit = if length(&whole) <= room || room >= enough { room } else { own_line };
    append(out, taken, &sanitize::line(tail, limit.min(MAX_TAIL)), Style::new(), options);
}

fn harmless_tail(verdict: &Verdict) -> String {
    let what = if verdict.consequence_of.is_some() { "harmless consequence" } else { "harmless" };
    format!("{what}: {}", verdict.summary)
}

fn labelled(out: &mut String, label: &str, style: Style, text: &str, options: &TextOptions) {
    let padding = " ".repeat(LABEL_WIDTH.saturating_sub(INDENT.len() + label.len()));
    let first = format!("{INDENT}{}{padding}", options.palette.paint(style, label));
    hang(out, &first, LABEL_WIDTH, &sanitize::line(text, MAX_DETAIL), options.width);
}

/// One decisive piece, or else two supporting ones; and one against it.
fn strongest(evidence: &[Evidence]) -> Vec<&Evidence> {
    let of = |weight| evidence.iter().filter(move |piece| piece.weight == weight);
    let mut shown: Vec<&Evidence> = of(Weight::Decisive).take(1).collect();
    if shown.is_empty() {
        shown.extend(of(Weight::Supporting).take(2));
    }
    shown.extend(of(Weight::Against).take(1));
    shown
}

/// What would have decided it, where it is not decided.
fn missing(out: &mut String, verdict: &Verdict, options: &TextOptions) {
    if verdict.certainty <= Certainty::Strong {
        return;
    }
    for gap in verdict.missing.iter().take(2) {
        labelled(out, "missing", Style::new().dimmed(), &format!("{}: {}", gap.code, gap.why), options);
    }
}

fn connection(out: &mut String, verdict: &Verdict, options: &TextOptions) {
    let Some(this) = &verdict.connection else {
        return;
    };
    let age = match this.age_ms {
        Some(age) => format!(", open {}", span(age)),
        None if this.preexisting => ", older than the trace".to_owned(),
        None => String::new(),
    };
    let idle = this.idle_ms.filter(|idle| *idle >= NOTABLE_IDLE_MS);
    let idle = idle.map(|idle| format!(", idle {}", span(idle))).unwrap_or_default();
    let other = verdict.peer_connection.as_ref().map(|other| format!("; {} {}", other.side, other.remote));
    let text = format!("{}{age}{idle}{}", ends(this), other.unwrap_or_default());
    hang(out, INDENT, INDENT.len(), &sanitize::line(&text, MAX_DETAIL), options.width);
}

fn ends(connection: &Connection) -> String {
    format!("nginx {} ↔ {} {}", connection.local, connection.side, connection.remote)
}

fn log_position(line: &LogLine) -> String {
    let number = line.connection.map(|number| format!(" *{number}")).unwrap_or_default();
    let errno = line.errno.map(|errno| format!(" ({errno})")).unwrap_or_default();
    format!("{}@{}{number}: {}{errno}", line.file, line.offset, line.message)
}

fn advice(out: &mut String, advice: &[Advice], options: &TextOptions) {
    let Some(first) = advice.first() else {
        return;
    };
    let more = match advice.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    labelled(out, "advice", Style::new().bold(), &format!("{}{more}", parts::advice(first)), options);
}
