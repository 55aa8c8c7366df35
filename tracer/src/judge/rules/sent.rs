//! Nginx's socket, or this host in its place, sent a RST, and none had come.

use crate::judge::finding::Origins;
use crate::model::MessageClass;
use crate::model::verdict::{Cause, Party};

use super::{Look, Rule, TLS_ALERT_BYTES};

/// Shorter silence is no time-out of Nginx, whose timers are whole seconds in practice.
const TIMED_OUT_MS: u32 = 400;

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
        name: "sent/limit_of_the_configuration",
        when: |look| !look.case.is_client() && look.has("log_limit"),
        party: Party::Nginx,
        cause: Cause::NginxConfig,
        origins: Origins::NGINX,
    },
    Rule {
        name: "sent/client_went_first",
        when: |look| look.has("client_went_first"),
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

fn trigger<'a>(look: &'a Look) -> Option<&'a crate::model::Packet> {
    look.case.incident.reset_sent().and_then(|event| event.packet.as_ref())
}

/// Nginx says so, or nothing had moved for a while. `return 444` resets in the same way, but at once
/// (`reset_timedout_connection`, `ngx_http_close_connection`).
fn timed_out(look: &Look) -> bool {
    let silent = look.case.socket().and_then(crate::model::Socket::idle_ms);
    look.has("log_timed_out") || silent.is_none_or(|silent| silent >= TIMED_OUT_MS)
}

/// The client answered Nginx's close with a TLS `close_notify`; nothing was lost.
fn only_an_alert(look: &Look) -> bool {
    let limit = look.case.line_class() == Some(MessageClass::ConfigLimit);
    !limit
        && look.case.is_tls() != Some(false)
        && trigger(look).is_some_and(|packet| packet.payload_len <= TLS_ALERT_BYTES)
}
