//! The report, and records of lines, as JSON: one object per line, no character in it that a terminal would act on.

use std::io;

use crate::history::report::Report;
use crate::model::LogRecord;
use crate::nginx::records::Record;
use crate::output::ndjson;

/// The report as one line.
pub fn report(report: &Report) -> io::Result<Vec<u8>> {
    ndjson::line(report)
}

/// The record of line number `line`, as one line.
pub fn record(line: u64, record: &LogRecord) -> io::Result<Vec<u8>> {
    ndjson::line(&Record::new(line, record))
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
        insta::assert_snapshot!(String::from_utf8_lossy(&bytes).trim_end(), @r#"
    {"line":3,"time":"2026-11-20T06:43:33.000000000Z","level":"error","pid":31,"tid":32,"connection":7,"kind":"recv_failed","side":"upstream","call":"recv","errno":104,"action":"reading upstream","client":"10.0.0.9","server":"s","request":"GET / HTTP/1.1","subrequest":null,"upstream":"10.0.0.2:80","upstream_url":"http://10.0.0.2:80/","host":null,"referrer":null,"problems":[]}
    "#);
        let bytes = record(4, &parse(b"", &TimeZone::UTC)).expect("JSON");
        insta::assert_snapshot!(String::from_utf8_lossy(&bytes).trim_end(), @r#"
    {"line":4,"time":null,"level":null,"pid":null,"tid":null,"connection":null,"kind":"unreadable","side":"none","call":null,"errno":null,"action":null,"client":null,"server":null,"request":null,"subrequest":null,"upstream":null,"upstream_url":null,"host":null,"referrer":null,"problems":["no time stamp","no level","no process id","not a line of Nginx: no head and no known message"]}
    "#);
    }
}
