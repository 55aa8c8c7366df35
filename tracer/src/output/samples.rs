//! Hand-made verdicts, one or more of every kind, for tests of the views and of the schema.

use crate::model::event::QueueKind;
use crate::model::log::Level;
use crate::model::verdict::*;

const CLIENT: &str = "198.51.100.7:51234";
const UPSTREAM: &str = "10.0.1.10:8080";

/// Every sample.
pub fn all() -> Vec<Verdict> {
    vec![
        upstream_abort(),
        process_exit(),
        keepalive_race(),
        refused(),
        slow(),
        closed_early(),
        forged_reset(),
        contested(),
        client_abort(),
        client_late_reset(),
        consequence(),
        timeout_reset(),
        listen_overflow(),
        no_live_upstreams(),
        undecided(),
        hostile(),
    ]
}

fn base(kind: Kind, party: Party, cause: Cause, certainty: Certainty, summary: &str) -> Verdict {
    Verdict {
        schema: SCHEMA.into(),
        id: "01JNA8VQ3W6T4Z0E5R7Y9HKMPC".to_owned(),
        host: "web1".to_owned(),
        time: "2026-03-01T14:03:22.118204551Z".to_owned(),
        kind,
        party,
        segment: Segment::NginxUpstream,
        cause,
        certainty,
        impact: Impact::RequestFailed,
        phase: Phase::Waiting,
        stage: Stage::PostPsh,
        consequence_of: None,
        summary: summary.to_owned(),
        evidence: Vec::new(),
        missing: Vec::new(),
        alternatives: Vec::new(),
        connection: Some(connection(ConnectionSide::Upstream)),
        peer_connection: Some(connection(ConnectionSide::Client)),
        reset: None,
        log: None,
        matched: None,
        listener: None,
        advice: Vec::new(),
        packets: Vec::new(),
    }
}

fn connection(side: ConnectionSide) -> Connection {
    let (local, remote) = match side {
        ConnectionSide::Client => ("10.0.0.5:443", CLIENT),
        ConnectionSide::Upstream => ("10.0.0.5:43210", UPSTREAM),
    };
    Connection {
        side,
        local: local.to_owned(),
        remote: remote.to_owned(),
        netns: 4_026_531_840,
        cookie: 4711,
        opened_at: Some("2026-03-01T14:03:18.900000000Z".to_owned()),
        age_ms: Some(3218),
        idle_ms: Some(12),
        bytes_sent: 812,
        bytes_received: 0,
        srtt_us: 420,
        retransmits: 0,
        state: "ESTABLISHED".to_owned(),
        preexisting: false,
        owner: Some(ProcessRef { pid: 813, comm: "nginx".to_owned() }),
    }
}

fn reset(direction: Direction) -> Reset {
    Reset {
        direction,
        flags: Some("RST|ACK".to_owned()),
        seq: Some(1000),
        ack: Some(2000),
        window: Some(501),
        ttl: Some(63),
        baseline_ttl: Some(63),
        ip_id: Some(4242),
        expected_seq: Some(1000),
        seq_offset: Some(0),
        options: Some(vec!["timestamps".to_owned()]),
        reason: Some("TCP_ABORT_ON_CLOSE".to_owned()),
        sender: None,
    }
}

fn log(message: &str, errno: Option<i32>) -> LogLine {
    LogLine {
        file: "/var/log/nginx/error.log".to_owned(),
        offset: 18_234,
        time: Some("2026-03-01T14:03:22Z".to_owned()),
        level: Some(Level::Error),
        pid: Some(813),
        connection: Some(57),
        errno,
        message: message.to_owned(),
        action: Some("reading response header from upstream".to_owned()),
        client: Some("198.51.100.7".to_owned()),
        server: Some("shop.example".to_owned()),
        request: Some("GET /api/orders/17 HTTP/1.1".to_owned()),
        upstream: Some(UPSTREAM.to_owned()),
        host: Some("shop.example".to_owned()),
    }
}

fn joined(verdict: &mut Verdict, message: &str, errno: Option<i32>) {
    verdict.log = Some(log(message, errno));
    verdict.matched = Some(Match { method: MatchMethod::Address, gap_ms: 1, candidates: 1 });
}

fn evidence(code: &'static str, weight: Weight, detail: &str) -> Evidence {
    Evidence { code: code.into(), weight, detail: detail.to_owned(), value: None, baseline: None }
}

fn advice(text: &str, place: &str, change: &str) -> Advice {
    Advice { text: text.to_owned(), place: place.to_owned(), change: change.to_owned() }
}

/// An upstream on this host closed with unread data.
pub fn upstream_abort() -> Verdict {
    let mut verdict = base(
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Proven,
        "Upstream 10.0.1.10:8080 (java, pid 4711) closed the connection with 312 bytes of the request unread.",
    );
    verdict.evidence = vec![
        evidence("ttl_matches", Weight::Supporting, "TTL 63 is that of the SYN-ACK of this connection"),
        evidence(
            "sender_seen",
            Weight::Decisive,
            "the kernel sent the RST when java (pid 4711) closed the socket",
        ),
    ];
    verdict.evidence[0].value = Some("63".to_owned());
    verdict.evidence[0].baseline = Some("63".to_owned());
    let sender = Sender {
        host: None,
        pid: 4711,
        comm: "java".to_owned(),
        exe: Some("/usr/bin/java".to_owned()),
        exit: None,
        cgroup: None,
        container: None,
        unit: None,
    };
    verdict.reset = Some(Reset { sender: Some(sender), ..reset(Direction::Received) });
    joined(&mut verdict, "recv() failed", Some(104));
    verdict
}

/// The upstream process was killed.
pub fn process_exit() -> Verdict {
    let mut verdict = base(
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamProcessExit,
        Certainty::Proven,
        "Upstream process gunicorn (pid 9120) was killed by signal 9 (SIGKILL) while the request was in flight.",
    );
    verdict.segment = Segment::Upstream;
    verdict.evidence = vec![evidence(
        "sender_exiting",
        Weight::Decisive,
        "the RST was sent by pid 9120 while it was exiting",
    )];
    let exit = Some("killed by signal 9 (SIGKILL)".to_owned());
    let sender = Sender {
        host: None,
        pid: 9120,
        comm: "gunicorn".to_owned(),
        exe: None,
        exit,
        cgroup: None,
        container: None,
        unit: None,
    };
    verdict.reset = Some(Reset { sender: Some(sender), ..reset(Direction::Received) });
    joined(&mut verdict, "upstream prematurely closed connection", None);
    verdict
}

/// A kept-alive connection was reused too late.
pub fn keepalive_race() -> Verdict {
    let mut verdict = base(
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamKeepaliveRace,
        Certainty::Strong,
        "Nginx reused a connection to 10.0.1.10:8080 that had been idle for 5.0 s, as the upstream closed it.",
    );
    verdict.evidence = vec![
        evidence("idle_before_send", Weight::Supporting, "idle for 5003 ms before the request was sent"),
        evidence("no_answer_byte", Weight::Supporting, "no byte of an answer came after the request"),
    ];
    verdict.impact = Impact::RequestRetried;
    verdict.reset = Some(reset(Direction::Received));
    joined(&mut verdict, "upstream prematurely closed connection", None);
    verdict.advice = vec![advice(
        "the upstream closes connections that were idle for 5.0 s; Nginx keeps them for 60 s",
        "upstream block",
        "keepalive_timeout 4s;",
    )];
    verdict
}

/// Nothing listens.
pub fn refused() -> Verdict {
    let mut verdict = base(
        Kind::Refused,
        Party::Upstream,
        Cause::UpstreamRefused,
        Certainty::Strong,
        "Nothing listens on 10.0.1.10:8080: the SYN was answered by a RST.",
    );
    verdict.phase = Phase::Connecting;
    verdict.stage = Stage::PostSyn;
    verdict.evidence = vec![evidence("syn_refused", Weight::Supporting, "a RST acknowledged the SYN")];
    joined(&mut verdict, "connect() failed", Some(111));
    verdict
}

/// No answer in time.
pub fn slow() -> Verdict {
    let mut verdict = base(
        Kind::Timeout,
        Party::Upstream,
        Cause::UpstreamSlow,
        Certainty::Strong,
        "10.0.1.10:8080 acknowledged the request and did not answer within 60 s.",
    );
    verdict.evidence = vec![evidence("request_acked", Weight::Supporting, "all 812 bytes were acknowledged")];
    joined(&mut verdict, "upstream timed out", Some(110));
    verdict
}

/// FIN before the response was complete.
pub fn closed_early() -> Verdict {
    let mut verdict = base(
        Kind::ClosedEarly,
        Party::Upstream,
        Cause::UpstreamClosedEarly,
        Certainty::Strong,
        "10.0.1.10:8080 closed after 1432 bytes of the response.",
    );
    verdict.impact = Impact::ResponseTruncated;
    verdict.phase = Phase::Response;
    verdict.evidence = vec![evidence("fin_first", Weight::Supporting, "a FIN came after 1432 bytes")];
    verdict
}

/// A router answered in the upstream's name.
pub fn forged_reset() -> Verdict {
    let mut verdict = base(
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxForgedReset,
        Certainty::Proven,
        "A device on the path sent a RST in the name of 10.0.1.10:8080, which went on talking afterwards.",
    );
    verdict.evidence = vec![
        evidence("peer_spoke_again", Weight::Decisive, "10.0.1.10:8080 sent data 210 ms after \"its\" RST"),
        evidence("ttl_differs", Weight::Supporting, "TTL 64 instead of 63: the sender is one hop nearer"),
        evidence("ip_id_zero", Weight::Supporting, "IP ID 0, the upstream's packets carry 4242 to 4250"),
    ];
    verdict.reset = Some(Reset { ttl: Some(64), ..reset(Direction::Received) });
    joined(&mut verdict, "recv() failed", Some(104));
    verdict.alternatives = vec![Alternative {
        party: Party::Upstream,
        cause: Cause::UpstreamAbort,
        why_not: "an upstream that had reset the connection would not send data on it".to_owned(),
    }];
    verdict.advice = vec![
        advice(
            "a device rejects established connections",
            "router or firewall towards 10.0.1.10",
            "look for a REJECT rule or a session limit",
        ),
        advice("the proof needs both ends", "upstream host", "run rstscope there as well"),
    ];
    verdict
}

/// One piece speaks against it.
pub fn contested() -> Verdict {
    let mut verdict = base(
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxIdleReset,
        Certainty::Weak,
        "A device seems to have answered for 10.0.1.10:8080 on a connection that was idle for 1 h 2 min.",
    );
    verdict.evidence = vec![
        evidence("seq_exact", Weight::Against, "the sequence number is exactly the expected one"),
        evidence("ttl_differs", Weight::Supporting, "TTL 64 instead of 63: the sender is one hop nearer"),
        evidence("long_idle", Weight::Supporting, "idle for 3720 s before the request was sent"),
    ];
    let (idle_ms, age_ms) = (Some(3_720_000), Some(3_725_000));
    verdict.connection = verdict.connection.map(|it| Connection { age_ms, idle_ms, ..it });
    verdict.impact = Impact::ConnectionOnly;
    verdict.missing =
        vec![Missing { code: "other_end".into(), why: "the upstream's host was not observed".to_owned() }];
    verdict.reset = Some(Reset { ttl: Some(64), ..reset(Direction::Received) });
    verdict
}

/// The client left in mid-response; nothing in the log.
pub fn client_abort() -> Verdict {
    let mut verdict = base(
        Kind::ResetReceived,
        Party::Client,
        Cause::ClientAbort,
        Certainty::Strong,
        "Client 198.51.100.7 reset the connection after 48 KiB of the response.",
    );
    verdict.segment = Segment::ClientNginx;
    verdict.impact = Impact::ResponseTruncated;
    verdict.phase = Phase::Response;
    verdict.stage = Stage::Later;
    verdict.connection = Some(connection(ConnectionSide::Client));
    verdict.peer_connection = None;
    verdict.evidence = vec![
        evidence("in_flight", Weight::Supporting, "14480 bytes were sent and not acknowledged"),
        evidence("ttl_matches", Weight::Supporting, "TTL 52 is that of the handshake"),
    ];
    verdict.reset = Some(reset(Direction::Received));
    verdict
}

/// The client reset after a complete response.
pub fn client_late_reset() -> Verdict {
    let mut verdict = base(
        Kind::ResetReceived,
        Party::Client,
        Cause::ClientLateReset,
        Certainty::Strong,
        "Client 198.51.100.7 reset the connection after the response was complete.",
    );
    verdict.segment = Segment::ClientNginx;
    verdict.impact = Impact::Harmless;
    verdict.phase = Phase::Closed;
    verdict.evidence =
        vec![evidence("all_acked", Weight::Supporting, "every byte of the response was acknowledged")];
    verdict.connection = Some(connection(ConnectionSide::Client));
    verdict.peer_connection = None;
    verdict
}

/// Nginx dropped the upstream connection because the client had gone.
pub fn consequence() -> Verdict {
    let mut verdict = client_abort();
    verdict.kind = Kind::ResetSent;
    verdict.impact = Impact::Harmless;
    verdict.consequence_of = Some("01JNA8VQ3W6T4Z0E5R7Y9HKMPB".to_owned());
    verdict.summary = String::from("Nginx reset 10.0.1.10:8080 because the client had aborted.");
    verdict.connection = Some(connection(ConnectionSide::Upstream));
    verdict
}

/// Nginx reset on purpose.
pub fn timeout_reset() -> Verdict {
    let mut verdict = base(
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxTimeoutReset,
        Certainty::Proven,
        "Nginx reset the timed-out connection of 198.51.100.7 on purpose (reset_timedout_connection).",
    );
    verdict.segment = Segment::Nginx;
    verdict.connection = Some(Connection {
        preexisting: true,
        opened_at: None,
        age_ms: None,
        ..connection(ConnectionSide::Client)
    });
    verdict.peer_connection = None;
    verdict.evidence =
        vec![evidence("linger_zero", Weight::Decisive, "worker 813 closed the socket with zero linger")];
    verdict.reset = Some(reset(Direction::Sent));
    verdict
}

/// Nginx's own queue was full.
pub fn listen_overflow() -> Verdict {
    let mut verdict = base(
        Kind::ListenOverflow,
        Party::Nginx,
        Cause::NginxListenOverflow,
        Certainty::Proven,
        "The accept queue of 0.0.0.0:443 was full (512 of 511): 37 connection attempts were dropped.",
    );
    verdict.segment = Segment::Nginx;
    verdict.impact = Impact::Unknown;
    verdict.phase = Phase::Connecting;
    verdict.stage = Stage::PostSyn;
    verdict.connection = None;
    verdict.peer_connection = None;
    verdict.evidence = vec![evidence(
        "queue_full",
        Weight::Decisive,
        "the kernel dropped SYNs with 512 connections of 511 waiting",
    )];
    verdict.listener = Some(Listener {
        address: "0.0.0.0:443".to_owned(),
        queue: 512,
        limit: 511,
        queue_kind: QueueKind::Accept,
        dropped: 37,
        owner: Some(ProcessRef { pid: 813, comm: "nginx".to_owned() }),
    });
    verdict.advice = vec![advice(
        "the queue holds 511 connections and was full",
        "listen directive and net.core.somaxconn",
        "listen 443 backlog=4096; sysctl net.core.somaxconn=4096",
    )];
    verdict
}

/// The log alone.
pub fn no_live_upstreams() -> Verdict {
    let mut verdict = base(
        Kind::LogOnly,
        Party::Upstream,
        Cause::UpstreamUnavailable,
        Certainty::Undetermined,
        "Nginx had marked every server of the group \"backend\" as failed.",
    );
    verdict.connection = None;
    verdict.peer_connection = None;
    verdict.log = Some(LogLine { upstream: Some("backend".to_owned()), ..log("no live upstreams", None) });
    verdict
}

/// Nothing holds.
pub fn undecided() -> Verdict {
    let mut verdict = base(
        Kind::ResetReceived,
        Party::Unknown,
        Cause::InsufficientEvidence,
        Certainty::Undetermined,
        "A RST from 10.0.1.10:8080 ended the connection; who sent it can't be told.",
    );
    verdict.segment = Segment::Unknown;
    verdict.impact = Impact::Unknown;
    let why = "cgroup v2 is not mounted, so the RST's TTL was not seen".to_owned();
    verdict.missing = vec![
        Missing { code: "rst_header".into(), why },
        Missing { code: "hop_baseline".into(), why: "the connection is older than the trace".to_owned() },
    ];
    verdict.reset = Some(Reset {
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
        ..reset(Direction::Received)
    });
    verdict
}

/// Every text from outside tries to take over the terminal; IPv6.
pub fn hostile() -> Verdict {
    let mut verdict = upstream_abort();
    let attack = "\x1b[2J\x1b]0;owned\x07\u{202e}\u{9b}31m\r\nfake line";
    verdict.summary = format!("sum {attack}");
    verdict.evidence[1].detail = format!("detail {attack}");
    let remote = String::from("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535");
    let local = String::from("[2001:db8:1111:2222:3333:4444:5555:6666]:43210");
    verdict.connection = verdict.connection.map(|it| Connection { local, remote, ..it });
    if let Some(log) = &mut verdict.log {
        log.file = format!("/var/log/{attack}");
        log.message = format!("message {attack}");
        log.request = Some(format!("GET /{attack}{} HTTP/1.1", "x".repeat(3000)));
    }
    verdict
}
