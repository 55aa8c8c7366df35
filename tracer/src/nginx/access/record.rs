//! From the values of a line to an [`AccessRecord`].

use super::format::{Escape, Format, Value};
use crate::model::{AccessRecord, Attempt, Utc};

/// Most tries of upstreams kept per request.
const MOST_ATTEMPTS: usize = 32;
/// Longest request line kept, bytes.
const LONGEST_REQUEST: usize = 2048;

impl Format {
    /// Reads a line without its line feed; `None` if it is not of this format.
    pub fn read(&self, line: &[u8]) -> Option<AccessRecord> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let values = self.split(line)?;
        let mut record = AccessRecord::default();
        let (mut addresses, mut statuses) = (Vec::new(), Vec::new());
        for value in &values {
            match value.name {
                "upstream_addr" => addresses = list(value.raw),
                "upstream_status" => statuses = list(value.raw),
                _ => set(&mut record, value, self.escape),
            }
        }
        record.attempts = attempts(&addresses, &statuses);
        Some(record)
    }
}

fn set(record: &mut AccessRecord, value: &Value<'_, '_>, escape: Escape) {
    let text =
        || std::str::from_utf8(value.raw).ok().map(str::trim).filter(|text| !matches!(*text, "" | "-"));
    let millis =
        || text()?.parse::<f64>().ok().filter(|seconds| (0.0..1e11).contains(seconds)).map(milliseconds);
    match value.name {
        "pid" => record.pid = text().and_then(|text| text.parse().ok()),
        "connection" => record.connection = text().and_then(|text| text.parse().ok()),
        "realip_remote_addr" => {
            record.behind = record.client.take();
            record.client = text().and_then(|text| text.parse().ok());
        }
        "remote_addr" => remote_address(record, text()),
        "realip_remote_port" => record.client_port = text().and_then(|text| text.parse().ok()),
        "remote_port" if record.client_port.is_none() => {
            record.client_port = text().and_then(|text| text.parse().ok());
        }
        "status" => record.status = text().and_then(|text| text.parse().ok()),
        "body_bytes_sent" => record.body_bytes_sent = text().and_then(|text| text.parse().ok()),
        "sent_http_content_length" => record.content_length = text().and_then(|text| text.parse().ok()),
        "request_completion" => record.complete = Some(value.raw == b"OK"),
        "request_time" => record.request_ms = millis(),
        "request" => record.request = Some(unescaped(value.raw, escape)),
        "msec" => record.time = millis().and_then(utc),
        "time_iso8601" if record.time.is_none() => record.time = text().and_then(iso),
        "time_local" if record.time.is_none() => record.time = text().and_then(local),
        _ => {}
    }
}

/// `$remote_addr` is the other end, unless the format has the real one beside it.
fn remote_address(record: &mut AccessRecord, text: Option<&str>) {
    let address = text.and_then(|text| text.parse().ok());
    match record.client {
        None => record.client = address,
        Some(_) => record.behind = address,
    }
}

#[expect(clippy::cast_sign_loss, reason = "the caller lets no negative number through")]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn utc(milliseconds: u64) -> Option<Utc> {
    i64::try_from(milliseconds).ok()?.checked_mul(1_000_000).map(Utc)
}

fn iso(text: &str) -> Option<Utc> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(stamp.as_nanosecond()).ok().map(Utc)
}

/// `20/Nov/2026:06:43:33 +0000`.
fn local(text: &str) -> Option<Utc> {
    let stamp = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok()?;
    i64::try_from(stamp.as_nanosecond()).ok().map(Utc)
}

/// Items of `a, b : c`. A comma separates tries, a colon internal redirections.
fn list(raw: &[u8]) -> Vec<&str> {
    let Ok(text) = std::str::from_utf8(raw) else { return Vec::new() };
    let text = text.trim();
    if matches!(text, "" | "-") {
        return Vec::new();
    }
    text.split(", ").flat_map(|items| items.split(" : ")).map(str::trim).take(MOST_ATTEMPTS).collect()
}

fn attempts(addresses: &[&str], statuses: &[&str]) -> Vec<Attempt> {
    let attempt = |at: usize| Attempt {
        address: addresses.get(at).filter(|address| **address != "-").map(|address| (*address).to_owned()),
        status: statuses.get(at).and_then(|status| status.parse().ok()),
    };
    (0..addresses.len().max(statuses.len())).map(attempt).collect()
}

fn unescaped(raw: &[u8], escape: Escape) -> String {
    let raw = &raw[..raw.len().min(LONGEST_REQUEST)];
    let bytes = match escape {
        Escape::None => return String::from_utf8_lossy(raw).into_owned(),
        Escape::Default => with_bytes(raw),
        Escape::Json => return from_json(raw),
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `\xHH` as the byte it stands for.
fn with_bytes(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.strip_prefix(b"x").and_then(|hex| std::str::from_utf8(hex.get(..2)?).ok());
        let byte = hex.filter(|_| *first == b'\\').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    out
}

fn from_json(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::config::LogFormat;

    fn read(escape: &str, format: &str, line: &str) -> AccessRecord {
        let format = LogFormat { name: "f".to_owned(), escape: escape.to_owned(), format: format.to_owned() };
        Format::new(&format).read(line.as_bytes()).expect("a line of the format")
    }

    #[test]
    fn every_value_finds_its_place() {
        let format = r#"{"t":"$msec","p":"$pid","c":"$connection","a":"$remote_addr","pp":"$remote_port","r":"$request","s":"$status","b":"$body_bytes_sent","l":"$sent_http_content_length","ok":"$request_completion","rt":"$request_time","ua":"$upstream_addr","us":"$upstream_status"}"#;
        let line = r#"{"t":"1795157013.250","p":"31","c":"57","a":"198.51.100.7","pp":"51234","r":"GET /\"x\" HTTP/1.1","s":"200","b":"10","l":"20","ok":"","rt":"1.500","ua":"10.0.0.1:80, 10.0.0.2:80","us":"502, 200"}"#;
        let record = read("json", format, line);
        assert_eq!(record.time, Some(Utc(1_795_157_013_250_000_000)));
        assert_eq!((record.pid, record.connection, record.status), (Some(31), Some(57), Some(200)));
        assert_eq!(record.peer(), Some("198.51.100.7:51234".parse().expect("an address")));
        assert_eq!(record.request.as_deref(), Some("GET /\"x\" HTTP/1.1"));
        assert_eq!((record.request_ms, record.complete), (Some(1500), Some(false)));
        assert_eq!(record.attempts.len(), 2);
        assert!(record.is_repaired() && record.is_cut());
    }

    #[test]
    fn the_tcp_peer_counts_beside_the_real_client() {
        for format in [
            "$remote_addr:$remote_port $realip_remote_addr:$realip_remote_port",
            "$remote_addr $realip_remote_addr:$realip_remote_port",
        ] {
            let line = if format.contains("$remote_port") {
                "203.0.113.5:7 10.0.0.1:4000"
            } else {
                "203.0.113.5 10.0.0.1:4000"
            };
            let record = read("default", format, line);
            assert_eq!(record.peer(), Some("10.0.0.1:4000".parse().expect("an address")), "{format}");
            assert_eq!(record.behind, Some("203.0.113.5".parse().expect("an address")));
        }
    }

    #[test]
    fn lists_go_on_behind_an_internal_redirection() {
        let line = "10.0.0.1:80, 10.0.0.2:80 : unix:/run/a.sock|502, - : 200";
        let record = read("default", "$upstream_addr|$upstream_status", line);
        let addresses: Vec<_> = record.attempts.iter().map(|attempt| attempt.address.as_deref()).collect();
        assert_eq!(addresses, [Some("10.0.0.1:80"), Some("10.0.0.2:80"), Some("unix:/run/a.sock")]);
        let statuses: Vec<_> = record.attempts.iter().map(|attempt| attempt.status).collect();
        assert_eq!(statuses, [Some(502), None, Some(200)]);
    }

    #[test]
    fn times_and_escapes_of_text_formats() {
        let combined = LogFormat::combined();
        let line = r#"::1 - - [20/Nov/2026:07:43:33 +0100] "GET /\x22a HTTP/1.1" 499 0 "-" "-""#;
        let record = read("default", &combined.format, line);
        assert_eq!(record.time, Some(Utc(1_795_157_013_000_000_000)));
        assert_eq!(record.request.as_deref(), Some("GET /\"a HTTP/1.1"));
        assert!(record.has_failed() && record.attempts.is_empty());
        let iso = read("default", "$time_iso8601 $status", "2026-11-20T06:43:33+00:00 200");
        assert_eq!(iso.time, Some(Utc(1_795_157_013_000_000_000)));
    }
}
