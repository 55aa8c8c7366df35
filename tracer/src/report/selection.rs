//! Which verdicts a report is about.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::engine::identity;
use crate::model::verdict::{Cause, ConnectionSide, Impact, Party};
use crate::model::{Utc, Verdict};

use super::redact::What;

/// What the report is about. Empty lists mean everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Only the incident with this id.
    pub id: Option<String>,
    /// What is replaced in the input. Then ids have other letters; time and number of the incident are the same.
    pub redacted: Vec<What>,
    /// From this moment on, RFC 3339 UTC with nanoseconds.
    pub since: Option<String>,
    /// Before this moment.
    pub until: Option<String>,
    /// Of these parties.
    pub parties: Vec<Party>,
    /// Of these causes.
    pub causes: Vec<Cause>,
    /// Of these upstreams; port zero stands for every port.
    pub upstreams: Vec<SocketAddr>,
    /// Harmless incidents, too.
    pub harmless: bool,
}

impl Selection {
    /// Whether the report is about `verdict`.
    pub fn holds(&self, verdict: &Verdict) -> bool {
        if let Some(id) = &self.id {
            return *id == verdict.id || (!self.redacted.is_empty() && same_incident(id, &verdict.id));
        }
        // RFC 3339 in UTC with nine digits sorts as text.
        let in_time = self.since.as_ref().is_none_or(|since| *since <= verdict.time)
            && self.until.as_ref().is_none_or(|until| verdict.time < *until);
        let wanted = self.harmless || verdict.impact != Impact::Harmless;
        in_time
            && wanted
            && (self.parties.is_empty() || self.parties.contains(&verdict.party))
            && (self.causes.is_empty() || self.causes.contains(&verdict.cause))
            && (self.upstreams.is_empty() || upstream(verdict).is_some_and(|address| self.names(address)))
    }

    /// Its first moment, and the first behind it, as moments.
    pub fn bounds(&self) -> (Option<Utc>, Option<Utc>) {
        let moment = |text: &Option<String>| text.as_deref().and_then(Utc::parse);
        (moment(&self.since), moment(&self.until))
    }

    /// The selection in words, for the reader of the report.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(", "));
        let pairs = [
            ("Only incident", self.id.clone()),
            ("From", self.since.clone()),
            ("Before", self.until.clone()),
            ("Parties", list(self.parties.iter().map(ToString::to_string).collect())),
            ("Causes", list(self.causes.iter().map(ToString::to_string).collect())),
            ("Upstreams", list(self.upstreams.iter().map(|address| address_words(*address)).collect())),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn names(&self, address: SocketAddr) -> bool {
        self.upstreams.iter().any(|wanted| {
            wanted.ip() == address.ip() && (wanted.port() == 0 || wanted.port() == address.port())
        })
    }
}

/// Two ids of one incident, made from inputs that differ in names only.
fn same_incident(one: &str, other: &str) -> bool {
    let parts =
        |id: &str| Ulid::from_string(id).ok().map(|id| (id.timestamp_ms(), identity::number_of(id.0)));
    parts(one).is_some() && parts(one) == parts(other)
}

fn address_words(address: SocketAddr) -> String {
    if address.port() == 0 { address.ip().to_string() } else { address.to_string() }
}

/// The upstream a verdict is about, if it names one by its address.
pub fn upstream(verdict: &Verdict) -> Option<SocketAddr> {
    let ends = [&verdict.connection, &verdict.peer_connection];
    let end = ends.into_iter().flatten().find(|end| end.side == ConnectionSide::Upstream);
    end.and_then(|end| end.remote.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn every_condition_has_to_hold() {
        let verdict = samples::upstream_abort();
        assert!(Selection::default().holds(&verdict));
        let upstream = Selection { upstreams: vec!["10.0.1.10:0".parse().unwrap()], ..Selection::default() };
        assert!(upstream.holds(&verdict));
        assert!(!upstream.holds(&samples::no_live_upstreams()));
        let both = Selection { parties: vec![Party::Client], ..upstream };
        assert!(!both.holds(&verdict));
        let late =
            Selection { since: Some("2999-01-01T00:00:00.000000000Z".to_owned()), ..Selection::default() };
        assert!(!late.holds(&verdict));
    }

    #[test]
    fn harmless_ones_are_asked_for_or_named_by_id() {
        let verdict = samples::client_late_reset();
        assert!(!Selection::default().holds(&verdict));
        assert!(Selection { harmless: true, ..Selection::default() }.holds(&verdict));
        assert!(Selection { id: Some(verdict.id.clone()), ..Selection::default() }.holds(&verdict));
    }
}
