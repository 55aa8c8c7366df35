//! What is tested on every kernel, and the words in which a machine reports.

/// The name of the test that only looks which hooks run.
pub const HOOKS_TEST: &str = "hooks";

/// Scenarios of the lab that every kernel must pass, by name.
pub const SCENARIOS: &[&str] = &[
    "upstream-close-unread",
    "upstream-linger-zero",
    "upstream-local-linger-zero",
    "upstream-killed-unread",
    "upstream-killed-read",
    "upstream-closed-early",
    "upstream-refused",
    "race-reset",
    "race-fin",
    "client-abort-static",
    "client-abort-proxied",
    "client-late-reset",
    "trap-upstream-talks-after-client-abort",
    "nginx-send-timeout-reset",
    "nginx-closed-unread",
    "nginx-listen-overflow",
    "nginx-worker-killed-unread",
    "client-handshake-reset",
    "local-firewall-syn",
    "trap-inject-refused",
    "overflow-abort-nginx",
    "emitter-listener-closed",
    "emitter-keepalive-unanswered",
    "emitter-time-wait",
    "mapped-client-aborts",
    "mapped-upstream-resets",
    "mptcp-upstream-resets",
    "forged-near-speaks",
    "forged-near-silent",
    "upstream-slow",
    "hot-upstream-slow",
    "drop-data",
    "healthy-short-lived-upstream",
];

/// First word of a line that a machine reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The release that runs.
    Kernel,
    /// The tracer's header and statistics.
    Hooks,
    /// Results of the lab.
    Lab,
    /// What could not be done.
    Trouble,
    /// Everything was done.
    End,
}

const WORDS: [(Told, &str); 5] = [
    (Told::Kernel, "kernel"),
    (Told::Hooks, "hooks"),
    (Told::Lab, "lab"),
    (Told::Trouble, "trouble"),
    (Told::End, "end"),
];

impl Told {
    /// As it is written.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(told, _)| *told == self).map_or("", |(_, word)| *word)
    }

    /// As it is read.
    pub fn read(word: &str) -> Option<Self> {
        WORDS.iter().find(|(_, other)| *other == word).map(|(told, _)| *told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        assert!(WORDS.iter().all(|(told, _)| Told::read(told.word()) == Some(*told)));
    }
}
