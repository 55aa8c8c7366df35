//! Builders for the scenario tests: sockets, packets, events and lines with sensible values, and one helper
//! that plays them and checks the verdict. No kernel, no files.

use std::net::SocketAddr;

use crate::model::socket::Owner;
use crate::model::verdict::{Cause, Certainty, Impact, Kind, Party, Verdict};
use crate::model::{
    Baseline, BaselineSource, Clock, Event, EventKind, ExitStatus, HookState, HostFacts, Input, Level,
    LogRecord, LogSide, MessageKind, Mono, Packet, Side, Socket, Task, TcpFlags, TcpState, Timestamps,
};

use super::{Dossier, Engine, Limits};

/// The worker's pid and thread.
pub const WORKER: u32 = 100;
/// When every scene begins, milliseconds after boot.
pub const START: u64 = 1_000_000;

/// Milliseconds after the scene's begin.
pub fn at(milliseconds: u64) -> Mono {
    Mono((START + milliseconds) * 1_000_000)
}

/// An address.
pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Nginx's socket to the upstream 10.0.0.2:8080, waiting for the answer to a request sent 12 ms ago.
pub fn upstream() -> Socket {
    Socket {
        side: Side::Upstream,
        local: address("10.0.0.1:40000"),
        remote: address("10.0.0.2:8080"),
        netns: 1,
        cookie: 7,
        state: TcpState::Established,
        owner: Some(Owner { pid: WORKER, comm: "nginx".to_owned() }),
        opened: Some(at(0)),
        preexisting: false,
        error: 0,
        receive_shutdown: false,
        linger_zero: false,
        orphan: false,
        fin_received: false,
        filtered: None,
        unread: 0,
        unacked: 0,
        unsent: 0,
        bytes_sent: 120,
        bytes_acked: 121,
        bytes_received: 0,
        data_segments_in: 0,
        data_segments_out: 1,
        srtt_us: 400,
        min_rtt_us: 300,
        retransmits: 0,
        retransmits_pending: 0,
        last_sent_ms: Some(12),
        newest_sent: None,
        last_received_ms: None,
        spoke_last: false,
        last_ack_ms: Some(11),
        rcv_nxt: 5000,
        snd_una: 9000,
        snd_nxt: 9000,
        snd_wnd: 65535,
        mss: 1448,
        segments_unacked: 0,
        segments_sacked: 0,
        ts_recent: Some(700_000),
        baseline: Some(Baseline { ttl: 63, source: BaselineSource::SynAck }),
        syn_ack: None,
        peer_history: None,
        tls: None,
        unseen: 0,
    }
}

/// Nginx's socket to the client 10.0.1.9:50000: a request came 5 ms ago and is not answered.
pub fn client() -> Socket {
    Socket {
        side: Side::Client,
        local: address("10.0.0.1:80"),
        remote: address("10.0.1.9:50000"),
        cookie: 8,
        bytes_sent: 0,
        bytes_received: 300,
        data_segments_in: 1,
        data_segments_out: 0,
        last_sent_ms: None,
        last_received_ms: Some(5),
        baseline: Some(Baseline { ttl: 60, source: BaselineSource::Handshake }),
        ..upstream()
    }
}

/// The other end of `upstream()`, on this host, held by process 500.
pub fn upstream_peer() -> Socket {
    let end = upstream();
    Socket {
        side: Side::UpstreamPeer,
        local: end.remote,
        remote: end.local,
        cookie: 9,
        owner: Some(Owner { pid: 500, comm: "app".to_owned() }),
        rcv_nxt: end.snd_nxt,
        snd_nxt: end.rcv_nxt,
        unread: 120,
        baseline: None,
        ..end
    }
}

/// The RST an aborting Linux socket sends for this connection.
pub fn active_reset(socket: &Socket) -> Packet {
    Packet {
        time: None,
        source: socket.remote,
        destination: socket.local,
        ttl: socket.baseline.map_or(64, |baseline| baseline.ttl),
        ip_id: Some(4711),
        dont_fragment: Some(true),
        tos: 0,
        flags: TcpFlags(TcpFlags::RST | TcpFlags::ACK),
        seq: socket.rcv_nxt,
        ack: socket.snd_nxt,
        window: 501,
        timestamps: Some(Timestamps { value: 700_012, echo: 1 }),
        options: vec!["timestamps".to_owned()],
        payload_len: 0,
        ifindex: 2,
        on_loopback: false,
        source_mac: None,
        raw: Vec::new(),
    }
}

/// The RST a host sends that knows no such connection.
pub fn stateless_reset(socket: &Socket) -> Packet {
    Packet {
        ip_id: Some(0),
        flags: TcpFlags(TcpFlags::RST),
        ack: 0,
        window: 0,
        timestamps: None,
        options: Vec::new(),
        ..active_reset(socket)
    }
}

/// The RST that refuses a SYN.
pub fn refusal(socket: &Socket) -> Packet {
    Packet {
        flags: TcpFlags(TcpFlags::RST | TcpFlags::ACK),
        seq: 0,
        ack: socket.snd_nxt,
        ..stateless_reset(socket)
    }
}

/// A segment of the peer with data.
pub fn data_from_peer(socket: &Socket, bytes: u32) -> Packet {
    Packet { flags: TcpFlags(TcpFlags::PSH | TcpFlags::ACK), payload_len: bytes, ..active_reset(socket) }
}

/// The task of an Nginx worker, acting.
pub fn worker() -> Task {
    Task { pid: WORKER, tid: WORKER, comm: "nginx".to_owned(), is_actor: true, exiting: None, is_nginx: true }
}

/// Whoever ran on that CPU.
pub fn nobody() -> Task {
    Task { pid: 1, tid: 1, comm: "swapper".to_owned(), is_actor: false, exiting: None, is_nginx: false }
}

/// The upstream's process 500, acting.
pub fn app(exiting: Option<ExitStatus>) -> Task {
    Task { pid: 500, tid: 500, comm: "app".to_owned(), is_actor: true, exiting, is_nginx: false }
}

/// Killed by SIGKILL.
pub const KILLED: ExitStatus = ExitStatus { signal: 9, status: 0, core_dumped: false };

fn event(
    milliseconds: u64,
    kind: EventKind,
    socket: Option<Socket>,
    packet: Option<Packet>,
    task: Task,
) -> (u64, Input) {
    let event = Event { time: at(milliseconds), kind, socket, packet, task, netns: 1, elsewhere: None };
    (milliseconds, Input::Event(Box::new(event)))
}

/// A RST arrived.
pub fn received(milliseconds: u64, socket: Socket, packet: Option<Packet>) -> (u64, Input) {
    event(milliseconds, EventKind::ResetReceived, Some(socket), packet, nobody())
}

/// A socket sent a RST on its own.
pub fn sent(milliseconds: u64, socket: Socket, reason: &str, task: Task) -> (u64, Input) {
    let kind = EventKind::ResetSent {
        reason: Some(reason.to_owned()),
        after_reset: None,
        local: socket.local,
        remote: socket.remote,
        backlog: None,
    };
    event(milliseconds, kind, Some(socket), None, task)
}

/// This host answered a segment that met no socket.
pub fn answered(milliseconds: u64, reason: &str, trigger: Packet, after_reset: Option<u64>) -> (u64, Input) {
    let kind = EventKind::ResetSent {
        reason: Some(reason.to_owned()),
        after_reset: after_reset.map(at),
        local: trigger.destination,
        remote: trigger.source,
        backlog: None,
    };
    event(milliseconds, kind, None, Some(trigger), nobody())
}

/// The same on a kernel that names no reason.
pub fn answered_without_reason(milliseconds: u64, trigger: Packet) -> (u64, Input) {
    let (when, mut input) = answered(milliseconds, "", trigger, None);
    let Input::Event(event) = &mut input else { unreachable!("made above") };
    let EventKind::ResetSent { reason, .. } = &mut event.kind else { unreachable!("made above") };
    *reason = None;
    (when, input)
}

/// A suspicious close.
pub fn closed(milliseconds: u64, socket: Socket, task: Task) -> (u64, Input) {
    let kind = EventKind::Closed { old: socket.state, new: TcpState::Close };
    event(milliseconds, kind, Some(socket), None, task)
}

/// Any other event without a socket.
pub fn bare(milliseconds: u64, kind: EventKind, task: Task) -> (u64, Input) {
    event(milliseconds, kind, None, None, task)
}

/// A line about an upstream, as Nginx writes it a moment after its call failed.
pub fn line(milliseconds: u64, kind: MessageKind, errno: Option<i32>, action: &str) -> LogRecord {
    LogRecord {
        file: "/var/log/nginx/error.log".to_owned(),
        offset: milliseconds,
        arrival: Some(at(milliseconds)),
        time: None,
        level: Some(Level::Error),
        pid: Some(WORKER),
        tid: Some(WORKER),
        connection: Some(3),
        kind,
        side: LogSide::Upstream,
        call: None,
        errno,
        errno_printed: None,
        message: kind.0.replace('_', " "),
        action: Some(action.to_owned()),
        client: Some("10.0.1.9".to_owned()),
        server: Some("example.org".to_owned()),
        request: Some("GET /x HTTP/1.1".to_owned()),
        subrequest: None,
        upstream: Some("10.0.0.2:8080".to_owned()),
        upstream_url: Some("http://10.0.0.2:8080/x".to_owned()),
        host: Some("example.org".to_owned()),
        referrer: None,
        problems: Vec::new(),
        line: None,
        socket: None,
    }
}

/// A line as an input.
pub fn logged(record: LogRecord) -> (u64, Input) {
    let since = record.arrival.map_or(START, |arrival| arrival.0 / 1_000_000);
    (since - START, Input::Log(Box::new(record)))
}

/// The host of the scenes.
pub fn host() -> HostFacts {
    let mut host = HostFacts { host: "edge1".to_owned(), ..HostFacts::default() };
    host.local_addresses = vec![address("10.0.0.1:0").ip()];
    host.nginx.listeners = vec![(address("0.0.0.0:80"), None)];
    host.nginx.upstreams = vec![address("10.0.0.2:8080")];
    host
}

/// The same with this hook alone, which runs or does not.
pub fn host_with_hook(name: &str, running: bool) -> HostFacts {
    let (problem, lost_evidence) = ((!running).then(|| "not here".to_owned()), String::new());
    let hook = HookState { name: name.to_owned(), running, problem, lost_evidence };
    HostFacts { hooks: vec![hook], ..host() }
}

/// Plays inputs and gives every verdict.
pub fn play(inputs: Vec<(u64, Input)>) -> Vec<Verdict> {
    play_on(host(), inputs)
}

/// Plays inputs on a host of one's own.
pub fn play_on(host: HostFacts, inputs: Vec<(u64, Input)>) -> Vec<Verdict> {
    let mut engine = Engine::new(Limits::default());
    engine.handle(at(0), Input::Clock(Clock { offset_ns: 1_790_000_000_000_000_000 }));
    engine.handle(at(0), Input::Host(Box::new(host)));
    let mut verdicts = Vec::new();
    for (milliseconds, input) in inputs {
        engine.handle(at(milliseconds), input);
        verdicts.extend(engine.advance(at(milliseconds)));
    }
    verdicts.extend(engine.finish(at(600_000)));
    for verdict in &verdicts {
        sound(verdict);
    }
    verdicts
}

/// Plays inputs on the host of the scenes and gives what stands behind every verdict, too.
pub fn play_witnessing(inputs: Vec<(u64, Input)>) -> (Vec<Verdict>, Vec<Dossier>) {
    let mut engine = Engine::witnessing(Limits::default());
    engine.handle(at(0), Input::Clock(Clock { offset_ns: 1_790_000_000_000_000_000 }));
    engine.handle(at(0), Input::Host(Box::new(host())));
    for (when, input) in inputs {
        engine.handle(at(when), input);
    }
    (engine.finish(at(60_000)), engine.take_dossiers())
}

/// What holds for every verdict: its certainty is what its evidence allows, at most.
pub fn sound(verdict: &Verdict) {
    let allowed = crate::judge::earned(&verdict.evidence, verdict.party);
    assert!(verdict.certainty >= allowed, "{verdict:#?}");
    assert!(!verdict.summary.is_empty());
    for piece in &verdict.evidence {
        assert!(crate::judge::class_of(&piece.code).is_some(), "{} has no class", piece.code);
    }
}

/// Plays inputs that make exactly one verdict, and checks what it says.
pub fn check(
    inputs: Vec<(u64, Input)>,
    kind: Kind,
    party: Party,
    cause: Cause,
    certainty: Certainty,
) -> Verdict {
    check_on(host(), inputs, kind, party, cause, certainty)
}

/// As [`check`], on a host of one's own.
pub fn check_on(
    host: HostFacts,
    inputs: Vec<(u64, Input)>,
    kind: Kind,
    party: Party,
    cause: Cause,
    certainty: Certainty,
) -> Verdict {
    let verdicts = play_on(host, inputs);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    let verdict = verdicts.into_iter().next().unwrap();
    let said = (verdict.kind, verdict.party, verdict.cause, verdict.certainty);
    assert_eq!(said, (kind, party, cause, certainty), "{verdict:#?}");
    verdict
}

/// Checks the impact too.
pub fn with_impact(verdict: Verdict, impact: Impact) -> Verdict {
    assert_eq!(verdict.impact, impact, "{verdict:#?}");
    verdict
}
