//! From what a line says to its row in [`super::topic`]. Pure; knows nothing of counting.

use crate::model::{LogRecord, LogSide, MessageClass, MessageKind};
use crate::nginx::line::Line;

use super::topic::TopicId;

/// What of a line decides its meaning.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the line says.
    pub kind: MessageKind,
    /// Whose socket.
    pub side: LogSide,
    /// Linux number.
    pub errno: Option<i32>,
    /// Text after `while`.
    pub action: Option<&'a [u8]>,
    /// The upstream is a unix socket.
    pub is_unix: bool,
}

impl<'a> Facts<'a> {
    /// Of a borrowed line.
    pub fn of_line(line: &Line<'a>) -> Self {
        Self {
            kind: line.kind,
            side: line.side,
            errno: line.errno,
            action: line.action,
            is_unix: line.tail.upstream.is_some_and(has_unix),
        }
    }

    /// Of a record.
    pub fn of_record(record: &'a LogRecord) -> Self {
        Self {
            kind: record.kind,
            side: record.side,
            errno: record.errno,
            action: record.action.as_deref().map(str::as_bytes),
            is_unix: record.upstream.as_deref().is_some_and(|upstream| upstream.starts_with("unix:")),
        }
    }

    fn is_during(&self, words: &[&str]) -> bool {
        let Some(action) = self.action else { return false };
        words.iter().any(|word| memchr::memmem::find(action, word.as_bytes()).is_some())
    }
}

fn has_unix(url: &[u8]) -> bool {
    memchr::memmem::find(&url[..url.len().min(24)], b"unix:").is_some()
}

/// What a line is, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Trouble of a connection.
    Incident(TopicId),
    /// Another line tells of the same failure.
    Companion,
    /// Start, reload, stop of Nginx.
    Lifecycle,
    /// A file, a rule, a script, a note: no trouble of a connection.
    Other(Other),
    /// Neither head nor known message.
    Unreadable,
}

/// Lines that tell of no connection, by what they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Other {
    /// Files missing or forbidden.
    File,
    /// Access rules, authentication, filters.
    AccessDenied,
    /// Rate and connection limits for clients.
    RateLimit,
    /// Requests that Nginx refused.
    InvalidRequest,
    /// Written by applications and scripts.
    Application,
    /// Ends of HTTP/2 and HTTP/3 streams.
    Stream,
    /// Notes.
    Note,
}

impl Other {
    /// Every value.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::AccessDenied,
        Self::RateLimit,
        Self::InvalidRequest,
        Self::Application,
        Self::Stream,
        Self::Note,
    ];

    /// Stable name.
    pub fn slug(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::AccessDenied => "access_denied",
            Self::RateLimit => "rate_limit",
            Self::InvalidRequest => "invalid_request",
            Self::Application => "application",
            Self::Stream => "stream_ended",
            Self::Note => "note",
        }
    }
}

/// Decides what a line is.
pub fn meaning(facts: &Facts) -> Meaning {
    match facts.kind.class_with(facts.errno) {
        MessageClass::Companion => Meaning::Companion,
        MessageClass::Lifecycle => Meaning::Lifecycle,
        MessageClass::File => Meaning::Other(Other::File),
        MessageClass::AccessDenied => Meaning::Other(Other::AccessDenied),
        MessageClass::RateLimit => Meaning::Other(Other::RateLimit),
        MessageClass::InvalidRequest => Meaning::Other(Other::InvalidRequest),
        MessageClass::Application => Meaning::Other(Other::Application),
        MessageClass::StreamEnded => Meaning::Other(Other::Stream),
        MessageClass::Other if facts.kind == MessageKind::UNREADABLE => Meaning::Unreadable,
        MessageClass::Other | MessageClass::SessionNote => Meaning::Other(Other::Note),
        class => slug(class, facts)
            .map_or(Meaning::Other(Other::Note), |slug| Meaning::Incident(TopicId::of(slug))),
    }
}

/// The row of a line about a connection.
fn slug(class: MessageClass, facts: &Facts) -> Option<&'static str> {
    match class {
        MessageClass::WorkerExit => Some("worker_exit"),
        MessageClass::LocalAbort => Some("local_abort"),
        MessageClass::ResourceLimit if facts.is_unix => Some("upstream_unavailable"),
        MessageClass::ResourceLimit => Some("resource_limit"),
        MessageClass::ResolveFailed => Some("configuration"),
        MessageClass::NoLiveUpstreams => Some("upstream_unavailable"),
        _ => match facts.side {
            LogSide::Upstream => Some(of_upstream(class, facts)),
            LogSide::Client => Some(of_client(class, facts)),
            LogSide::None => of_nobody(class),
        },
    }
}

fn of_nobody(class: MessageClass) -> Option<&'static str> {
    matches!(class, MessageClass::ConfigLimit | MessageClass::Permission).then_some("configuration")
}

fn of_upstream(class: MessageClass, facts: &Facts) -> &'static str {
    match class {
        MessageClass::Refused if facts.is_unix => "upstream_unavailable",
        MessageClass::Refused => "upstream_refused",
        MessageClass::SocketMissing => "upstream_unavailable",
        MessageClass::Permission => "configuration",
        MessageClass::Unreachable => "upstream_unreachable",
        MessageClass::ConfigLimit | MessageClass::InvalidResponse => "upstream_invalid",
        MessageClass::ClosedEarly => "upstream_closed_early",
        MessageClass::HandshakeFailed | MessageClass::TlsFailed => "upstream_reset_tls",
        MessageClass::TimedOut => of_upstream_timeout(facts),
        MessageClass::ResetByPeer | MessageClass::BrokenPipe => of_upstream_reset(facts),
        _ => "upstream_socket",
    }
}

fn of_upstream_timeout(facts: &Facts) -> &'static str {
    if facts.is_during(&["connecting", "handshaking"]) || is_connect(facts.kind) {
        return "upstream_timeout_connect";
    }
    if facts.is_during(&["sending request", "sending to upstream"]) {
        return "upstream_timeout_send";
    }
    if facts.is_during(&["proxying"]) { "upstream_timeout_session" } else { "upstream_timeout_answer" }
}

fn of_upstream_reset(facts: &Facts) -> &'static str {
    if facts.is_during(&["handshaking"]) {
        return "upstream_reset_tls";
    }
    if is_connect(facts.kind) || facts.is_during(&["connecting"]) {
        return "upstream_reset_connect";
    }
    if facts.is_during(&["proxying"]) {
        return "upstream_reset_other";
    }
    if facts.is_during(&["sending request", "sending to upstream"]) || facts.kind.is_write() {
        return "upstream_reset_request";
    }
    if facts.is_during(&["response header", "reading greeting"]) {
        return "upstream_reset_waiting";
    }
    if facts.action.is_some() { "upstream_reset_body" } else { "upstream_reset_other" }
}

fn of_client(class: MessageClass, facts: &Facts) -> &'static str {
    match class {
        MessageClass::ConfigLimit => "client_body_limit",
        MessageClass::TimedOut => "client_timeout",
        MessageClass::HandshakeFailed => "client_handshake",
        _ if is_kept_alive(facts) => "client_idle",
        _ if facts.is_during(&["SSL handshaking"]) => "client_handshake",
        MessageClass::ClientIdleClosed => "client_idle",
        MessageClass::ClientAborted => "client_abort",
        _ => "client_reset",
    }
}

/// Nothing was asked, so nothing was lost.
fn is_kept_alive(facts: &Facts) -> bool {
    [MessageKind::CLIENT_CLOSED_KEEPALIVE, MessageKind::CLIENT_CLOSED].contains(&facts.kind)
        || facts.is_during(&["waiting for request", "keepalive", "closing request"])
}

fn is_connect(kind: MessageKind) -> bool {
    [MessageKind::CONNECT_FAILED, MessageKind::CONNECT_TO_FAILED].contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "client: 10.0.0.9, server: _, request: \"GET / HTTP/1.1\"";
    const UP: &str = ", upstream: \"http://10.0.0.2:80/\"";
    const UNIX: &str = ", upstream: \"fastcgi://unix:/run/php.sock:\"";

    fn check(level: &str, text: &str, upstream: &str, slug: &str) {
        let line = format!("2026/11/20 06:43:33 [{level}] 31#31: *7 {text}, {TAIL}{upstream}, host: \"h\"");
        let found = meaning(&Facts::of_line(&Line::read(line.as_bytes())));
        assert_eq!(found, Meaning::Incident(TopicId::of(slug)), "{line}");
    }

    #[test]
    fn upstream_lines_find_their_row() {
        let cases = [
            (
                "connect() failed (111: Connection refused) while connecting to upstream",
                UP,
                "upstream_refused",
            ),
            (
                "connect() to unix:/run/php.sock failed (111: Connection refused) while connecting to upstream",
                UNIX,
                "upstream_unavailable",
            ),
            (
                "connect() to unix:/run/php.sock failed (11: Resource temporarily unavailable) while connecting to upstream",
                UNIX,
                "upstream_unavailable",
            ),
            ("no live upstreams while connecting to upstream", UP, "upstream_unavailable"),
            (
                "connect() failed (113: No route to host) while connecting to upstream",
                UP,
                "upstream_unreachable",
            ),
            (
                "upstream timed out (110: Connection timed out) while connecting to upstream",
                UP,
                "upstream_timeout_connect",
            ),
            (
                "upstream timed out (110: Connection timed out) while reading response header from upstream",
                UP,
                "upstream_timeout_answer",
            ),
            (
                "upstream timed out (110: Operation timed out) while reading upstream",
                UP,
                "upstream_timeout_answer",
            ),
            (
                "upstream prematurely closed connection while reading response header from upstream",
                UP,
                "upstream_closed_early",
            ),
            (
                "upstream sent too big header while reading response header from upstream",
                UP,
                "upstream_invalid",
            ),
            (
                "writev() failed (32: Broken pipe) while sending request to upstream",
                UP,
                "upstream_reset_request",
            ),
            (
                "send() failed (32: Broken pipe) while reading response header from upstream",
                UP,
                "upstream_reset_request",
            ),
            (
                "peer closed connection in SSL handshake (104: x) while SSL handshaking to upstream",
                UP,
                "upstream_reset_tls",
            ),
        ];
        for (text, upstream, slug) in cases {
            check("error", text, upstream, slug);
        }
    }

    #[test]
    fn a_reset_is_told_by_what_was_going_on() {
        let reset = "(104: Connection reset by peer)";
        for (action, slug) in [
            ("connecting to upstream", "upstream_reset_connect"),
            ("reading response header from upstream", "upstream_reset_waiting"),
            ("reading upstream", "upstream_reset_body"),
            ("sending to client", "upstream_reset_body"),
            ("proxying upgraded connection", "upstream_reset_other"),
        ] {
            check("error", &format!("recv() failed {reset} while {action}"), UP, slug);
        }
        check(
            "crit",
            "connect() to 10.0.0.2:80 failed (13: Permission denied) while connecting to upstream",
            UP,
            "configuration",
        );
        check(
            "crit",
            "connect() to 10.0.0.2:80 failed (99: Cannot assign requested address) while connecting to upstream",
            UP,
            "resource_limit",
        );
    }

    #[test]
    fn client_lines_find_their_row() {
        for (text, slug) in [
            ("recv() failed (104: Connection reset by peer) while sending to client", "client_reset"),
            ("recv() failed (104: Connection reset by peer) while waiting for request", "client_idle"),
            (
                "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too while connecting to upstream",
                "client_abort",
            ),
            (
                "client timed out (110: Connection timed out) while sending response to client",
                "client_timeout",
            ),
            ("writev() failed (32: Broken pipe) while sending to client", "client_reset"),
            ("peer closed connection in SSL handshake while SSL handshaking", "client_handshake"),
            ("recv() failed (104: Connection reset by peer) while SSL handshaking", "client_handshake"),
        ] {
            check("info", text, UP, slug);
        }
        check("error", "client intended to send too large body: 10485761 bytes", "", "client_body_limit");
        check(
            "alert",
            "recv() failed (103: Software caused connection abort) while reading upstream",
            UP,
            "local_abort",
        );
    }

    #[test]
    fn what_is_no_connection_is_counted_elsewhere() {
        let read = |line: &str| meaning(&Facts::of_line(&Line::read(line.as_bytes())));
        let head = "2026/11/20 06:43:33 [error] 31#31: *7";
        let file = format!("{head} open() \"/srv/x\" failed (2: No such file or directory), {TAIL}");
        assert_eq!(read(&file), Meaning::Other(Other::File));
        assert_eq!(read("stack traceback:"), Meaning::Unreadable);
        assert_eq!(read("2026/11/20 06:43:33 [notice] 1#1: reconfiguring"), Meaning::Lifecycle);
        let died = "2026/11/20 06:43:33 [alert] 30#30: worker process 31 exited on signal 9";
        assert_eq!(read(died), Meaning::Incident(TopicId::of("worker_exit")));
        assert_eq!(read(&format!("{head} upstream server temporarily disabled, {TAIL}")), Meaning::Companion);
    }
}
