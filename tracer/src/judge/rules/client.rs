//! A RST arrived on a client connection.

use crate::judge::finding::Origins;
use crate::model::MessageClass;
use crate::model::verdict::{Cause, Party};

use super::{Look, Rule, TLS_ALERT_BYTES};

/// The rules, from the top.
pub const RULES: &[Rule] = &[
    Rule {
        name: "client/reset_on_loopback",
        when: |look| look.has("reset_on_loopback"),
        party: Party::Middlebox,
        cause: Cause::LocalFirewall,
        origins: Origins::FILTER,
    },
    Rule {
        name: "client/both_ends_reset",
        when: |look| look.has("both_ends_reset"),
        party: Party::Middlebox,
        cause: Cause::MiddleboxBothEndsReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "client/device_after_silence",
        when: |look| elsewhere(look) && look.long_idle(),
        party: Party::Middlebox,
        cause: Cause::MiddleboxIdleReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "client/device",
        when: elsewhere,
        party: Party::Middlebox,
        cause: Cause::MiddleboxForgedReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "client/before_a_request",
        when: |look| look.has("no_request") || before_request(look),
        party: Party::Client,
        cause: Cause::ClientHandshakeReset,
        origins: Origins::PEER,
    },
    Rule {
        name: "client/after_nginx_closed",
        when: nginx_had_closed,
        party: Party::Client,
        cause: Cause::ClientLateReset,
        origins: Origins::PEER,
    },
    Rule {
        name: "client/response_cut_short",
        when: cut_short,
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::PEER,
    },
    Rule {
        name: "client/request_unanswered",
        when: |look| look.has("request_unanswered"),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::PEER,
    },
    Rule {
        name: "client/farewell_lost",
        when: only_a_farewell,
        party: Party::Client,
        cause: Cause::ClientLateReset,
        origins: Origins::PEER,
    },
    Rule {
        name: "client/idle",
        when: |look| look.has("connection_idle"),
        party: Party::Client,
        cause: Cause::ClientIdleReset,
        origins: Origins::PEER,
    },
    Rule {
        name: "client/nothing_outstanding",
        when: |look| look.has("nothing_outstanding"),
        party: Party::Client,
        cause: Cause::ClientLateReset,
        origins: Origins::PEER,
    },
];

fn elsewhere(look: &Look) -> bool {
    look.decided(Origins::DEVICE) || look.sent_from_elsewhere()
}

/// Nginx says that no request had begun: the client left in the TLS handshake or right after it.
fn before_request(look: &Look) -> bool {
    let action = look.case.line.and_then(|line| line.record.action.as_deref()).unwrap_or("");
    action.contains("SSL handshaking") || action.contains("waiting for request")
}

fn nginx_had_closed(look: &Look) -> bool {
    look.case.state().we_closed()
}

/// The client had closed, and what did not reach it is no longer than a TLS `close_notify`, which plain HTTP has not.
fn only_a_farewell(look: &Look) -> bool {
    let short = look.case.outstanding() <= u64::from(TLS_ALERT_BYTES);
    short && look.case.state().peer_closed() && look.case.is_tls() != Some(false)
}

/// A response under way, an upstream leg dropped for it, or Nginx's own words.
fn cut_short(look: &Look) -> bool {
    (look.has("response_in_flight") && !only_a_farewell(look))
        || look.has("upstream_leg_closed")
        || look.case.line_class() == Some(MessageClass::ClientAborted)
}
