//! Facts written down in the form of the verdict: connections, the reset, the line, processes.
//! Draws no conclusion. Text from outside is kept as it is; output makes it safe to print.

use crate::model::verdict::{
    Connection, ConnectionSide, Direction, Listener, LogLine, Match, ProcessRef, Reset, Sender,
};
use crate::model::{
    Baseline, Clock, Event, EventKind, ExitStatus, LogRecord, Mono, Packet, ProcessFacts, QueueKind, Side,
    Socket, TcpFlags, TcpState,
};

use super::case::{Case, Joined};

/// How a process ended, in words.
pub fn exit_text(exit: ExitStatus) -> String {
    let core = if exit.core_dumped { ", core dumped" } else { "" };
    match exit.signal {
        0 => format!("exited with status {}", exit.status),
        signal => format!("killed by signal {signal} ({}){core}", signal_name(signal)),
    }
}

/// Names of the signals a process dies of (asm-generic numbers).
fn signal_name(signal: u8) -> &'static str {
    const NAMES: [(u8, &str); 14] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (31, "SIGSYS"),
    ];
    NAMES.iter().find(|(number, _)| *number == signal).map_or("another signal", |(_, name)| name)
}

/// Name of an errno that ends connections (asm-generic numbers).
pub fn errno_name(errno: i32) -> &'static str {
    const NAMES: [(i32, &str); 18] = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (23, "ENFILE"),
        (24, "EMFILE"),
        (32, "EPIPE"),
        (99, "EADDRNOTAVAIL"),
        (100, "ENETDOWN"),
        (101, "ENETUNREACH"),
        (103, "ECONNABORTED"),
        (104, "ECONNRESET"),
        (110, "ETIMEDOUT"),
        (111, "ECONNREFUSED"),
        (112, "EHOSTDOWN"),
        (113, "EHOSTUNREACH"),
        (105, "ENOBUFS"),
    ];
    NAMES.iter().find(|(number, _)| *number == errno).map_or("an error", |(_, name)| name)
}

/// Name of a queue.
pub fn queue_name(kind: QueueKind) -> &'static str {
    match kind {
        QueueKind::Accept => "accept",
        QueueKind::Syn => "SYN",
    }
}

/// The connection of the case; built from the other end's socket when Nginx's gave no event.
pub fn connection(case: &Case) -> Option<Connection> {
    if let Some(socket) = case.socket() {
        return Some(of_socket(socket, case.state(), case.time(), case.clock));
    }
    let tuple = case.tuple()?;
    let peer = case.peer.iter().find_map(|event| event.socket.as_ref());
    Some(match peer {
        Some(peer) => turned_round(peer, case.time(), case.clock),
        None => bare(case, tuple),
    })
}

/// A socket as a connection of the verdict.
pub fn of_socket(socket: &Socket, state: TcpState, at: Mono, clock: Clock) -> Connection {
    let owner = socket.owner.as_ref().map(|owner| ProcessRef { pid: owner.pid, comm: owner.comm.clone() });
    Connection {
        side: side(socket.side),
        local: crate::timeline::canonical(socket.local).to_string(),
        remote: crate::timeline::canonical(socket.remote).to_string(),
        netns: socket.netns,
        cookie: socket.cookie,
        opened_at: socket.opened.map(|opened| clock.utc(opened).rfc3339()),
        age_ms: socket.opened.map(|opened| milliseconds(at, opened)),
        idle_ms: socket.idle_ms().map(u64::from),
        bytes_sent: socket.bytes_sent,
        bytes_received: socket.bytes_received,
        srtt_us: socket.srtt_us,
        retransmits: socket.retransmits,
        state: state.name().to_owned(),
        preexisting: socket.preexisting,
        owner,
    }
}

/// The same connection as Nginx's end would show it. Owner, cookie and state are the other end's and left out.
fn turned_round(peer: &Socket, at: Mono, clock: Clock) -> Connection {
    let seen = of_socket(peer, TcpState::Unknown, at, clock);
    Connection {
        local: seen.remote.clone(),
        remote: seen.local.clone(),
        cookie: 0,
        bytes_sent: seen.bytes_received,
        bytes_received: seen.bytes_sent,
        owner: None,
        ..seen
    }
}

fn bare(case: &Case, tuple: crate::timeline::Tuple) -> Connection {
    Connection {
        side: side(case.side().unwrap_or(Side::Client)),
        local: tuple.local.to_string(),
        remote: tuple.remote.to_string(),
        netns: case.incident.own.first().map_or(0, |event| event.netns),
        cookie: 0,
        opened_at: None,
        age_ms: None,
        idle_ms: None,
        bytes_sent: 0,
        bytes_received: 0,
        srtt_us: 0,
        retransmits: 0,
        state: TcpState::Unknown.name().to_owned(),
        preexisting: false,
        owner: None,
    }
}

fn side(side: Side) -> ConnectionSide {
    match side {
        Side::Client | Side::ClientPeer => ConnectionSide::Client,
        Side::Upstream | Side::UpstreamPeer => ConnectionSide::Upstream,
    }
}

fn milliseconds(later: Mono, earlier: Mono) -> u64 {
    u64::try_from(later.since(earlier).as_millis()).unwrap_or(u64::MAX)
}

/// The reset of the case.
pub fn reset(case: &Case) -> Option<Reset> {
    if let Some(event) = case.incident.reset_received() {
        return Some(received(case, event));
    }
    if let Some(event) = case.incident.reset_seen() {
        return Some(seen(event));
    }
    if let Some(event) = case.incident.reset_sent() {
        return Some(sent(case, event));
    }
    let event = case.peer_reset()?;
    let EventKind::ResetSent { reason, .. } = &event.kind else { return None };
    let reason = reason.clone();
    Some(Reset { reason, sender: sender(case), ..as_built(event, Direction::Received) })
}

fn empty(direction: Direction) -> Reset {
    Reset {
        direction,
        flags: None,
        seq: None,
        ack: None,
        window: None,
        ttl: None,
        baseline_ttl: None,
        ip_id: None,
        expected_seq: None,
        seq_offset: None,
        options: None,
        reason: None,
        sender: None,
    }
}

fn received(case: &Case, event: &Event) -> Reset {
    let socket = event.socket.as_ref();
    let expected_seq = socket.filter(|_| !case.connecting()).map(|socket| socket.rcv_nxt);
    let reason = case.peer_reset().and_then(|event| match &event.kind {
        EventKind::ResetSent { reason, .. } => reason.clone(),
        _ => None,
    });
    let seen = event.packet.as_ref().map(|packet| of_packet(packet, expected_seq));
    Reset {
        baseline_ttl: socket.and_then(|socket| socket.baseline).map(|Baseline { ttl, .. }| ttl),
        expected_seq,
        reason,
        sender: sender(case),
        ..seen.unwrap_or_else(|| empty(Direction::Received))
    }
}

/// A RST in the name of Nginx's end, from a capture.
fn seen(event: &Event) -> Reset {
    let EventKind::ResetSeen { baseline, .. } = &event.kind else { return empty(Direction::Sent) };
    let expected = event.socket.as_ref().map(|socket| socket.snd_nxt);
    let read = event.packet.as_ref().map(|packet| of_packet(packet, expected));
    Reset {
        direction: Direction::Sent,
        baseline_ttl: baseline.map(|Baseline { ttl, .. }| ttl),
        expected_seq: expected,
        ..read.unwrap_or_else(|| empty(Direction::Sent))
    }
}

fn of_packet(packet: &Packet, expected: Option<u32>) -> Reset {
    Reset {
        flags: Some(packet.flags.names()),
        seq: Some(packet.seq),
        ack: Some(packet.ack),
        window: Some(u32::from(packet.window)),
        ttl: Some(packet.ttl),
        ip_id: packet.ip_id,
        seq_offset: expected.map(|expected| i64::from(packet.seq.wrapping_sub(expected).cast_signed())),
        options: Some(packet.options.clone()),
        ..empty(Direction::Received)
    }
}

/// The reset this host sent; its packet is not seen, only the segment it answers.
fn sent(case: &Case, event: &Event) -> Reset {
    let EventKind::ResetSent { reason, .. } = &event.kind else { return empty(Direction::Sent) };
    let actor = event.task.is_actor.then(|| sender_of(case, event));
    Reset { reason: reason.clone(), sender: actor, ..as_built(event, Direction::Sent) }
}

/// A RST that a kernel of this host sent and no hook captured, as far as its source says what is in it.
fn as_built(event: &Event, direction: Direction) -> Reset {
    match (&event.packet, &event.socket) {
        (Some(segment), _) => answering(segment, direction),
        (None, Some(socket)) if !event.answers_segment() => Reset {
            // `tcp_send_active_reset`: TCPHDR_ACK | TCPHDR_RST, sequence of the next byte to send.
            flags: Some(TcpFlags(TcpFlags::RST | TcpFlags::ACK).names()),
            seq: Some(socket.snd_nxt),
            ack: Some(socket.rcv_nxt),
            ..empty(direction)
        },
        (None, _) => empty(direction),
    }
}

/// `tcp_v4_send_reset` (RFC 9293, section 3.10.7.1): the numbers of the answer follow from the segment.
fn answering(segment: &Packet, direction: Direction) -> Reset {
    let has = |flag: u8| u32::from(segment.flags.has(flag));
    let end = segment.payload_len + has(TcpFlags::SYN) + has(TcpFlags::FIN);
    let (flags, seq, ack) = if segment.flags.has(TcpFlags::ACK) {
        (TcpFlags(TcpFlags::RST), segment.ack, 0)
    } else {
        (TcpFlags(TcpFlags::RST | TcpFlags::ACK), 0, segment.seq.wrapping_add(end))
    };
    Reset { flags: Some(flags.names()), seq: Some(seq), ack: Some(ack), window: Some(0), ..empty(direction) }
}

/// The process at the other end that ended the connection.
fn sender(case: &Case) -> Option<Sender> {
    let ending = case.peer_exit();
    let acting = case.peer_reset().filter(|event| event.task.is_actor && !event.answers_segment());
    ending.or(acting).map(|event| sender_of(case, event))
}

fn sender_of(case: &Case, event: &Event) -> Sender {
    let facts = case.process(event).cloned().unwrap_or_default();
    Sender {
        host: event.elsewhere.as_ref().map(|elsewhere| elsewhere.host.clone()),
        pid: event.task.pid,
        comm: event.task.comm.clone(),
        exe: facts.exe,
        exit: event.task.exiting.map(exit_text),
        cgroup: facts.cgroup,
        container: facts.container,
        unit: facts.unit,
    }
}

/// A process with all that is known of where it belongs: `app, /usr/bin/app, app.service`.
pub fn process_text(case: &Case, event: &Event) -> String {
    let home = case.process(event).and_then(home);
    let known = [Some(event.task.comm.clone()), sender_of(case, event).exe, home];
    known.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Which host saw an event: this one, or the one whose recording tells of it.
pub fn host_text(event: &Event) -> String {
    event.elsewhere.as_ref().map_or_else(|| "on this host".to_owned(), |there| format!("on {}", there.host))
}

/// The container or the systemd unit that a process belongs to. A container's unit is named after its id.
pub fn home(facts: &ProcessFacts) -> Option<String> {
    let container = facts.container.as_ref().map(|id| format!("container {}", id.get(..12).unwrap_or(id)));
    container.or_else(|| facts.unit.clone())
}

/// The sender for a connection that ended with FIN: no reset, but the process was seen ending.
pub fn closing_process(case: &Case) -> Option<Reset> {
    let sender = sender(case)?;
    Some(Reset { sender: Some(sender), ..empty(Direction::Received) })
}

/// The line.
pub fn log_line(record: &LogRecord) -> LogLine {
    LogLine {
        file: record.file.clone(),
        offset: record.offset,
        time: record.time.map(crate::model::Utc::rfc3339),
        level: record.level,
        pid: record.pid,
        connection: record.connection,
        errno: record.errno,
        message: record.message.clone(),
        action: record.action.clone(),
        client: record.client.clone(),
        server: record.server.clone(),
        request: record.request.clone(),
        upstream: record.upstream_url.clone().or_else(|| record.upstream.clone()),
        host: record.host.clone(),
    }
}

/// How the line was joined.
pub fn matched(line: Joined) -> Match {
    Match {
        method: line.pair.fit.method,
        gap_ms: line.pair.fit.gap_ns / 1_000_000,
        candidates: line.pair.candidates,
    }
}

/// The listener.
pub fn listener(case: &Case) -> Option<Listener> {
    let sum = case.incident.overflow.as_ref()?;
    Some(Listener {
        address: crate::timeline::canonical(sum.latest.listener).to_string(),
        queue: sum.latest.queue,
        limit: sum.latest.limit,
        queue_kind: sum.latest.queue_kind,
        dropped: sum.dropped,
        owner: None,
    })
}
