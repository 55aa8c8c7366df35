//! The ladder diagram of an incident: what went to and fro, from the opening to the end, both ends where both were
//! seen. A rung that no hook captured says where it is known from; none is presumed.

use crate::engine::{Captured, Dossier};
use crate::judge::{Role, What};
use crate::model::verdict::{Connection, ConnectionSide, Direction, Weight};
use crate::model::{Event, EventKind, Packet, Socket, TcpState, Utc, Verdict};
use crate::output::layout::count;

use super::document::{Ladder, Rung, Way};
use super::words;

/// Where a line of the log is known from; the time of its arrival is known, too.
const LOG: &str = "error.log";
/// The same where only the printed time is known.
const LOG_PRINTED: &str = "error.log, which prints whole seconds";
/// Where the moments of the last data are known from.
const TICKS: &str = "times of the socket (tcp_sock), to a tick";
/// How the label of a segment ends that only the kernel told of.
const NOT_CAPTURED: &str = ", not captured";

/// Rungs of one ladder; incidents have fewer than twenty.
const MOST: usize = 60;

/// A rung before its offset is known.
struct Step {
    time: Utc,
    way: Way,
    label: String,
    source: String,
    deciding: bool,
    /// What comes first of several at one moment: the data, the packet that met it, what the kernel did then.
    rank: u8,
}

/// Said of the RST that was accepted.
const ENDED: &str = ", accepted: it ended the connection";

/// The diagram. `None` for an incident without a connection.
pub fn ladder(verdict: &Verdict, dossier: Option<&Dossier>) -> Option<Ladder> {
    let connection = verdict.connection.as_ref()?;
    let ends = Ends::of(connection);
    let mut steps = Vec::new();
    steps.extend(opening(connection, &ends));
    if let Some(dossier) = dossier {
        let segments = dossier.packets.iter().filter(|packet| packet.role != Role::IcmpError);
        steps.extend(segments.map(|packet| captured(packet, &ends)));
        steps.extend(dossier.steps.iter().flat_map(|step| told(step.time, &step.witness, &step.what, &ends)));
    } else {
        steps.extend(without_dossier(verdict, &ends));
    }
    if words::of_capture(verdict) {
        steps = of_capture(steps);
    }
    place_lines(&mut steps);
    place_data(&mut steps, connection);
    steps.sort_by_key(|step| (step.time, step.rank));
    steps.dedup_by(|later, earlier| later.label == earlier.label && later.time == earlier.time);
    decide(verdict, &mut steps);
    steps.truncate(MOST);
    let (left, right) = (ends.left, ends.right);
    Some(Ladder { left, right, rungs: rungs(steps) })
}

/// In a capture every segment is a packet: what a kernel would have told besides is not known, and what is known of a
/// socket follows from the packets.
fn of_capture(steps: Vec<Step>) -> Vec<Step> {
    let from_packets = |step: Step| {
        let known = step.source.starts_with("captured") || step.source.starts_with(LOG);
        let source = if known { step.source } else { "worked out from the packets".to_owned() };
        let label = step.label.replace(", accepted: it ended", ", it ended");
        Step { label, source, ..step }
    };
    steps.into_iter().filter(|step| !step.label.ends_with(NOT_CAPTURED)).map(from_packets).collect()
}

/// A line whose arrival nobody saw has the time that is printed, cut to the second: it stands behind everything else of
/// that second.
fn place_lines(steps: &mut [Step]) {
    const SECOND: i64 = 1_000_000_000;
    let printed = |step: &Step| step.source == LOG_PRINTED;
    let others: Vec<i64> = steps.iter().filter(|step| !printed(step)).map(|step| step.time.0).collect();
    for step in steps.iter_mut().filter(|step| printed(step)) {
        let within = others.iter().filter(|time| (0..SECOND).contains(&(*time - step.time.0)));
        step.time = within.max().map_or(step.time, |time| Utc(*time));
    }
}

/// Times of a socket are rounded to a tick; no data goes before the handshake, and none after the RST that was accepted.
fn place_data(steps: &mut [Step], connection: &Connection) {
    let ended = steps.iter().filter(|step| step.label.ends_with(ENDED)).map(|step| step.time).min();
    for step in steps.iter_mut().filter(|step| step.source == TICKS) {
        step.time = ended.map_or(step.time, |ended| step.time.min(ended));
    }
    let answered = steps.iter().filter(|step| step.label.starts_with("SYN|ACK")).map(|step| step.time).max();
    let opened = connection.opened_at.as_deref().and_then(Utc::parse);
    let Some(earliest) = answered.max(opened) else { return };
    for step in steps.iter_mut().filter(|step| step.source == TICKS && step.time < earliest) {
        (step.time, step.rank) = (earliest, 2);
    }
}

/// Which end is on which side of the diagram: the request goes from left to right.
struct Ends {
    left: String,
    right: String,
    nginx_is_left: bool,
    remote: String,
}

impl Ends {
    fn of(connection: &Connection) -> Self {
        let nginx = format!("Nginx {}", connection.local);
        let remote = connection.remote.clone();
        match connection.side {
            ConnectionSide::Client => {
                Self { left: format!("client {remote}"), right: nginx, nginx_is_left: false, remote }
            }
            ConnectionSide::Upstream => {
                Self { left: nginx, right: format!("upstream {remote}"), nginx_is_left: true, remote }
            }
        }
    }

    fn sends(&self) -> Way {
        if self.nginx_is_left { Way::Right } else { Way::Left }
    }

    fn receives(&self) -> Way {
        if self.nginx_is_left { Way::Left } else { Way::Right }
    }

    fn at_nginx(&self) -> Way {
        if self.nginx_is_left { Way::AtLeft } else { Way::AtRight }
    }

    fn at_peer(&self) -> Way {
        if self.nginx_is_left { Way::AtRight } else { Way::AtLeft }
    }

    /// A packet goes from the end it names as its source.
    fn of_packet(&self, packet: &Packet) -> Way {
        if packet.source.to_string() == self.remote { self.receives() } else { self.sends() }
    }
}

/// `opened_at` is the SYN of a connection that Nginx opened and the end of the handshake of one it accepted.
fn opening(connection: &Connection, ends: &Ends) -> Option<Step> {
    let time = Utc::parse(connection.opened_at.as_deref()?)?;
    let (way, label) = match connection.side {
        ConnectionSide::Upstream => (ends.sends(), "SYN".to_owned()),
        ConnectionSide::Client => (ends.at_nginx(), "handshake complete".to_owned()),
    };
    Some(Step { time, way, label, source: "inet_sock_set_state".to_owned(), deciding: false, rank: 0 })
}

fn captured(one: &Captured, ends: &Ends) -> Step {
    let packet = &one.packet;
    let payload = if packet.payload_len > 0 {
        format!(", {}", count(u64::from(packet.payload_len), "byte"))
    } else {
        String::new()
    };
    let note = match one.role {
        // An ICMP error has a rung of its own: it is no segment of either end.
        Role::SynAck | Role::IcmpError => "",
        Role::Dropped => ", dropped: the listener was full",
        Role::ResetReceived => ENDED,
        Role::ResetRefused => ", refused by the kernel",
        Role::Answered => ", answered with a RST",
        Role::Afterwards => ", the peer goes on after the end",
        Role::AtOtherEnd => ", at the other end",
    };
    let time = if one.exact { "captured" } else { "captured; its time is that of the event" };
    Step {
        time: one.time,
        way: ends.of_packet(packet),
        label: format!(
            "{} seq {} ack {} win {} ttl {}{payload}{note}",
            packet.flags.names(),
            packet.seq,
            packet.ack,
            packet.window,
            packet.ttl
        ),
        source: format!("{time}, packet {}", one.index),
        deciding: false,
        rank: 1,
    }
}

/// Rungs of one thing that belonged to the incident; its packet has a rung already.
fn told(time: Utc, witness: &str, what: &What, ends: &Ends) -> Vec<Step> {
    let step = |way, label: String, source: &str| Step {
        time,
        way,
        label,
        source: source.to_owned(),
        deciding: false,
        rank: 2,
    };
    match what {
        What::Event(event) => {
            let at_peer = witness == "the other end";
            let mut steps = if at_peer { Vec::new() } else { last_data(time, event, ends) };
            if witness != "nginx, the other half" {
                steps.extend(event_rung(time, event, at_peer, ends));
            }
            steps
        }
        What::Overflow(overflow) => vec![step(
            ends.at_nginx(),
            format!("listener full: {} waiting, limit {}", overflow.queue, overflow.limit),
            "listener queue",
        )],
        What::Line(record) => {
            let errno = record.errno.map(|errno| format!(" ({errno})")).unwrap_or_default();
            let source = if record.arrival.is_some() { LOG } else { LOG_PRINTED };
            vec![Step {
                rank: 3,
                ..step(ends.at_nginx(), format!("error.log: {}{errno}", record.message), source)
            }]
        }
    }
}

/// The last data either way, from the kernel's own times on the socket (resolution of one tick).
fn last_data(time: Utc, event: &Event, ends: &Ends) -> Vec<Step> {
    let Some(socket) = &event.socket else { return Vec::new() };
    let before = |ms: u32| Utc(time.0.saturating_sub(i64::from(ms) * 1_000_000));
    let step = |ms: u32, way, label| Step {
        time: before(ms),
        way,
        label,
        source: TICKS.to_owned(),
        deciding: false,
        rank: 0,
    };
    let sent = socket.last_sent_ms.map(|ms| {
        // A segment that is sent again moves this time, too (`tcp_retransmit_skb`).
        let again = if socket.retransmits > 0 { " or sent again" } else { "" };
        let bytes = count(socket.bytes_sent, "byte");
        step(ms, ends.sends(), format!("last data sent{again}, {bytes} in all"))
    });
    let received = socket.last_received_ms.map(|ms| {
        let bytes = count(socket.bytes_received, "byte");
        step(ms, ends.receives(), format!("last data received, {bytes} in all"))
    });
    sent.into_iter().chain(received).collect()
}

fn event_rung(time: Utc, event: &Event, at_peer: bool, ends: &Ends) -> Option<Step> {
    let (from, at) =
        if at_peer { (ends.receives(), ends.at_peer()) } else { (ends.sends(), ends.at_nginx()) };
    let exit = if event.task.exiting.is_some() { ", which is ending" } else { "" };
    let actor = if event.task.is_actor {
        format!(" by {} ({}){exit}", event.task.pid, event.task.comm)
    } else {
        String::new()
    };
    let (way, label, source) = match &event.kind {
        EventKind::ResetSent { reason, .. } => {
            let reason = reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            (from, format!("RST sent{reason}{actor}{NOT_CAPTURED}"), "tcp_send_reset")
        }
        EventKind::ResetReceived if event.packet.is_some() && !at_peer => return None,
        EventKind::ResetReceived => (at, "RST accepted".to_owned(), "tcp_receive_reset"),
        EventKind::Closed { old, new } => {
            (at, closed(*old, *new, event.socket.as_ref(), &actor), "inet_sock_set_state")
        }
        EventKind::ProcessExit => {
            (at, format!("process {} ({}) ended", event.task.pid, event.task.comm), "sched_process_exit")
        }
        EventKind::OomVictim => {
            (at, format!("OOM killer chose {} ({})", event.task.pid, event.task.comm), "mark_victim")
        }
        EventKind::IcmpError(error) => {
            let label = format!("{} from {}, about seq {}", error.name(), error.sender, error.seq);
            (ends.receives(), label, "icmp_error")
        }
        // The packet of a captured RST has a rung of its own.
        EventKind::ResetSeen { .. }
        | EventKind::ListenOverflow(_)
        | EventKind::ResetRefused { .. }
        | EventKind::Standing
        | EventKind::OtherCapture(_) => return None,
    };
    Some(Step { time, way, label, source: source.to_owned(), deciding: false, rank: 2 })
}

fn closed(old: TcpState, new: TcpState, socket: Option<&Socket>, actor: &str) -> String {
    let errno = socket.filter(|socket| socket.error != 0).map(|socket| format!(", errno {}", socket.error));
    format!("socket {} to {}{}{actor}", old.name(), new.name(), errno.unwrap_or_default())
}

/// What a verdict alone tells of the way of things.
fn without_dossier(verdict: &Verdict, ends: &Ends) -> Vec<Step> {
    let Some(time) = Utc::parse(&verdict.time) else { return Vec::new() };
    let step = |time, way, label, source: &str| Step {
        time,
        way,
        label,
        source: source.to_owned(),
        deciding: false,
        rank: 1,
    };
    let mut steps = Vec::new();
    let way = match verdict.reset.as_ref().filter(|reset| reset.flags.is_some()) {
        Some(reset) if reset.direction == Direction::Received => ends.receives(),
        Some(_) => ends.sends(),
        None => ends.at_nginx(),
    };
    let label = match verdict.reset.as_ref().and_then(|reset| Some((reset.flags.as_ref()?, reset))) {
        Some((flags, reset)) => {
            let number = |name: &str, value: Option<u32>| {
                value.map(|value| format!(" {name} {value}")).unwrap_or_default()
            };
            let ttl = number("ttl", reset.ttl.map(u32::from));
            format!(
                "{flags}{}{}{}{ttl}",
                number("seq", reset.seq),
                number("ack", reset.ack),
                number("win", reset.window)
            )
        }
        None => verdict.kind.to_string(),
    };
    steps.push(step(time, way, label, "verdict"));
    let line = verdict.log.as_ref().zip(verdict.matched.as_ref());
    steps.extend(line.map(|(line, matched)| {
        let arrived = Utc(time.0.saturating_add(matched.gap_ms.saturating_mul(1_000_000)));
        step(arrived, ends.at_nginx(), format!("error.log: {}", line.message), LOG)
    }));
    steps
}

/// Marks the rung on which the verdict turns: a peer that goes on, else what ended the connection.
fn decide(verdict: &Verdict, steps: &mut [Step]) {
    let alive =
        verdict.evidence.iter().any(|piece| piece.code == "peer_alive" && piece.weight == Weight::Decisive);
    let wanted: &[&str] = if alive {
        &["the peer goes on"]
    } else {
        &["it ended the connection", "RST sent", "dropped:", "listener full", "RST", "socket "]
    };
    let found = wanted.iter().find_map(|words| steps.iter().position(|step| step.label.contains(words)));
    if let Some(step) = found.and_then(|at| steps.get_mut(at)) {
        step.deciding = true;
    }
}

fn rungs(steps: Vec<Step>) -> Vec<Rung> {
    let first = steps.first().map_or(0, |step| step.time.0);
    steps
        .into_iter()
        .map(|step| Rung {
            time: step.time.rfc3339(),
            offset: offset(step.time.0.saturating_sub(first)),
            way: step.way,
            label: step.label,
            source: step.source,
            deciding: step.deciding,
        })
        .collect()
}

/// Time since the first rung, with as many digits as its size deserves.
fn offset(nanoseconds: i64) -> String {
    let microseconds = nanoseconds / 1000;
    match microseconds {
        0..1_000_000 => format!("+{}.{:03} ms", microseconds / 1000, microseconds % 1000),
        _ => format!("+{}.{:03} s", microseconds / 1_000_000, microseconds / 1000 % 1000),
    }
}
