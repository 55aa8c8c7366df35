//! Whose socket a line speaks of. `ngx_connection_error` logs at `info` for accepted connections and at `error` for
//! those Nginx opened; the phrase after `while` only says what was going on. Where the level is fixed (`alert`,
//! `crit`) the phrase is all there is.

use super::{Line, peer};
use crate::model::{Level, LogSide, MessageKind};
use crate::nginx::catalogue::{Entry, SideRule};

/// Actions of connections that are neither the client's nor an upstream's.
const OTHER_SOCKET: [&[u8]; 3] = [b"resolving", b"logging to syslog", b"requesting certificate status"];

/// Actions during which no upstream connection exists.
const CLIENT_ONLY: [&[u8]; 15] = [
    b"waiting for request",
    b"reading client request line",
    b"reading client request headers",
    b"reading client pipelined request line",
    b"reading client request",
    b"reading PROXY protocol",
    b"SSL handshaking",
    b"keepalive",
    b"processing HTTP/2 connection",
    b"processing SPDY",
    b"closing request",
    b"prereading client data",
    b"proxying and reading from client",
    b"proxying and sending to client",
    b"handling quic",
];

/// Actions during which whatever is written goes to the client.
const ANSWERING: [&[u8]; 3] = [b"sending to client", b"sending response to client", b"reading upstream"];

/// Decides the side of a line whose message is in the catalogue.
pub(super) fn decide(entry: Entry, line: &Line<'_>) -> LogSide {
    if line.action.is_some_and(|action| OTHER_SOCKET.contains(&action)) {
        return LogSide::None;
    }
    match entry.side {
        SideRule::Client => LogSide::Client,
        SideRule::Upstream => LogSide::Upstream,
        SideRule::None => LogSide::None,
        SideRule::Action => by_action(line),
        SideRule::Level => by_level(line),
    }
}

/// Guesses the side of a line whose message is not in the catalogue: only an action that leaves no doubt counts.
pub(super) fn of_unknown(line: &Line<'_>) -> LogSide {
    if line.action.is_some_and(speaks_of_upstream) {
        return LogSide::Upstream;
    }
    if is_client_only(line) { LogSide::Client } else { LogSide::None }
}

fn by_level(line: &Line<'_>) -> LogSide {
    if line.is_timer {
        return LogSide::Upstream;
    }
    match line.level {
        Some(Level::Info) => LogSide::Client,
        // Patched builds log client errors at `error`; without an upstream there is only one socket.
        Some(Level::Error) if line.tail.upstream.is_none() && is_client_only(line) => LogSide::Client,
        Some(Level::Error) => LogSide::Upstream,
        _ => by_action(line),
    }
}

fn is_client_only(line: &Line<'_>) -> bool {
    let Some(action) = line.action else { return false };
    !speaks_of_upstream(action) && CLIENT_ONLY.iter().any(|only| action.starts_with(only))
}

fn speaks_of_upstream(action: &[u8]) -> bool {
    memchr::memmem::find(action, b"upstream").is_some()
}

fn by_action(line: &Line<'_>) -> LogSide {
    if is_client_only(line) || is_answer(line) {
        return LogSide::Client;
    }
    if line.action.is_some_and(speaks_of_upstream) {
        return LogSide::Upstream;
    }
    match line.tail.upstream {
        Some(url) if is_tls_failure(line.kind) && !peer::is_tls(url) => LogSide::Client,
        Some(_) => LogSide::Upstream,
        None if line.tail.client.is_some() => LogSide::Client,
        None => LogSide::None,
    }
}

/// What is written while an answer is on its way is written to the client.
fn is_answer(line: &Line<'_>) -> bool {
    line.kind.is_write() && line.action.is_some_and(|action| ANSWERING.contains(&action))
}

/// A failure of TLS cannot be the upstream's when the upstream is spoken to in plain text.
fn is_tls_failure(kind: MessageKind) -> bool {
    [
        MessageKind::TLS_READ_FAILED,
        MessageKind::TLS_WRITE_FAILED,
        MessageKind::TLS_SHUTDOWN_FAILED,
        MessageKind::TLS_OTHER,
    ]
    .contains(&kind)
}
