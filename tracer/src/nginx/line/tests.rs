//! Whole lines, as Nginx and its carriers print them.

use jiff::tz::TimeZone;

use super::parse;
use crate::model::{Level, LogRecord, LogSide, MessageClass, MessageKind, Utc};

fn read(line: &str) -> LogRecord {
    parse(line.as_bytes(), &TimeZone::UTC)
}

fn http(level: &str, text: &str) -> LogRecord {
    read(&format!(
        "2026/11/20 06:43:33 [{level}] 31#31: *7 {text}, client: 10.0.0.9, server: _, request: \"GET /a HTTP/1.1\", \
         upstream: \"http://10.0.0.2:8080/a\", host: \"h\""
    ))
}

#[test]
fn an_upstream_reset() {
    let record = http(
        "error",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    );
    assert_eq!(record.time.map(Utc::rfc3339).as_deref(), Some("2026-11-20T06:43:33.000000000Z"));
    assert_eq!((record.level, record.pid, record.tid), (Some(Level::Error), Some(31), Some(31)));
    assert_eq!((record.connection, record.errno), (Some(7), Some(104)));
    assert_eq!((record.kind, record.side), (MessageKind::RECV_FAILED, LogSide::Upstream));
    assert_eq!(record.call.as_deref(), Some("recv"));
    assert_eq!(record.message, "recv() failed");
    assert_eq!(record.action.as_deref(), Some("reading response header from upstream"));
    assert_eq!(record.upstream.as_deref(), Some("10.0.0.2:8080"));
    assert_eq!(record.upstream_url.as_deref(), Some("http://10.0.0.2:8080/a"));
    assert_eq!(record.class(), MessageClass::ResetByPeer);
    assert_eq!(record.problems, Vec::<String>::new());
}

#[test]
fn the_level_decides_the_side_not_the_phrase() {
    let failed = "recv() failed (104: Connection reset by peer)";
    for (level, action, side) in [
        ("info", "sending to client", LogSide::Client),
        ("error", "sending to client", LogSide::Upstream),
        ("info", "proxying upgraded connection", LogSide::Client),
        ("error", "proxying upgraded connection", LogSide::Upstream),
        ("info", "connecting to upstream", LogSide::Client),
    ] {
        assert_eq!(http(level, &format!("{failed} while {action}")).side, side, "[{level}] {action}");
    }
}

#[test]
fn where_the_level_is_fixed_the_phrase_decides() {
    let aborted =
        http("alert", "recv() failed (103: Software caused connection abort) while reading upstream");
    assert_eq!((aborted.side, aborted.class()), (LogSide::Upstream, MessageClass::LocalAbort));
    let tls = read(
        "2026/11/20 06:43:33 [crit] 31#31: *7 SSL_do_handshake() failed (SSL: error:0A00006C:SSL routines::bad key share) \
         while SSL handshaking, client: 10.0.0.9, server: 0.0.0.0:443",
    );
    assert_eq!((tls.side, tls.kind), (LogSide::Client, MessageKind::TLS_HANDSHAKE_FAILED));
    assert_eq!(tls.server.as_deref(), Some("0.0.0.0:443"));
    let patched = read(
        "2026/11/20 06:43:33 [error] 31#31: *7 peer closed connection in SSL handshake (104: Connection reset by peer) \
         while SSL handshaking, client: 10.0.0.9, server: 0.0.0.0:443",
    );
    assert_eq!(patched.side, LogSide::Client);
    let upstream = http("error", "peer closed connection in SSL handshake while SSL handshaking to upstream");
    assert_eq!((upstream.side, upstream.errno), (LogSide::Upstream, None));
}

#[test]
fn a_failed_syslog_or_resolver_socket_is_nobodys() {
    let syslog = read(
        "2026/11/20 06:43:33 [alert] 31#31: *7 send() failed (111: Connection refused) while logging to syslog, server: unix:/dev/log",
    );
    assert_eq!((syslog.side, syslog.server.as_deref()), (LogSide::None, Some("unix:/dev/log")));
    let resolver = read(
        "2026/11/20 06:43:33 [error] 31#31: recv() failed (111: Connection refused) while resolving, resolver: 10.0.0.53:53",
    );
    assert_eq!((resolver.side, resolver.errno), (LogSide::None, Some(111)));
    assert_eq!(resolver.action.as_deref(), Some("resolving"));
}

#[test]
fn messages_without_fields() {
    let idle = read(
        "2026/11/20 06:43:33 [info] 31#31: *7 client 10.0.0.9 closed keepalive connection (104: Connection reset by peer)",
    );
    assert_eq!((idle.kind, idle.side), (MessageKind::CLIENT_CLOSED_KEEPALIVE, LogSide::Client));
    assert_eq!((idle.client.as_deref(), idle.errno), (Some("10.0.0.9"), Some(104)));
    let leaked = read("2026/11/20 06:43:33 [alert] 31#31: *58 open socket #5 left in connection 4");
    assert_eq!((leaked.kind, leaked.connection), (MessageKind::SOCKET_LEAKED, Some(58)));
    let exited = read("2026/11/20 06:43:33 [alert] 30#30: worker process 31 exited on signal 9");
    assert_eq!((exited.class(), exited.side), (MessageClass::WorkerExit, LogSide::None));
    let check = read("2026/11/20 06:43:33 [error] 5626#0: recv() failed (104: Connection reset by peer)");
    assert_eq!((check.side, check.tid, check.connection), (LogSide::Upstream, Some(0), None));
}

#[test]
fn an_action_may_be_missing() {
    let record = read(
        "2026/11/20 06:43:33 [info] 31#31: *7 recv() failed (104: Connection reset by peer), client: 10.0.0.9, server: _, \
         request: \"POST /a HTTP/1.1\", host: \"h\"",
    );
    assert_eq!((record.action, record.side, record.errno), (None, LogSide::Client, Some(104)));
}

#[test]
fn groups_and_unix_sockets() {
    let none = read(
        "2026/11/20 06:43:33 [error] 31#31: *7 no live upstreams while connecting to upstream, client: 10.0.0.9, server: _, \
         request: \"GET / HTTP/1.1\", upstream: \"http://backend/\", host: \"h\"",
    );
    assert_eq!((none.class(), none.upstream.as_deref()), (MessageClass::NoLiveUpstreams, Some("backend")));
    assert_eq!(none.upstream_addr(), None);
    let unix = read(
        "2026/11/20 06:43:33 [crit] 31#31: *7 connect() to unix:/run/php.sock failed (2: No such file or directory) while \
         connecting to upstream, client: 10.0.0.9, server: _, request: \"GET / HTTP/1.1\", upstream: \
         \"fastcgi://unix:/run/php.sock:\", host: \"h\"",
    );
    assert_eq!(
        (unix.class(), unix.upstream.as_deref()),
        (MessageClass::SocketMissing, Some("unix:/run/php.sock"))
    );
    assert_eq!((unix.call.as_deref(), unix.side), (Some("connect"), LogSide::Upstream));
}

#[test]
fn a_carrier_in_json_is_opened() {
    let record = read(
        r#"{"log":"2022/05/21 23:01:44 [error] 31#31: *7 upstream timed out (110: Operation timed out) while reading response header from upstream, client: 10.0.0.9, server: , request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.2:80/\", host: \"h\"\n","stream":"stderr","time":"2022-05-21T23:01:44.9Z"}"#,
    );
    assert_eq!((record.kind, record.errno), (MessageKind::UPSTREAM_TIMED_OUT, Some(110)));
    assert_eq!(record.request.as_deref(), Some("GET / HTTP/1.1"));
    assert_eq!(record.problems, Vec::<String>::new());
}

#[test]
fn a_line_without_a_head_still_speaks() {
    let record = read(
        "recv() failed (104: Connection reset by peer) while reading response header from upstream, client: 10.0.0.9, \
         server: _, request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.2:80/\"",
    );
    assert_eq!((record.kind, record.side), (MessageKind::RECV_FAILED, LogSide::Upstream));
    assert_eq!(record.problems, ["no time stamp", "no level", "no process id"]);
    let trace = read("stack traceback:");
    assert_eq!((trace.kind, trace.message.as_str()), (MessageKind::UNREADABLE, "stack traceback:"));
}

#[test]
fn raw_bytes_are_replaced_and_said() {
    let record = parse(b"2026/11/20 06:43:33 [info] 3#3: *7 recv() failed (104: \xff), client: 1.1.1.1, server: s, request: \"\xfe\"", &TimeZone::UTC);
    assert_eq!(record.request.as_deref(), Some("\u{fffd}"));
    assert_eq!(record.problems, ["bytes that are not UTF-8 were replaced"]);
}

#[test]
fn a_cut_line() {
    let mut line = String::from(
        "2026/11/20 06:43:33 [error] 31#31: *7 open() \"/x\" failed (2: No such file or directory), client: 1.1.1.1, server: s, request: \"GET /",
    );
    while line.len() < 2047 {
        line.push('a');
    }
    let record = read(&line);
    assert!(record.request.is_some_and(|request| request.ends_with("aaa")));
    assert_eq!(record.problems, ["the line is cut inside a field"]);
}
