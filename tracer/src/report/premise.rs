//! What a report claims about who did not send a segment, and the paragraph that a network team needs.
//!
//! Every claim is a [`Premise`]: about one party, excluded or not, with the reason as the evidence has it. Nothing is
//! excluded that the verdict itself does not exclude, and the words follow the certainty.

use crate::judge::{Class, class_of};
use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, ConnectionSide, Direction, Evidence, Kind, Party, Weight};

use super::{lore, words};
use crate::output::layout::count;

/// How the judge begins a reason that does not rule out.
const OPEN: &str = "Not ruled out";

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Premise {
    /// About whom.
    pub party: Party,
    /// The party did not do it.
    pub excluded: bool,
    /// Why, or why that cannot be said.
    pub because: String,
    /// What the reason rests on: codes of the evidence, or fields of the verdict.
    pub rests_on: String,
    /// The reason is something that the kernel of Nginx's host saw itself, whatever else is uncertain.
    pub fact: bool,
    /// The reason is a piece of evidence that the party did not do it.
    pub is_evidence: bool,
}

/// What can be said about each party that the verdict does not name.
pub fn premises(verdict: &Verdict) -> Vec<Premise> {
    let others = [Party::Nginx, Party::Client, Party::Upstream, Party::Middlebox];
    let others = others.into_iter().filter(|party| *party != verdict.party);
    others.filter_map(|party| about(verdict, party)).collect()
}

fn about(verdict: &Verdict, party: Party) -> Option<Premise> {
    let other = alternative(verdict, party);
    if verdict.party == Party::Unknown {
        return other;
    }
    if party == Party::Nginx {
        return of_nginx(verdict);
    }
    let open = other.as_ref().is_some_and(|other| !other.excluded);
    if !open && let Some(own) = sent_by_nginx(verdict, party) {
        return Some(own);
    }
    if verdict.party == Party::Middlebox && Some(party) == peer(verdict) && !open {
        return Some(of_peer(verdict, party));
    }
    other.or_else(|| of_uninvolved(verdict, party))
}

/// A party is excluded when every explanation by it is; the first is the one most easily mistaken for the cause.
fn alternative(verdict: &Verdict, party: Party) -> Option<Premise> {
    let others: Vec<&str> = verdict
        .alternatives
        .iter()
        .filter(|other| other.party == party)
        .map(|other| other.why_not.as_str())
        .collect();
    let open = others.iter().find(|why_not| why_not.starts_with(OPEN));
    open.or_else(|| others.first()).map(|why_not| from_alternative(verdict, party, why_not))
}

fn from_alternative(verdict: &Verdict, party: Party, why_not: &str) -> Premise {
    let open = why_not.starts_with(OPEN);
    let because = why_not.strip_prefix(OPEN).map_or(why_not, |rest| rest.trim_start_matches([':', ' ']));
    let because = if because.is_empty() { "nothing seen speaks against it" } else { because };
    let piece = verdict.evidence.iter().find(|piece| because.contains(&piece.detail));
    let rests_on = piece.map_or_else(|| "alternatives".to_owned(), |piece| piece.code.to_string());
    let (because, is_evidence) = (because.to_owned(), piece.is_some());
    Premise { party, excluded: !open, because, rests_on, fact: false, is_evidence }
}

/// The kernel of Nginx's host tells whether a segment came in or went out.
fn of_nginx(verdict: &Verdict) -> Option<Premise> {
    if verdict.cause == Cause::LocalFirewall {
        return None;
    }
    let connection = verdict.connection.as_ref()?;
    let state = &connection.state;
    // Both are known only where Nginx's own end received the RST.
    let received = verdict.reset.as_ref().is_some_and(|reset| {
        reset.direction == Direction::Received && (reset.ttl.is_some() || reset.expected_seq.is_some())
    });
    let peer_closed = matches!(state.as_str(), "CLOSE_WAIT" | "LAST_ACK");
    let captured = words::of_capture(verdict);
    let (because, fact) = match verdict.kind {
        Kind::ResetReceived | Kind::Refused if received && captured => (
            format!(
                "in the capture it comes from {} and goes to Nginx at {}",
                connection.remote, connection.local
            ),
            false,
        ),
        Kind::ResetReceived if received => (
            format!(
                "the RST came in: the kernel of Nginx's host accepted it on receive (tcp_reset) while the \
                 connection was {state}"
            ),
            true,
        ),
        Kind::Refused if received => (
            format!(
                "the RST came in: the kernel of Nginx's host accepted it as the answer to its SYN (state {state})"
            ),
            true,
        ),
        Kind::ClosedEarly if peer_closed => {
            (format!("the peer's FIN had come in before Nginx closed (state {state})"), true)
        }
        // A packet filter of the host itself would look the same to its counters.
        Kind::Timeout if connection.retransmits > 0 => (repeated(verdict, connection.retransmits), false),
        _ => return None,
    };
    let rests_on = "kind, connection.state".to_owned();
    Some(Premise { party: Party::Nginx, excluded: true, because, rests_on, fact, is_evidence: true })
}

/// How often what was lost was sent again, as the evidence counts it; the socket counts all repetitions of its life.
fn repeated(verdict: &Verdict, all: u32) -> String {
    let lost = verdict.evidence.iter().find(|piece| piece.code == "unacknowledged");
    let times = lost.and_then(|piece| piece.value.as_deref()?.parse().ok()).unwrap_or(u64::from(all));
    format!("Nginx's host sent what was not acknowledged again {}", count(times, "time"))
}

/// A RST of Nginx's own kernel was sent by nobody else.
fn sent_by_nginx(verdict: &Verdict, party: Party) -> Option<Premise> {
    let reset = verdict.reset.as_ref().filter(|reset| reset.direction == Direction::Sent)?;
    if verdict.party != Party::Nginx || verdict.kind != Kind::ResetSent || Some(party) != peer(verdict) {
        return None;
    }
    let reason = reset.reason.as_ref().map(|reason| format!(", reason {reason}")).unwrap_or_default();
    let connection = verdict.connection.as_ref()?;
    let (because, fact) = if words::of_capture(verdict) {
        (format!("in the capture it goes out from Nginx at {}", connection.local), false)
    } else {
        (format!("the kernel of Nginx's host sent it (tcp_send_reset{reason})"), true)
    };
    let rests_on = "kind, reset".to_owned();
    Some(Premise { party, excluded: true, because, rests_on, fact, is_evidence: true })
}

/// The party in whose name a device spoke: what speaks for the device speaks against it.
fn of_peer(verdict: &Verdict, party: Party) -> Premise {
    let speaks = |weight: Weight| weight != Weight::Against;
    let pieces = verdict.evidence.iter().filter(|piece| speaks(piece.weight));
    let pieces: Vec<_> = pieces.filter(|piece| class_of(&piece.code) != Some(Class::Log)).collect();
    let details: Vec<String> = pieces.iter().map(|piece| lower(&piece.detail)).collect();
    let codes: Vec<&str> = pieces.iter().map(|piece| &*piece.code).collect();
    Premise {
        party,
        excluded: !pieces.is_empty() && verdict.certainty <= Certainty::Strong,
        because: details.join("; "),
        rests_on: codes.join(", "),
        fact: false,
        is_evidence: true,
    }
}

/// The party at the other half of the request has no part in this connection.
fn of_uninvolved(verdict: &Verdict, party: Party) -> Option<Premise> {
    let connection = verdict.connection.as_ref()?;
    let uninvolved = match connection.side {
        ConnectionSide::Client => Party::Upstream,
        ConnectionSide::Upstream => Party::Client,
    };
    let caused = verdict.consequence_of.is_some();
    // A segment comes from an end of its connection; the reason for a close may lie elsewhere.
    let is_segment = matches!(verdict.kind, Kind::ResetReceived | Kind::Refused | Kind::ResetSent);
    (party == uninvolved && is_segment && !caused).then(|| Premise {
        party,
        excluded: true,
        because: format!(
            "it is no end of this connection, which is between {} and {}",
            connection.local, connection.remote
        ),
        rests_on: "connection.side".to_owned(),
        fact: true,
        is_evidence: true,
    })
}

fn peer(verdict: &Verdict) -> Option<Party> {
    verdict.connection.as_ref().map(|connection| match connection.side {
        ConnectionSide::Client => Party::Client,
        ConnectionSide::Upstream => Party::Upstream,
    })
}

/// How far a premise goes, in a word or two.
pub fn reach(verdict: &Verdict, premise: &Premise) -> &'static str {
    match premise.excluded {
        true if premise.fact || verdict.certainty == Certainty::Proven => "excluded",
        true => "spoken against",
        false => "not excluded",
    }
}

/// A premise as a sentence, as strong as the verdict is.
pub fn sentence(verdict: &Verdict, premise: &Premise) -> String {
    let act = if verdict.reset.as_ref().is_some_and(|reset| reset.flags.is_some() || reset.reason.is_some())
        && verdict.kind != Kind::ClosedEarly
    {
        "sent"
    } else {
        "caused"
    };
    let who = match premise.party {
        Party::Client => "the client",
        Party::Nginx => "Nginx",
        Party::Upstream => "the upstream",
        Party::Middlebox => "a device on the path",
        Party::Unknown => "an unknown party",
    };
    let because = lower(&premise.because);
    if !premise.excluded {
        let lead = if premise.is_evidence { ", although something speaks against it" } else { "" };
        return format!("That it was {act} by {who} is not excluded{lead}: {because}.");
    }
    if premise.fact || verdict.certainty == Certainty::Proven {
        return format!("It was not {act} by {who} because {because}.");
    }
    let limit =
        lore::of(&premise.rests_on).map(|lore| format!(" (this does not prove: {})", lower(lore.limits)));
    format!("What speaks against {who} having {act} it: {because}{}.", limit.unwrap_or_default())
}

/// A sentence in the middle of another begins small, unless its first word is a name or an abbreviation.
fn lower(text: &str) -> String {
    const SMALL: [&str; 17] = [
        "The ", "Every ", "A ", "An ", "No ", "Neither ", "What ", "Both ", "Nothing ", "At ", "From ",
        "Other ", "That ", "Which ", "Whether ", "Who ", "Why ",
    ];
    let small = SMALL.iter().any(|word| text.starts_with(word));
    let mut characters = text.chars();
    let text = match characters.next() {
        Some(first) if small => first.to_lowercase().chain(characters).collect(),
        _ => text.to_owned(),
    };
    text.trim_end_matches('.').to_owned()
}

/// The paragraph to paste: what happened when and where, whose doing, who not and why, what was not seen.
/// `clock` says how far its time can be trusted, `arrival` where the segment came in.
pub fn statement(verdict: &Verdict, clock: &str, arrival: Option<&str>) -> String {
    let (when, what) = (words::moment(verdict), verdict.summary.trim_end_matches('.'));
    let mut sentences = vec![format!("{when} ({clock}): {what}.")];
    sentences.extend(place(verdict));
    sentences.extend(arrival.map(|arrival| format!("It came in on {arrival}.")));
    sentences.push(attribution(verdict));
    sentences.extend(premises(verdict).iter().map(|premise| sentence(verdict, premise)));
    let said = sentences.join(" ");
    sentences.extend(pieces(verdict, &said));
    let missing: Vec<String> = verdict.missing.iter().map(|missing| lower(&missing.why)).collect();
    if !missing.is_empty() {
        sentences.push(format!("Not available: {}.", missing.join("; ")));
    }
    sentences.push(format!("Observed by rstscope on {}, incident {}.", verdict.host, verdict.id));
    sentences.join(" ")
}

/// Addresses and numbers by which the other side finds the segment in its own capture.
fn place(verdict: &Verdict) -> Option<String> {
    let connection = verdict.connection.as_ref()?;
    let (local, remote) = (&connection.local, &connection.remote);
    let reset = verdict.reset.as_ref().filter(|reset| reset.flags.is_some());
    let Some(reset) = reset else { return Some(format!("Connection: {local} to {remote}, TCP.")) };
    let number = |name: &str, value: Option<u32>| value.map(|value| format!(", {name} {value}"));
    let (from, to) = match reset.direction {
        Direction::Received => (remote, local),
        Direction::Sent => (local, remote),
    };
    let parts: String = [
        number("sequence", reset.seq),
        number("acknowledgment", reset.ack),
        number("window", reset.window),
        number("TTL", reset.ttl.map(u32::from)),
        number("IP identification", reset.ip_id.map(u32::from)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let flags = reset.flags.as_deref().unwrap_or("RST");
    Some(format!("Segment: {flags} from {from} to {to}{parts}."))
}

fn attribution(verdict: &Verdict) -> String {
    if verdict.party == Party::Unknown {
        return "Who caused it cannot be said from what was seen.".to_owned();
    }
    let who = words::party(verdict.party, verdict.cause);
    let alone = if verdict.kind == Kind::LogOnly { " by the log alone" } else { "" };
    format!("Attributed to {who}{alone} ({}), certainty: {}.", verdict.cause, verdict.certainty)
}

/// The evidence that no sentence has told yet, for and against.
fn pieces(verdict: &Verdict, said: &str) -> Option<String> {
    let new = verdict.evidence.iter().filter(|piece| !said.contains(&lower(&piece.detail)));
    let (against, rest): (Vec<&Evidence>, Vec<&Evidence>) =
        new.partition(|piece| piece.weight == Weight::Against);
    let told = |pieces: &[&Evidence]| {
        let details: Vec<&str> = pieces.iter().map(|piece| piece.detail.trim_end_matches('.')).collect();
        details.join("; ")
    };
    let parts = [("It rests on", &rest), ("Against it speaks", &against)];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, pieces)| !pieces.is_empty())
        .map(|(lead, pieces)| format!("{lead}: {}.", told(pieces)))
        .collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn of(verdict: &Verdict, party: Party) -> Option<String> {
        let premises = premises(verdict);
        premises.iter().find(|one| one.party == party).map(|one| sentence(verdict, one))
    }

    #[test]
    fn was_not_stands_only_where_it_was_seen_or_proven() {
        let proven = samples::forged_reset();
        assert!(of(&proven, Party::Upstream).unwrap().starts_with("It was not sent by the upstream because"));
        let strong = Verdict { certainty: Certainty::Strong, ..proven.clone() };
        assert!(
            of(&strong, Party::Upstream)
                .unwrap()
                .starts_with("What speaks against the upstream having sent it")
        );
        assert!(
            of(&strong, Party::Nginx)
                .unwrap()
                .starts_with("It was not sent by Nginx because the RST came in")
        );
        let weak = Verdict { certainty: Certainty::Weak, ..proven };
        assert!(of(&weak, Party::Upstream).unwrap().contains("is not excluded"));
    }

    #[test]
    fn an_explanation_that_is_not_ruled_out_excludes_nobody() {
        let mut verdict = samples::forged_reset();
        verdict.alternatives[0].why_not = "Not ruled out: the host itself may be down".to_owned();
        let told = of(&verdict, Party::Upstream).unwrap();
        assert_eq!(told, "That it was sent by the upstream is not excluded: the host itself may be down.");
    }

    #[test]
    fn a_reset_that_only_the_other_end_showed_did_not_come_in_as_far_as_is_known() {
        let mut verdict = samples::upstream_abort();
        if let Some(reset) = &mut verdict.reset {
            (reset.ttl, reset.expected_seq) = (None, None);
        }
        assert_eq!(of(&verdict, Party::Nginx), None);
    }

    #[test]
    fn an_unknown_party_is_said_to_be_unknown() {
        assert!(
            statement(&samples::undecided(), "clock", None)
                .contains("Who caused it cannot be said from what was seen.")
        );
    }
}
