//! Listeners that overflow, workers that end, and connections of which only the other end was seen.

use crate::judge::finding::Origins;
use crate::model::Side;
use crate::model::verdict::{Cause, Party};

use super::{Look, Rule};

/// A listener had no room.
pub const LISTENER: &[Rule] = &[
    Rule {
        name: "listener/nginx_listener_full",
        when: |look| overflow_side(look).is_some_and(Side::is_nginx),
        party: Party::Nginx,
        cause: Cause::NginxListenOverflow,
        origins: Origins::NGINX,
    },
    Rule {
        name: "listener/upstream_listener_full",
        when: |look| overflow_side(look) == Some(Side::UpstreamPeer),
        party: Party::Upstream,
        cause: Cause::UpstreamListenOverflow,
        origins: Origins::PEER_LISTENER,
    },
];

/// The worker that owned the connection was ending.
pub const WORKER: &[Rule] = &[Rule {
    name: "worker/worker_ended",
    when: |look| look.has("worker_exiting"),
    party: Party::Nginx,
    cause: Cause::NginxWorkerExit,
    origins: Origins::NGINX,
}];

/// Nginx's own socket gave no event; the line says that it noticed.
pub const OTHER_END: &[Rule] = &[
    Rule {
        name: "other_end/killed_for_memory",
        when: |look| look.has("peer_process_exit") && look.oom(),
        party: Party::Upstream,
        cause: Cause::UpstreamOomKill,
        origins: Origins::EXIT,
    },
    Rule {
        name: "other_end/ended",
        when: |look| look.has("peer_process_exit"),
        party: Party::Upstream,
        cause: Cause::UpstreamProcessExit,
        origins: Origins::EXIT,
    },
    Rule {
        name: "other_end/listener_full",
        when: |look| look.has("peer_listener_full"),
        party: Party::Upstream,
        cause: Cause::UpstreamListenOverflow,
        origins: Origins::PEER_LISTENER,
    },
    Rule {
        name: "other_end/refused",
        when: |look| look.has("peer_no_socket") && refused(look),
        party: Party::Upstream,
        cause: Cause::UpstreamRefused,
        origins: Origins::NO_SOCKET,
    },
    Rule {
        name: "other_end/reset",
        when: |look| look.has("peer_process_reset") || look.has("peer_no_socket"),
        party: Party::Upstream,
        cause: Cause::UpstreamAbort,
        origins: Origins::APPLICATION,
    },
];

fn overflow_side(look: &Look) -> Option<Side> {
    look.case.incident.overflow.as_ref().map(|sum| sum.latest.side)
}

fn refused(look: &Look) -> bool {
    look.case.line.is_some_and(|line| line.record.errno == Some(111))
}
