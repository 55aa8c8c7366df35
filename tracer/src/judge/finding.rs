//! What a detector found: a fact with its class, and which explanations it speaks for or against.
//! Certainty counts classes, so that ten fields of one header are one piece of evidence, not ten.

use crate::model::verdict::{Evidence, Weight};

/// Independent kinds of evidence. Two pieces of one class count once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Hop distance against this connection's own handshake.
    Hop,
    /// Hop distance and answers seen on other connections of the peer.
    History,
    /// How the segment is built.
    Header,
    /// Sequence numbers.
    Sequence,
    /// Moments and delays.
    Time,
    /// What the peer did afterwards.
    Life,
    /// The other end of the connection, seen on this host.
    OtherEnd,
    /// The other half of the proxied request.
    OtherHalf,
    /// What a device on the path says of itself.
    Path,
    /// What the kernel says it did, and why.
    Kernel,
    /// Counters and state of the socket.
    State,
    /// The line of the log.
    Log,
}

/// A set of explanations: where a failure can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origins(u16);

impl Origins {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The peer's application ended the connection.
    pub const APPLICATION: Self = Self(1);
    /// The peer's host answered without a socket.
    pub const NO_SOCKET: Self = Self(1 << 1);
    /// The peer's process ended.
    pub const EXIT: Self = Self(1 << 2);
    /// The peer's listener was full.
    pub const PEER_LISTENER: Self = Self(1 << 3);
    /// The peer took the request and stayed silent.
    pub const SLOW: Self = Self(1 << 4);
    /// A device on the path.
    pub const DEVICE: Self = Self(1 << 5);
    /// Packets vanish.
    pub const LOSS: Self = Self(1 << 6);
    /// netfilter of this host.
    pub const FILTER: Self = Self(1 << 7);
    /// Nginx.
    pub const NGINX: Self = Self(1 << 8);
    /// The client, on the other half of the request.
    pub const CLIENT_FIRST: Self = Self(1 << 9);
    /// Another process of this host.
    pub const OTHER_PROCESS: Self = Self(1 << 10);
    /// Only large packets vanish.
    pub const LARGE_LOSS: Self = Self(1 << 11);
    /// This host has no way to the peer, or the next hop on it is silent.
    pub const NEXT_HOP: Self = Self(1 << 12);
    /// Anything on the peer's host that ends a connection it had.
    pub const PEER: Self = Self(1 | 1 << 1 | 1 << 2 | 1 << 3);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets share an explanation.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Slug of the detector, in [`CODES`].
    pub code: &'static str,
    /// It settles the matter on its own.
    pub decisive: bool,
    /// Explanations it speaks for.
    pub speaks_for: Origins,
    /// Explanations it speaks against.
    pub against: Origins,
    /// A sentence with its numbers.
    pub detail: String,
    /// The value seen.
    pub value: Option<String>,
    /// What it was compared with.
    pub baseline: Option<String>,
}

impl Finding {
    /// A finding that supports.
    pub fn supporting(code: &'static str, speaks_for: Origins, detail: String) -> Self {
        let (decisive, against) = (false, Origins::NONE);
        Self { code, decisive, speaks_for, against, detail, value: None, baseline: None }
    }

    /// A finding that decides.
    pub fn decisive(code: &'static str, speaks_for: Origins, detail: String) -> Self {
        Self { decisive: true, ..Self::supporting(code, speaks_for, detail) }
    }

    /// Lets it decide where `decides` holds, and only support where it does not.
    #[must_use]
    pub fn decisive_if(mut self, decides: bool) -> Self {
        self.decisive = decides;
        self
    }

    /// Adds what it speaks against.
    #[must_use]
    pub fn against(mut self, against: Origins) -> Self {
        self.against = against;
        self
    }

    /// Adds the value and what it was compared with.
    #[must_use]
    pub fn compared(mut self, value: &impl ToString, baseline: &impl ToString) -> Self {
        self.value = Some(value.to_string());
        self.baseline = Some(baseline.to_string());
        self
    }

    /// Adds the value.
    #[must_use]
    pub fn valued(mut self, value: &impl ToString) -> Self {
        self.value = Some(value.to_string());
        self
    }

    /// The evidence this is for an explanation, if it concerns it at all.
    pub fn weigh(&self, origins: Origins) -> Option<Evidence> {
        let weight = match () {
            () if self.speaks_for.meets(origins) && self.decisive => Weight::Decisive,
            () if self.speaks_for.meets(origins) => Weight::Supporting,
            () if self.against.meets(origins) => Weight::Against,
            () => return None,
        };
        Some(Evidence {
            code: self.code.into(),
            weight,
            detail: self.detail.clone(),
            value: self.value.clone(),
            baseline: self.baseline.clone(),
        })
    }
}

/// Every code a detector can give, with its class.
pub const CODES: &[(&str, Class)] = &[
    ("hop_equal", Class::Hop),
    ("hop_differs", Class::Hop),
    ("link_differs", Class::Hop),
    ("hop_differs_history", Class::History),
    ("peer_answers_others", Class::History),
    ("timestamps_continue", Class::Header),
    ("active_form", Class::Header),
    ("stateless_form", Class::Header),
    ("header_incomplete", Class::Header),
    ("ip_id_not_zero", Class::Header),
    ("syn_refused", Class::Sequence),
    ("fin_before", Class::Sequence),
    ("late_data", Class::Sequence),
    ("resets_refused", Class::Sequence),
    ("answered_too_soon", Class::Time),
    ("keepalive_race", Class::Time),
    ("waited_timeout", Class::Time),
    ("reset_after_silence", Class::Time),
    ("peer_alive", Class::Life),
    ("nginx_alive", Class::Life),
    ("both_ends_reset", Class::OtherEnd),
    ("far_end_reset", Class::OtherEnd),
    ("alive_there", Class::OtherEnd),
    ("peer_process_exit", Class::OtherEnd),
    ("peer_process_reset", Class::OtherEnd),
    ("peer_no_socket", Class::OtherEnd),
    ("peer_listener_full", Class::OtherEnd),
    ("not_sent", Class::OtherEnd),
    ("sent_there", Class::OtherEnd),
    ("never_arrived", Class::OtherEnd),
    ("answer_lost", Class::OtherEnd),
    ("arrived_unanswered", Class::OtherEnd),
    ("upstream_leg_closed", Class::OtherHalf),
    ("client_went_first", Class::OtherHalf),
    ("icmp_prohibited", Class::Path),
    ("icmp_unreachable", Class::Kernel),
    ("icmp_from_peer", Class::Kernel),
    ("icmp_from_here", Class::Kernel),
    ("next_hop_silent", Class::Kernel),
    ("reset_on_loopback", Class::Kernel),
    ("linger_zero_reset", Class::Kernel),
    ("closed_with_unread", Class::Kernel),
    ("worker_exiting", Class::Kernel),
    ("worker_shut_down", Class::Kernel),
    ("memory_pressure", Class::Kernel),
    ("dropped_here", Class::Kernel),
    ("data_after_close", Class::Kernel),
    ("no_listener", Class::Kernel),
    ("listener_full", Class::Kernel),
    ("listener_closed", Class::Kernel),
    ("keepalive_unanswered", Class::Kernel),
    ("local_kill", Class::Kernel),
    ("kernel_error", Class::Kernel),
    ("reset_accepted", Class::Kernel),
    ("closed_by_worker", Class::Kernel),
    ("unix_peer", Class::OtherEnd),
    ("shutdown_limited", Class::State),
    ("unix_denied", Class::State),
    ("unix_socket", Class::State),
    ("unread_possible", Class::State),
    ("no_request", Class::State),
    ("request_unanswered", Class::State),
    ("response_in_flight", Class::State),
    ("nothing_outstanding", Class::State),
    ("connection_idle", Class::State),
    ("fin_received", Class::State),
    ("large_segments_lost", Class::State),
    ("small_segments_arrive", Class::Life),
    ("request_acknowledged", Class::State),
    ("answer_stalled", Class::State),
    ("unacknowledged", Class::State),
    ("log_timed_out", Class::Log),
    ("log_closed_early", Class::Log),
    ("log_client_aborted", Class::Log),
    ("log_limit", Class::Log),
    ("log_resource", Class::Log),
    ("log_rejected", Class::Log),
    ("log_alone", Class::Log),
];

/// Codes that describe what happened and would be the same whoever was behind it: what a failure did to the request, what
/// Nginx says of what TCP shows, what every answer to a SYN has, what idle devices and idle servers do alike. Such a piece
/// can stand alone and is no second witness beside another one.
const DESCRIBING: &[&str] = &[
    "no_request",
    "request_unanswered",
    "response_in_flight",
    "nothing_outstanding",
    "connection_idle",
    "upstream_leg_closed",
    "log_closed_early",
    "log_client_aborted",
    "log_timed_out",
    "waited_timeout",
    "answer_stalled",
    "keepalive_race",
    "syn_refused",
    "active_form",
    "peer_answers_others",
    "unix_socket",
];

/// Whether a code tells one explanation from another.
pub fn is_witness(code: &str) -> bool {
    !DESCRIBING.contains(&code)
}

/// Class of a code.
pub fn class_of(code: &str) -> Option<Class> {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, class)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_class_and_stands_in_the_documentation() {
        let documentation = include_str!("../../../docs/verdicts.md");
        for (code, class) in CODES {
            assert_eq!(class_of(code), Some(*class), "{code} is listed twice");
            assert!(documentation.contains(&format!("`{code}`")), "{code} is not documented");
        }
    }

    #[test]
    fn what_describes_is_a_known_code() {
        assert!(DESCRIBING.iter().all(|code| class_of(code).is_some()));
    }

    #[test]
    fn a_finding_weighs_only_for_what_it_concerns() {
        let finding = Finding::supporting("hop_equal", Origins::PEER, String::new()).against(Origins::DEVICE);
        let weight = |origins| finding.weigh(origins).map(|evidence| evidence.weight);
        assert_eq!(weight(Origins::APPLICATION), Some(Weight::Supporting));
        assert_eq!(weight(Origins::DEVICE), Some(Weight::Against));
        assert_eq!(weight(Origins::NGINX), None);
    }
}
