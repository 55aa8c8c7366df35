//! Nginx's socket, or this host in its place, sent a RST, and none had come.

use crate::judge::finding::Origins;
use crate::model::verdict::{Cause, Party};
use crate::model::{MessageClass, MessageKind, Socket};
use crate::timeline::listens_on;

use super::{Look, Rule, TLS_ALERT_BYTES};

/// Timers are whole seconds where the configuration is not known.
const SECOND_MS: u64 = 1_000;
/// A timer may be noticed this much later than it ran out, and looks this much earlier by the ticks of a coarse kernel.
const LATE_MS: u64 = 200;
/// See `LATE_MS`.
const EARLY_MS: u64 = 20;

/// The rules, from the top.
pub const RULES: &[Rule] = &[
    Rule {
        name: "sent/local_resource",
        when: |look| look.has("memory_pressure") || look.has("log_resource"),
        party: Party::Nginx,
        cause: Cause::NginxResourceLimit,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/timed_out_on_purpose",
        when: |look| look.has("linger_zero_reset") && timed_out(look),
        party: Party::Nginx,
        cause: Cause::NginxTimeoutReset,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/reset_on_purpose",
        when: |look| look.has("linger_zero_reset"),
        party: Party::Nginx,
        cause: Cause::NginxClosedUnread,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/stream_rejected",
        when: |look| !look.case.is_client() && look.has("log_rejected"),
        party: Party::Upstream,
        cause: Cause::UpstreamAbort,
        origins: Origins::APPLICATION,
    },
    Rule {
        name: "sent/limit_of_the_configuration",
        when: |look| look.has("log_limit") && (!look.case.is_client() || lacks_proxy_header(look)),
        party: Party::Nginx,
        cause: Cause::NginxConfig,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/client_cancelled",
        when: |look| !look.case.is_client() && look.has("log_client_aborted"),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "sent/client_went_first",
        when: |look| look.has("client_went_first"),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "sent/client_closed",
        when: |look| look.case.is_left_by_client() && look.has("fin_received"),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "sent/listener_full",
        when: |look| look.has("listener_full"),
        party: Party::Nginx,
        cause: Cause::NginxListenOverflow,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/nobody_listens",
        when: |look| look.has("no_listener"),
        party: Party::Nginx,
        cause: Cause::NginxNotListening,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/listener_closed",
        when: |look| look.has("listener_closed"),
        party: Party::Nginx,
        cause: Cause::NginxNotListening,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/alert_after_close",
        when: |look| look.has("data_after_close") && look.case.is_client() && only_an_alert(look),
        party: Party::Client,
        cause: Cause::ClientLateReset,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/closed_with_unread_data",
        when: |look| look.has("closed_with_unread") || look.has("data_after_close"),
        party: Party::Nginx,
        cause: Cause::NginxClosedUnread,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/client_keepalive_unanswered",
        when: |look| look.has("keepalive_unanswered") && look.case.is_client(),
        party: Party::Client,
        cause: Cause::ClientVanished,
        origins: Origins::LOSS,
    },
    Rule {
        name: "sent/upstream_keepalive_unanswered",
        when: |look| look.has("keepalive_unanswered"),
        party: Party::Middlebox,
        cause: Cause::MiddleboxIdleDrop,
        origins: Origins::LOSS,
    },
];

/// `listen … proxy_protocol`, and the client began with something else.
fn lacks_proxy_header(look: &Look) -> bool {
    look.case.line.is_some_and(|line| line.record.kind == MessageKind::PROXY_PROTOCOL_BROKEN)
}

fn trigger<'a>(look: &'a Look) -> Option<&'a crate::model::Packet> {
    look.case.incident.reset_sent().and_then(|event| event.packet.as_ref())
}

/// How long the Nginx of this connection waits for clients. Nothing where its configuration is not known: there may be
/// several on a host, which come and go.
fn client_timers<'a>(look: &'a Look, socket: &Socket) -> &'a [u64] {
    let nginx = &look.case.host.nginx;
    let is_known = nginx.listeners.iter().any(|(listener, _)| listens_on(*listener, socket.local));
    if is_known { &nginx.client_timeouts_ms } else { &[] }
}

/// Nginx says so, or the client did not take the response, or nothing had moved for as long as a timer runs, which may run
/// from the begin of a connection. `return 444` resets in the same way, at once or when a subrequest is done
/// (`reset_timedout_connection`, `ngx_http_close_connection`).
fn timed_out(look: &Look) -> bool {
    let Some(socket) = look.case.socket() else { return look.has("log_timed_out") };
    let age = socket.opened.map(|opened| look.case.time().since(opened).as_millis());
    let age = age.and_then(|age| u64::try_from(age).ok());
    let timers = client_timers(look, socket);
    let ran_out = |since: u64| match timers {
        [] => since + EARLY_MS >= SECOND_MS && (since + EARLY_MS) % SECOND_MS <= EARLY_MS + LATE_MS,
        known => {
            known.iter().any(|timer| (timer.saturating_sub(EARLY_MS)..=timer + LATE_MS).contains(&since))
        }
    };
    let silent = socket.idle_ms().map(u64::from);
    look.has("log_timed_out")
        || look.case.outstanding() > 0
        || silent.is_none_or(ran_out)
        || age.filter(|_| !timers.is_empty()).is_some_and(ran_out)
}

/// The client answered Nginx's close with a TLS `close_notify`; nothing was lost.
fn only_an_alert(look: &Look) -> bool {
    let limit = look.case.line_class() == Some(MessageClass::ConfigLimit);
    let tls = look.case.is_tls();
    // Of a segment that could not be read nothing but this is likely, where there is TLS.
    let short = trigger(look).map_or(tls == Some(true), |packet| packet.payload_len <= TLS_ALERT_BYTES);
    !limit && tls != Some(false) && short
}
