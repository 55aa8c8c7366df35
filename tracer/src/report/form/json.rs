//! The report for machines: the same sections in the same order, and the verdicts it shows in full as they were given.

use std::io;

use serde::Serialize;

use crate::model::Verdict;
use crate::output::ndjson;

use super::super::document::Document;

/// Value of `Page::schema`.
pub const SCHEMA: &str = "rstscope.report/1";

#[derive(Serialize)]
struct Page<'a> {
    schema: &'static str,
    #[serde(flatten)]
    document: &'a Document,
    verdicts: &'a [&'a Verdict],
}

/// The report as one JSON object on one line.
pub fn json(document: &Document, verdicts: &[&Verdict]) -> io::Result<Vec<u8>> {
    ndjson::line(&Page { schema: SCHEMA, document, verdicts })
}
