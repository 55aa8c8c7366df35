//! The judge: one incident and what stands around it in, one verdict out. Pure.
//!
//! Detectors turn facts into findings, a table of rules turns findings into party and cause, and the certainty
//! follows from the evidence list alone (`certainty`). `docs/verdicts.md` describes all three.

mod advice;
mod alternative;
mod at_work;
mod case;
mod certainty;
mod detect;
mod device;
mod ending;
mod explain;
mod finding;
mod hold;
mod missing;
mod phase;
mod processes;
mod record;
mod rules;
mod sequel;
mod shutdown;
mod summary;
#[cfg(test)]
mod tamper;
mod unix;
mod waiting;
mod witness;

use crate::model::verdict::{Evidence, Kind, Missing, SCHEMA, Verdict, Weight};
use crate::model::{Event, EventKind, MessageClass, TcpState};
use crate::timeline::{Subject, listens_on};

pub use case::{Case, CausedBy, Joined, OverflowNote, Races};
pub use certainty::{earned, lowered};
pub use detect::hop_difference;
pub use explain::{Explanation, Said, Step, What, explain, steps};
pub use finding::{CODES, Class, class_of};
pub use hold::{hold, is_doubtful};
pub use processes::Processes;
pub use witness::{Role, Seen, seen};

use finding::Finding;
use rules::{Look, Ruling};

/// Judges a case. `None` when nobody at Nginx noticed anything: only the other end was seen, and no line
/// says that it mattered.
pub fn judge(case: &Case) -> Option<Verdict> {
    #[cfg(test)]
    tamper::observe(case);
    if unnoticed(case) || !case.host.observes.is_empty() {
        return None;
    }
    let findings = detect::all(case);
    let look = Look { case, findings: &findings };
    let ruling = rules::rule(&look);
    Some(write(&look, ruling))
}

fn unnoticed(case: &Case) -> bool {
    if !matches!(case.incident.subject, Subject::Connection(_)) {
        return false;
    }
    if case.line.is_some() {
        return silent_tunnel(case);
    }
    case.incident.own.is_empty()
        || stray(case)
        || challenged(case)
        || ordinary_close(case)
        || answered_after_all(case)
}

/// Both ends of a WebSocket or a stream had been heard and were silent for as long as Nginx's timer: nobody failed.
fn silent_tunnel(case: &Case) -> bool {
    let timed_out = case.line_class() == Some(MessageClass::TimedOut) && case.is_tunnel();
    let closed =
        case.incident.closed().is_some_and(|event| event.task.is_own() && event.task.exiting.is_none());
    let heard = case.socket().is_some_and(|socket| {
        socket.bytes_received > 0 && (socket.unacked, socket.unsent, socket.retransmits_pending) == (0, 0, 0)
    });
    timed_out && closed && heard && case.error() == 0 && !case.awaits_answer()
}

/// A segment without data for a connection this host does not know, answered with a RST as it has to be:
/// scans, and the last words of connections long gone.
fn stray(case: &Case) -> bool {
    const UNKNOWN: [&str; 5] =
        ["NO_SOCKET", "TCP_FLAGS", "INVALID_SYN", "TCP_OLD_ACK", "TCP_INVALID_ACK_SEQUENCE"];
    let no_socket = case.incident.own.iter().all(|event| {
        let empty = event.packet.as_ref().is_none_or(|packet| packet.payload_len == 0);
        event.socket.is_none() && empty && !event.answers_syn()
    });
    // What came for a listener that was full lately may belong to a client that it had turned away.
    let here = |listener| case.tuple().is_some_and(|tuple| listens_on(listener, tuple.local));
    let overflowed = case.overflows.iter().any(|note| note.side.is_nginx() && here(note.listener));
    // Before 6.10 the kernel names no reason, and without a socket there is but this one.
    let answered = case.incident.reset_sent().is_some_and(Event::answers_segment);
    let unknown = case.sent_reason().map_or(answered, |reason| UNKNOWN.contains(&reason));
    no_socket && !overflowed && unknown
}

/// A segment that is no answer to this SYN, as of an earlier connection with the same ports, is reset and the SYN goes on
/// (RFC 9293, section 3.10.7.3).
fn challenged(case: &Case) -> bool {
    case.incident.own.iter().all(|event| {
        let waits = event.socket.as_ref().is_some_and(|socket| socket.state == TcpState::SynSent);
        waits && event.answers_segment() && matches!(event.kind, EventKind::ResetSent { .. })
    })
}

/// Nginx closes a client connection while the last segments are being repeated: the kernel goes on repeating
/// them after the close, so up to a few repetitions say nothing.
fn ordinary_close(case: &Case) -> bool {
    const FEW: u32 = 3;
    let unanswered = case.is_capture() && case.connecting();
    case.is_client()
        && !unanswered
        && case.incident.own.iter().all(|event| {
            let Some(socket) = &event.socket else { return false };
            matches!(event.kind, EventKind::Closed { .. })
                && socket.error == 0
                && socket.retransmits_pending < FEW
                && event.task.exiting.is_none()
                && case.state() != TcpState::CloseWait
        })
}

/// An upstream closes in order after data went both ways in one tick. That a request was out is told by the time of an
/// acknowledgment alone, which a machine that gets no time for its tick makes late; Nginx would have said so.
fn answered_after_all(case: &Case) -> bool {
    let in_order = |event: &Event| {
        let Some(socket) = &event.socket else { return false };
        matches!(event.kind, EventKind::Closed { old: TcpState::CloseWait, .. })
            && socket.is_tied()
            && socket.spoke_last
            && (socket.error, socket.unacked, socket.unsent) == (0, 0, 0)
            && event.task.exiting.is_none()
    };
    let is_told = case.host.follows_error_log && !case.is_capture();
    is_told && !case.is_client() && case.incident.own.iter().all(in_order)
}

fn write(look: &Look, ruling: Ruling) -> Verdict {
    let case = look.case;
    let kind = phase::kind(case);
    let evidence = weigh(look.findings, ruling);
    let gaps = missing::gaps(case, ruling, kind, leans_on_log(&evidence, ruling));
    let steps = gaps.iter().filter(|gap| gap.lowers).count();
    let certainty = lowered(earned(&evidence, ruling.party), steps);
    let mut missing: Vec<Missing> = gaps.into_iter().map(|gap| gap.missing).collect();
    if ruling.party == crate::model::verdict::Party::Unknown {
        missing.insert(0, missing::undecided(case));
    }
    let phase = phase::phase(case);
    Verdict {
        schema: SCHEMA.into(),
        id: case.incident.id.clone(),
        host: case.host.host.clone(),
        time: time(case),
        kind,
        party: ruling.party,
        segment: rules::segment(ruling.party, ruling.cause, case.side()),
        cause: ruling.cause,
        certainty,
        impact: phase::impact(case, ruling.cause, phase),
        phase,
        stage: phase::stage(case),
        consequence_of: consequence(case, ruling),
        summary: summary::summary(case, ruling.cause, certainty),
        evidence,
        missing,
        alternatives: alternative::alternatives(ruling.cause, look),
        connection: connection(case, ruling),
        peer_connection: other_half(case),
        reset: reset(case, kind),
        log: log(case),
        matched: case.line.map(record::matched),
        listener: record::listener(case),
        advice: advice::advice(case, ruling.cause),
        packets: Vec::new(),
    }
}

fn weigh(findings: &[Finding], ruling: Ruling) -> Vec<Evidence> {
    findings.iter().filter_map(|finding| finding.weigh(ruling.origins)).collect()
}

/// Without its line the verdict would be another, or less certain.
fn leans_on_log(evidence: &[Evidence], ruling: Ruling) -> bool {
    let logged =
        |piece: &&Evidence| class_of(&piece.code) == Some(Class::Log) && piece.weight != Weight::Against;
    let without: Vec<Evidence> = evidence.iter().filter(|piece| !logged(piece)).cloned().collect();
    earned(&without, ruling.party) != earned(evidence, ruling.party)
}

fn consequence(case: &Case, ruling: Ruling) -> Option<String> {
    let caused = ruling.cause == crate::model::verdict::Cause::ClientAbort && !case.is_client();
    case.caused_by.as_ref().filter(|_| caused).map(|cause| cause.id.clone())
}

/// Causes that are about silence carry the silence before the request that met the reset: that is the number
/// to configure a keep-alive timeout by. The time since the last byte would be that request itself.
fn connection(case: &Case, ruling: Ruling) -> Option<crate::model::verdict::Connection> {
    use crate::model::verdict::Cause;
    let mut connection = record::connection(case)?;
    let about_silence = matches!(
        ruling.cause,
        Cause::UpstreamKeepaliveRace | Cause::MiddleboxIdleReset | Cause::MiddleboxIdleDrop
    );
    if about_silence {
        connection.idle_ms = case.idle_before_ms().or(connection.idle_ms);
    }
    Some(connection)
}

fn other_half(case: &Case) -> Option<crate::model::verdict::Connection> {
    let effect = case.effects.first().and_then(|event| event.socket.as_ref());
    let client = case.caused_by.as_ref().and_then(|by| by.socket.as_ref());
    let ended = case.incident.other_half.as_ref().and_then(|event| event.socket.as_ref());
    let socket = if case.is_client() { effect } else { client.or(ended) }?;
    Some(record::of_socket(socket, socket.state, case.time(), case.clock))
}

fn reset(case: &Case, kind: Kind) -> Option<crate::model::verdict::Reset> {
    match kind {
        Kind::ClosedEarly => record::reset(case).or_else(|| record::closing_process(case)),
        _ => record::reset(case),
    }
}

fn log(case: &Case) -> Option<crate::model::verdict::LogLine> {
    match &case.incident.subject {
        Subject::Line(record) => Some(record::log_line(record)),
        _ => case.line.map(|line| record::log_line(line.record)),
    }
}

fn time(case: &Case) -> String {
    match &case.incident.subject {
        Subject::Line(record) if record.arrival.is_none() => {
            record.time.unwrap_or_else(|| case.clock.utc(case.incident.first)).rfc3339()
        }
        Subject::Listener(..) | Subject::Line(_) => case.clock.utc(case.incident.first).rfc3339(),
        Subject::Connection(_) => case.clock.utc(case.time()).rfc3339(),
    }
}
