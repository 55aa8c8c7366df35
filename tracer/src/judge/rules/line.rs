//! A line of the log that nothing in the kernel matches. It names a cause where Nginx itself decided or knows;
//! it never names who sent a segment.

use crate::judge::finding::Origins;
use crate::judge::unix::{How, Unix};
use crate::model::verdict::{Cause, Party};
use crate::model::{LogRecord, LogSide, MessageClass, MessageKind};
use crate::timeline::Subject;

use super::{Look, Rule};

const fn rule(name: &'static str, when: fn(&Look) -> bool, party: Party, cause: Cause) -> Rule {
    Rule { name, when, party, cause, origins: Origins::PEER.and(Origins::NGINX).and(Origins::SLOW) }
}

/// The rules, from the top.
pub const RULES: &[Rule] = &[
    rule(
        "line/worker_ended",
        |look| is(look, &[MessageClass::WorkerExit]),
        Party::Nginx,
        Cause::NginxWorkerExit,
    ),
    rule(
        "line/client_aborted",
        |look| record(look).is_some_and(|it| it.kind == MessageKind::CLIENT_ABORTED_UPSTREAM_CLOSED),
        Party::Client,
        Cause::ClientAbort,
    ),
    // `ngx_event_connect_peer` calls it a lack of resources for every family; for a unix socket it is the listener's.
    rule(
        "line/unix_queue_full",
        |look| unix(look, How::QueueFull),
        Party::Upstream,
        Cause::UpstreamListenOverflow,
    ),
    rule("line/unix_reset", |look| unix(look, How::Reset), Party::Upstream, Cause::UpstreamAbort),
    rule(
        "line/resource",
        |look| is(look, &[MessageClass::ResourceLimit]) && !record(look).is_some_and(binds_elsewhere),
        Party::Nginx,
        Cause::NginxResourceLimit,
    ),
    rule(
        "line/stream_rejected",
        |look| record(look).is_some_and(is_rejected),
        Party::Upstream,
        Cause::UpstreamAbort,
    ),
    rule(
        "line/configuration",
        |look| {
            let classes = [
                MessageClass::ConfigLimit,
                MessageClass::Permission,
                MessageClass::InvalidResponse,
                MessageClass::ResolveFailed,
            ];
            is(look, &classes) || record(look).is_some_and(is_refused_by_nginx)
        },
        Party::Nginx,
        Cause::NginxConfig,
    ),
    rule(
        "line/unavailable",
        |look| {
            is(look, &[MessageClass::NoLiveUpstreams, MessageClass::SocketMissing]) || unix(look, How::Absent)
        },
        Party::Upstream,
        Cause::UpstreamUnavailable,
    ),
    rule(
        "line/refused",
        |look| upstream(look) && is(look, &[MessageClass::Refused]) && !resolving(look),
        Party::Upstream,
        Cause::UpstreamRefused,
    ),
    rule(
        "line/closed_early",
        |look| (upstream(look) && is(look, &[MessageClass::ClosedEarly])) || unix(look, How::Closed),
        Party::Upstream,
        Cause::UpstreamClosedEarly,
    ),
    rule(
        "line/answer_awaited_in_vain",
        |look| {
            (upstream(look) && is(look, &[MessageClass::TimedOut]) && answer_awaited(look))
                || unix(look, How::Silent)
        },
        Party::Upstream,
        Cause::UpstreamSlow,
    ),
];

/// What a gRPC upstream says in HTTP/2 against the request, or breaks of HTTP/2. A frame too large to be one is no HTTP/2 at
/// all: an answer in HTTP/1, by which the configuration names the wrong protocol (`ngx_http_grpc_process_header`).
pub fn is_rejected(record: &LogRecord) -> bool {
    let url = record.upstream_url.as_deref().unwrap_or("");
    let is_grpc = url.starts_with("grpc://") || url.starts_with("grpcs://");
    let is_invalid = record.kind == MessageKind::UPSTREAM_SENT_INVALID && is_grpc;
    record.kind == MessageKind::UPSTREAM_STREAM_REJECTED
        || (is_invalid && !record.message.contains("too large http2 frame"))
}

/// What the upstream answered Nginx's TLS with is none: the configuration names `https` where plain HTTP is spoken, or
/// `proxy_ssl` for a stream (`ssl3_get_record`, `tls_get_more_records`).
pub fn speaks_no_tls(record: &LogRecord) -> bool {
    let failed = record.kind == MessageKind::TLS_HANDSHAKE_FAILED && record.side == LogSide::Upstream;
    failed && record.message.contains("wrong version number")
}

fn record<'a>(look: &'a Look) -> Option<&'a LogRecord> {
    match &look.case.incident.subject {
        Subject::Line(record) => Some(record),
        _ => None,
    }
}

fn is(look: &Look, classes: &[MessageClass]) -> bool {
    record(look).is_some_and(|record| classes.contains(&record.class()))
}

fn upstream(look: &Look) -> bool {
    record(look).is_some_and(|record| record.side == LogSide::Upstream)
}

/// Nginx is told to take no such connection, or none is possible as it is told to make it.
fn is_refused_by_nginx(record: &LogRecord) -> bool {
    let kinds = [MessageKind::PROXY_PROTOCOL_BROKEN, MessageKind::UPSTREAM_CERTIFICATE];
    kinds.contains(&record.kind) || speaks_no_tls(record) || binds_elsewhere(record)
}

/// `proxy_bind` names an address that this host does not have; ports that ran out are told by `connect()`.
fn binds_elsewhere(record: &LogRecord) -> bool {
    const ADDRESS_NOT_AVAILABLE: i32 = 99;
    record.kind == MessageKind::UPSTREAM_BIND_FAILED && record.errno == Some(ADDRESS_NOT_AVAILABLE)
}

/// The server of names refused, not an upstream (`ngx_resolver_send_udp_query`).
fn resolving(look: &Look) -> bool {
    record(look)
        .and_then(|record| record.action.as_deref())
        .is_some_and(|action| action.starts_with("resolving"))
}

fn unix(look: &Look, how: How) -> bool {
    Unix::of(look.case).is_some_and(|unix| unix.how == how)
}

/// While connecting, silence may be the host, the path or the listener.
fn answer_awaited(look: &Look) -> bool {
    record(look).and_then(|record| record.action.as_deref()).is_some_and(|action| action.contains("reading"))
}
