//! The JSON form of a line, as `rstscope log --records` prints it: one object per input line, absent is `null`.

use serde::Serialize;

use crate::model::{Level, LogRecord, LogSide, Utc};

/// One input line. The order of the fields is that of the output.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// Number of the line in its input, from 1.
    pub line: u64,
    /// RFC 3339 UTC.
    pub time: Option<String>,
    /// Severity.
    pub level: Option<Level>,
    /// Process id of the worker.
    pub pid: Option<u32>,
    /// Thread id.
    pub tid: Option<u32>,
    /// The `*N` number.
    pub connection: Option<u64>,
    /// Slug of the message.
    pub kind: &'static str,
    /// Whose socket the line speaks of.
    pub side: LogSide,
    /// The failing call.
    pub call: Option<&'a str>,
    /// As printed; on BSD and Windows not Linux's number.
    pub errno: Option<i64>,
    /// Text after `while`.
    pub action: Option<&'a str>,
    /// `client:`.
    pub client: Option<&'a str>,
    /// `server:`.
    pub server: Option<&'a str>,
    /// The request line.
    pub request: Option<&'a str>,
    /// `subrequest:`.
    pub subrequest: Option<&'a str>,
    /// `addr:port`, group name or `unix:/path`.
    pub upstream: Option<&'a str>,
    /// The upstream as printed.
    pub upstream_url: Option<&'a str>,
    /// `host:`.
    pub host: Option<&'a str>,
    /// `referrer:`.
    pub referrer: Option<&'a str>,
    /// What was wrong with the line.
    pub problems: &'a [String],
}

impl<'a> Record<'a> {
    /// The JSON form of `record`, which stood in line number `line`.
    pub fn new(line: u64, record: &'a LogRecord) -> Self {
        Self {
            line,
            time: record.time.map(Utc::rfc3339),
            level: record.level,
            pid: record.pid,
            tid: record.tid,
            connection: record.connection,
            kind: record.kind.0,
            side: record.side,
            call: record.call.as_deref(),
            errno: record.errno_printed.map(i64::from).or(record.errno.map(i64::from)),
            action: record.action.as_deref(),
            client: record.client.as_deref(),
            server: record.server.as_deref(),
            request: record.request.as_deref(),
            subrequest: record.subrequest.as_deref(),
            upstream: record.upstream.as_deref(),
            upstream_url: record.upstream_url.as_deref(),
            host: record.host.as_deref(),
            referrer: record.referrer.as_deref(),
            problems: &record.problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn absent_is_null_and_every_field_is_there() {
        let line = b"2026/11/20 06:43:33 [error] 3#3: *7 no live upstreams while connecting to upstream, client: 1.1.1.1, \
                     server: s, request: \"GET / HTTP/1.1\", upstream: \"http://back/\", host: \"h\"";
        let record = crate::nginx::parse(line, &TimeZone::UTC);
        let json = serde_json::to_string(&Record::new(12, &record)).expect("JSON");
        let expected = r#"{"line":12,"time":"2026-11-20T06:43:33.000000000Z","level":"error","pid":3,"tid":3,"connection":7,"kind":"no_live_upstreams","side":"upstream","call":null,"errno":null,"action":"connecting to upstream","client":"1.1.1.1","server":"s","request":"GET / HTTP/1.1","subrequest":null,"upstream":"back","upstream_url":"http://back/","host":"h","referrer":null,"problems":[]}"#;
        assert_eq!(json, expected);
    }
}
