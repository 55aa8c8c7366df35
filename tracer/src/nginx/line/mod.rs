//! One line of error.log: bytes in, [`LogRecord`] out. Never fails and never loses a line: what cannot be read
//! stays `None`, and `problems` says why. Pure; the caller fills `file`, `offset` and `arrival`.
//!
//! The order of work is the order of the bytes: `carrier` removes what Docker, syslog and the like put around the
//! line, `head` reads time, level, process and connection, `tail` reads the fields that `ngx_http_log_error`
//! appends, `body` takes what is between apart, and `side` says whose socket it was.

mod body;
pub mod carrier;
mod errno;
mod head;
mod named;
mod peer;
mod plain;
mod problem;
mod record;
mod side;
mod tail;
mod time;

#[cfg(test)]
mod messages;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wild;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::model::{Level, LogRecord, LogSide, MessageKind, Utc};
use crate::nginx::catalogue;

pub use plain::RawLine;
pub use problem::Problem;

/// `NGX_MAX_ERROR_STR` without the line feed: Nginx cuts longer lines (`src/core/ngx_log.h`).
pub const NGINX_LINE_LIMIT: usize = 2047;

/// A line taken apart, borrowing from its bytes. Text is raw: Nginx escapes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Line<'a> {
    /// The printed time, without a zone.
    pub time: Option<DateTime>,
    /// Severity.
    pub level: Option<Level>,
    /// Process id.
    pub pid: Option<u32>,
    /// Thread id.
    pub tid: Option<u32>,
    /// `*N`.
    pub connection: Option<u64>,
    /// What the line says.
    pub kind: MessageKind,
    /// Whose socket it speaks of.
    pub side: LogSide,
    /// The failing call.
    pub call: Option<&'a [u8]>,
    /// Linux number.
    pub errno: Option<i32>,
    /// The number as printed, where it is that of another system.
    pub errno_printed: Option<u32>,
    /// Content of `(SSL: …)`.
    pub tls: Option<&'a [u8]>,
    /// Message without errno and tail, `(SSL: …)` included.
    pub message: &'a [u8],
    /// Text after ` while `.
    pub action: Option<&'a [u8]>,
    /// A timer of a script wrote it, so the connection is neither the client's nor that of a request.
    pub is_timer: bool,
    /// The fields after `, client: `.
    pub tail: tail::Tail<'a>,
    /// What was wrong, in the order it was found.
    pub problems: Vec<Problem>,
}

impl<'a> Line<'a> {
    /// Reads a line without its carrier and without its line feed.
    pub fn read(bytes: &'a [u8]) -> Self {
        let head = head::read(bytes);
        let split = tail::split(head.rest, bytes.len());
        let body = body::read(split.body);
        let found = catalogue::find(body.subject);
        let mut line = Self {
            time: head.time,
            level: head.level,
            pid: head.pid,
            tid: head.tid,
            connection: head.connection,
            kind: found.map_or(MessageKind::OTHER, |found| found.entry.kind),
            side: LogSide::None,
            call: found.and_then(|found| found.call),
            errno: body.errno,
            errno_printed: body.errno_printed,
            tls: body.tls,
            message: body.message,
            action: body.action,
            is_timer: split.is_timer,
            tail: split.tail,
            problems: head.problems,
        };
        line.problems.extend(body.problem);
        line.problems.extend(split.problems);
        line.side = match found {
            Some(found) => side::decide(found.entry, &line),
            None => side::of_unknown(&line),
        };
        named::fill(line.kind, line.message, &mut line.tail);
        line.note_unreadable();
        line
    }

    /// The upstream without scheme and URI.
    pub fn upstream(&self) -> Option<&'a [u8]> {
        self.tail.upstream.and_then(peer::of_url)
    }

    /// A line that has neither a head nor a known message nor fields is no line of Nginx's.
    fn note_unreadable(&mut self) {
        let has_head = self.level.is_some() || self.time.is_some();
        if has_head || self.kind != MessageKind::OTHER || self.tail.client.is_some() {
            return;
        }
        self.kind = MessageKind::UNREADABLE;
        self.problems.push(Problem::NotALine);
    }
}

/// `addr:port`, group name or `unix:/path` of an `upstream:` field as Nginx prints it; `None` when nothing is left.
pub fn upstream_address(printed: &str) -> Option<&str> {
    peer::of_url(printed.as_bytes()).and_then(|address| std::str::from_utf8(address).ok())
}

/// The moment that a time stamp `YYYY/MM/DD HH:MM:SS` means in `zone`.
pub fn moment(stamp: &[u8], zone: &TimeZone) -> Option<Utc> {
    let (local, _) = time::read(stamp)?;
    time::to_utc(local?, zone).0
}

/// The moment that a local time means in `zone`, and whether it occurs twice or not at all there.
pub fn utc_of(local: DateTime, zone: &TimeZone) -> (Option<Utc>, bool) {
    let (utc, problem) = time::to_utc(local, zone);
    (utc, problem.is_some())
}

/// Reads one line of error.log, with or without a carrier around it. `zone` is that of the Nginx process.
pub fn parse(line: &[u8], zone: &TimeZone) -> LogRecord {
    let carried = carrier::unwrap(line);
    record::from_line(&Line::read(&carried.payload), carried.time, zone)
}
