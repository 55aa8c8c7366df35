//! The message catalogue: which text means which [`MessageKind`], and how the side of the socket follows.
//! Two tables, one for failed calls (`recv() failed`), one for sentences. It does not read fields of the tail.

use std::sync::LazyLock;

use memchr::memmem;

use crate::model::MessageKind;

/// How the side of a message is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideRule {
    /// By the level, as `ngx_connection_error` chooses it: `info` is an accepted connection, `error` one that
    /// Nginx opened. Where the level says nothing, the action decides.
    Level,
    /// By the action and the fields only: the level is fixed whichever side it is.
    Action,
    /// The accepted connection.
    Client,
    /// The connection to an upstream.
    Upstream,
    /// No connection of a request.
    None,
}

/// What the catalogue knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The slug.
    pub kind: MessageKind,
    /// How its side is decided.
    pub side: SideRule,
}

/// A message, looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// What the catalogue knows.
    pub entry: Entry,
    /// The failing call as printed, without parentheses.
    pub call: Option<&'a [u8]>,
}

const fn entry(kind: MessageKind, side: SideRule) -> Entry {
    Entry { kind, side }
}

/// Failing calls, by the name before the parenthesis.
const CALLS: &[(&str, Entry)] = &[
    ("recv", entry(MessageKind::RECV_FAILED, SideRule::Level)),
    ("recvmsg", entry(MessageKind::RECV_FAILED, SideRule::Level)),
    ("WSARecv", entry(MessageKind::RECV_FAILED, SideRule::Level)),
    ("readv", entry(MessageKind::READV_FAILED, SideRule::Level)),
    ("send", entry(MessageKind::SEND_FAILED, SideRule::Level)),
    ("sendmsg", entry(MessageKind::SEND_FAILED, SideRule::Level)),
    ("sendto", entry(MessageKind::SEND_FAILED, SideRule::Level)),
    ("WSASend", entry(MessageKind::SEND_FAILED, SideRule::Level)),
    ("writev", entry(MessageKind::WRITEV_FAILED, SideRule::Level)),
    ("sendfile", entry(MessageKind::SENDFILE_FAILED, SideRule::Level)),
    ("sendfilev", entry(MessageKind::SENDFILE_FAILED, SideRule::Level)),
    ("TransmitFile", entry(MessageKind::SENDFILE_FAILED, SideRule::Level)),
    ("connect", entry(MessageKind::CONNECT_FAILED, SideRule::Upstream)),
    ("WSAConnect", entry(MessageKind::CONNECT_FAILED, SideRule::Upstream)),
    ("shutdown", entry(MessageKind::SHUTDOWN_FAILED, SideRule::Level)),
    ("setsockopt", entry(MessageKind::SOCKOPT_FAILED, SideRule::Level)),
    ("getsockopt", entry(MessageKind::SOCKOPT_FAILED, SideRule::Level)),
    ("bind", entry(MessageKind::UPSTREAM_BIND_FAILED, SideRule::Upstream)),
    ("socket", entry(MessageKind::SOCKET_FAILED, SideRule::Action)),
    ("accept", entry(MessageKind::ACCEPT_FAILED, SideRule::None)),
    ("accept4", entry(MessageKind::ACCEPT_FAILED, SideRule::None)),
    ("AcceptEx", entry(MessageKind::ACCEPT_FAILED, SideRule::None)),
    ("SSL_do_handshake", entry(MessageKind::TLS_HANDSHAKE_FAILED, SideRule::Level)),
    ("SSL_read", entry(MessageKind::TLS_READ_FAILED, SideRule::Level)),
    ("SSL_read_early_data", entry(MessageKind::TLS_READ_FAILED, SideRule::Level)),
    ("SSL_write", entry(MessageKind::TLS_WRITE_FAILED, SideRule::Level)),
    ("SSL_write_early_data", entry(MessageKind::TLS_WRITE_FAILED, SideRule::Level)),
    ("SSL_sendfile", entry(MessageKind::TLS_WRITE_FAILED, SideRule::Level)),
    ("SSL_shutdown", entry(MessageKind::TLS_SHUTDOWN_FAILED, SideRule::Level)),
    ("malloc", entry(MessageKind::MEMORY_EXHAUSTED, SideRule::None)),
    ("posix_memalign", entry(MessageKind::MEMORY_EXHAUSTED, SideRule::None)),
    ("memalign", entry(MessageKind::MEMORY_EXHAUSTED, SideRule::None)),
    ("mmap", entry(MessageKind::MEMORY_EXHAUSTED, SideRule::None)),
    ("ngx_slab_alloc", entry(MessageKind::MEMORY_EXHAUSTED, SideRule::None)),
];

/// Where a text stands in the message.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// At its beginning.
    Start,
    /// Anywhere.
    Inside,
    /// A beginning and a later part.
    StartAnd(&'static str),
}

type Row = (Place, &'static str, Entry);

use Place::{Inside, Start, StartAnd};

/// Sentences. The first row that fits counts, so the longer text stands first.
#[rustfmt::skip]
const SENTENCES: &[Row] = &[
    // The client, HTTP.
    (Start, "client prematurely closed connection, so upstream", entry(MessageKind::CLIENT_ABORTED_UPSTREAM_CLOSED, SideRule::Client)),
    (Start, "client prematurely closed", entry(MessageKind::CLIENT_CLOSED_EARLY, SideRule::Client)),
    (Start, "client closed prematurely connection, so upstream", entry(MessageKind::CLIENT_ABORTED_UPSTREAM_CLOSED, SideRule::Client)),
    (Start, "client closed prematurely", entry(MessageKind::CLIENT_CLOSED_EARLY, SideRule::Client)),
    (Start, "client closed connection", entry(MessageKind::CLIENT_CLOSED, SideRule::Client)),
    (StartAnd(" closed keepalive connection"), "client ", entry(MessageKind::CLIENT_CLOSED_KEEPALIVE, SideRule::Client)),
    (Start, "client timed out", entry(MessageKind::CLIENT_TIMED_OUT, SideRule::Client)),
    (Start, "client read timed out", entry(MessageKind::CLIENT_TIMED_OUT, SideRule::Client)),
    (Start, "client write timed out", entry(MessageKind::CLIENT_TIMED_OUT, SideRule::Client)),
    (Start, "client sent plain HTTP request", entry(MessageKind::CLIENT_PLAIN_HTTP, SideRule::Client)),
    (StartAnd(" frame"), "client sent ", entry(MessageKind::HTTP2_VIOLATION, SideRule::Client)),
    (Start, "client sent ", entry(MessageKind::CLIENT_SENT_INVALID, SideRule::Client)),
    (Start, "client violated ", entry(MessageKind::HTTP2_VIOLATION, SideRule::Client)),
    (Start, "client exceeded ", entry(MessageKind::HTTP2_VIOLATION, SideRule::Client)),
    (Start, "client intended to send too large", entry(MessageKind::CLIENT_BODY_TOO_LARGE, SideRule::Client)),
    (Start, "client canceled stream", entry(MessageKind::CLIENT_STREAM_ENDED, SideRule::Client)),
    (Start, "client terminated stream", entry(MessageKind::CLIENT_STREAM_ENDED, SideRule::Client)),
    (Start, "client SSL certificate", entry(MessageKind::TLS_OTHER, SideRule::Client)),
    (Start, "client attempted to request the server name", entry(MessageKind::CLIENT_SENT_INVALID, SideRule::Client)),
    (Start, "client logged ", entry(MessageKind::MAIL_SESSION, SideRule::Client)),
    (Start, "client disconnected", entry(MessageKind::STREAM_DISCONNECTED, SideRule::Client)),
    (StartAnd(" connected to "), "client ", entry(MessageKind::STREAM_CLIENT_CONNECTED, SideRule::Client)),
    (StartAnd(" connected to "), "udp client ", entry(MessageKind::STREAM_CLIENT_CONNECTED, SideRule::Client)),
    (Start, "http2 flood", entry(MessageKind::HTTP2_VIOLATION, SideRule::Client)),
    (Start, "concurrent streams exceeded", entry(MessageKind::HTTP2_VIOLATION, SideRule::Client)),
    (Start, "http3 flood", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "quic ", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "reset stream", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "could not split QUIC frame", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "missing transport parameters", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "missing mandatory stream", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "stream already created", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "not enough dynamic table capacity", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "failed to create http3 session", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "failed to create server stream", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "failed to send ", entry(MessageKind::QUIC, SideRule::Client)),
    (Start, "broken header: \"", entry(MessageKind::PROXY_PROTOCOL_BROKEN, SideRule::Client)),
    (Start, "unknown PROXY protocol", entry(MessageKind::PROXY_PROTOCOL_BROKEN, SideRule::Client)),
    (Start, "header is too large", entry(MessageKind::PROXY_PROTOCOL_BROKEN, SideRule::Client)),
    (Start, "a client request body is buffered", entry(MessageKind::CLIENT_BODY_BUFFERED, SideRule::Client)),
    (Start, "unsafe URI ", entry(MessageKind::CLIENT_SENT_INVALID, SideRule::Client)),
    (Start, "client intended to send body data larger", entry(MessageKind::CLIENT_SENT_INVALID, SideRule::Client)),
    (Start, "invalid connection preface", entry(MessageKind::HTTP2_VIOLATION, SideRule::Client)),
    (Start, "invalid PROXY protocol", entry(MessageKind::PROXY_PROTOCOL_BROKEN, SideRule::Client)),
    (Start, "broken PROXY protocol", entry(MessageKind::PROXY_PROTOCOL_BROKEN, SideRule::Client)),
    (Start, "client login", entry(MessageKind::MAIL_SESSION, SideRule::Client)),
    (Start, "proxied session", entry(MessageKind::MAIL_SESSION, SideRule::Client)),
    (StartAnd(" closed idle connection"), "client ", entry(MessageKind::CLIENT_CLOSED_KEEPALIVE, SideRule::Client)),
    (Start, "connection timed out", entry(MessageKind::STREAM_TIMED_OUT, SideRule::Client)),
    (Start, "udp timed out", entry(MessageKind::STREAM_TIMED_OUT, SideRule::Client)),
    (Start, "udp done", entry(MessageKind::STREAM_DISCONNECTED, SideRule::Client)),
    (Start, "preread buffer full", entry(MessageKind::PREREAD_FULL, SideRule::Client)),
    // The upstream.
    (Start, "upstream timed out", entry(MessageKind::UPSTREAM_TIMED_OUT, SideRule::Upstream)),
    (Start, "upstream prematurely closed connection", entry(MessageKind::UPSTREAM_CLOSED_EARLY, SideRule::Upstream)),
    (Start, "upstream prematurely closed", entry(MessageKind::UPSTREAM_RECORD_ENDED_EARLY, SideRule::Upstream)),
    (Start, "upstream closed prematurely", entry(MessageKind::UPSTREAM_RECORD_ENDED_EARLY, SideRule::Upstream)),
    (Start, "upstream closed connection", entry(MessageKind::UPSTREAM_CLOSED_EARLY, SideRule::Upstream)),
    (Start, "upstream connect failed", entry(MessageKind::CONNECT_FAILED, SideRule::Upstream)),
    (Start, "upstream connect timed out", entry(MessageKind::UPSTREAM_TIMED_OUT, SideRule::Upstream)),
    (Start, "upstream read timed out", entry(MessageKind::UPSTREAM_TIMED_OUT, SideRule::Upstream)),
    (Start, "upstream write timed out", entry(MessageKind::UPSTREAM_TIMED_OUT, SideRule::Upstream)),
    (Start, "upstream prematurely sent response", entry(MessageKind::UPSTREAM_SENT_INVALID, SideRule::Upstream)),
    (Start, "upstream sent too big header", entry(MessageKind::UPSTREAM_HEADER_TOO_BIG, SideRule::Upstream)),
    (Start, "upstream sent more data than specified", entry(MessageKind::UPSTREAM_SENT_MORE, SideRule::Upstream)),
    (Start, "upstream sent goaway", entry(MessageKind::UPSTREAM_STREAM_REJECTED, SideRule::Upstream)),
    (Start, "upstream sent ", entry(MessageKind::UPSTREAM_SENT_INVALID, SideRule::Upstream)),
    (Start, "upstream rejected request", entry(MessageKind::UPSTREAM_STREAM_REJECTED, SideRule::Upstream)),
    (Start, "upstream violated ", entry(MessageKind::UPSTREAM_SENT_INVALID, SideRule::Upstream)),
    (Start, "upstream returned ", entry(MessageKind::UPSTREAM_SENT_INVALID, SideRule::Upstream)),
    (Start, "upstream split ", entry(MessageKind::UPSTREAM_SENT_INVALID, SideRule::Upstream)),
    (Start, "unsupported FastCGI", entry(MessageKind::UPSTREAM_SENT_INVALID, SideRule::Upstream)),
    (Start, "upstream server temporarily disabled", entry(MessageKind::UPSTREAM_DISABLED, SideRule::Upstream)),
    (Start, "upstream SSL certificate", entry(MessageKind::UPSTREAM_CERTIFICATE, SideRule::Upstream)),
    (Start, "upstream disconnected", entry(MessageKind::STREAM_DISCONNECTED, SideRule::Upstream)),
    (StartAnd(" connected to "), "proxy ", entry(MessageKind::STREAM_UPSTREAM_CONNECTED, SideRule::Upstream)),
    (StartAnd(" connected to "), "udp proxy ", entry(MessageKind::STREAM_UPSTREAM_CONNECTED, SideRule::Upstream)),
    (Start, "an upstream response is buffered", entry(MessageKind::UPSTREAM_RESPONSE_BUFFERED, SideRule::Upstream)),
    (Start, "no live upstreams", entry(MessageKind::NO_LIVE_UPSTREAMS, SideRule::Upstream)),
    (Start, "no live connection", entry(MessageKind::NO_LIVE_UPSTREAMS, SideRule::Upstream)),
    (Start, "could not send PROXY protocol header", entry(MessageKind::SEND_FAILED, SideRule::Upstream)),
    (Start, "FastCGI sent in stderr", entry(MessageKind::FASTCGI_STDERR, SideRule::Upstream)),
    (Start, "auth request unexpected status", entry(MessageKind::AUTH_REQUEST_STATUS, SideRule::None)),
    (Start, "auth http server ", entry(MessageKind::MAIL_AUTH, SideRule::Upstream)),
    (Start, "memcached sent ", entry(MessageKind::UPSTREAM_SENT_INVALID, SideRule::Upstream)),
    (Start, "check time out with peer", entry(MessageKind::HEALTH_CHECK, SideRule::Upstream)),
    (Start, "check protocol ", entry(MessageKind::HEALTH_CHECK, SideRule::Upstream)),
    (Start, "disable check peer", entry(MessageKind::HEALTH_CHECK, SideRule::Upstream)),
    (Start, "enable check peer", entry(MessageKind::HEALTH_CHECK, SideRule::Upstream)),
    (Start, "peer is unhealthy", entry(MessageKind::HEALTH_CHECK, SideRule::Upstream)),
    (Start, "peer is healthy", entry(MessageKind::HEALTH_CHECK, SideRule::Upstream)),
    // TLS.
    (Start, "peer closed connection in SSL handshake", entry(MessageKind::TLS_PEER_CLOSED, SideRule::Level)),
    (Start, "ignoring stale global SSL error", entry(MessageKind::TLS_STALE_ERROR, SideRule::None)),
    (Start, "handshake rejected", entry(MessageKind::TLS_HANDSHAKE_FAILED, SideRule::Level)),
    (Start, "OCSP ", entry(MessageKind::OCSP, SideRule::None)),
    (Start, "\"ssl_stapling\"", entry(MessageKind::OCSP, SideRule::None)),
    (Start, "certificate status", entry(MessageKind::OCSP, SideRule::None)),
    (Start, "no OCSP responder URL", entry(MessageKind::OCSP, SideRule::None)),
    (Start, "cannot load certificate", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "SSL_", entry(MessageKind::TLS_OTHER, SideRule::Action)),
    // Scripts.
    (Start, "lua tcp socket ", entry(MessageKind::SCRIPT_SOCKET_TIMED_OUT, SideRule::Upstream)),
    (Start, "lua udp socket ", entry(MessageKind::SCRIPT_SOCKET_TIMED_OUT, SideRule::Upstream)),
    (Start, "attempt to send data on a closed socket", entry(MessageKind::SCRIPT_SOCKET, SideRule::Upstream)),
    (Start, "attempt to receive data on a closed socket", entry(MessageKind::SCRIPT_SOCKET, SideRule::Upstream)),
    (Start, "[lua] ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "[kong] ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "lua ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "lua: ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "attempt to set ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "failed to run ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "failed to load ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "js: ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "js ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "perl: ", entry(MessageKind::SCRIPT, SideRule::None)),
    (Start, "call_sv(", entry(MessageKind::SCRIPT, SideRule::None)),
    // Limits and rules.
    (Inside, "worker_connections are not enough", entry(MessageKind::WORKER_CONNECTIONS, SideRule::Action)),
    (Inside, "worker_connections exceed open file resource limit", entry(MessageKind::WORKER_CONNECTIONS_FILES, SideRule::None)),
    (Start, "the new socket has number", entry(MessageKind::FILES_EXHAUSTED, SideRule::Action)),
    (Start, "could not allocate node", entry(MessageKind::MEMORY_EXHAUSTED, SideRule::None)),
    (Start, "could not allocate new session", entry(MessageKind::MEMORY_EXHAUSTED, SideRule::None)),
    (Start, "limiting requests", entry(MessageKind::RATE_LIMITED, SideRule::None)),
    (Start, "limiting connections", entry(MessageKind::RATE_LIMITED, SideRule::None)),
    (Start, "delaying request", entry(MessageKind::RATE_LIMITED, SideRule::None)),
    (Start, "sysguard ", entry(MessageKind::RATE_LIMITED, SideRule::None)),
    (Start, "access forbidden by rule", entry(MessageKind::ACCESS_FORBIDDEN, SideRule::None)),
    (Start, "user \"", entry(MessageKind::AUTHENTICATION_FAILED, SideRule::None)),
    (Start, "no user/password was provided", entry(MessageKind::AUTHENTICATION_FAILED, SideRule::None)),
    (Start, "delaying unauthorized request", entry(MessageKind::AUTHENTICATION_FAILED, SideRule::None)),
    (Start, "ModSecurity: ", entry(MessageKind::FILTER_DENIED, SideRule::None)),
    (Start, "[client ", entry(MessageKind::FILTER_DENIED, SideRule::None)),
    (Start, "NAXSI_", entry(MessageKind::FILTER_DENIED, SideRule::None)),
    (Start, "directory index of \"", entry(MessageKind::FILE_FORBIDDEN, SideRule::None)),
    (StartAnd("\" is not found"), "\"", entry(MessageKind::FILE_FORBIDDEN, SideRule::None)),
    (StartAnd("\" is not a "), "\"", entry(MessageKind::FILE_FORBIDDEN, SideRule::None)),
    (StartAnd("\" is a directory"), "\"", entry(MessageKind::FILE_FORBIDDEN, SideRule::None)),
    (StartAnd("\" is forbidden"), "\"", entry(MessageKind::FILE_FORBIDDEN, SideRule::None)),
    (Inside, "could not be resolved", entry(MessageKind::RESOLVE_FAILED, SideRule::None)),
    (Start, "no resolver defined to resolve", entry(MessageKind::NAME_NOT_CONFIGURED, SideRule::None)),
    (Start, "host not found in", entry(MessageKind::NAME_NOT_CONFIGURED, SideRule::None)),
    (Start, "unexpected response for", entry(MessageKind::RESOLVE_FAILED, SideRule::None)),
    (Start, "DNS error (", entry(MessageKind::RESOLVE_FAILED, SideRule::None)),
    (StartAnd(" DNS response "), "invalid ", entry(MessageKind::RESOLVE_FAILED, SideRule::None)),
    (StartAnd(" in DNS response"), "wrong ident ", entry(MessageKind::RESOLVE_FAILED, SideRule::None)),
    (StartAnd(" in DNS response"), "no ", entry(MessageKind::RESOLVE_FAILED, SideRule::None)),
    (Start, "unexpected DNS response", entry(MessageKind::RESOLVE_FAILED, SideRule::None)),
    (Start, "unexpected A record", entry(MessageKind::RESOLVE_FAILED, SideRule::None)),
    (Start, "invalid URL prefix", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "invalid local address", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "using uninitialized ", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "invalid host in upstream", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "no host in upstream", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "the rewritten URI has a zero length", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "could not find named location", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "invalid port in upstream", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "no port in upstream", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "zero size buf", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "zero length URI to proxy", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "rewrite or internal redirection cycle", entry(MessageKind::CONFIGURATION, SideRule::None)),
    (Start, "subrequests cycle", entry(MessageKind::CONFIGURATION, SideRule::None)),
    // Processes.
    (Inside, "still could not bind()", entry(MessageKind::LISTEN_FAILED, SideRule::None)),
    (Inside, " process ", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "open socket #", entry(MessageKind::SOCKET_LEAKED, SideRule::None)),
    (Start, "aborting", entry(MessageKind::SOCKET_LEAKED, SideRule::None)),
    (Start, "signal ", entry(MessageKind::SIGNAL_RECEIVED, SideRule::None)),
    (Start, "shutdown timeout", entry(MessageKind::SHUTDOWN_TIMEOUT, SideRule::None)),
    (Start, "gracefully shutting down", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "exit", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "reconfiguring", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "reopening logs", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "changing binary", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "start ", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "shutting down", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "create thread ", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "disconnected on shutdown", entry(MessageKind::SHUTDOWN_TIMEOUT, SideRule::None)),
    (Start, "tengine/", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "Tengine/", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "Angie/", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "freenginx/", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "nginx/", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "openresty/", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "built by ", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "OS: ", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "getrlimit(RLIMIT_NOFILE)", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "using the \"", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "protocol options redefined", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "load balancing method redefined", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "low address bits of ", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "server name \"", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (StartAnd("\" is ignored"), "\"", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (StartAnd("\" ignored"), "\"", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (StartAnd("\" is not supported"), "\"", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (StartAnd(" was built with"), "nginx ", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "using inherited sockets", entry(MessageKind::LIFECYCLE, SideRule::None)),
    (Start, "conflicting ", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "duplicate ", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (StartAnd("\" directive "), "\"", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "directive \"", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "unknown log format", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "invalid PID number", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "unknown directive", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "unexpected ", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "invalid number of arguments", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "could not build ", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
    (Start, "the \"", entry(MessageKind::CONFIGURATION_NOTE, SideRule::None)),
];

/// Looks up a message, given without errno, TLS text and tail.
pub fn find(message: &[u8]) -> Option<Found<'_>> {
    let text = without_reporter(message);
    if let Some(call) = call_name(text) {
        return Some(Found { entry: of_call(call, text), call: Some(call) });
    }
    if let Some(reporter) = closed_report(text) {
        return Some(Found { entry: entry(MessageKind::RECV_FAILED, SideRule::Level), call: Some(reporter) });
    }
    sentence(text).map(|entry| Found { entry, call: None })
}

fn sentence(text: &[u8]) -> Option<Entry> {
    if is_process_end(text) {
        return Some(entry(MessageKind::PROCESS_EXITED, SideRule::None));
    }
    let first = usize::from(*text.first()?);
    BY_FIRST_BYTE[first].iter().find(|row| fits(row, text)).map(|row| row.2)
}

/// The rows that a text with this first byte can fit, in their order.
static BY_FIRST_BYTE: LazyLock<Vec<Vec<&'static Row>>> = LazyLock::new(|| {
    let may_fit = |row: &&Row, byte: u8| matches!(row.0, Inside) || row.1.as_bytes().first() == Some(&byte);
    (0..=u8::MAX).map(|byte| SENTENCES.iter().filter(|row| may_fit(row, byte)).collect()).collect()
});

fn fits(row: &Row, text: &[u8]) -> bool {
    match row.0 {
        Start => text.starts_with(row.1.as_bytes()),
        Inside => contains(text, row.1),
        StartAnd(later) => text.starts_with(row.1.as_bytes()) && contains(text, later),
    }
}

fn contains(text: &[u8], part: &str) -> bool {
    memmem::find(text, part.as_bytes()).is_some()
}

/// `worker process 19 exited on signal 9`, `cache manager process 7 exited with code 0`.
fn is_process_end(text: &[u8]) -> bool {
    let name = text.get(..40).unwrap_or(text);
    contains(name, " process ") && (contains(text, " exited on signal ") || contains(text, " exited with "))
}

/// What modules put in front of the messages of the core.
const MODULES: [&[u8]; 3] = [b"proxy_connect: ", b"proxy_connet: ", b"stream "];

/// Cuts `epoll_wait() reported that ` and `kevent() reported that `, which name the messenger, not the call, and the
/// names of modules.
fn without_reporter(message: &[u8]) -> &[u8] {
    const REPORTED: &[u8] = b"() reported that ";
    let message = MODULES.iter().find_map(|name| message.strip_prefix(*name)).unwrap_or(message);
    let head = message.get(..40).unwrap_or(message);
    memmem::find(head, REPORTED).map_or(message, |at| &message[at + REPORTED.len()..])
}

/// `kevent() reported about an closed connection`: the messenger is all there is to name.
fn closed_report(text: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(text, b"() reported about an closed connection")?;
    Some(&text[..at])
}

/// The name before the first parenthesis of `recv() failed`, `bind(1.2.3.4) failed`, `open() "/x" failed`.
fn call_name(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))?;
    let (name, rest) = text.split_at(length);
    if name.is_empty() || !rest.starts_with(b"(") {
        return None;
    }
    (contains(rest, " failed") || rest.ends_with(b" faile")).then_some(name)
}

fn of_call(name: &[u8], text: &[u8]) -> Entry {
    let rest = &text[name.len()..];
    if rest.starts_with(b"() \"") {
        return entry(MessageKind::FILE_FAILED, SideRule::None);
    }
    if rest.starts_with(b"() to ") {
        match name {
            b"connect" => return entry(MessageKind::CONNECT_TO_FAILED, SideRule::Upstream),
            b"bind" => return entry(MessageKind::LISTEN_FAILED, SideRule::None),
            _ => {}
        }
    }
    let known = CALLS.iter().find(|row| row.0.as_bytes() == name).map(|row| row.1);
    known.unwrap_or_else(|| of_unlisted_call(name))
}

fn of_unlisted_call(name: &[u8]) -> Entry {
    const TLS_PREFIXES: &[&[u8]] = &[b"SSL_", b"X509_", b"d2i_", b"BIO_", b"EVP_", b"OCSP_", b"RAND_"];
    if TLS_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return entry(MessageKind::TLS_OTHER, SideRule::Action);
    }
    entry(MessageKind::CALL_FAILED, SideRule::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: &str) -> Option<MessageKind> {
        find(message.as_bytes()).map(|found| found.entry.kind)
    }

    #[test]
    fn calls_are_told_apart_by_what_follows_them() {
        assert_eq!(kind("connect() failed"), Some(MessageKind::CONNECT_FAILED));
        assert_eq!(kind("connect() to unix:/run/x.sock failed"), Some(MessageKind::CONNECT_TO_FAILED));
        assert_eq!(kind("bind() to 0.0.0.0:80 failed"), Some(MessageKind::LISTEN_FAILED));
        assert_eq!(kind("bind(10.9.9.9) failed"), Some(MessageKind::UPSTREAM_BIND_FAILED));
        assert_eq!(kind("open() \"/srv/x\" failed"), Some(MessageKind::FILE_FAILED));
        assert_eq!(kind("eventfd() failed"), Some(MessageKind::CALL_FAILED));
    }

    #[test]
    fn the_messenger_is_not_the_call() {
        let found = find(b"kevent() reported that connect() failed").expect("known");
        assert_eq!(found.call, Some(&b"connect"[..]));
        let text = b"epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too";
        let found = find(text).expect("known");
        assert_eq!(found.entry.kind, MessageKind::CLIENT_ABORTED_UPSTREAM_CLOSED);
        assert_eq!(found.call, None);
    }

    #[test]
    fn the_longer_text_wins() {
        assert_eq!(
            kind("client 10.0.0.1 closed keepalive connection"),
            Some(MessageKind::CLIENT_CLOSED_KEEPALIVE)
        );
        assert_eq!(kind("client sent invalid DATA frame for stream 1"), Some(MessageKind::HTTP2_VIOLATION));
        assert_eq!(kind("worker process 19 exited on signal 9"), Some(MessageKind::PROCESS_EXITED));
        assert_eq!(kind("start worker process 20"), Some(MessageKind::LIFECYCLE));
        assert_eq!(kind("1024 worker_connections are not enough"), Some(MessageKind::WORKER_CONNECTIONS));
        assert_eq!(kind("something never seen"), None);
    }

    #[test]
    fn every_row_is_reachable() {
        for (position, row) in SENTENCES.iter().enumerate() {
            let text = match row.0 {
                StartAnd(later) => format!("{} x {later}", row.1),
                Start | Inside => format!("{} ", row.1),
            };
            let first = SENTENCES.iter().position(|other| fits(other, text.as_bytes()));
            assert_eq!(first, Some(position), "{text} is hidden by an earlier row");
        }
    }
}
