//! The report, and records of lines, as JSON: one object per line, no character in it that a terminal would act on.

use std::io;

use serde::Serialize;

use crate::history::report::Report;
use crate::model::{Level, LogRecord, LogSide, Utc};
use crate::output::ndjson;

/// One line of error.log, read: the fields of `rstscope log --records`. Absent is `null`.
#[derive(Debug, Serialize)]
struct Record<'a> {
    line: u64,
    time: Option<String>,
    level: Option<Level>,
    pid: Option<u32>,
    tid: Option<u32>,
    connection: Option<u64>,
    kind: &'static str,
    side: LogSide,
    call: Option<&'a str>,
    errno: Option<i32>,
    action: Option<&'a str>,
    client: Option<&'a str>,
    server: Option<&'a str>,
    request: Option<&'a str>,
    subrequest: Option<&'a str>,
    upstream: Option<&'a str>,
    upstream_url: Option<&'a str>,
    host: Option<&'a str>,
    referrer: Option<&'a str>,
    problems: &'a [String],
}

/// The report as one line.
pub fn report(report: &Report) -> io::Result<Vec<u8>> {
    ndjson::line(report)
}

/// The record of line number `line`, as one line.
pub fn record(line: u64, record: &LogRecord) -> io::Result<Vec<u8>> {
    ndjson::line(&Record {
        line,
        time: record.time.map(Utc::rfc3339),
        level: record.level,
        pid: record.pid,
        tid: record.tid,
        connection: record.connection,
        kind: record.kind.0,
        side: record.side,
        call: record.call.as_deref(),
        errno: record.errno,
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
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::nginx::parse;

    #[test]
    fn a_record_has_every_field_in_order() {
        let line = "2026/11/20 06:43:33 [error] 31#32: *7 recv() failed (104: x) while reading upstream, client: 10.0.0.9, \
                    server: s, request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.2:80/\"";
        let bytes = record(3, &parse(line.as_bytes(), &TimeZone::UTC)).expect("JSON");
        insta::assert_snapshot!(String::from_utf8_lossy(&bytes).trim_end(), @"");
        let bytes = record(4, &parse(b"", &TimeZone::UTC)).expect("JSON");
        insta::assert_snapshot!(String::from_utf8_lossy(&bytes).trim_end(), @"");
    }
}
