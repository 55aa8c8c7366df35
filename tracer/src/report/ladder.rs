//! The ladder diagram of an incident: what went to and fro, from the opening to the end, both ends where both were
//! seen. A rung that no hook captured says where it is known from; none is presumed.

use std::net::SocketAddr;

use crate::engine::{Captured, Dossier};
use crate::judge::{Role, What};
use crate::model::verdict::{Cause, Certainty, Connection, ConnectionSide, Direction, Party};
use crate::model::{Event, EventKind, OtherCapture, Packet, Socket, TcpState, Utc, Verdict};
use crate::output::layout::count;

use super::document::{Ladder, Rung, Way};
use super::frames::Frames;
use super::ladder_order::{self as order, Sort, Step};
use super::words;

/// Where a line of the log is known from; the time of its arrival is known, too.
const LOG: &str = "error.log";
/// The same where only the printed time is known.
pub(super) const LOG_PRINTED: &str = "error.log, which prints whole seconds";
/// Where the moments of the last data are known from.
const TICKS: &str = "times of the socket (tcp_sock), to a tick";

/// The diagram. `None` for an incident without a connection.
pub fn ladder(verdict: &Verdict, dossier: Option<&Dossier>, frames: &Frames) -> Option<Ladder> {
    let connection = verdict.connection.as_ref()?;
    let ends = Ends::of(connection);
    let mut steps = Vec::new();
    steps.extend(opening(connection, &ends));
    if let Some(dossier) = dossier {
        let segments = dossier.packets.iter().filter(|packet| packet.role != Role::IcmpError);
        steps.extend(segments.map(|packet| captured(packet, verdict, &ends, frames)));
        steps.extend(dossier.steps.iter().flat_map(|step| told(step.time, &step.witness, &step.what, &ends)));
    } else {
        steps.extend(without_dossier(verdict, &ends));
    }
    let steps = order::ordered(verdict, connection, steps);
    let from_path = |step: &Step| matches!(step.way, Way::LeftFromPath | Way::RightFromPath);
    let device = steps.iter().any(from_path).then(|| device(verdict).to_owned());
    let in_anothers_name = steps.iter().any(|step| from_path(step) && step.sort != Sort::Icmp);
    let note = note(verdict, &steps);
    let (left, right) = (ends.left, ends.right);
    Some(Ladder { left, right, device, in_anothers_name, note, rungs: rungs(steps) })
}

/// Who is drawn between the ends, as surely as the verdict names it.
fn device(verdict: &Verdict) -> &'static str {
    match (verdict.cause, verdict.certainty) {
        (Cause::LocalFirewall, _) => "the packet filter of Nginx's host",
        (_, Certainty::Proven | Certainty::Strong) => "a device on the path",
        _ => "perhaps a device on the path",
    }
}

/// How to read the diagram.
fn note(verdict: &Verdict, steps: &[Step]) -> String {
    let Some(first) = steps.first() else { return String::new() };
    let begins = format!("+0 is {}.", moment(first));
    if words::of_capture(verdict) {
        return format!(
            "{begins} What is worked out from the packets stands in the capture and not among the packets of this \
             incident; where a line of the log has whole seconds only, its place among the others is not known."
        );
    }
    format!(
        "{begins} An arrow without \"captured\" stands for no packet that was kept; how it is known stands with it."
    )
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

    /// What comes in, in the name of the peer, from somewhere on the path.
    fn receives_from_path(&self) -> Way {
        if self.nginx_is_left { Way::LeftFromPath } else { Way::RightFromPath }
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

/// `opened_at` is the SYN of a connection that Nginx opened and the end of the handshake of one it accepted. Where no
/// local port could be had no SYN was sent.
fn opening(connection: &Connection, ends: &Ends) -> Option<Step> {
    let time = Utc::parse(connection.opened_at.as_deref()?)?;
    let (way, label) = match connection.side {
        ConnectionSide::Upstream if connection.local.ends_with(":0") => {
            (ends.at_nginx(), "connect() began; it got no local port, so no SYN was sent")
        }
        ConnectionSide::Upstream => (ends.sends(), "SYN"),
        ConnectionSide::Client => (ends.at_nginx(), "handshake complete"),
    };
    Some(Step::new(Sort::Opening, time, way, label.to_owned(), "inet_sock_set_state"))
}

fn captured(one: &Captured, verdict: &Verdict, ends: &Ends, frames: &Frames) -> Step {
    let packet = &one.packet;
    let payload = if packet.payload_len > 0 {
        format!(", {}", count(u64::from(packet.payload_len), "byte"))
    } else {
        String::new()
    };
    let in_a_capture = words::of_capture(verdict);
    let (sort, note) = match one.role {
        Role::SynAck => (Sort::SynAck, ""),
        // An ICMP error has a rung of its own: it is no segment of either end.
        Role::IcmpError => (Sort::Segment, ""),
        Role::Dropped => (Sort::Dropped, ", dropped: the listener was full"),
        Role::ResetReceived if in_a_capture => (Sort::Ended, ": it ended the connection"),
        Role::ResetReceived => (Sort::Ended, ", accepted: it ended the connection"),
        Role::ResetRefused => (Sort::Segment, ", refused by the kernel"),
        Role::Answered => (Sort::Answered, ", answered with a RST"),
        Role::Afterwards => (Sort::GoesOn, ", the peer goes on after the end"),
        Role::AtOtherEnd => (Sort::Segment, ", at the other end"),
    };
    let came_in = packet.source.to_string() == ends.remote;
    let forged = verdict.party == Party::Middlebox && sort == Sort::Ended && came_in;
    let time = if one.exact { "captured" } else { "captured; its time is that of the event" };
    let frame = frames.of(one).map(|frame| format!(", frame {frame}")).unwrap_or_default();
    let label = format!(
        "{} seq {} ack {} win {} ttl {}{payload}{note}",
        packet.flags.names(),
        packet.seq,
        packet.ack,
        packet.window,
        packet.ttl
    );
    let way = if forged { ends.receives_from_path() } else { ends.of_packet(packet) };
    Step::new(sort, one.time, way, label, &format!("{time}{frame}"))
}

/// Rungs of one thing that belonged to the incident; its packet has a rung already.
fn told(time: Utc, witness: &str, what: &What, ends: &Ends) -> Vec<Step> {
    match what {
        What::Event(event) => {
            let at_peer = witness == "the other end";
            let mut steps = if at_peer { Vec::new() } else { last_data(time, event, ends) };
            if witness != "nginx, the other half" {
                steps.extend(fin(time, event, at_peer, ends));
                steps.extend(event_rung(time, event, at_peer, ends));
            }
            steps
        }
        What::Overflow(overflow) => {
            let label = format!("listener full: {} waiting, limit {}", overflow.queue, overflow.limit);
            vec![Step::new(Sort::Overflow, time, ends.at_nginx(), label, "listener queue")]
        }
        What::Line(record) => {
            let errno = record.errno.map(|errno| format!(" ({errno})")).unwrap_or_default();
            let (sort, source) = match record.arrival {
                Some(_) => (Sort::Line, LOG),
                None => (Sort::PrintedLine, LOG_PRINTED),
            };
            let label = format!("error.log: {}{errno}", record.message);
            vec![Step::new(sort, time, ends.at_nginx(), label, source)]
        }
    }
}

/// A close out of `CLOSE_WAIT` or `LAST_ACK` tells that the peer's FIN had come in (RFC 9293, section 3.3.2).
fn fin(time: Utc, event: &Event, at_peer: bool, ends: &Ends) -> Option<Step> {
    let EventKind::Closed { old, .. } = &event.kind else { return None };
    if at_peer || !matches!(old, TcpState::CloseWait | TcpState::LastAck) {
        return None;
    }
    let label = "FIN, came in before this; when is not known".to_owned();
    let source = format!("inet_sock_set_state: the socket was in {}", old.name());
    Some(Step::new(Sort::Fin, time, ends.receives(), label, &source))
}

/// The last data either way, from the kernel's own times on the socket (resolution of one tick).
fn last_data(time: Utc, event: &Event, ends: &Ends) -> Vec<Step> {
    let Some(socket) = &event.socket else { return Vec::new() };
    let step = |milliseconds: u32, way, label| {
        let time = Utc(time.0.saturating_sub(i64::from(milliseconds) * 1_000_000));
        Step::new(Sort::Data, time, way, label, TICKS)
    };
    let sent = socket.last_sent_ms.filter(|_| socket.bytes_sent > 0).map(|ms| {
        // A segment that is sent again moves this time, too (`tcp_retransmit_skb`).
        let again = if socket.retransmits > 0 { " or sent again" } else { "" };
        let bytes = count(socket.bytes_sent, "byte");
        step(ms, ends.sends(), format!("last data sent{again}, {bytes} in all"))
    });
    let received = socket.last_received_ms.filter(|_| socket.bytes_received > 0).map(|ms| {
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
    let (sort, way, label, source) = match &event.kind {
        EventKind::ResetSent { reason, .. } => {
            let reason = reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let sort = if at_peer { Sort::PeerReset } else { Sort::OwnReset };
            (sort, from, format!("RST sent{reason}{actor}, not captured"), "tcp_send_reset")
        }
        EventKind::ResetReceived if event.packet.is_some() && !at_peer => return None,
        EventKind::ResetReceived => (Sort::Accepted, at, "RST accepted".to_owned(), "tcp_receive_reset"),
        EventKind::Closed { old, new } => {
            let label = closed(*old, *new, event.socket.as_ref(), &actor);
            let sort = if at_peer { Sort::PeerClosed } else { Sort::Closed };
            (sort, at, label, "inet_sock_set_state")
        }
        EventKind::ProcessExit => {
            let label = format!("process {} ({}) ended", event.task.pid, event.task.comm);
            (Sort::Other, at, label, "sched_process_exit")
        }
        EventKind::OomVictim => {
            let label = format!("OOM killer chose {} ({})", event.task.pid, event.task.comm);
            (Sort::Other, at, label, "mark_victim")
        }
        EventKind::IcmpError(error) => {
            let label = format!("{} from {}, about seq {}", error.name(), error.sender, error.seq);
            let by_peer = ends.remote.parse::<SocketAddr>().is_ok_and(|remote| remote.ip() == error.sender);
            let way = if by_peer { ends.receives() } else { ends.receives_from_path() };
            (Sort::Icmp, way, label, "icmp_error")
        }
        EventKind::OtherCapture(seen) => {
            (Sort::Other, ends.at_peer(), other_capture(seen)?, "rstscope correlate")
        }
        // The packet of a captured RST has a rung of its own.
        EventKind::ResetSeen { .. }
        | EventKind::ListenOverflow(_)
        | EventKind::ResetRefused { .. }
        | EventKind::Standing => return None,
    };
    Some(Step::new(sort, time, way, label, source))
}

/// What the capture at the other end shows; it tells no times.
fn other_capture(seen: &OtherCapture) -> Option<String> {
    let place = if seen.is_recording { "the recording" } else { "the capture" };
    let reset = seen.reset.map(|has| if has { "has this RST" } else { "has no such RST" });
    let arrived =
        seen.arrived.map(|has| if has { "has what Nginx sent" } else { "does not have what Nginx sent" });
    let other = seen.other_reset.then_some("has a RST in Nginx's name that Nginx's end does not have");
    let said: Vec<&str> = [reset, arrived, other].into_iter().flatten().collect();
    (!said.is_empty()).then(|| format!("{place} taken at the other end {}", said.join(" and ")))
}

fn closed(old: TcpState, new: TcpState, socket: Option<&Socket>, actor: &str) -> String {
    let errno = socket.filter(|socket| socket.error != 0).map(|socket| format!(", errno {}", socket.error));
    format!("socket {} to {}{}{actor}", old.name(), new.name(), errno.unwrap_or_default())
}

/// What a verdict alone tells of the way of things.
fn without_dossier(verdict: &Verdict, ends: &Ends) -> Vec<Step> {
    let Some(time) = Utc::parse(&verdict.time) else { return Vec::new() };
    let mut steps = Vec::new();
    let way = match verdict.reset.as_ref().filter(|reset| reset.flags.is_some()) {
        Some(reset) if reset.direction == Direction::Received && verdict.party == Party::Middlebox => {
            ends.receives_from_path()
        }
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
    steps.push(Step::new(Sort::Ended, time, way, label, "verdict"));
    let line = verdict.log.as_ref().zip(verdict.matched.as_ref());
    steps.extend(line.map(|(line, matched)| {
        let arrived = Utc(time.0.saturating_add(matched.gap_ms.saturating_mul(1_000_000)));
        Step::new(Sort::Line, arrived, ends.at_nginx(), format!("error.log: {}", line.message), LOG)
    }));
    steps
}

fn rungs(steps: Vec<Step>) -> Vec<Rung> {
    let first = steps.first().map_or(0, |step| step.time.0);
    steps
        .into_iter()
        .map(|step| Rung {
            time: moment(&step),
            offset: offset(step.time.0.saturating_sub(first)),
            way: step.way,
            label: step.label,
            source: step.source,
            deciding: step.deciding,
        })
        .collect()
}

/// A printed time of the log has no parts of a second.
fn moment(step: &Step) -> String {
    let time = step.printed.unwrap_or(step.time);
    if step.sort == Sort::PrintedLine { words::whole_second(&time.rfc3339()) } else { time.rfc3339() }
}

/// Time since the first rung, with as many digits as its size deserves.
fn offset(nanoseconds: i64) -> String {
    let microseconds = nanoseconds / 1000;
    match microseconds {
        0..1_000_000 => format!("+{}.{:03} ms", microseconds / 1000, microseconds % 1000),
        _ => format!("+{}.{:03} s", microseconds / 1_000_000, microseconds / 1000 % 1000),
    }
}
