//! A RST arrived on an upstream connection.

use crate::judge::finding::Origins;
use crate::model::verdict::{Cause, Party};
use crate::model::{Event, EventKind, Socket};

use super::{Look, Rule};

/// What this host saw of the other end or of the sender, so that nothing has to be concluded.
pub const DECIDED: &[Rule] = &[
    Rule {
        name: "received/reset_on_loopback",
        when: |look| look.has("reset_on_loopback"),
        party: Party::Middlebox,
        cause: Cause::LocalFirewall,
        origins: Origins::FILTER,
    },
    Rule {
        name: "received/both_ends_reset",
        when: |look| look.has("both_ends_reset"),
        party: Party::Middlebox,
        cause: Cause::MiddleboxBothEndsReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "received/process_killed_for_memory",
        when: |look| look.has("peer_process_exit") && look.oom(),
        party: Party::Upstream,
        cause: Cause::UpstreamOomKill,
        origins: Origins::EXIT,
    },
    Rule {
        name: "received/process_ended",
        when: |look| look.has("peer_process_exit"),
        party: Party::Upstream,
        cause: Cause::UpstreamProcessExit,
        origins: Origins::EXIT,
    },
    Rule {
        name: "received/listener_full",
        when: |look| look.has("peer_listener_full"),
        party: Party::Upstream,
        cause: Cause::UpstreamListenOverflow,
        origins: Origins::PEER_LISTENER,
    },
    Rule {
        name: "received/nobody_listens",
        when: |look| look.case.connecting() && look.decided(Origins::NO_SOCKET),
        party: Party::Upstream,
        cause: Cause::UpstreamRefused,
        origins: Origins::NO_SOCKET,
    },
    Rule {
        name: "received/seen_racing",
        when: |look| seen(look) && look.has("keepalive_race") && !never_known(look),
        party: Party::Upstream,
        cause: Cause::UpstreamKeepaliveRace,
        origins: Origins::PEER,
    },
    Rule {
        name: "received/seen_forgotten",
        when: |look| look.has("peer_no_socket") && had_known(look) && !closed_there(look),
        party: Party::Upstream,
        cause: Cause::UpstreamRestarted,
        origins: Origins::NO_SOCKET,
    },
    Rule {
        name: "received/seen_resetting",
        when: seen,
        party: Party::Upstream,
        cause: Cause::UpstreamAbort,
        origins: Origins::APPLICATION,
    },
];

/// What follows from the segment, the socket and the peer's later behaviour.
pub const RULES: &[Rule] = &[
    Rule {
        name: "received/limit_of_the_configuration",
        when: |look| look.has("log_limit"),
        party: Party::Nginx,
        cause: Cause::NginxConfig,
        origins: Origins::NGINX,
    },
    Rule {
        name: "received/connect_answered_elsewhere",
        when: |look| {
            look.case.connecting()
                && (elsewhere(look) || look.has("answered_too_soon") || look.has("peer_alive"))
        },
        party: Party::Middlebox,
        cause: Cause::MiddleboxReject,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "received/connect_refused",
        when: |look| look.case.connecting(),
        party: Party::Upstream,
        cause: Cause::UpstreamRefused,
        origins: Origins::NO_SOCKET,
    },
    Rule {
        name: "received/device_after_silence",
        when: |look| elsewhere(look) && look.long_idle(),
        party: Party::Middlebox,
        cause: Cause::MiddleboxIdleReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "received/device_or_guess",
        when: |look| {
            elsewhere(look)
                || guessed(look)
                || too_soon(look)
                || look.has("header_incomplete")
                || look.has("peer_alive")
                || look.has("alive_there")
        },
        party: Party::Middlebox,
        cause: Cause::MiddleboxForgedReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "received/large_segments_lost",
        when: |look| look.case.is_unheard() && look.has("large_segments_lost"),
        party: Party::Middlebox,
        cause: Cause::MiddleboxMtuBlackhole,
        origins: Origins::LARGE_LOSS,
    },
    Rule {
        name: "received/data_lost",
        when: |look| look.case.is_unheard(),
        party: Party::Middlebox,
        cause: Cause::MiddleboxDrop,
        origins: Origins::LOSS,
    },
    Rule {
        name: "received/race_without_fin",
        when: |look| look.has("keepalive_race") && look.case.is_unannounced(),
        party: Party::Upstream,
        cause: Cause::UpstreamKeepaliveRace,
        origins: Origins::LOSS,
    },
    Rule {
        name: "received/keepalive_race",
        when: |look| look.has("keepalive_race"),
        party: Party::Upstream,
        cause: Cause::UpstreamKeepaliveRace,
        origins: Origins::PEER,
    },
    Rule {
        name: "received/forgotten",
        when: forgotten,
        party: Party::Upstream,
        cause: Cause::UpstreamRestarted,
        origins: Origins::NO_SOCKET,
    },
    Rule {
        name: "received/never_taken",
        when: |look| look.case.is_reset_without_socket(),
        party: Party::Upstream,
        cause: Cause::UpstreamAbort,
        origins: Origins::NO_SOCKET,
    },
    Rule {
        name: "received/peer_reset",
        when: |_| true,
        party: Party::Upstream,
        cause: Cause::UpstreamAbort,
        origins: Origins::PEER,
    },
];

fn seen(look: &Look) -> bool {
    look.has("peer_process_reset") || look.has("peer_no_socket")
}

/// A process of the other end reset this connection itself; its RST was only not the first to arrive.
fn closed_there(look: &Look) -> bool {
    let acted = |event: &Event| matches!(event.kind, EventKind::ResetSent { .. }) && event.task.is_actor;
    look.case.peer.iter().any(|event| acted(event) && !event.answers_segment())
}

/// The kernel at the other end has no trace of a connection that nobody had closed, as after the address moved to its host.
fn never_known(look: &Look) -> bool {
    let unknown = |event: &Event| {
        let reason = matches!(&event.kind, EventKind::ResetSent { reason, .. } if reason.as_deref() == Some("NO_SOCKET"));
        reason && event.socket.is_none()
    };
    forgotten(look) && look.has("peer_no_socket") && look.case.peer_reset().is_some_and(unknown)
}

fn elsewhere(look: &Look) -> bool {
    look.decided(Origins::DEVICE) || look.sent_from_elsewhere()
}

/// Several guesses, and the one that hit does not show the peer's own clock.
fn guessed(look: &Look) -> bool {
    look.has("resets_refused") && !look.has("timestamps_continue")
}

/// Nearer than the peer, unless the way to it became shorter and the RST shows the peer's own clock.
fn too_soon(look: &Look) -> bool {
    look.has("answered_too_soon") && !look.has("timestamps_continue")
}

/// Its host does not know the connection any more, and had known it: it had acknowledged something.
fn had_known(look: &Look) -> bool {
    let known = |socket: &Socket| socket.bytes_received > 0 || socket.bytes_acked > 1;
    look.case.is_reset_without_socket() && look.case.socket().is_none_or(known)
}

/// The same, and not that very moment, in the middle of an upload: a socket that is closed while data comes in is unknown
/// before its own RST has left (`__tcp_close`, `tcp_disconnect`).
fn forgotten(look: &Look) -> bool {
    const JUST_NOW_MS: u32 = 10;
    let lately = |socket: &Socket| {
        let since_data = |ago: u32| socket.last_received_ms.is_none_or(|received| ago < received);
        let acknowledged = socket.last_ack_ms.filter(|ago| *ago < JUST_NOW_MS);
        socket.data_segments_out > 1 && acknowledged.is_some_and(since_data)
    };
    had_known(look) && !look.case.is_reset_ahead() && !look.case.socket().is_some_and(lately)
}
