//! A RST arrived on a client connection.

use crate::judge::finding::Origins;
use crate::model::verdict::{Cause, Party};

use super::{Look, Rule};

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
        when: |look| look.has("no_request") || before_request(look) || in_tls_handshake(look),
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
    look.decided(Origins::DEVICE) || look.sent_from_elsewhere() || look.has("alive_there")
}

/// Nginx says that no request had begun: the client left in the TLS handshake or right after it.
fn before_request(look: &Look) -> bool {
    let action = look.case.line.and_then(|line| line.record.action.as_deref()).unwrap_or("");
    action.contains("SSL handshaking") || action.contains("waiting for request")
}

/// The configuration knows of TLS, no line speaks of a request, and the client has sent less than a handshake and a
/// request take: its greeting and its last word of the handshake, or an alert. What it may lack are session tickets.
fn in_tls_handshake(look: &Look) -> bool {
    const HELLO_AND_LAST_WORD: u32 = 2;
    const MOST_SENT: u64 = 1_000;
    const TICKETS: u64 = 1_024;
    let Some(socket) = look.case.socket() else { return false };
    let is_short = socket.data_segments_in <= HELLO_AND_LAST_WORD && socket.bytes_received <= MOST_SENT;
    let is_silent = look.case.line.is_none() && look.case.effects.is_empty() && look.case.access.is_none();
    let has_answer = !look.has("request_unanswered") || socket.data_segments_in == 1;
    let known = look.case.is_tls() == Some(true) && !look.case.is_capture();
    known && is_short && is_silent && has_answer && look.case.outstanding() <= TICKETS
}

/// Nginx had closed, and nothing but its farewell had not arrived.
fn nginx_had_closed(look: &Look) -> bool {
    look.case.state().we_closed() && look.case.lacks_a_farewell_at_most()
}

/// The client had closed, and what did not reach it is no longer than a farewell.
fn only_a_farewell(look: &Look) -> bool {
    let short = look.case.outstanding() <= look.case.longest_farewell();
    short && look.case.state().peer_closed() && look.case.is_tls() != Some(false)
}

/// A response under way, an upstream leg dropped for it, or Nginx's own words.
fn cut_short(look: &Look) -> bool {
    (look.has("response_in_flight") && !only_a_farewell(look))
        || look.has("upstream_leg_closed")
        || look.case.is_tunnel()
        || look.case.is_at_work_by_line()
}
