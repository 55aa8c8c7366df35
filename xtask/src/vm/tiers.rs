//! What cannot be known on a kernel where a hook does not run, or that names no reason of a RST, as data: the verdict
//! is then another one than the lab wants, and it is the right one. Everything else that the lab complains about is a
//! failure.

/// What a kernel lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack<'a> {
    /// A hook that does not run there.
    Hook(&'a str),
    /// `tcp_send_reset` has no reasons, and no RST without a socket: kernels before 6.10.
    ResetReasons,
}

/// One bound of a tier.
pub struct Weaker {
    /// The scenario.
    scenario: &'static str,
    /// What is missing.
    without: Lack<'static>,
    /// How what the lab complains about then, and rightly gets, begins.
    instead: &'static [&'static str],
    /// Why nothing better can be known.
    pub why: &'static str,
}

const UNANSWERED: &str = "the kernel does not tell which segment was answered by a RST without a socket";

/// Every bound.
const WEAKER: &[Weaker] = &[
    Weaker {
        scenario: "upstream-refused-local",
        without: Lack::Hook("kfree_skb"),
        instead: &["certainty is weak, not proven to proven"],
        why: UNANSWERED,
    },
    Weaker {
        scenario: "forged-near-speaks",
        without: Lack::Hook("kfree_skb"),
        instead: &["certainty is strong, not proven to proven"],
        why: UNANSWERED,
    },
    Weaker {
        scenario: "overflow-abort-nginx",
        without: Lack::ResetReasons,
        instead: &[
            "kind is reset_sent, not listen_overflow",
            "certainty is weak, not proven to proven",
            "listener is null, not ",
            "no incident of nginx (nginx_listen_overflow)",
        ],
        why: "the RST of a listener that aborts a handshake has no reason before 6.10, and its full queue alone proves \
              nothing",
    },
    Weaker {
        scenario: "overflow-abort-nginx",
        without: Lack::Hook("kfree_skb"),
        instead: &["no incident of nginx (nginx_listen_overflow)"],
        why: "the clients that were turned away are told by their RSTs, not by what the full queue dropped",
    },
    Weaker {
        scenario: "emitter-keepalive-unanswered",
        without: Lack::ResetReasons,
        instead: &[
            "party is unknown, not client",
            "cause is insufficient_evidence, not client_vanished",
            "certainty is undetermined, not weak to weak",
            "no evidence `keepalive_unanswered`",
        ],
        why: "the RST that ends a connection whose keepalive probes stay unanswered has no reason before 6.10",
    },
    Weaker {
        scenario: "emitter-time-wait",
        without: Lack::ResetReasons,
        instead: &["no incident of nginx (nginx_closed_unread)"],
        why: "a RST that answers for a TIME_WAIT socket is traced from 6.10",
    },
];

/// Why this complaint is no failure where this is missing.
pub fn allowed(scenario: &str, complaint: &str, lacks: impl Fn(Lack<'_>) -> bool) -> Option<&'static str> {
    let fits = |weaker: &&Weaker| {
        weaker.scenario == scenario
            && weaker.instead.iter().any(|begin| complaint.starts_with(begin))
            && lacks(weaker.without)
    };
    WEAKER.iter().find(fits).map(|weaker| weaker.why)
}

/// Whether a kernel of this release names no reasons.
pub fn lacks_reset_reasons(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) < (6, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_for_its_scenario_complaint_and_lack_only() {
        let of =
            |scenario, complaint, lack: Lack<'_>| allowed(scenario, complaint, |one| one == lack).is_some();
        let complaint = "certainty is weak, not proven to proven";
        assert!(of("upstream-refused-local", complaint, Lack::Hook("kfree_skb")));
        assert!(!of("upstream-refused-local", complaint, Lack::Hook("sock_ops")));
        assert!(!of("upstream-refused-local", complaint, Lack::ResetReasons));
        assert!(!of("upstream-refused-local", "party is nginx, not upstream", Lack::Hook("kfree_skb")));
        assert!(!of("upstream-refused", complaint, Lack::Hook("kfree_skb")));
        let listener = "listener is null, not 10.77.2.2:8000 with limit 2";
        assert!(of("overflow-abort-nginx", listener, Lack::ResetReasons));
    }

    #[test]
    fn reasons_came_with_6_10() {
        assert!(lacks_reset_reasons("5.10.0-46-cloud-amd64") && lacks_reset_reasons("6.9.7"));
        assert!(!lacks_reset_reasons("6.10.0") && !lacks_reset_reasons("7.2.1") && !lacks_reset_reasons(""));
    }
}
