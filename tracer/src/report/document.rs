//! The report as a document: sections of typed blocks in one order, before any form.
//!
//! Every form renders exactly this, so what one says the others say, and in the same order. Texts are raw: what a
//! log or a process named is in them as it was, and the form makes it safe for where it goes.

use serde::Serialize;

use crate::model::verdict::{Certainty, Party};

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// What it is about.
    pub title: String,
    /// Its parts.
    pub sections: Vec<Section>,
}

/// A part with a title.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// Stable name, unique among its neighbours.
    pub id: String,
    /// Title.
    pub title: String,
    /// What stands in it.
    pub blocks: Vec<Block>,
    /// Parts of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// Only few readers want to see it; a page shows it when asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub folded: bool,
    /// Id of the incident that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
}

impl Section {
    /// A section without parts.
    pub fn new(id: &str, title: &str, blocks: Vec<Block>) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            blocks,
            sections: Vec::new(),
            folded: false,
            incident: None,
        }
    }
}

/// A piece of a section.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "block")]
pub enum Block {
    /// A sentence or several.
    Paragraph {
        /// The sentences.
        text: String,
    },
    /// The answer in plain words.
    Answer(Answer),
    /// Names and values.
    Fields {
        /// In order.
        fields: Vec<Field>,
    },
    /// Sentences, one below the other.
    List {
        /// The sentences.
        items: Vec<String>,
    },
    /// A paragraph to be pasted elsewhere.
    Statement {
        /// The paragraph.
        text: String,
    },
    /// What only few readers want to see; a page shows it when asked.
    Folded {
        /// What it is.
        summary: String,
        /// What stands in it.
        blocks: Vec<Block>,
    },
    /// Lines of a log or a file as they stood.
    Lines {
        /// Where they come from.
        source: String,
        /// The lines.
        lines: Vec<String>,
    },
    /// Rows and columns.
    Table(Table),
    /// The four segments of the way of a request.
    Path(Path),
    /// What went to and fro on the connection.
    Ladder(Ladder),
    /// Incidents over time.
    Chart(Chart),
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// What a reader has to know first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// What happened.
    pub what: String,
    /// When, and how far that can be trusted.
    pub when: Option<String>,
    /// Whose doing it was, in words.
    pub who: String,
    /// The same as a slug; `None` where several have a part.
    pub party: Option<Party>,
    /// What it did to the request, where one incident is concerned.
    pub effect: Option<&'static str>,
    /// How sure that is, in words.
    pub sure: String,
    /// The same as a slug.
    pub certainty: Option<Certainty>,
    /// What to do now.
    pub next: Vec<String>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What its rows are.
    pub caption: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
    /// It is long, and a reader will want to look for rows.
    pub searchable: bool,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// It holds numbers.
    pub number: bool,
}

impl Column {
    /// A column of words.
    pub const fn words(title: &'static str) -> Self {
        Self { title, number: false }
    }

    /// A column of numbers.
    pub const fn number(title: &'static str) -> Self {
        Self { title, number: true }
    }
}

/// The way of a request, with the segment where the fault lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Path {
    /// Client, path, Nginx, path, upstream as they are named: the segments in order.
    pub segments: Vec<PathSegment>,
    /// What is said of the segment where the fault lies, as sure as the verdict is.
    pub mark: String,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathSegment {
    /// Name.
    pub name: String,
    /// Address or process, where known.
    pub detail: String,
    /// The fault lies here.
    pub culprit: bool,
}

/// A ladder diagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ladder {
    /// Name of the left end.
    pub left: String,
    /// Name of the right end.
    pub right: String,
    /// Name of what sends from between them; `None` where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// It sends in the name of the end beyond it; an ICMP error is sent in its own.
    pub in_anothers_name: bool,
    /// How to read it.
    pub note: String,
    /// Earliest first.
    pub rungs: Vec<Rung>,
}

impl Ladder {
    /// What sends from between the ends, and in whose name.
    pub fn between(&self) -> Option<String> {
        let name = if self.in_anothers_name { ", in the name of the end beyond it" } else { "" };
        self.device.as_ref().map(|device| format!("{device}{name}"))
    }
}

/// One step of a ladder diagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rung {
    /// UTC.
    pub time: String,
    /// From the first rung on, or from the failure.
    pub offset: String,
    /// Which way it goes, or whose it is.
    pub way: Way,
    /// What it is.
    pub label: String,
    /// How it is known.
    pub source: String,
    /// It decides the verdict.
    pub deciding: bool,
}

/// Direction of a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From left to right.
    Right,
    /// From right to left.
    Left,
    /// To the right end from between the two, in the name of the left end.
    RightFromPath,
    /// To the left end from between the two, in the name of the right end.
    LeftFromPath,
    /// At the left end.
    AtLeft,
    /// At the right end.
    AtRight,
}

/// Counts over time, one row per line of `series`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chart {
    /// What is counted.
    pub caption: String,
    /// UTC of the first bucket.
    pub from: String,
    /// UTC of the end of the last bucket.
    pub to: String,
    /// Width of a bucket in words.
    pub bucket: String,
    /// UTC of each bucket.
    pub times: Vec<String>,
    /// The rows.
    pub series: Vec<Series>,
}

/// One row of a chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Series {
    /// What is counted in it.
    pub name: String,
    /// One number per bucket.
    pub counts: Vec<u64>,
}

/// Shorthands for the writers of pages.
pub fn paragraph(text: impl Into<String>) -> Block {
    Block::Paragraph { text: text.into() }
}

/// Names and values; pairs without a value are left out.
pub fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Block {
    let given = pairs.into_iter().filter_map(|(name, value)| {
        Some(Field { name: name.to_owned(), value: value.filter(|value| !value.is_empty())? })
    });
    Block::Fields { fields: given.collect() }
}
