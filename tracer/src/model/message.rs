//! What a line of error.log can say: the slugs of [`MessageKind`] and the class each belongs to.
//! Recognising a message in a line is done by `nginx::catalogue`; drawing conclusions is the judge's work.

use serde::{Deserialize, Deserializer};

use super::{LogRecord, MessageKind};

/// What kind of trouble a message tells of. Several messages share a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageClass {
    /// A socket call failed, and the errno, if there is one, fits no class of its own.
    SocketError,
    /// ECONNRESET: the kernel had received a RST.
    ResetByPeer,
    /// EPIPE: the peer had closed, and data sent after that was answered by a RST.
    BrokenPipe,
    /// ECONNREFUSED: the SYN was answered by a RST, or nobody listens on the unix socket.
    Refused,
    /// EHOSTUNREACH, ENETUNREACH and their kin: no way to the peer.
    Unreachable,
    /// A timer of Nginx ran out, or the kernel gave up (ETIMEDOUT).
    TimedOut,
    /// ECONNABORTED: the socket was killed on this host, neither by the peer nor by Nginx.
    LocalAbort,
    /// The upstream ended the connection before its answer was complete.
    ClosedEarly,
    /// The client ended the connection while a request or response was in flight.
    ClientAborted,
    /// The client ended a connection that carried no request at that moment.
    ClientIdleClosed,
    /// A TLS handshake failed.
    HandshakeFailed,
    /// TLS failed after the handshake.
    TlsFailed,
    /// Every server of the group was marked as failed; look back for the reason.
    NoLiveUpstreams,
    /// A limit or setting of the configuration decided.
    ConfigLimit,
    /// Descriptors, connections, ports or memory ran out.
    ResourceLimit,
    /// EACCES, EPERM: the system forbade it.
    Permission,
    /// ENOENT on connect: the unix socket does not exist.
    SocketMissing,
    /// The client sent something that Nginx does not accept.
    InvalidRequest,
    /// The upstream sent something that Nginx does not accept.
    InvalidResponse,
    /// A stream of HTTP/2 or HTTP/3 ended; not a TCP event.
    StreamEnded,
    /// A name could not be resolved.
    ResolveFailed,
    /// A process of Nginx died or gave up.
    WorkerExit,
    /// Start, reload, stop.
    Lifecycle,
    /// Accompanies another line about the same failure.
    Companion,
    /// What an upstream application or a script wrote into the log.
    Application,
    /// A file could not be served: missing, forbidden, a directory.
    File,
    /// Access rules or authentication refused the request.
    AccessDenied,
    /// A rate or connection limit for clients applied.
    RateLimit,
    /// Notes on a stream session's begin and end.
    SessionNote,
    /// Nothing of the above, or not recognised.
    Other,
}

/// Declares the slugs as constants of [`MessageKind`], with their class.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $slug:literal, $class:ident;)+) => {
        impl MessageKind {
            $($(#[doc = $doc])+ pub const $name: Self = Self($slug);)+

            /// Every kind there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The class by the message alone. Where a socket call failed, [`LogRecord::class`] knows more.
            pub fn class(self) -> MessageClass {
                match self.0 {
                    $($slug => MessageClass::$class,)+
                    _ => MessageClass::Other,
                }
            }
        }
    };
}

kinds! {
    /// `recv() failed`, also through `kevent()` or `WSARecv()`.
    RECV_FAILED = "recv_failed", SocketError;
    /// `readv() failed`.
    READV_FAILED = "readv_failed", SocketError;
    /// `send() failed`.
    SEND_FAILED = "send_failed", SocketError;
    /// `writev() failed`.
    WRITEV_FAILED = "writev_failed", SocketError;
    /// `sendfile() failed`.
    SENDFILE_FAILED = "sendfile_failed", SocketError;
    /// `connect() failed`: the result of a non-blocking connect, or of the probe of a reused connection.
    CONNECT_FAILED = "connect_failed", SocketError;
    /// `connect() to ADDR failed`: the call itself failed at once.
    CONNECT_TO_FAILED = "connect_to_failed", SocketError;
    /// `shutdown() failed`.
    SHUTDOWN_FAILED = "shutdown_failed", SocketError;
    /// `setsockopt(…) failed`, `getsockopt(…) failed`.
    SOCKOPT_FAILED = "sockopt_failed", SocketError;
    /// `bind(ADDR) failed` for an upstream connection (`proxy_bind`).
    UPSTREAM_BIND_FAILED = "upstream_bind_failed", SocketError;
    /// `socket() failed`.
    SOCKET_FAILED = "socket_failed", SocketError;
    /// `accept() failed`, `accept4() failed`.
    ACCEPT_FAILED = "accept_failed", SocketError;
    /// Another system call failed.
    CALL_FAILED = "call_failed", Other;

    /// `client closed connection` before the first byte.
    CLIENT_CLOSED = "client_closed", ClientIdleClosed;
    /// `client ADDR closed keepalive connection`.
    CLIENT_CLOSED_KEEPALIVE = "client_closed_keepalive", ClientIdleClosed;
    /// `client prematurely closed connection` inside a request or response.
    CLIENT_CLOSED_EARLY = "client_closed_early", ClientAborted;
    /// `client prematurely closed connection, so upstream connection is closed too`: status 499.
    CLIENT_ABORTED_UPSTREAM_CLOSED = "client_aborted_upstream_closed", ClientAborted;
    /// `client timed out`.
    CLIENT_TIMED_OUT = "client_timed_out", TimedOut;
    /// `client sent …` and other complaints about a request.
    CLIENT_SENT_INVALID = "client_sent_invalid", InvalidRequest;
    /// `client sent plain HTTP request to HTTPS port`.
    CLIENT_PLAIN_HTTP = "client_plain_http", InvalidRequest;
    /// `client intended to send too large body`.
    CLIENT_BODY_TOO_LARGE = "client_body_too_large", ConfigLimit;
    /// `client request body is buffered to a temporary file`.
    CLIENT_BODY_BUFFERED = "client_body_buffered", Other;
    /// `broken header: …` on a PROXY protocol port.
    PROXY_PROTOCOL_BROKEN = "proxy_protocol_broken", InvalidRequest;
    /// `client canceled stream N`, `client terminated stream N with status S`.
    CLIENT_STREAM_ENDED = "client_stream_ended", StreamEnded;
    /// `http2 flood detected`, `concurrent streams exceeded`, `client sent … frame …`.
    HTTP2_VIOLATION = "http2_violation", InvalidRequest;
    /// Messages of the QUIC layer.
    QUIC = "quic", StreamEnded;

    /// `upstream timed out`.
    UPSTREAM_TIMED_OUT = "upstream_timed_out", TimedOut;
    /// `upstream prematurely closed connection`; with TLS it may have been a RST.
    UPSTREAM_CLOSED_EARLY = "upstream_closed_early", ClosedEarly;
    /// `upstream prematurely closed FastCGI stdout`, `… FastCGI request`, `… stream`.
    UPSTREAM_RECORD_ENDED_EARLY = "upstream_record_ended_early", ClosedEarly;
    /// `upstream sent too big header`.
    UPSTREAM_HEADER_TOO_BIG = "upstream_header_too_big", ConfigLimit;
    /// `upstream sent …` that Nginx does not accept.
    UPSTREAM_SENT_INVALID = "upstream_sent_invalid", InvalidResponse;
    /// `upstream sent more data than specified in "Content-Length"`.
    UPSTREAM_SENT_MORE = "upstream_sent_more", InvalidResponse;
    /// `upstream rejected request with error N`, `upstream sent goaway with error N`.
    UPSTREAM_STREAM_REJECTED = "upstream_stream_rejected", StreamEnded;
    /// `an upstream response is buffered to a temporary file`.
    UPSTREAM_RESPONSE_BUFFERED = "upstream_response_buffered", Other;
    /// `no live upstreams`.
    NO_LIVE_UPSTREAMS = "no_live_upstreams", NoLiveUpstreams;
    /// `upstream server temporarily disabled`.
    UPSTREAM_DISABLED = "upstream_disabled", Companion;
    /// `upstream SSL certificate verify error`, `upstream SSL certificate does not match`.
    UPSTREAM_CERTIFICATE = "upstream_certificate", HandshakeFailed;
    /// `auth request unexpected status: N`.
    AUTH_REQUEST_STATUS = "auth_request_status", Companion;
    /// `FastCGI sent in stderr: …`.
    FASTCGI_STDERR = "fastcgi_stderr", Application;
    /// `NAME could not be resolved (N: text)`.
    RESOLVE_FAILED = "resolve_failed", ResolveFailed;
    /// `no resolver defined to resolve NAME`, `host not found in upstream`.
    NAME_NOT_CONFIGURED = "name_not_configured", ConfigLimit;
    /// `invalid URL prefix`, `rewrite or internal redirection cycle`, `no port in upstream` and the like.
    CONFIGURATION = "configuration", ConfigLimit;

    /// `peer closed connection in SSL handshake`.
    TLS_PEER_CLOSED = "tls_peer_closed", HandshakeFailed;
    /// `SSL_do_handshake() failed`.
    TLS_HANDSHAKE_FAILED = "tls_handshake_failed", HandshakeFailed;
    /// `SSL_read() failed`.
    TLS_READ_FAILED = "tls_read_failed", TlsFailed;
    /// `SSL_write() failed`, `SSL_sendfile() failed`.
    TLS_WRITE_FAILED = "tls_write_failed", TlsFailed;
    /// `SSL_shutdown() failed`.
    TLS_SHUTDOWN_FAILED = "tls_shutdown_failed", TlsFailed;
    /// `ignoring stale global SSL error`: belongs to another connection.
    TLS_STALE_ERROR = "tls_stale_error", Other;
    /// Stapling, certificates, tickets and other TLS notes.
    TLS_OTHER = "tls_other", Other;
    /// `OCSP response …`, `OCSP responder …`.
    OCSP = "ocsp", Other;

    /// `connection timed out` of a stream session.
    STREAM_TIMED_OUT = "stream_timed_out", TimedOut;
    /// `client disconnected`, `upstream disconnected` with byte counts.
    STREAM_DISCONNECTED = "stream_disconnected", SessionNote;
    /// `client ADDR connected to ADDR`.
    STREAM_CLIENT_CONNECTED = "stream_client_connected", SessionNote;
    /// `proxy ADDR connected to ADDR`.
    STREAM_UPSTREAM_CONNECTED = "stream_upstream_connected", SessionNote;
    /// `shutdown timeout`: `worker_shutdown_timeout` ended the session.
    SHUTDOWN_TIMEOUT = "shutdown_timeout", Lifecycle;
    /// `preread buffer full`.
    PREREAD_FULL = "preread_full", ConfigLimit;
    /// `auth http server … timed out`, `auth http server … sent invalid …` of the mail proxy.
    MAIL_AUTH = "mail_auth", SocketError;
    /// `client logged in`, `client logged out`.
    MAIL_SESSION = "mail_session", SessionNote;

    /// `N worker_connections are not enough`.
    WORKER_CONNECTIONS = "worker_connections", ResourceLimit;
    /// `N worker_connections exceed open file resource limit`.
    WORKER_CONNECTIONS_FILES = "worker_connections_files", Other;
    /// `the new socket has number N, but only M files are available`.
    FILES_EXHAUSTED = "files_exhausted", ResourceLimit;
    /// `could not allocate node … in … zone`, `malloc(N) failed`, `ngx_slab_alloc() failed`.
    MEMORY_EXHAUSTED = "memory_exhausted", ResourceLimit;
    /// `limiting requests`, `limiting connections`, `delaying request`.
    RATE_LIMITED = "rate_limited", RateLimit;
    /// `access forbidden by rule`.
    ACCESS_FORBIDDEN = "access_forbidden", AccessDenied;
    /// `user "X" was not found`, `password mismatch`, `no user/password was provided`.
    AUTHENTICATION_FAILED = "authentication_failed", AccessDenied;
    /// A web application firewall or another filter refused the request.
    FILTER_DENIED = "filter_denied", AccessDenied;
    /// `open() "PATH" failed`, `stat()`, `opendir()` and their kin.
    FILE_FAILED = "file_failed", File;
    /// `directory index of "PATH" is forbidden`, `"PATH" is not found`, `"PATH" is not a directory`.
    FILE_FORBIDDEN = "file_forbidden", File;
    /// `bind() to ADDR failed` at start, `still could not bind()`.
    LISTEN_FAILED = "listen_failed", Lifecycle;

    /// `worker process N exited on signal S`, `… exited with code C`.
    PROCESS_EXITED = "process_exited", WorkerExit;
    /// `open socket #F left in connection I`, `aborting`.
    SOCKET_LEAKED = "socket_leaked", WorkerExit;
    /// `signal N (NAME) received …`.
    SIGNAL_RECEIVED = "signal_received", Lifecycle;
    /// `gracefully shutting down`, `exiting`, `exit`, `reconfiguring`, `start worker process N` and so on.
    LIFECYCLE = "lifecycle", Lifecycle;
    /// `conflicting server name`, `unknown directive`, `using the "epoll" event method` and other notes on
    /// the configuration.
    CONFIGURATION_NOTE = "configuration_note", Lifecycle;

    /// `[lua] …`, `lua entry thread aborted`, `js: …`, `perl …`: written by a script.
    SCRIPT = "script", Application;
    /// `lua tcp socket …`: an outbound socket of a script.
    SCRIPT_SOCKET_TIMED_OUT = "script_socket_timed_out", TimedOut;
    /// `attempt to send data on a closed socket` and other notes on a script's socket.
    SCRIPT_SOCKET = "script_socket", SocketError;
    /// Health checks of Tengine, Plus and modules.
    HEALTH_CHECK = "health_check", Other;

    /// The line has a head, but the message is not in the catalogue.
    OTHER = "other", Other;
    /// The line has no head and no known message: a continuation, or not a line of Nginx.
    UNREADABLE = "unreadable", Other;
}

impl MessageKind {
    /// Whether the failing call was to send something.
    pub fn is_write(self) -> bool {
        [Self::SEND_FAILED, Self::WRITEV_FAILED, Self::SENDFILE_FAILED, Self::TLS_WRITE_FAILED]
            .contains(&self)
    }

    /// The kind with this slug; a slug that this version does not know is [`Self::OTHER`].
    pub fn from_slug(slug: &str) -> Self {
        Self::ALL.iter().copied().find(|kind| kind.0 == slug).unwrap_or(Self::OTHER)
    }
}

impl<'de> Deserialize<'de> for MessageKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|slug| Self::from_slug(&slug))
    }
}

impl MessageKind {
    /// The class of the message, made precise by the errno where a socket call failed.
    pub fn class_with(self, errno: Option<i32>) -> MessageClass {
        let class = self.class();
        match (class, errno) {
            (
                MessageClass::SocketError
                | MessageClass::TlsFailed
                | MessageClass::HandshakeFailed
                | MessageClass::ClientIdleClosed
                | MessageClass::ClientAborted,
                Some(errno),
            ) => refine(class, errno),
            _ => class,
        }
    }
}

impl LogRecord {
    /// The class of the message, made precise by the errno where a socket call failed.
    pub fn class(&self) -> MessageClass {
        self.kind.class_with(self.errno)
    }
}

/// Errno values (Linux, asm-generic) that have a class of their own.
const CLASS_OF_ERRNO: &[(i32, MessageClass)] = &[
    (104, MessageClass::ResetByPeer),
    (32, MessageClass::BrokenPipe),
    (103, MessageClass::LocalAbort),
    (111, MessageClass::Refused),
    (110, MessageClass::TimedOut),
    (113, MessageClass::Unreachable),
    (112, MessageClass::Unreachable),
    (101, MessageClass::Unreachable),
    (100, MessageClass::Unreachable),
    (24, MessageClass::ResourceLimit),
    (23, MessageClass::ResourceLimit),
    (12, MessageClass::ResourceLimit),
    (105, MessageClass::ResourceLimit),
    (99, MessageClass::ResourceLimit),
    (98, MessageClass::ResourceLimit),
    (11, MessageClass::ResourceLimit),
    (13, MessageClass::Permission),
    (1, MessageClass::Permission),
    (2, MessageClass::SocketMissing),
];

fn refine(class: MessageClass, errno: i32) -> MessageClass {
    CLASS_OF_ERRNO.iter().find(|(number, _)| *number == errno).map_or(class, |(_, precise)| *precise)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slugs_are_unique() {
        let slugs: HashSet<&str> = MessageKind::ALL.iter().map(|kind| kind.0).collect();
        assert_eq!(slugs.len(), MessageKind::ALL.len());
    }

    #[test]
    fn every_slug_is_read_back_and_an_unknown_one_is_another_message() {
        for kind in MessageKind::ALL {
            let json = serde_json::to_string(kind).unwrap();
            assert_eq!(serde_json::from_str::<MessageKind>(&json).unwrap(), *kind);
        }
        let newer: MessageKind = serde_json::from_str("\"from_a_newer_version\"").unwrap();
        assert_eq!(newer, MessageKind::OTHER);
    }

    #[test]
    fn the_errno_makes_the_class_precise() {
        assert_eq!(refine(MessageClass::SocketError, 104), MessageClass::ResetByPeer);
        assert_eq!(refine(MessageClass::SocketError, 107), MessageClass::SocketError);
        assert_eq!(MessageKind::NO_LIVE_UPSTREAMS.class(), MessageClass::NoLiveUpstreams);
        assert_eq!(MessageKind("never heard of").class(), MessageClass::Other);
    }
}
