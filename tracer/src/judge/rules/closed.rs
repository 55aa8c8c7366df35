//! A connection ended without a RST from the peer: Nginx gave up, the peer sent FIN, or the kernel gave up.

use crate::judge::finding::Origins;
use crate::model::verdict::{Cause, Party};
use crate::model::{MessageClass, TcpState};

use super::{DEVICE_TIMER_MS, Look, Rule};

/// The rules, from the top.
pub const RULES: &[Rule] = &[
    Rule {
        name: "closed/killed_by_another_process",
        when: |look| look.has("local_kill"),
        party: Party::Unknown,
        cause: Cause::InsufficientEvidence,
        origins: Origins::OTHER_PROCESS,
    },
    Rule {
        name: "closed/dropped_here",
        when: |look| look.has("dropped_here"),
        party: Party::Middlebox,
        cause: Cause::LocalFirewall,
        origins: Origins::FILTER,
    },
    Rule {
        name: "closed/large_segments_lost",
        when: |look| look.has("large_segments_lost"),
        party: Party::Middlebox,
        cause: Cause::MiddleboxMtuBlackhole,
        origins: Origins::LARGE_LOSS,
    },
    Rule {
        name: "closed/lost_between_captures_after_silence",
        when: |look| lost_between(look) && idle_before(look),
        party: Party::Middlebox,
        cause: Cause::MiddleboxIdleDrop,
        origins: Origins::LOSS,
    },
    Rule {
        name: "closed/lost_between_captures",
        when: lost_between,
        party: Party::Middlebox,
        cause: Cause::MiddleboxDrop,
        origins: Origins::LOSS,
    },
    Rule {
        name: "closed/client_silent",
        when: |look| !upstream(look) && (error(look) != 0 || look.has("unacknowledged")),
        party: Party::Client,
        cause: Cause::ClientVanished,
        origins: Origins::LOSS.and(Origins::DEVICE),
    },
    Rule {
        name: "closed/client_closed",
        when: |look| !upstream(look) && look.has("fin_received"),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "closed/local_resource",
        when: |look| matches!(error(look), 99 | 98 | 11 | 12 | 105),
        party: Party::Nginx,
        cause: Cause::NginxResourceLimit,
        origins: Origins::NGINX,
    },
    Rule {
        name: "closed/upstream_listener_full",
        when: |look| look.has("peer_listener_full"),
        party: Party::Upstream,
        cause: Cause::UpstreamListenOverflow,
        origins: Origins::PEER_LISTENER,
    },
    Rule {
        name: "closed/rejected_here",
        when: |look| look.has("icmp_from_here"),
        party: Party::Middlebox,
        cause: Cause::LocalFirewall,
        origins: Origins::FILTER,
    },
    Rule {
        name: "closed/next_hop_silent",
        when: |look| look.has("next_hop_silent"),
        party: Party::Unknown,
        cause: Cause::InsufficientEvidence,
        origins: Origins::NEXT_HOP,
    },
    Rule {
        name: "closed/connect_rejected",
        when: |look| look.case.connecting() && !matches!(error(look), 0 | 110),
        party: Party::Middlebox,
        cause: Cause::MiddleboxReject,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "closed/client_cancelled",
        when: |look| upstream(look) && look.has("log_client_aborted"),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "closed/client_went_first",
        when: |look| look.has("client_went_first") && look.case.line_class() != Some(MessageClass::TimedOut),
        party: Party::Client,
        cause: Cause::ClientAbort,
        origins: Origins::CLIENT_FIRST,
    },
    Rule {
        name: "closed/worker_shut_down",
        when: |look| look.has("worker_shut_down") && !look.has("unacknowledged"),
        party: Party::Nginx,
        cause: Cause::NginxWorkerExit,
        origins: Origins::NGINX,
    },
    Rule {
        name: "closed/syn_unanswered",
        when: syn_unanswered,
        party: Party::Middlebox,
        cause: Cause::MiddleboxDrop,
        origins: Origins::LOSS,
    },
    Rule {
        name: "closed/data_lost_after_silence",
        when: |look| look.has("unacknowledged") && !look.case.connecting() && idle_before(look),
        party: Party::Middlebox,
        cause: Cause::MiddleboxIdleDrop,
        origins: Origins::LOSS,
    },
    Rule {
        name: "closed/data_lost",
        when: |look| look.has("unacknowledged") && !look.case.connecting(),
        party: Party::Middlebox,
        cause: Cause::MiddleboxDrop,
        origins: Origins::LOSS,
    },
    Rule {
        name: "closed/fin_met_the_request",
        when: |look| look.has("fin_received") && look.has("keepalive_race"),
        party: Party::Upstream,
        cause: Cause::UpstreamKeepaliveRace,
        origins: Origins::PEER,
    },
    Rule {
        name: "closed/fin_before_the_answer",
        when: |look| look.has("fin_received"),
        party: Party::Upstream,
        cause: Cause::UpstreamClosedEarly,
        origins: Origins::PEER,
    },
    Rule {
        name: "closed/answer_awaited_in_vain",
        when: |look| {
            (look.has("request_acknowledged") || look.has("answer_stalled"))
                && (look.has("log_timed_out") || look.has("waited_timeout"))
        },
        party: Party::Upstream,
        cause: Cause::UpstreamSlow,
        origins: Origins::SLOW,
    },
];

/// One capture has what the other lacks.
fn lost_between(look: &Look) -> bool {
    look.has("never_arrived") || look.has("answer_lost")
}

fn upstream(look: &Look) -> bool {
    !look.case.is_client()
}

fn error(look: &Look) -> i32 {
    look.case.error()
}

/// A SYN that was repeated, or that Nginx itself says it waited for in vain.
fn syn_unanswered(look: &Look) -> bool {
    let repeated = look.case.socket().is_some_and(|socket| socket.retransmits > 0);
    let waited = error(look) == 110 || look.case.line_class() == Some(MessageClass::TimedOut);
    look.case.state() == TcpState::SynSent && (repeated || waited)
}

/// Silent for longer than devices remember connections, before the data that vanished was sent.
fn idle_before(look: &Look) -> bool {
    look.case
        .socket()
        .and_then(crate::model::Socket::idle_before_lost_data_ms)
        .is_some_and(|idle| u64::from(idle) >= DEVICE_TIMER_MS)
}
