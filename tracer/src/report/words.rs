//! Parties, causes and certainties in plain words, and what to do about each cause. Says nothing of a single
//! incident: that is the verdict's business.

use crate::model::verdict::{Cause, Certainty, Evidence, Impact, Party, Weight};
use crate::model::{Utc, Verdict};
use crate::output::layout::count;

/// Whose doing it was, as the subject of a sentence.
pub fn party(party: Party, cause: Cause) -> &'static str {
    match (party, cause) {
        (_, Cause::LocalFirewall) => "the packet filter of the Nginx host",
        (Party::Client, _) => "the client",
        (Party::Nginx, _) => "Nginx or its host",
        (Party::Upstream, _) => "the upstream",
        (Party::Middlebox, _) => "a device on the path",
        (Party::Unknown, _) => "not known",
    }
}

/// How a party is named on the first screen: not more surely than the verdict does.
pub fn hedged(certainty: Certainty, who: &str) -> String {
    match certainty {
        Certainty::Proven | Certainty::Strong => capital(who),
        Certainty::Weak => format!("Perhaps {who}"),
        Certainty::Undetermined => format!("Perhaps {who}; nothing but the log says so"),
    }
}

/// The mark at the segment where the fault lies.
pub fn mark(verdict: &Verdict) -> String {
    let what = match (verdict.party, verdict.cause) {
        (_, Cause::LocalFirewall) => "the packet filter of Nginx's host",
        (Party::Middlebox, _) => "a device",
        _ => "",
    };
    let here = match verdict.certainty {
        Certainty::Proven => "the fault is here",
        Certainty::Strong => "the fault is here (strong)",
        Certainty::Weak => "the fault may be here (weak)",
        Certainty::Undetermined => "the log points here",
    };
    if what.is_empty() { here.to_owned() } else { format!("{here}: {what}") }
}

/// The text with a capital letter at its beginning.
pub fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// How sure a verdict is, with the reason.
pub fn certainty(verdict: &Verdict) -> String {
    let number = |weight| verdict.evidence.iter().filter(|piece| piece.weight == weight).count();
    let (decisive, supporting, against) =
        (number(Weight::Decisive), number(Weight::Supporting), number(Weight::Against));
    let basis = [(decisive, "decisive"), (supporting, "supporting"), (against, "contrary")];
    let basis: Vec<String> = basis
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, kind)| count(*number as u64, &format!("{kind} piece")))
        .collect();
    let basis = if basis.is_empty() { "no evidence".to_owned() } else { basis.join(", ") };
    let meaning = match verdict.certainty {
        Certainty::Proven => "at least one piece settles it on its own, none speaks against it",
        Certainty::Strong => "at least two pieces of different kinds agree, none speaks against it",
        Certainty::Weak => {
            "one kind of evidence only, something speaks against it, or what is missing lowers it"
        }
        Certainty::Undetermined => "the evidence does not tell; see what is missing",
    };
    format!("{} ({basis}): {meaning}", verdict.certainty)
}

/// What it did to the request, for a reader who decides whether to get up at night.
pub fn effect(impact: Impact) -> &'static str {
    match impact {
        Impact::RequestFailed => "a request failed: the client got an error or nothing",
        Impact::ResponseTruncated => "a response was cut off",
        Impact::RequestRetried => "none that the client saw: Nginx sent the request again, and that worked",
        Impact::ConnectionOnly => "a connection was lost, and no request with it",
        Impact::Harmless => "none: no request was lost",
        Impact::Unknown => "not known: no line of the log tells it",
    }
}

/// What to do about an incident, in plain words.
pub fn next_of(verdict: &Verdict) -> &'static str {
    let next = next(verdict.cause);
    match verdict.impact {
        Impact::Harmless if !next.starts_with("Nothing") => "Nothing has to be done about this one.",
        _ => next,
    }
}

/// What to do about a cause, in plain words.
pub fn next(cause: Cause) -> &'static str {
    NEXT.iter().find(|(known, _)| *known == cause).map_or("", |(_, next)| *next)
}

use Cause as C;

const NEXT: &[(Cause, &str)] = &[
    (
        C::ClientAbort,
        "Nothing to repair at Nginx or the network: the client left. If users complain, look at how long they waited before they left.",
    ),
    (C::ClientIdleReset, "Nothing to do."),
    (C::ClientLateReset, "Nothing to do."),
    (
        C::ClientHandshakeReset,
        "Nothing to repair: no request was sent. If there are many, look for scanners or health checks from these addresses.",
    ),
    (
        C::ClientVanished,
        "Ask the client's side: from here a client that is gone and a path that drops look alike. A trace at the client's end would tell.",
    ),
    (
        C::NginxTimeoutReset,
        "Look at the timeout that ran out and at reset_timedout_connection in Nginx's configuration.",
    ),
    (
        C::NginxClosedUnread,
        "Look at why Nginx closed before it had read everything: a client that left, a body limit, return 444, lingering_close, or a protocol mismatch.",
    ),
    (
        C::NginxWorkerExit,
        "Look at why the Nginx worker ended: a crash, a kill, a reload with worker_shutdown_timeout.",
    ),
    (
        C::NginxListenOverflow,
        "Raise the backlog of the listen directive and net.core.somaxconn, and look at why the workers accept too slowly.",
    ),
    (C::NginxNotListening, "Check that Nginx listens on that address and port, and who sends clients there."),
    (
        C::NginxResourceLimit,
        "Raise the limit that ran out on the Nginx host: local ports (ip_local_port_range, proxy_bind), descriptors (worker_rlimit_nofile), or worker_connections.",
    ),
    (
        C::NginxConfig,
        "Change the directive that the log line is about (for a header that is too large, proxy_buffer_size), or what the upstream sends.",
    ),
    (
        C::UpstreamRefused,
        "Ask the upstream's team why nothing listens on that port: process down, restarting, or another port.",
    ),
    (
        C::UpstreamKeepaliveRace,
        "Make Nginx drop idle upstream connections before the upstream does: keepalive_timeout of the upstream block below the upstream's own.",
    ),
    (
        C::UpstreamAbort,
        "Ask the upstream's team why their application closed the connection while the request was open; give them the statement below.",
    ),
    (
        C::UpstreamProcessExit,
        "Ask the upstream's team why their process ended; its exit stands in the evidence.",
    ),
    (
        C::UpstreamOomKill,
        "Give the upstream process more memory or find what used it; the kernel's OOM killer ended it.",
    ),
    (
        C::UpstreamRestarted,
        "Ask the upstream's team whether the host or the process restarted, or whether a balancer moved the connection.",
    ),
    (
        C::UpstreamClosedEarly,
        "Ask the upstream's team why their application closed before the response was complete.",
    ),
    (
        C::UpstreamListenOverflow,
        "Ask the upstream's team to raise the backlog of their listener and to look at why it accepts too slowly.",
    ),
    (
        C::UpstreamSlow,
        "Ask the upstream's team why the request took longer than Nginx waits; the network delivered it.",
    ),
    (C::UpstreamUnavailable, "Check that the upstream runs and can be reached."),
    (
        C::MiddleboxForgedReset,
        "Give the statement and the packets below to the network team: they run the devices between Nginx and the peer.",
    ),
    (
        C::MiddleboxIdleReset,
        "Ask the network team for the idle timeout of the devices on this path, and keep connections alive more often than that.",
    ),
    (
        C::MiddleboxIdleDrop,
        "Ask the network team for the idle timeout of the devices on this path, and keep connections alive more often than that.",
    ),
    (
        C::MiddleboxReject,
        "Ask the network team which device rejects this connection: a rule, a policy, or a route.",
    ),
    (
        C::MiddleboxDrop,
        "Ask the network team where packets to this address are lost, and the upstream's team whether the host was up.",
    ),
    (
        C::MiddleboxMtuBlackhole,
        "Ask the network team for the MTU of this path and whether ICMP \"fragmentation needed\" is let through.",
    ),
    (
        C::MiddleboxBothEndsReset,
        "Give the statement and the packets below to the network team: neither end sent these resets.",
    ),
    (
        C::LocalFirewall,
        "Look at the packet filter of the Nginx host (nft list ruleset): it answered in the peer's name.",
    ),
    (C::InsufficientEvidence, "Do not act on this alone: \"What is missing\" says what would decide it."),
];

/// When it was. A time that only a line of the log tells has no parts of a second.
pub fn moment(verdict: &Verdict) -> String {
    let printed = verdict.log.as_ref().and_then(|line| line.time.as_deref()).and_then(Utc::parse);
    if printed.is_some() && printed == Utc::parse(&verdict.time) && verdict.time.ends_with(".000000000Z") {
        return format!("{} (by the log, which prints whole seconds)", whole_second(&verdict.time));
    }
    verdict.time.clone()
}

/// An RFC 3339 time in UTC without the parts of its second.
pub fn whole_second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(second, _)| format!("{second}Z"))
}

/// Whether packets of a capture are all that was seen: no kernel and no process was asked.
pub fn of_capture(verdict: &Verdict) -> bool {
    verdict.missing.iter().any(|missing| missing.code == "capture")
}

/// A weight in words.
pub fn weight(piece: &Evidence) -> &'static str {
    match piece.weight {
        Weight::Decisive => "for it, decisive",
        Weight::Supporting => "for it",
        Weight::Against => "against it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_one_next_step() {
        for cause in Cause::ALL {
            assert_eq!(NEXT.iter().filter(|(known, _)| known == cause).count(), 1, "{cause}");
            assert!(!next(*cause).is_empty(), "{cause}");
        }
    }
}
