//! Counts access.log: statuses, what the upstreams answered, and which requests a retry saved. Reads JSON lines,
//! `key=value` formats, and everything that starts like the combined format. Bounded like the rest.

use std::collections::BTreeMap;

use memchr::{memchr, memmem};
use serde::Serialize;
use serde_json::Value;

use super::key::uri_pattern;
use super::table::Table;

/// Patterns of URIs held.
const ROOM: usize = 1024;
/// Rows shown.
const MAX_ROWS: usize = 10;
/// Names under which formats have the status, the upstreams' statuses and the request.
const STATUS: [&str; 3] = ["status", "st", "response_code"];
const UPSTREAM_STATUS: [&str; 3] = ["upstream_status", "us", "ups_status"];
const REQUEST: [&str; 4] = ["request", "req", "request_uri", "uri"];

/// The counts.
pub struct AccessCounts {
    lines: u64,
    unreadable: u64,
    statuses: BTreeMap<u16, u64>,
    with_upstream: u64,
    retried: u64,
    repaired: u64,
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
    /// Of these, the ones that ended in a status below 500 after an upstream had failed.
    pub repaired: u64,
    /// Method and pattern of the URIs that got 499, 502, 503 or 504, and how often.
    pub failing: Vec<(String, u64)>,
    /// Failing requests whose pattern is not listed.
    pub failing_other: u64,
}

/// What of a line is counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    status: u16,
    upstream_status: String,
    request: Vec<u8>,
}

impl Default for AccessCounts {
    fn default() -> Self {
        Self {
            lines: 0,
            unreadable: 0,
            statuses: BTreeMap::new(),
            with_upstream: 0,
            retried: 0,
            repaired: 0,
            failing: Table::new(ROOM),
            pattern: Vec::new(),
        }
    }
}

impl AccessCounts {
    /// Counts one line, given without its line feed.
    pub fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        let Some(entry) = read(line) else {
            self.unreadable += 1;
            return;
        };
        *self.statuses.entry(entry.status).or_default() += 1;
        if matches!(entry.status, 499 | 502 | 503 | 504) {
            uri_pattern(&entry.request, &mut self.pattern);
            self.failing.add(&self.pattern, None);
        }
        let tries: Vec<&str> = entry.upstream_status.split([',', ':']).map(str::trim).collect();
        self.with_upstream += u64::from(tries[0].parse::<u16>().is_ok());
        self.retried += u64::from(tries.len() > 1);
        let has_failed =
            tries[..tries.len() - 1].iter().any(|status| status.starts_with('5') || *status == "-");
        self.repaired += u64::from(has_failed && entry.status < 500);
    }

    /// The counts as data.
    pub fn report(&self) -> AccessReport {
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
            failing_other: self.failing.total() - failing.iter().map(|row| row.1).sum::<u64>(),
            failing,
        }
    }
}

fn read(line: &[u8]) -> Option<Entry> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.first() == Some(&b'{') {
        return read_json(line);
    }
    read_combined(line).or_else(|| read_pairs(line))
}

fn read_json(line: &[u8]) -> Option<Entry> {
    let Value::Object(object) = serde_json::from_slice(line).ok()? else { return None };
    let text = |names: &[&str]| {
        let value = names.iter().find_map(|name| object.get(*name))?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    Some(Entry {
        status: status(text(&STATUS)?.as_bytes())?,
        upstream_status: text(&UPSTREAM_STATUS).unwrap_or_default(),
        request: text(&REQUEST).unwrap_or_default().into_bytes(),
    })
}

/// `… "REQUEST" STATUS …`: Nginx escapes quotes inside the request, so the second one ends it.
fn read_combined(line: &[u8]) -> Option<Entry> {
    let opening = memchr(b'"', line)?;
    let length = memchr(b'"', &line[opening + 1..])?;
    let request = &line[opening + 1..opening + 1 + length];
    let after = line[opening + length + 2..].strip_prefix(b" ")?;
    let status = status(after.get(..3)?)?;
    let upstream_status = pair(after, &UPSTREAM_STATUS).unwrap_or_default();
    Some(Entry {
        status,
        upstream_status: String::from_utf8_lossy(upstream_status).into_owned(),
        request: request.to_vec(),
    })
}

fn read_pairs(line: &[u8]) -> Option<Entry> {
    Some(Entry {
        status: status(pair(line, &STATUS)?)?,
        upstream_status: String::from_utf8_lossy(pair(line, &UPSTREAM_STATUS).unwrap_or_default())
            .into_owned(),
        request: pair(line, &REQUEST).unwrap_or_default().to_vec(),
    })
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
    fn a_word_inside_another_is_no_name() {
        assert_eq!(pair(b"upstream_status=502 status=200", &STATUS), Some(&b"200"[..]));
        assert_eq!(pair(b"x_status=502", &STATUS), None);
    }
}
