//! A line of the log that nothing in the kernel matches. It names a cause where Nginx itself decided or knows;
//! it never names who sent a segment.

use crate::judge::finding::Origins;
use crate::model::verdict::{Cause, Party};
use crate::model::{LogSide, MessageClass};
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
        "line/resource",
        |look| is(look, &[MessageClass::ResourceLimit]),
        Party::Nginx,
        Cause::NginxResourceLimit,
    ),
    rule(
        "line/configuration",
        |look| {
            is(
                look,
                &[
                    MessageClass::ConfigLimit,
                    MessageClass::Permission,
                    MessageClass::InvalidResponse,
                    MessageClass::ResolveFailed,
                ],
            )
        },
        Party::Nginx,
        Cause::NginxConfig,
    ),
    rule(
        "line/unavailable",
        |look| is(look, &[MessageClass::NoLiveUpstreams, MessageClass::SocketMissing]) || unix_refused(look),
        Party::Upstream,
        Cause::UpstreamUnavailable,
    ),
    rule(
        "line/refused",
        |look| upstream(look) && is(look, &[MessageClass::Refused]),
        Party::Upstream,
        Cause::UpstreamRefused,
    ),
    rule(
        "line/closed_early",
        |look| upstream(look) && is(look, &[MessageClass::ClosedEarly]),
        Party::Upstream,
        Cause::UpstreamClosedEarly,
    ),
    rule(
        "line/answer_awaited_in_vain",
        |look| upstream(look) && is(look, &[MessageClass::TimedOut]) && answer_awaited(look),
        Party::Upstream,
        Cause::UpstreamSlow,
    ),
];

fn record<'a>(look: &'a Look) -> Option<&'a crate::model::LogRecord> {
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

fn unix_refused(look: &Look) -> bool {
    record(look).is_some_and(|record| {
        record.class() == MessageClass::Refused
            && record.upstream.as_deref().is_some_and(|upstream| upstream.starts_with("unix:"))
    })
}

/// While connecting, silence may be the host, the path or the listener.
fn answer_awaited(look: &Look) -> bool {
    record(look).and_then(|record| record.action.as_deref()).is_some_and(|action| action.contains("reading"))
}
