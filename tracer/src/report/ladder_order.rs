//! The order of the steps of a ladder diagram: causes before effects, each thing once, and which of them decides. Times
//! stay as they were read; where two clock readings contradict what followed from what, the step says so.

use crate::model::verdict::{Connection, Kind, Party, Weight};
use crate::model::{Utc, Verdict};

use super::document::Way;
use super::words;

/// Rungs of one ladder; incidents have fewer than twenty.
const MOST: usize = 60;
/// Two hooks on one packet run within this time of each other, nanoseconds.
const TOGETHER: i64 = 5_000_000;
/// A tick of the kernel's coarsest clock (HZ=100), nanoseconds.
const TICK: i64 = 10_000_000;

/// What a step is. The order is that of several at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    /// The SYN, or the end of the handshake.
    Opening,
    /// The SYN-ACK.
    SynAck,
    /// The last data either way.
    Data,
    /// Something with the process at the other end.
    Other,
    /// The other end closed.
    PeerClosed,
    /// The peer's FIN.
    Fin,
    /// A packet without a part of its own.
    Segment,
    /// A packet that a full listener dropped.
    Dropped,
    /// The RST that ended the connection.
    Ended,
    /// A segment that this host answered with a RST.
    Answered,
    /// A segment of the peer after the end.
    GoesOn,
    /// An ICMP error.
    Icmp,
    /// A full listener.
    Overflow,
    /// The kernel of the other end sent a RST.
    PeerReset,
    /// The kernel of Nginx's end sent a RST.
    OwnReset,
    /// The kernel accepted a RST.
    Accepted,
    /// Nginx's end was closed.
    Closed,
    /// A line of the log.
    Line,
    /// A line of which only the printed second is known.
    PrintedLine,
}

/// A rung before its offset is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) sort: Sort,
    pub(super) time: Utc,
    /// What the log printed, where the step stands at another moment.
    pub(super) printed: Option<Utc>,
    pub(super) way: Way,
    pub(super) label: String,
    pub(super) source: String,
    pub(super) deciding: bool,
}

impl Step {
    pub(super) fn new(sort: Sort, time: Utc, way: Way, label: String, source: &str) -> Self {
        Self { sort, time, printed: None, way, label, source: source.to_owned(), deciding: false }
    }
}

/// The steps in their order, one of them marked.
pub(super) fn ordered(verdict: &Verdict, connection: &Connection, mut steps: Vec<Step>) -> Vec<Step> {
    place_lines(&mut steps);
    place_data(&mut steps, connection);
    place_fin(&mut steps);
    if words::of_capture(verdict) {
        steps = of_capture(steps);
    }
    steps.sort_by_key(|step| (step.time, step.sort));
    merge_resets(&mut steps);
    answers_follow(&mut steps);
    once(&mut steps);
    decide(verdict, &mut steps);
    steps.truncate(MOST);
    steps
}

/// In a capture every segment is a packet: what a kernel would have told besides is not known, and what is known of a
/// socket follows from the packets.
fn of_capture(steps: Vec<Step>) -> Vec<Step> {
    let told_by_a_kernel = |step: &Step| matches!(step.sort, Sort::PeerReset | Sort::OwnReset);
    let from_packets = |mut step: Step| {
        let known = step.source.starts_with("captured") || step.source.starts_with("error.log");
        if !known && step.sort != Sort::Other {
            let kept = step.source.split_once("; ").map(|(_, rest)| format!("; {rest}")).unwrap_or_default();
            step.source = format!("worked out from the packets{kept}");
        }
        step
    };
    steps.into_iter().filter(|step| !told_by_a_kernel(step)).map(from_packets).collect()
}

/// A line whose arrival nobody saw has the time that is printed, cut to the second: it stands behind everything else of
/// that second.
fn place_lines(steps: &mut [Step]) {
    const SECOND: i64 = 1_000_000_000;
    let is_printed = |step: &Step| step.sort == Sort::PrintedLine;
    let others: Vec<i64> = steps.iter().filter(|step| !is_printed(step)).map(|step| step.time.0).collect();
    for step in steps.iter_mut().filter(|step| is_printed(step)) {
        let within = others.iter().filter(|time| (0..SECOND).contains(&(*time - step.time.0)));
        let place = within.max().map_or(step.time, |time| Utc(*time));
        step.printed = Some(step.time);
        step.time = place;
    }
}

/// Times of a socket are rounded to a tick; no data goes before the handshake, and none after the RST that was accepted.
fn place_data(steps: &mut [Step], connection: &Connection) {
    let ended = steps.iter().filter(|step| step.sort == Sort::Ended).map(|step| step.time).min();
    for step in steps.iter_mut().filter(|step| step.sort == Sort::Data) {
        step.time = ended.map_or(step.time, |ended| step.time.min(ended));
    }
    let answered = steps.iter().filter(|step| step.sort == Sort::SynAck).map(|step| step.time).max();
    let opened = connection.opened_at.as_deref().and_then(Utc::parse);
    let Some(earliest) = answered.max(opened) else { return };
    for step in steps.iter_mut().filter(|step| step.sort == Sort::Data && step.time < earliest) {
        if earliest.0 - step.time.0 > TICK {
            step.source.push_str("; when is not known");
        }
        step.time = earliest;
    }
}

/// A FIN is known by what followed from it. Where the other end was seen closing, it went out then.
fn place_fin(steps: &mut [Step]) {
    let closed = steps.iter().find(|step| step.sort == Sort::PeerClosed).map(|step| step.time);
    let Some(closed) = closed else { return };
    for step in steps.iter_mut().filter(|step| step.sort == Sort::Fin && closed <= step.time) {
        step.time = closed;
        "FIN, not captured".clone_into(&mut step.label);
    }
}

/// A RST that the other end's kernel was seen sending and that was captured on its way in is one thing.
fn merge_resets(steps: &mut Vec<Step>) {
    let Some(ended) = steps.iter().position(|step| step.sort == Sort::Ended) else { return };
    let time = steps[ended].time;
    let same = |step: &Step| step.sort == Sort::PeerReset && (step.time.0 - time.0).abs() <= TOGETHER;
    let Some(at) = steps.iter().position(same) else { return };
    let sent = steps.remove(at);
    let ended = if at < ended { ended - 1 } else { ended };
    let Some(step) = steps.get_mut(ended) else { return };
    let said = sent.label.trim_end_matches(", not captured");
    step.label = format!("{}; the other end's kernel: {said}", step.label);
    step.source = format!("{}; {}", step.source, sent.source);
}

/// The hook on a RST may run before the one that captured the segment it answers; the segment came first.
fn answers_follow(steps: &mut [Step]) {
    for at in 1..steps.len() {
        let (before, later) = (&steps[at - 1], &steps[at]);
        let gap = later.time.0 - before.time.0;
        let answers = before.sort == Sort::OwnReset
            && matches!(later.sort, Sort::Answered | Sort::GoesOn)
            && gap <= TOGETHER;
        if answers {
            steps.swap(at - 1, at);
            let microseconds = gap / 1000;
            let said =
                format!("; its clock was read {microseconds} µs before that of the segment it answers");
            steps[at].source.push_str(&said);
        }
    }
}

/// Each thing once: the same data is told by every event on the socket, to within a tick.
fn once(steps: &mut Vec<Step>) {
    let mut seen: Vec<(Sort, String)> = Vec::new();
    steps.retain(|step| {
        let is_told = seen.iter().any(|(sort, label)| *sort == step.sort && *label == step.label);
        let again = is_told && matches!(step.sort, Sort::Data | Sort::Fin);
        seen.push((step.sort, step.label.clone()));
        !again
    });
    steps.dedup_by(|later, earlier| later.label == earlier.label && later.time == earlier.time);
}

/// Marks the step on which the verdict turns: a peer that goes on, else what ended the connection.
fn decide(verdict: &Verdict, steps: &mut [Step]) {
    let alive =
        verdict.evidence.iter().any(|piece| piece.code == "peer_alive" && piece.weight == Weight::Decisive);
    let wanted: &[Sort] = match verdict.kind {
        _ if alive => &[Sort::GoesOn],
        Kind::ClosedEarly => &[Sort::Fin, Sort::PeerClosed, Sort::Closed, Sort::Ended],
        Kind::Timeout if verdict.party != Party::Middlebox => &[Sort::Closed, Sort::OwnReset],
        _ => &[
            Sort::Ended,
            Sort::OwnReset,
            Sort::PeerReset,
            Sort::Dropped,
            Sort::Overflow,
            Sort::Accepted,
            Sort::Icmp,
            Sort::Closed,
        ],
    };
    let found = wanted.iter().find_map(|sort| steps.iter().position(|step| step.sort == *sort));
    if let Some(step) = found.and_then(|at| steps.get_mut(at)) {
        step.deciding = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn step(sort: Sort, microseconds: i64, label: &str) -> Step {
        Step::new(sort, Utc(microseconds * 1000), Way::Left, label.to_owned(), "a hook")
    }

    fn sorts(verdict: &Verdict, steps: Vec<Step>) -> Vec<(Sort, bool)> {
        let connection = Connection { opened_at: None, ..verdict.connection.clone().unwrap() };
        ordered(verdict, &connection, steps).iter().map(|step| (step.sort, step.deciding)).collect()
    }

    #[test]
    fn a_reset_stands_behind_the_segment_that_it_answers() {
        let steps = vec![step(Sort::OwnReset, 42_949, "RST sent"), step(Sort::GoesOn, 42_952, "PSH|ACK")];
        let connection = samples::forged_reset().connection.unwrap();
        let connection = Connection { opened_at: None, ..connection };
        let found = ordered(&samples::upstream_abort(), &connection, steps);
        assert_eq!(found.iter().map(|step| step.sort).collect::<Vec<_>>(), [Sort::GoesOn, Sort::OwnReset]);
        assert!(found[1].source.contains("3 µs before"), "{found:?}");
    }

    #[test]
    fn a_reset_that_both_ends_saw_is_one_step() {
        let steps = vec![
            step(Sort::Ended, 15_263, "RST, accepted"),
            step(Sort::PeerReset, 15_318, "RST sent by 7 (app), not captured"),
        ];
        assert_eq!(sorts(&samples::upstream_abort(), steps), [(Sort::Ended, true)]);
    }

    #[test]
    fn the_fin_decides_where_the_peer_closed() {
        let verdict = Verdict { kind: Kind::ClosedEarly, ..samples::upstream_abort() };
        let steps = vec![
            step(Sort::Fin, 900, "FIN"),
            step(Sort::Closed, 900, "socket CLOSE_WAIT to LAST_ACK"),
            step(Sort::PeerClosed, 500, "socket ESTABLISHED to FIN_WAIT1"),
        ];
        let wanted = [(Sort::PeerClosed, false), (Sort::Fin, true), (Sort::Closed, false)];
        assert_eq!(sorts(&verdict, steps), wanted);
    }

    #[test]
    fn the_same_data_is_told_once_and_not_before_the_handshake() {
        let steps = vec![
            step(Sort::SynAck, 2000, "SYN|ACK"),
            step(Sort::Data, 1000, "last data sent, 70 bytes in all"),
            step(Sort::Data, 3000, "last data sent, 70 bytes in all"),
            step(Sort::Closed, 9000, "socket ESTABLISHED to CLOSE"),
        ];
        let wanted = [(Sort::SynAck, false), (Sort::Data, false), (Sort::Closed, true)];
        let verdict = Verdict { kind: Kind::Timeout, ..samples::upstream_abort() };
        assert_eq!(sorts(&verdict, steps), wanted);
    }
}
