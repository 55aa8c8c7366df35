//! Lines as other systems, carriers and people hand them over: what must be read out of each. The forms are from the
//! wild, the contents are not.

use jiff::tz::TimeZone;

use super::parse;
use crate::model::{LogSide, MessageKind as Kind};
use crate::nginx::records::Record;

use LogSide::{Client, None as Nobody, Upstream};

/// What a line must say.
struct Expected {
    line: &'static str,
    kind: Kind,
    side: LogSide,
    errno: Option<i64>,
    action: &'static str,
    client: &'static str,
    server: &'static str,
    upstream: &'static str,
}

/// A line, its kind, side and errno; then action, client, server and upstream, empty for none.
const fn case(
    line: &'static str,
    (kind, side, errno): (Kind, LogSide, Option<i64>),
    [action, client, server, upstream]: [&'static str; 4],
) -> Expected {
    Expected { line, kind, side, errno, action, client, server, upstream }
}

fn check(cases: &[Expected]) {
    for expected in cases {
        let record = parse(expected.line.as_bytes(), &TimeZone::UTC);
        let found = Record::new(1, &record);
        let line = expected.line;
        assert_eq!(
            (record.kind, found.side, found.errno),
            (expected.kind, expected.side, expected.errno),
            "{line}"
        );
        let texts = [found.action, found.client, found.server, found.upstream].map(Option::unwrap_or_default);
        assert_eq!(texts, [expected.action, expected.client, expected.server, expected.upstream], "{line}");
    }
}

#[test]
#[rustfmt::skip]
fn carriers() {
    check(&[
        case(r#"1905 2024/12/06 09:55:51 [error] 51#51: *3195 upstream prematurely closed connection while reading response header from upstream, client: 10.7.1.3, server: *, request: "POST /api/entry HTTP/2.0", upstream: "scgi://unix:/run/app.sock:", host: "nas:8443""#,
            (Kind::UPSTREAM_CLOSED_EARLY, Upstream, None), ["reading response header from upstream", "10.7.1.3", "*", "unix:/run/app.sock"]),
        case("> 2024/11/09 10:49:37 [crit] 72#72: *18 SSL_read() failed (SSL: error:0A000126:SSL routines::unexpected eof while reading) while waiting for request, client: 10.7.1.4, server: 0.0.0.0:443",
            (Kind::TLS_READ_FAILED, Client, None), ["waiting for request", "10.7.1.4", "0.0.0.0:443", ""]),
        case("Dec 24 01:23:45 192.168.0.2 nginx: 2024/12/24 01:23:45 [info] 1776#1776:*1143 client 10.7.1.5:19802 connected to 192.168.0.2:8080",
            (Kind::STREAM_CLIENT_CONNECTED, Client, None), ["", "10.7.1.5", "192.168.0.2:8080", ""]),
        case("mail_front_1  | 2024/06/22 21:09:47 [info] 30#30: *6 client login failed: \"wrong password\" while in http auth state, client: 10.7.1.6, server: 0.0.0.0:587, login: \"a@example.org\"",
            (Kind::MAIL_SESSION, Client, None), ["in http auth state", "10.7.1.6", "0.0.0.0:587", ""]),
        case(r#"msg="2024/06/22 21:09:47 [error] 30#30: *7 connect() failed (111: Connection refused) while connecting to upstream, client: 10.7.1.7, server: , request: \"GET / HTTP/1.1\", upstream: \"http://10.7.2.1:3000/\", host: \"a\"""#,
            (Kind::CONNECT_FAILED, Upstream, Some(111)), ["connecting to upstream", "10.7.1.7", "", "10.7.2.1:3000"]),
        case("2024/06/22 21:09:47 [error] 30#30: *8 connect() failed (113: No route to host) while connecting to upstream, client: 10.7.1.8, server: a, request: “GET /x HTTP/1.1”, upstream: “fastcgi://10.7.2.2:9000”, host: “a”",
            (Kind::CONNECT_FAILED, Upstream, Some(113)), ["connecting to upstream", "10.7.1.8", "a", "10.7.2.2:9000"]),
        case("2024/06/22 21:09:47 [error] 30#30: *9 no live upstreams while connecting to upstream, client: 10.7.1.9, server: a, request: &quot;GET /x HTTP/1.1&quot;, upstream: &quot;http://pool/x&quot;",
            (Kind::NO_LIVE_UPSTREAMS, Upstream, None), ["connecting to upstream", "10.7.1.9", "a", "pool"]),
        case(r#"{"time":"2024-06-22T21:09:47Z","stream":"stderr","log":"2024/06/22 21:09:47 [info] 30#30: *10 recv() failed (104: Connection reset by peer) while processing HTTP/2 connection, client: 10.7.1.10, server: 0.0.0.0:443\n"}"#,
            (Kind::RECV_FAILED, Client, Some(104)), ["processing HTTP/2 connection", "10.7.1.10", "0.0.0.0:443", ""]),
        case("2024/09/08 17:58:56 [error] 3087#3087: *2 connect() failed (111: Connection ref$",
            (Kind::CONNECT_FAILED, Upstream, Some(111)), ["", "", "", ""]),
    ]);
}

#[test]
#[rustfmt::skip]
fn other_systems() {
    check(&[
        case(r#"2024/07/29 12:29:26 [error] 20604#30660: *36 upstream timed out (10060: A connection attempt failed because the connected party did not properly respond after a period of time, or established connection failed because connected host has failed to respond) while sending request to upstream, client: 127.0.0.1, server: , request: "POST /a.B/C HTTP/2.0", upstream: "grpcs://127.0.0.1:5001", host: "h""#,
            (Kind::UPSTREAM_TIMED_OUT, Upstream, Some(10060)), ["sending request to upstream", "127.0.0.1", "", "127.0.0.1:5001"]),
        case("2024/07/29 12:29:26 [info] 2604#660: *37 WSARecv() failed (10054: FormatMessage() error:(15105)) while waiting for request, client: 10.7.1.1, server: 0.0.0.0:80",
            (Kind::RECV_FAILED, Client, Some(10054)), ["waiting for request", "10.7.1.1", "0.0.0.0:80", ""]),
        case(r#"2024/06/14 09:42:12 [error] 7023#0: *55 kevent() reported that connect() failed (61: Connection refused) while connecting to upstream, client: ::1, server: a, request: "GET / HTTP/1.1", upstream: "http://[::1]:3000/", host: "a""#,
            (Kind::CONNECT_FAILED, Upstream, Some(61)), ["connecting to upstream", "::1", "a", "[::1]:3000"]),
        case(r#"2024/06/14 09:42:12 [info] 7023#0: *56 kevent() reported that client prematurely closed connection, so upstream connection is closed too while sending request to upstream, client: 127.0.0.1, server: a, request: "GET / HTTP/1.1", upstream: "fastcgi://127.0.0.1:9000", host: "a""#,
            (Kind::CLIENT_ABORTED_UPSTREAM_CLOSED, Client, None), ["sending request to upstream", "127.0.0.1", "a", "127.0.0.1:9000"]),
        case("2024/06/14 09:42:12 [info] 7023#0: *57 kevent() reported that client 10.7.1.1 closed idle connection (54: Connection reset by peer)",
            (Kind::CLIENT_CLOSED_KEEPALIVE, Client, Some(54)), ["", "10.7.1.1", "", ""]),
        case(r#"2024/02/26 18:58:27 [crit] 43#0: *14 pread() "/mnt/a" failed (5: Input/output error) while sending response to client, client: 10.7.1.1, server: a, request: "GET /a HTTP/1.1", host: "a""#,
            (Kind::FILE_FAILED, Nobody, Some(5)), ["sending response to client", "10.7.1.1", "a", ""]),
        case("nginx: [emerg] open() \"/etc/nginx/x.conf\" failed (2: No such file or directory) in /etc/nginx/nginx.conf:7",
            (Kind::FILE_FAILED, Nobody, Some(2)), ["", "", "", ""]),
        case("nginx[16652]: [crit] 16675#0: *358 SSL_read() failed (SSL: error:4095126:SSL routines:ssl3_read_n:unexpected eof while reading) while keepalive, client: 10.7.1.1, server: [::]:443",
            (Kind::TLS_READ_FAILED, Client, None), ["keepalive", "10.7.1.1", "[::]:443", ""]),
    ]);
}

#[test]
#[rustfmt::skip]
fn modules() {
    check(&[
        case("2024/05/06 10:54:46 [error] 16#16: *2 connect() failed (111: Connection refused), context: ngx.timer, client: 127.0.0.1, server: 0.0.0.0:9090",
            (Kind::CONNECT_FAILED, Upstream, Some(111)), ["", "127.0.0.1", "0.0.0.0:9090", ""]),
        case("2024/05/06 10:54:46 [crit] 16#16: *2 SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number), context: ngx.timer, client: 127.0.0.1, server: 0.0.0.0:9090",
            (Kind::TLS_HANDSHAKE_FAILED, Upstream, None), ["", "127.0.0.1", "0.0.0.0:9090", ""]),
        case("2024/05/06 10:54:46 [error] 16#16: *3 lua tcp socket connect timed out, when connecting to 10.7.2.9:6379, context: ngx.timer",
            (Kind::SCRIPT_SOCKET_TIMED_OUT, Upstream, None), ["", "", "", ""]),
        case("2024/05/06 10:54:46 [error] 16#16: *4 stream lua tcp socket read timed out, client: 10.7.1.1, server: 0.0.0.0:53",
            (Kind::SCRIPT_SOCKET_TIMED_OUT, Upstream, None), ["", "10.7.1.1", "0.0.0.0:53", ""]),
        case(r#"2024/05/06 10:54:46 [error] 16#16: *5 proxy_connect: upstream connect timed out (peer:10.7.2.9:443) while connecting to upstream, client: 10.7.1.1, server: , request: "CONNECT a:443 HTTP/1.1", host: "a:443""#,
            (Kind::UPSTREAM_TIMED_OUT, Upstream, None), ["connecting to upstream", "10.7.1.1", "", ""]),
        case("2024/05/06 10:54:46 [error] 16#0: check time out with peer: 10.7.2.9:80 ",
            (Kind::HEALTH_CHECK, Upstream, None), ["", "", "", ""]),
        case("2024/05/06 10:54:46 [error] 16#16: *6 upstream SSL certificate does not match \"pool\" while SSL handshaking to upstream, client: 127.0.0.1, server: 127.0.0.1:9210, upstream: \"10.7.2.9:9243\", bytes from/to client:0/0, bytes from/to upstream:0/0",
            (Kind::UPSTREAM_CERTIFICATE, Upstream, None), ["SSL handshaking to upstream", "127.0.0.1", "127.0.0.1:9210", "10.7.2.9:9243"]),
        case("2024/05/06 10:54:46 [error] 16#16: *7 invalid host in upstream \"http://\", client: 10.7.1.1, server: a, request: \"GET / HTTP/1.1\", host: \"a\"",
            (Kind::CONFIGURATION, Nobody, None), ["", "10.7.1.1", "a", ""]),
        case(r#"2024/05/06 10:54:46 [crit] 16#16: *8 SSL_write() failed (SSL: error:0A000123:SSL routines::x) while sending response to client, client: 10.7.1.1, server: a, request: "GET / HTTP/2.0", upstream: "https://10.7.2.9:443/", host: "a""#,
            (Kind::TLS_WRITE_FAILED, Client, None), ["sending response to client", "10.7.1.1", "a", "10.7.2.9:443"]),
        case(r#"2024/05/06 10:54:46 [alert] 16#16: *9 writev() failed (9: Bad file descriptor) while reading upstream, client: 10.7.1.1, server: a, request: "GET / HTTP/1.1", upstream: "http://10.7.2.9:80/", host: "a""#,
            (Kind::WRITEV_FAILED, Client, Some(9)), ["reading upstream", "10.7.1.1", "a", "10.7.2.9:80"]),
        case("2024/05/06 10:54:46 [error] 16#16: send() failed (111: Connection refused) while resolving, resolver: 10.7.2.53:53",
            (Kind::SEND_FAILED, Nobody, Some(111)), ["resolving", "", "", ""]),
        case("2024/05/06 10:54:46 [error] 16#16: DNS error (3: NXDOMAIN), query id:7 while resolving, resolver: 10.7.2.53:53",
            (Kind::RESOLVE_FAILED, Nobody, None), ["resolving", "", "", ""]),
    ]);
}
