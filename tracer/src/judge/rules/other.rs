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

/// The other end was seen, and Nginx's own tells less: it closed, or gave no event at all and only the line says that it
/// noticed.
pub const OTHER_END: &[Rule] = &[
    Rule {
        name: "other_end/rejected_here",
        when: |look| look.has("far_end_reset") && look.case.is_far_end_reset_from_here(),
        party: Party::Middlebox,
        cause: Cause::LocalFirewall,
        origins: Origins::FILTER,
    },
    Rule {
        name: "other_end/reset_from_between",
        when: |look| look.has("far_end_reset"),
        party: Party::Middlebox,
        cause: Cause::MiddleboxForgedReset,
        origins: Origins::DEVICE,
    },
    Rule {
        name: "other_end/killed_for_memory",
        when: |look| upstream(look, "peer_process_exit") && look.oom(),
        party: Party::Upstream,
        cause: Cause::UpstreamOomKill,
        origins: Origins::EXIT,
    },
    Rule {
        name: "other_end/ended",
        when: |look| upstream(look, "peer_process_exit"),
        party: Party::Upstream,
        cause: Cause::UpstreamProcessExit,
        origins: Origins::EXIT,
    },
    Rule {
        name: "other_end/reset",
        when: |look| upstream(look, "peer_process_reset"),
        party: Party::Upstream,
        cause: Cause::UpstreamAbort,
        origins: Origins::APPLICATION,
    },
];

/// The upstream's end did this, and Nginx's heard of it: where packets vanish, it waited in vain before.
fn upstream(look: &Look, code: &str) -> bool {
    let heard = !look.has("unacknowledged") && !look.case.gave_up_unheard();
    !look.case.is_client() && look.has(code) && heard
}

fn overflow_side(look: &Look) -> Option<Side> {
    look.case.incident.overflow.as_ref().map(|sum| sum.latest.side)
}
