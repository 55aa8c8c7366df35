//! Views of the verdict: text, NDJSON, summary.
