//! Rules: from findings to party and cause. Tables, read from the top; the first rule that holds decides.
//! A rule never sets the certainty, and one whose explanation has no evidence falls back to `unknown`.

mod captured;
mod client;
mod closed;
mod line;
mod other;
mod sent;
mod upstream;

use crate::model::verdict::{Cause, Party, Segment};
use crate::model::{EventKind, Side};
use crate::timeline::Subject;

use super::case::Case;
use super::finding::{Finding, Origins};

pub use line::{is_rejected, speaks_no_tls};

/// What a rule may look at.
pub struct Look<'a, 'c> {
    /// The case.
    pub case: &'a Case<'c>,
    /// Every finding.
    pub findings: &'a [Finding],
}

impl Look<'_, '_> {
    /// A detector found this.
    pub fn has(&self, code: &str) -> bool {
        self.findings.iter().any(|finding| finding.code == code)
    }

    /// Something decisive speaks for one of these.
    pub fn decided(&self, origins: Origins) -> bool {
        self.findings.iter().any(|finding| finding.decisive && finding.speaks_for.meets(origins))
    }

    /// The hop distance differs, the header does not show the peer's own clock, and nobody saw it leave the peer's host.
    pub fn sent_from_elsewhere(&self) -> bool {
        let left_the_peer =
            self.findings.iter().any(|it| it.code == "sent_there" && it.against != Origins::NONE);
        self.has("hop_differs") && !self.has("timestamps_continue") && !left_the_peer
    }

    /// The process at the other end was chosen by the kernel's OOM killer.
    pub fn oom(&self) -> bool {
        let exit = self.case.peer_exit();
        exit.is_some_and(|event| self.case.was_chosen_by_oom(event))
    }

    /// The connection had been silent as long as devices forget connections.
    pub fn long_idle(&self) -> bool {
        self.case.idle_before_ms().is_some_and(|idle| idle >= DEVICE_TIMER_MS)
    }
}

/// Shortest idle timer of a device in use, milliseconds (evidence table: 60 s).
pub const DEVICE_TIMER_MS: u64 = 60_000;

/// Largest TLS alert record that an end still sends when it closes or the other has: `close_notify` under any cipher.
pub const TLS_ALERT_BYTES: u32 = 31;

/// The same with what HTTP/2 says before it: a GOAWAY in a record of its own.
pub const TLS_FAREWELL_BYTES: u32 = TLS_ALERT_BYTES + 46;

/// One rule.
pub struct Rule {
    /// Its name: what it is about, and what it recognises. Unique.
    pub name: &'static str,
    /// What has to hold.
    pub when: fn(&Look) -> bool,
    /// Whose doing it is.
    pub party: Party,
    /// Why.
    pub cause: Cause,
    /// The explanation whose evidence counts.
    pub origins: Origins,
}

/// What a rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// Whose doing it is.
    pub party: Party,
    /// Why.
    pub cause: Cause,
    /// The explanation whose evidence counts.
    pub origins: Origins,
}

impl Ruling {
    /// Nothing holds.
    pub const UNKNOWN: Self =
        Self { party: Party::Unknown, cause: Cause::InsufficientEvidence, origins: Origins::NONE };
}

/// Every table.
#[cfg(test)]
pub const TABLES: &[&[Rule]] = &[
    line::RULES,
    other::LISTENER,
    other::OTHER_END,
    other::WORKER,
    client::RULES,
    upstream::DECIDED,
    upstream::RULES,
    closed::RULES,
    captured::RULES,
    sent::RULES,
];

/// The tables for a case, in the order in which they are read.
fn tables(case: &Case) -> &'static [&'static [Rule]] {
    match &case.incident.subject {
        Subject::Line(_) => return &[line::RULES],
        Subject::Listener(..) => return &[other::LISTENER],
        Subject::Connection(_) => {}
    }
    let received = case.incident.reset_received().is_some();
    let kind = case.incident.principal().map(|event| &event.kind);
    match (kind, case.side()) {
        (None, _) => &[other::OTHER_END, closed::RULES],
        _ if case.worker_exit().is_some() && !received => &[other::WORKER],
        (_, Some(Side::Client)) if received => &[client::RULES],
        _ if received => &[upstream::DECIDED, upstream::RULES],
        (Some(EventKind::ResetSeen { .. }), _) => &[captured::RULES],
        // Why a SYN stays without an answer cannot be seen in a capture.
        (Some(EventKind::Closed { .. }), Some(Side::Client)) if case.is_capture() && case.connecting() => &[],
        (Some(EventKind::Closed { .. }), _) => &[other::OTHER_END, closed::RULES],
        _ => &[sent::RULES],
    }
}

/// The ruling on a case.
pub fn rule(look: &Look) -> Ruling {
    decide(look).ruling
}

/// A ruling and the way to it.
pub struct Decision {
    /// What was decided.
    pub ruling: Ruling,
    /// The rule that held, if one did.
    pub rule: Option<&'static Rule>,
    /// Something was found that speaks for that rule's explanation; without it the ruling is `unknown`.
    pub supported: bool,
}

/// The first rule that holds, and what follows from it.
pub fn decide(look: &Look) -> Decision {
    let Some(rule) = read(look.case).find(|rule| (rule.when)(look)) else {
        return Decision { ruling: unknown(look), rule: None, supported: false };
    };
    let supported = look.findings.iter().any(|finding| finding.speaks_for.meets(rule.origins));
    let ruling = Ruling { party: rule.party, cause: rule.cause, origins: rule.origins };
    Decision { ruling: if supported { ruling } else { unknown(look) }, rule: Some(rule), supported }
}

/// The rules for a case in the order in which they are read.
pub fn read(case: &Case) -> impl Iterator<Item = &'static Rule> + use<> {
    let rules = tables(case).iter().flat_map(|table| table.iter());
    #[cfg(test)]
    let rules = rules.filter(|rule| !super::tamper::lacks_rule(rule.name));
    rules
}

/// Nobody; what was found about other processes of this host still stands in the evidence.
fn unknown(look: &Look) -> Ruling {
    let origins = if look.has("local_kill") { Origins::OTHER_PROCESS } else { Origins::NONE };
    Ruling { origins, ..Ruling::UNKNOWN }
}

/// The segment of the path a party's fault lies on.
pub fn segment(party: Party, cause: Cause, side: Option<Side>) -> Segment {
    match (party, cause) {
        (_, Cause::LocalFirewall) | (Party::Nginx, _) => Segment::Nginx,
        (Party::Client, _) => Segment::ClientNginx,
        (Party::Upstream, _) => Segment::Upstream,
        (Party::Middlebox, _) if side == Some(Side::Client) => Segment::ClientNginx,
        (Party::Middlebox, _) => Segment::NginxUpstream,
        (Party::Unknown, _) => Segment::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own() {
        let names: Vec<&str> = TABLES.iter().flat_map(|table| table.iter()).map(|rule| rule.name).collect();
        let different: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| name.split('/').count() == 2 && !name.contains(' ')), "{names:?}");
    }
}
