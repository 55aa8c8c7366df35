//! Counts access.log: statuses, what the upstreams answered, which requests a retry saved, which responses were cut.
//! Lines are read by their `log_format`, where it is known or can be guessed; else JSON lines, `key=value` formats and
//! everything that starts like the combined format are read for what they have. Bounded like the rest.

use std::collections::BTreeMap;

use memchr::{memchr, memmem};
use serde::Serialize;
use serde_json::Value;

use super::key::uri_pattern;
use super::table::Table;
use crate::model::{AccessRecord, Attempt};
use crate::nginx::access::{Format, known};

/// Patterns of URIs held.
const ROOM: usize = 1024;
/// Rows shown.
const MAX_ROWS: usize = 10;
/// Names under which formats have the status, the upstreams' statuses and the request.
const STATUS: [&str; 3] = ["status", "st", "response_code"];
const UPSTREAM_STATUS: [&str; 3] = ["upstream_status", "us", "ups_status"];
const REQUEST: [&str; 4] = ["request", "req", "request_uri", "uri"];

/// Lines that the format is guessed from.
const SAMPLE: usize = 50;
/// Bytes of a line kept in the sample.
const SAMPLE_LINE: usize = 16 * 1024;

/// The counts.
pub struct AccessCounts {
    format: Option<Format>,
    /// The first lines, until the format is decided.
    sample: Option<Vec<Vec<u8>>>,
    lines: u64,
    unreadable: u64,
    statuses: BTreeMap<u16, u64>,
    with_upstream: u64,
    retried: u64,
    repaired: u64,
    cut: u64,
    failing: Table,
    pattern: Vec<u8>,
}

/// The counts as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessReport {
    /// Lines read.
    pub lines: u64,
    /// Lines without a status.
    pub unreadable: u64,
    /// Lines per status.
    pub statuses: BTreeMap<u16, u64>,
    /// Lines with a status of an upstream.
    pub with_upstream_status: u64,
    /// Requests that more than one upstream was tried for.
    pub retried: u64,
    /// Of these, the ones that ended well after an upstream had failed.
    pub repaired: u64,
    /// Successful responses of which the client got only a part; known only where the format has
    /// `$request_completion` or `$sent_http_content_length`.
    pub cut: u64,
    /// Method and pattern of the URIs that got 499, 502, 503 or 504, and how often.
    pub failing: Vec<(String, u64)>,
    /// Failing requests whose pattern is not listed.
    pub failing_other: u64,
}

impl Default for AccessCounts {
    fn default() -> Self {
        Self {
            format: None,
            sample: Some(Vec::new()),
            lines: 0,
            unreadable: 0,
            statuses: BTreeMap::new(),
            with_upstream: 0,
            retried: 0,
            repaired: 0,
            cut: 0,
            failing: Table::new(ROOM),
            pattern: Vec::new(),
        }
    }
}

impl AccessCounts {
    /// Begins with another file, whose format is known or has to be guessed.
    pub fn begin(&mut self, format: Option<Format>) {
        self.decide();
        self.sample = format.is_none().then(Vec::new);
        self.format = format;
    }

    /// Counts one line, given without its line feed.
    pub fn line(&mut self, line: &[u8]) {
        match &mut self.sample {
            Some(sample) => {
                sample.push(line[..line.len().min(SAMPLE_LINE)].to_vec());
                if sample.len() >= SAMPLE {
                    self.decide();
                }
            }
            None => self.count(line),
        }
    }

    /// Decides on the format and counts the lines it was guessed from.
    fn decide(&mut self) {
        let Some(sample) = self.sample.take() else { return };
        self.format = known::guess(&known::formats(), &sample);
        for line in sample {
            self.count(&line);
        }
    }

    fn count(&mut self, line: &[u8]) {
        self.lines += 1;
        let by_format = self.format.as_ref().and_then(|format| format.read(line));
        let record = by_format.filter(|record| record.status.is_some()).or_else(|| read(line));
        let Some((record, status)) = record.and_then(|record| record.status.map(|status| (record, status)))
        else {
            self.unreadable += 1;
            return;
        };
        *self.statuses.entry(status).or_default() += 1;
        if matches!(status, 499 | 502 | 503 | 504) {
            uri_pattern(record.request.as_deref().unwrap_or_default().as_bytes(), &mut self.pattern);
            self.failing.add(&self.pattern, None);
        }
        self.with_upstream +=
            u64::from(record.attempts.first().is_some_and(|attempt| attempt.status.is_some()));
        self.retried += u64::from(record.attempts.len() > 1);
        self.repaired += u64::from(record.is_repaired());
        self.cut += u64::from(record.is_cut());
    }

    /// The counts as data.
    pub fn report(&mut self) -> AccessReport {
        self.decide();
        let ranked = self.failing.ranked();
        let top = ranked.iter().take(MAX_ROWS);
        let failing: Vec<(String, u64)> =
            top.map(|(key, cell)| (String::from_utf8_lossy(key).into_owned(), cell.count)).collect();
        AccessReport {
            lines: self.lines,
            unreadable: self.unreadable,
            statuses: self.statuses.clone(),
            with_upstream_status: self.with_upstream,
            retried: self.retried,
            repaired: self.repaired,
            cut: self.cut,
            failing_other: self.failing.total() - failing.iter().map(|row| row.1).sum::<u64>(),
            failing,
        }
    }
}

/// A line of a format that is not known.
fn read(line: &[u8]) -> Option<AccessRecord> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.first() == Some(&b'{') {
        return read_json(line);
    }
    read_combined(line).or_else(|| read_pairs(line))
}

fn record(status: u16, upstream_status: &[u8], request: &[u8]) -> AccessRecord {
    let text = String::from_utf8_lossy(upstream_status);
    let tries = text.split([',', ':']).map(str::trim).filter(|one| !one.is_empty());
    AccessRecord {
        status: Some(status),
        request: Some(String::from_utf8_lossy(request).into_owned()),
        attempts: tries.map(|one| Attempt { address: None, status: one.parse().ok() }).collect(),
        ..AccessRecord::default()
    }
}

fn read_json(line: &[u8]) -> Option<AccessRecord> {
    let Value::Object(object) = serde_json::from_slice(line).ok()? else { return None };
    let text = |names: &[&str]| {
        let value = names.iter().find_map(|name| object.get(*name))?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let status = status(text(&STATUS)?.as_bytes())?;
    let (upstreams, request) = (text(&UPSTREAM_STATUS), text(&REQUEST));
    Some(record(status, upstreams.unwrap_or_default().as_bytes(), request.unwrap_or_default().as_bytes()))
}

/// `… "REQUEST" STATUS …`: Nginx escapes quotes inside the request, so the second one ends it.
fn read_combined(line: &[u8]) -> Option<AccessRecord> {
    let opening = memchr(b'"', line)?;
    let length = memchr(b'"', &line[opening + 1..])?;
    let request = &line[opening + 1..opening + 1 + length];
    let after = line[opening + length + 2..].strip_prefix(b" ")?;
    let status = status(after.get(..3)?)?;
    Some(record(status, pair(after, &UPSTREAM_STATUS).unwrap_or_default(), request))
}

fn read_pairs(line: &[u8]) -> Option<AccessRecord> {
    let status = status(pair(line, &STATUS)?)?;
    let upstreams = pair(line, &UPSTREAM_STATUS).unwrap_or_default();
    Some(record(status, upstreams, pair(line, &REQUEST).unwrap_or_default()))
}

/// The value of `name=value`, `name="value"` or `name:value`, the name at the start of a word.
fn pair<'a>(line: &'a [u8], names: &[&str]) -> Option<&'a [u8]> {
    names.iter().find_map(|name| {
        memmem::find_iter(line, name.as_bytes()).find_map(|at| {
            let is_word = at == 0 || b" \t,;{[|".contains(&line[at - 1]);
            let value = line[at + name.len()..]
                .strip_prefix(b"=")
                .or_else(|| line[at + name.len()..].strip_prefix(b":"));
            value.filter(|_| is_word).map(value_of)
        })
    })
}

fn value_of(text: &[u8]) -> &[u8] {
    if let Some(quoted) = text.strip_prefix(b"\"") {
        return &quoted[..memchr(b'"', quoted).unwrap_or(quoted.len())];
    }
    let end = text.iter().position(|byte| matches!(byte, b' ' | b'\t' | b';' | b'|')).unwrap_or(text.len());
    text[..end].strip_suffix(b",").unwrap_or(&text[..end])
}

fn status(digits: &[u8]) -> Option<u16> {
    let number: u16 = std::str::from_utf8(digits).ok()?.trim().parse().ok()?;
    (number < 1000 && digits.len() == 3).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> AccessReport {
        let mut counts = AccessCounts::default();
        for line in lines {
            counts.line(line.as_bytes());
        }
        counts.report()
    }

    #[test]
    fn every_format_has_a_status() {
        let report = report(&[
            r#"10.0.0.9 - - [20/Nov/2026:06:43:33 +0000] "GET /a/1 HTTP/1.1" 502 157 "-" "curl/8""#,
            r#"10.0.0.9 - - [20/Nov/2026:06:43:33 +0000] "GET /a/2 HTTP/1.1" 200 1 "-" "c" upstream_status="502, 200""#,
            r#"time=2026-11-20T06:43:33 status=504 request="POST /b HTTP/1.1" upstream_status=504"#,
            r#"{"status":499,"request":"GET /a/3 HTTP/1.1","upstream_status":"-"}"#,
            r#"{"st":"200","us":"200"}"#,
            "nonsense",
        ]);
        assert_eq!(report.statuses, BTreeMap::from([(200, 2), (499, 1), (502, 1), (504, 1)]));
        assert_eq!((report.unreadable, report.retried, report.repaired), (1, 1, 1));
        assert_eq!(report.with_upstream_status, 3);
        assert_eq!(report.failing, [("GET /a/{n}".to_owned(), 2), ("POST /b".to_owned(), 1)]);
    }

    #[test]
    fn a_format_that_is_known_is_read_by_it() {
        let format = crate::nginx::config::LogFormat {
            name: "own".to_owned(),
            escape: "default".to_owned(),
            format: "$upstream_status|$request|$status|$body_bytes_sent of $sent_http_content_length"
                .to_owned(),
        };
        let mut counts = AccessCounts::default();
        counts.begin(Some(Format::new(&format)));
        counts.line(b"502, 200|GET /a/1 HTTP/1.1|200|5 of 5");
        counts.line(b"200|GET /a/2 HTTP/1.1|200|5 of 9");
        counts.begin(None);
        counts.line(br#"10.0.0.9 - - [20/Nov/2026:06:43:33 +0000] "GET /a/1 HTTP/1.1" 502 157 "-" "curl/8""#);
        let report = counts.report();
        assert_eq!((report.lines, report.unreadable, report.repaired, report.cut), (3, 0, 1, 1));
        assert_eq!(report.statuses, BTreeMap::from([(200, 2), (502, 1)]));
    }

    #[test]
    fn a_word_inside_another_is_no_name() {
        assert_eq!(pair(b"upstream_status=502 status=200", &STATUS), Some(&b"200"[..]));
        assert_eq!(pair(b"x_status=502", &STATUS), None);
    }
}
