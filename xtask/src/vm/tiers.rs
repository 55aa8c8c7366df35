//! What cannot be known on a kernel where a hook does not run, as data: the verdict is then another one than the lab
//! wants, and it is the right one. Everything else that the lab complains about is a failure.

/// One bound of a tier.
pub struct Weaker {
    /// The scenario.
    scenario: &'static str,
    /// The hook that does not run.
    without: &'static str,
    /// What the lab complains about then, and rightly gets.
    instead: &'static str,
    /// Why nothing better can be known.
    pub why: &'static str,
}

const UNANSWERED: &str = "the kernel does not tell which segment was answered by a RST without a socket";

/// Every bound.
const WEAKER: &[Weaker] = &[
    Weaker {
        scenario: "upstream-refused-local",
        without: "kfree_skb",
        instead: "certainty is weak, not proven to proven",
        why: UNANSWERED,
    },
    Weaker {
        scenario: "forged-near-speaks",
        without: "kfree_skb",
        instead: "certainty is strong, not proven to proven",
        why: UNANSWERED,
    },
    Weaker {
        scenario: "upstream-slow-late",
        without: "kfree_skb",
        instead: "kind is reset_sent, not timeout",
        why: "without the late answer's packet its RST is not told from one of Nginx's own accord; party and cause are \
              the same",
    },
];

/// Why this complaint is no failure where these hooks do not run.
pub fn allowed(scenario: &str, complaint: &str, is_off: impl Fn(&str) -> bool) -> Option<&'static str> {
    let fits = |weaker: &&Weaker| {
        weaker.scenario == scenario && weaker.instead == complaint && is_off(weaker.without)
    };
    WEAKER.iter().find(fits).map(|weaker| weaker.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_for_its_scenario_complaint_and_missing_hook_only() {
        let of = |scenario, complaint, off: &str| allowed(scenario, complaint, |hook| hook == off).is_some();
        let complaint = "certainty is weak, not proven to proven";
        assert!(of("upstream-refused-local", complaint, "kfree_skb"));
        assert!(!of("upstream-refused-local", complaint, "sock_ops"));
        assert!(!of("upstream-refused-local", "party is nginx, not upstream", "kfree_skb"));
        assert!(!of("upstream-refused", complaint, "kfree_skb"));
    }
}
