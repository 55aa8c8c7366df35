//! A notice: what a webhook or a command is told, one JSON object each. Strings from outside are in it as data only;
//! characters that a terminal would act on are written as `\uXXXX`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::engine::identity;
use crate::history::report::PatternRow;
use crate::model::verdict::Impact;
use crate::model::{Clock, Mono, Verdict};
use crate::output::{ndjson, sanitize};

/// Value of `Notice::schema`.
pub const SCHEMA: &str = "rstscope.notice/1";
/// Characters of the sentence.
const MAX_TEXT: usize = 1500;
/// Largest notice, bytes; a larger one is not sent.
const MAX_BYTES: usize = 256 << 10;

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// Findings of patterns: one notice per finding.
    Patterns,
    /// Every incident that is neither harmless nor the consequence of another.
    Incidents,
}

/// One notice.
#[derive(Debug, Clone, Serialize)]
pub struct Notice<'a> {
    /// `rstscope.notice/1`.
    pub schema: &'static str,
    /// ULID of this notice.
    pub id: String,
    /// Host name of the observer.
    pub host: Cow<'a, str>,
    /// RFC 3339 UTC.
    pub time: Cow<'a, str>,
    /// What it is about.
    pub about: About,
    /// In a sentence, safe to show.
    pub text: String,
    /// The finding, with its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<&'a PatternRow>,
    /// The verdict, as `docs/verdict.schema.json` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'a Verdict>,
}

impl<'a> Notice<'a> {
    /// Of a finding.
    pub fn of_pattern(row: &'a PatternRow) -> Self {
        let (now, host) = (jiff::Timestamp::now(), crate::session::host::name());
        let clock = Clock { offset_ns: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX) };
        let number = u64::from(now.subsec_nanosecond().unsigned_abs());
        Self {
            schema: SCHEMA,
            id: identity::id(number, Mono(0), clock, &host, row.text.as_bytes()),
            host: host.into(),
            time: now.to_string().into(),
            about: About::Patterns,
            text: sanitize::line(&row.text, MAX_TEXT).into_owned(),
            pattern: Some(row),
            verdict: None,
        }
    }

    /// Of a verdict; `None` for one that nobody has to be told of.
    pub fn of_verdict(verdict: &'a Verdict) -> Option<Self> {
        if verdict.impact == Impact::Harmless || verdict.consequence_of.is_some() {
            return None;
        }
        Some(Self {
            schema: SCHEMA,
            id: verdict.id.clone(),
            host: Cow::Borrowed(&verdict.host),
            time: Cow::Borrowed(&verdict.time),
            about: About::Incidents,
            text: sanitize::line(&verdict.summary, MAX_TEXT).into_owned(),
            pattern: None,
            verdict: Some(verdict),
        })
    }

    /// As one line of JSON, newline included; `None` if it is larger than anybody should be sent.
    pub fn line(&self) -> Option<Vec<u8>> {
        ndjson::line(self).ok().filter(|line| line.len() <= MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn hostile_strings_stay_data() {
        let mut verdict = samples::keepalive_race();
        let hostile = "\"}\n\u{202e}\x1b[2J\0{\"schema\":\"x\"}\r\n\r\nGET / HTTP/1.1";
        hostile.clone_into(&mut verdict.summary);
        verdict.log.as_mut().unwrap().request = Some(hostile.to_owned());
        let line = Notice::of_verdict(&verdict).unwrap().line().unwrap();
        let text = String::from_utf8(line).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "one line");
        assert!(!text.trim_end().chars().any(sanitize::is_dangerous), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["schema"], SCHEMA);
        assert_eq!(read["verdict"]["log"]["request"], hostile, "the exact bytes, as data");
        assert!(!read["text"].as_str().unwrap().chars().any(sanitize::is_dangerous));
    }

    #[test]
    fn harmless_incidents_and_consequences_are_no_notices() {
        assert!(Notice::of_verdict(&samples::client_late_reset()).is_none());
        assert!(Notice::of_verdict(&samples::consequence()).is_none());
    }

    #[test]
    fn what_is_too_large_is_no_line() {
        let mut verdict = samples::keepalive_race();
        verdict.log.as_mut().unwrap().request = Some("\x1b".repeat(MAX_BYTES / 6 + 1));
        assert!(Notice::of_verdict(&verdict).unwrap().line().is_none());
    }
}
