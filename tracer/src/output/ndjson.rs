//! One verdict per line, as JSON: the contract of `docs/verdict.schema.json`.
//!
//! Characters that a terminal would act on are written as `\uXXXX`, so that the line is harmless on a
//! screen and still means exactly the same to a JSON reader.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::sanitize::is_dangerous;
use super::{Closing, Fate, Output, Sink};
use crate::model::Verdict;

/// Writes newline-delimited JSON.
pub struct Ndjson {
    sink: Sink,
}

impl Ndjson {
    /// Writes to `sink`.
    pub fn new(sink: Sink) -> Self {
        Self { sink }
    }
}

impl Output for Ndjson {
    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.sink.record(&line(verdict)?)
    }

    /// Nothing: a stream of verdicts holds verdicts only.
    fn finish(&mut self, _closing: &Closing) -> io::Result<()> {
        Ok(())
    }

    fn fate(&self) -> &dyn Fate {
        &self.sink
    }
}

/// `value` as one line of JSON, newline included.
pub fn line<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2048);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, TerminalSafe))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Compact JSON in which no dangerous character stands raw. `serde_json` itself escapes C0 only.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = 0;
        for (at, character) in fragment.char_indices().filter(|(_, character)| is_dangerous(*character)) {
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = at + character.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[plain..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_characters_are_escaped_and_read_back_the_same() {
        let hostile = "esc \x1b[31m del \x7f c1 \u{9b} bidi \u{202e} tag \u{e0041} line\nend \"q\" \\ ü 日";
        let bytes = line(&hostile).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.trim_end_matches('\n').chars().any(is_dangerous), "{text}");
        assert!(text.contains("ü 日") && text.contains("\\udb40\\udc41"));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
    }

    #[test]
    fn every_verdict_is_read_back_as_it_was() {
        for verdict in super::super::samples::all() {
            assert_eq!(serde_json::from_slice::<Verdict>(&line(&verdict).unwrap()).unwrap(), verdict);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_string_survives_on_one_line(text in "(?s).*") {
            let bytes = line(&text).unwrap();
            proptest::prop_assert_eq!(bytes.iter().position(|byte| *byte == b'\n'), Some(bytes.len() - 1));
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), text);
        }
    }
}
