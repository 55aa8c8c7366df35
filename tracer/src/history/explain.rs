//! One line of error.log explained: which socket and call, which segment, what is usually concluded, why that is
//! no proof, and what would be one.

use jiff::tz::TimeZone;

use super::classify::{Facts, Meaning, Other, meaning};
use super::topic::Topic;
use crate::model::{LogRecord, LogSide};
use crate::nginx::parse;
use crate::output::layout::hang;
use crate::output::sanitize;
use crate::output::text::TextOptions;

/// Columns that labels take.
const LABEL: usize = 11;
/// Columns in a pipe, and the most on a terminal.
const WIDTH: usize = 100;
/// Longest text shown of a field.
const MAX_CHARS: usize = 500;

/// The explanation of a line as text.
pub fn explain(line: &[u8], options: &TextOptions) -> String {
    let record = parse(line, &TimeZone::UTC);
    let rows = match meaning(&Facts::of_record(&record)) {
        Meaning::Incident(topic) => incident(&record, topic.topic()),
        other => vec![("means", outside(other).to_owned()), ("says", record.message.clone())],
    };
    let problems = record.problems.iter().map(|problem| ("note", problem.clone()));
    let mut out = String::new();
    for (label, text) in rows.into_iter().chain(problems) {
        let first = format!("{}{}", options.palette.bold(label), " ".repeat(LABEL - label.len()));
        let width = options.width.map_or(WIDTH, |width| width.min(WIDTH));
        hang(&mut out, &first, LABEL, &sanitize::line(&text, MAX_CHARS), Some(width));
    }
    out
}

type Rows = Vec<(&'static str, String)>;

fn incident(record: &LogRecord, topic: &Topic) -> Rows {
    vec![
        ("means", format!("{}: {}", topic.title, topic.means)),
        ("socket", socket(record)),
        ("call", call(record)),
        ("segment", format!("{}; suspected: {}, certainty {}", topic.segment, topic.party, topic.certainty)),
        ("usually", topic.usual.to_owned()),
        ("no proof", topic.but.to_owned()),
        ("proof", format!("{} (`{}`)", topic.tracing, command(record))),
    ]
}

fn socket(record: &LogRecord) -> String {
    let client = record.client.as_deref().unwrap_or("an address the line does not name");
    let upstream = record.upstream.as_deref().unwrap_or("an address the line does not name");
    let why = match record.level {
        Some(level) if record.call.is_some() => format!(
            "; level {} and the message say so, not the phrase after `while`",
            format!("{level:?}").to_lowercase()
        ),
        _ => String::new(),
    };
    match record.side {
        LogSide::Client => format!("the accepted connection from {client}{why}"),
        LogSide::Upstream => format!("the connection that Nginx opened to {upstream}{why}"),
        LogSide::None => "no connection of a request".to_owned(),
    }
}

fn call(record: &LogRecord) -> String {
    let during = record.action.as_deref().map(|action| format!(", while {action}")).unwrap_or_default();
    let errno =
        record.errno.map(|errno| format!(" with errno {errno}{}", errno_name(errno))).unwrap_or_default();
    match &record.call {
        Some(call) => format!("{call}() failed{errno}{during}"),
        None => format!("none that failed; the message is Nginx's own{errno}{during}"),
    }
}

/// The name of an errno that lines of connections have (Linux, asm-generic).
fn errno_name(errno: i32) -> &'static str {
    match errno {
        2 => " (ENOENT)",
        11 => " (EAGAIN: the queue of a unix socket is full)",
        13 => " (EACCES)",
        24 => " (EMFILE)",
        32 => " (EPIPE: the peer had closed before its RST came)",
        99 => " (EADDRNOTAVAIL: no local port or address)",
        101 => " (ENETUNREACH)",
        103 => " (ECONNABORTED: killed on this host)",
        104 => " (ECONNRESET: a RST arrived)",
        110 => " (ETIMEDOUT)",
        111 => " (ECONNREFUSED: a RST answered the SYN)",
        113 => " (EHOSTUNREACH)",
        _ => "",
    }
}

fn command(record: &LogRecord) -> String {
    let address = record.upstream_addr().filter(|_| record.side == LogSide::Upstream);
    match address {
        Some(address) => format!("sudo rstscope trace --upstream {address}"),
        None => "sudo rstscope trace".to_owned(),
    }
}

fn outside(meaning: Meaning) -> &'static str {
    match meaning {
        Meaning::Incident(_) => "trouble of a connection",
        Meaning::Companion => {
            "it accompanies another line about the same failure; the line before it, or that of the same *N, has the cause"
        }
        Meaning::Lifecycle => {
            "a start, a reload, a stop or a note on the configuration: no failure of a connection"
        }
        Meaning::Unreadable => "not a line of Nginx's error.log, or the continuation of one",
        Meaning::Other(Other::File) => {
            "a file is missing or forbidden: a 404 or 403, no failure of a connection"
        }
        Meaning::Other(Other::AccessDenied) => {
            "rules or authentication refused the request: no failure of a connection"
        }
        Meaning::Other(Other::RateLimit) => {
            "a limit for clients applied (limit_req, limit_conn): no failure of a connection"
        }
        Meaning::Other(Other::InvalidRequest) => {
            "Nginx refused what the client sent; it answers and closes, and a RST follows only if bytes stay unread"
        }
        Meaning::Other(Other::Application) => "written by the application or a script behind Nginx",
        Meaning::Other(Other::Stream) => "a stream of HTTP/2 or HTTP/3 ended: a frame, not a TCP reset",
        Meaning::Other(Other::Note) => "a note; it tells of no failed connection",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Palette;

    fn text(line: &str) -> String {
        let options = TextOptions { palette: Palette { colour: false }, width: None, zone: TimeZone::UTC };
        explain(line.as_bytes(), &options)
    }

    #[test]
    fn the_classic_104() {
        let line = "2026/11/20 06:43:33 [error] 31#31: *7 recv() failed (104: Connection reset by peer) while reading \
                    response header from upstream, client: 10.0.0.9, server: _, request: \"GET /a HTTP/1.1\", \
                    upstream: \"http://10.0.0.2:8080/a\", host: \"h\"";
        insta::assert_snapshot!(text(line), @r#"
    means      reset while waiting for the answer: recv() on the upstream connection failed with
               ECONNRESET after the request was sent
    socket     the connection that Nginx opened to 10.0.0.2:8080; level error and the message say so,
               not the phrase after `while`
    call       recv() failed with errno 104 (ECONNRESET: a RST arrived), while reading response header
               from upstream
    segment    nginx_upstream; suspected: unknown, certainty undetermined
    usually    the backend crashed, was restarted or dropped the request
    no proof   Nginx prints the same line for a reset by the upstream and for one that a device on the
               path put in its name
    proof      tracing shows the RST itself (TTL, sequence number, options against the peer's earlier
               packets), how long the connection had been idle, and on one host the sending process
               (`sudo rstscope trace --upstream 10.0.0.2:8080`)
    "#);
    }

    #[test]
    fn a_client_line_that_names_an_upstream() {
        let line = "2026/11/20 06:43:33 [info] 31#31: *7 recv() failed (104: Connection reset by peer) while sending \
                    to client, client: 10.0.0.9, server: _, request: \"GET /a HTTP/1.1\", upstream: \"http://10.0.0.2:8080/a\"";
        assert!(text(line).contains("accepted connection from 10.0.0.9; level info"));
    }

    #[test]
    fn hostile_text_is_harmless() {
        let shown = text("2026/11/20 06:43:33 [error] 31#31: *7 \x1b[2J open() \x07");
        assert!(!shown.chars().any(|character| character != '\n' && sanitize::is_dangerous(character)));
    }
}
