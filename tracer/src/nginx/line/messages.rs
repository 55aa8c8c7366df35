//! The catalogue against lines as the sources of Nginx print them: kind and side of each.

use jiff::tz::TimeZone;

use super::parse;
use crate::model::{LogSide, MessageKind};

use LogSide::{Client, None, Upstream};

/// Level, message with errno and action, whether the line has an upstream field, kind, side.
type Case = (&'static str, &'static str, bool, MessageKind, LogSide);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Client side, HTTP/1.
    ("info", "recv() failed (104: Connection reset by peer) while waiting for request", false, MessageKind::RECV_FAILED, Client),
    ("info", "client closed connection while waiting for request", false, MessageKind::CLIENT_CLOSED, Client),
    ("info", "client timed out (110: Connection timed out) while reading client request headers", false, MessageKind::CLIENT_TIMED_OUT, Client),
    ("info", "client prematurely closed connection while reading client request line", false, MessageKind::CLIENT_CLOSED_EARLY, Client),
    ("info", "client sent invalid method while reading client request line", false, MessageKind::CLIENT_SENT_INVALID, Client),
    ("info", "client sent plain HTTP request to HTTPS port while reading client request headers", false, MessageKind::CLIENT_PLAIN_HTTP, Client),
    ("error", "client intended to send too large body: 10485761 bytes", false, MessageKind::CLIENT_BODY_TOO_LARGE, Client),
    ("error", "client sent invalid chunked body", false, MessageKind::CLIENT_SENT_INVALID, Client),
    ("info", "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too while connecting to upstream", true, MessageKind::CLIENT_ABORTED_UPSTREAM_CLOSED, Client),
    ("info", "epoll_wait() reported that client prematurely closed connection (104: Connection reset by peer) while sending to client", true, MessageKind::CLIENT_CLOSED_EARLY, Client),
    ("info", "writev() failed (104: Connection reset by peer) while reading upstream", true, MessageKind::WRITEV_FAILED, Client),
    ("info", "sendfile() failed (32: Broken pipe) while sending response to client", false, MessageKind::SENDFILE_FAILED, Client),
    ("info", "shutdown() failed (107: Transport endpoint is not connected) while closing request", false, MessageKind::SHUTDOWN_FAILED, Client),
    ("alert", "setsockopt(TCP_NODELAY) failed (22: Invalid argument) while keepalive", false, MessageKind::SOCKOPT_FAILED, Client),
    ("error", "broken header: \"GET / HTTP/1.1\" while reading PROXY protocol", false, MessageKind::PROXY_PROTOCOL_BROKEN, Client),
    ("alert", "1024 worker_connections are not enough while connecting to upstream", true, MessageKind::WORKER_CONNECTIONS, Upstream),
    ("alert", "1024 worker_connections are not enough", false, MessageKind::WORKER_CONNECTIONS, Client),
    // Client side, TLS and HTTP/2.
    ("info", "peer closed connection in SSL handshake (104: Connection reset by peer) while SSL handshaking", false, MessageKind::TLS_PEER_CLOSED, Client),
    ("info", "SSL_do_handshake() failed (SSL: error:0A000416:SSL routines::sslv3 alert certificate unknown:SSL alert number 46) while SSL handshaking", false, MessageKind::TLS_HANDSHAKE_FAILED, Client),
    ("info", "SSL_write() failed (SSL:) (32: Broken pipe) while sending response to client", false, MessageKind::TLS_WRITE_FAILED, Client),
    ("crit", "SSL_shutdown() failed (SSL: error:0A000123:SSL routines::application data after close notify) while closing request", false, MessageKind::TLS_SHUTDOWN_FAILED, Client),
    ("crit", "SSL_read() failed (SSL: error:0A000119:SSL routines::decryption failed or bad record mac) while sending to client", true, MessageKind::TLS_READ_FAILED, Client),
    ("alert", "ignoring stale global SSL error (SSL: error:1) while waiting for request", false, MessageKind::TLS_STALE_ERROR, None),
    ("info", "recv() failed (104: Connection reset by peer) while processing HTTP/2 connection", false, MessageKind::RECV_FAILED, Client),
    ("info", "client canceled stream 5", true, MessageKind::CLIENT_STREAM_ENDED, Client),
    ("info", "client terminated stream 7 with status 8 while sending to client", true, MessageKind::CLIENT_STREAM_ENDED, Client),
    ("info", "http2 flood detected while processing HTTP/2 connection", false, MessageKind::HTTP2_VIOLATION, Client),
    ("info", "client sent WINDOW_UPDATE frame with incorrect length 5 while processing HTTP/2 connection", false, MessageKind::HTTP2_VIOLATION, Client),
    // Upstream.
    ("crit", "SSL_do_handshake() failed (SSL: error:0A000438:SSL routines::tlsv1 alert internal error:SSL alert number 80) while SSL handshaking to upstream", true, MessageKind::TLS_HANDSHAKE_FAILED, Upstream),
    ("error", "connect() failed (111: Connection refused) while connecting to upstream", true, MessageKind::CONNECT_FAILED, Upstream),
    ("error", "connect() failed (104: Connection reset by peer) while connecting to upstream", true, MessageKind::CONNECT_FAILED, Upstream),
    ("crit", "connect() to 10.0.0.2:8080 failed (99: Cannot assign requested address) while connecting to upstream", true, MessageKind::CONNECT_TO_FAILED, Upstream),
    ("crit", "bind(10.9.9.9) failed (99: Cannot assign requested address) while connecting to upstream", true, MessageKind::UPSTREAM_BIND_FAILED, Upstream),
    ("alert", "socket() failed (24: Too many open files) while connecting to upstream", true, MessageKind::SOCKET_FAILED, Upstream),
    ("error", "upstream timed out (110: Connection timed out) while reading response header from upstream", true, MessageKind::UPSTREAM_TIMED_OUT, Upstream),
    ("info", "upstream timed out (110: Connection timed out) while proxying upgraded connection", true, MessageKind::UPSTREAM_TIMED_OUT, Upstream),
    ("error", "readv() failed (104: Connection reset by peer) while reading upstream", true, MessageKind::READV_FAILED, Upstream),
    ("error", "upstream prematurely closed connection while reading response header from upstream", true, MessageKind::UPSTREAM_CLOSED_EARLY, Upstream),
    ("error", "peer closed connection in SSL handshake while SSL handshaking to upstream", true, MessageKind::TLS_PEER_CLOSED, Upstream),
    ("error", "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL handshaking to upstream", true, MessageKind::TLS_HANDSHAKE_FAILED, Upstream),
    ("error", "upstream SSL certificate verify error: (18:self-signed certificate) while SSL handshaking to upstream", true, MessageKind::UPSTREAM_CERTIFICATE, Upstream),
    ("error", "upstream sent too big header while reading response header from upstream", true, MessageKind::UPSTREAM_HEADER_TOO_BIG, Upstream),
    ("error", "upstream sent no valid HTTP/1.0 header while reading response header from upstream", true, MessageKind::UPSTREAM_SENT_INVALID, Upstream),
    ("warn", "upstream sent more data than specified in \"Content-Length\" header while reading upstream", true, MessageKind::UPSTREAM_SENT_MORE, Upstream),
    ("error", "upstream rejected request with error 2 while reading response header from upstream", true, MessageKind::UPSTREAM_STREAM_REJECTED, Upstream),
    ("error", "upstream prematurely closed FastCGI stdout while reading response header from upstream", true, MessageKind::UPSTREAM_RECORD_ENDED_EARLY, Upstream),
    ("error", "FastCGI sent in stderr: \"PHP message: PHP Warning:  Undefined variable $x in /srv/a.php on line 3\" while reading response header from upstream", true, MessageKind::FASTCGI_STDERR, Upstream),
    ("error", "no live upstreams while connecting to upstream", true, MessageKind::NO_LIVE_UPSTREAMS, Upstream),
    ("warn", "upstream server temporarily disabled while connecting to upstream", true, MessageKind::UPSTREAM_DISABLED, Upstream),
    ("error", "app.internal could not be resolved (3: Host not found)", false, MessageKind::RESOLVE_FAILED, None),
    ("error", "auth request unexpected status: 502 while sending to client", false, MessageKind::AUTH_REQUEST_STATUS, None),
    ("warn", "an upstream response is buffered to a temporary file /var/cache/nginx/proxy_temp/1/00/1 while reading upstream", true, MessageKind::UPSTREAM_RESPONSE_BUFFERED, Upstream),
    // Stream and mail.
    ("error", "recv() failed (104: Connection reset by peer) while proxying and reading from upstream", true, MessageKind::RECV_FAILED, Upstream),
    ("info", "recv() failed (104: Connection reset by peer) while proxying and reading from client", true, MessageKind::RECV_FAILED, Client),
    ("info", "connection timed out (110: Connection timed out) while proxying connection", true, MessageKind::STREAM_TIMED_OUT, Client),
    ("error", "auth http server 127.0.0.1:9000 timed out while in http auth state", false, MessageKind::MAIL_AUTH, Upstream),
    // Scripts.
    ("error", "lua tcp socket read timed out", false, MessageKind::SCRIPT_SOCKET_TIMED_OUT, Upstream),
    ("error", "[lua] balancer.lua:1: balance(): no hosts while connecting to upstream", true, MessageKind::SCRIPT, None),
    // Files and rules.
    ("error", "open() \"/srv/www/favicon.ico\" failed (2: No such file or directory)", false, MessageKind::FILE_FAILED, None),
    ("error", "directory index of \"/srv/www/\" is forbidden", false, MessageKind::FILE_FORBIDDEN, None),
    ("error", "access forbidden by rule", false, MessageKind::ACCESS_FORBIDDEN, None),
    ("error", "limiting requests, excess: 5.420 by zone \"one\"", false, MessageKind::RATE_LIMITED, None),
    ("error", "user \"admin\": password mismatch", false, MessageKind::AUTHENTICATION_FAILED, None),
];

/// Lines without fields.
#[rustfmt::skip]
const BARE: &[(&str, &str, MessageKind, LogSide)] = &[
    ("info", "client 10.0.0.9 closed keepalive connection (104: Connection reset by peer)", MessageKind::CLIENT_CLOSED_KEEPALIVE, Client),
    ("info", "udp timed out, packets from/to client:1/0, bytes from/to client:30/0, bytes from/to upstream:0/30", MessageKind::STREAM_TIMED_OUT, Client),
    ("info", "missing mandatory stream", MessageKind::QUIC, Client),
    ("info", "client 10.0.0.9:51111 connected to 0.0.0.0:443", MessageKind::STREAM_CLIENT_CONNECTED, Client),
    ("info", "proxy 10.0.0.1:40000 connected to 10.0.0.2:5432", MessageKind::STREAM_UPSTREAM_CONNECTED, Upstream),
    ("info", "upstream disconnected, bytes from/to client:1/2, bytes from/to upstream:2/1", MessageKind::STREAM_DISCONNECTED, Upstream),
    ("crit", "accept4() failed (24: Too many open files)", MessageKind::ACCEPT_FAILED, None),
    ("warn", "1024 worker_connections are not enough, reusing connections", MessageKind::WORKER_CONNECTIONS, None),
    ("alert", "worker process 19 exited on signal 11 (core dumped)", MessageKind::PROCESS_EXITED, None),
    ("notice", "signal 1 (SIGHUP) received from 1, reconfiguring", MessageKind::SIGNAL_RECEIVED, None),
    ("notice", "gracefully shutting down", MessageKind::LIFECYCLE, None),
    ("emerg", "bind() to 0.0.0.0:80 failed (98: Address already in use)", MessageKind::LISTEN_FAILED, None),
    ("warn", "conflicting server name \"a\" on 0.0.0.0:80, ignored", MessageKind::CONFIGURATION_NOTE, None),
    ("error", "OCSP responder timed out (110: Connection timed out) while requesting certificate status, responder: r", MessageKind::OCSP, None),
];

#[test]
fn every_message_has_its_kind_and_side() {
    for (level, text, has_upstream, kind, side) in CASES {
        let upstream = if *has_upstream { ", upstream: \"http://10.0.0.2:8080/\"" } else { "" };
        let line = format!(
            "2026/11/20 06:43:33 [{level}] 31#31: *7 {text}, client: 10.0.0.9, server: _, request: \"GET / HTTP/1.1\"{upstream}, host: \"h\""
        );
        let record = parse(line.as_bytes(), &TimeZone::UTC);
        assert_eq!((record.kind, record.side), (*kind, *side), "[{level}] {text}");
        assert_eq!(record.client.as_deref(), Some("10.0.0.9"), "{text}");
        assert_eq!(record.problems, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn unknown_messages_have_a_side_only_where_the_action_is_clear() {
    for (action, side) in [
        (" while reading response header from upstream", Upstream),
        (" while waiting for request", Client),
        (" while sending to client", None),
        ("", None),
    ] {
        let line = format!(
            "2026/11/20 06:43:33 [error] 31#31: *7 a module says so{action}, client: 10.0.0.9, server: _"
        );
        let record = parse(line.as_bytes(), &TimeZone::UTC);
        assert_eq!((record.kind, record.side), (MessageKind::OTHER, side), "{action}");
    }
}

#[test]
fn every_line_without_fields_has_its_kind_and_side() {
    for (level, text, kind, side) in BARE {
        let line = format!("2026/11/20 06:43:33 [{level}] 31#31: {text}");
        let record = parse(line.as_bytes(), &TimeZone::UTC);
        assert_eq!((record.kind, record.side), (*kind, *side), "[{level}] {text}");
    }
}

#[test]
fn the_level_is_all_that_tells_an_upgraded_connection() {
    for (level, side) in [("info", Client), ("error", Upstream)] {
        let line = format!(
            "2026/11/20 06:43:33 [{level}] 31#31: *7 recv() failed (104: Connection reset by peer) while proxying upgraded \
             connection, client: 10.0.0.9, server: _, request: \"GET /ws HTTP/1.1\", upstream: \"http://10.0.0.2:1/ws\", host: \"h\""
        );
        assert_eq!(parse(line.as_bytes(), &TimeZone::UTC).side, side);
    }
}
