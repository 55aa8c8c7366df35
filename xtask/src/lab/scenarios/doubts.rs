//! What can be told from one end is less than it seems: silence behind an acknowledgment, a distance that is a setting, a
//! listener that is full while another one of its host answers, a request that its client gave up without a word to TCP.

use super::super::net::{Family, Node};
use super::super::puppet::numbered;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Place, Scenario, Side};
use super::super::seat;
use super::super::stage::Stage;
use super::super::wait;
use super::clients::UNLOGGED_ABORT;
use super::firewall::REJECT_DATA;
use super::protocols::{HTTP2_CANCEL, HTTP2_REQUEST};
use super::silence::{IMPATIENT, TIMED_OUT};
use super::unavailable::{FORGOTTEN_BETWEEN, forgotten_by_own_ttl};
use super::upstream::{ABORT, RECV, in_flight};
use super::{KEPT, PLAIN, THINKS};
use anyhow::Result;
use std::net::SocketAddr;
use std::time::Duration;

const V4: &[Family] = &[Family::V4];

/// A TTL that a socket may have of its own, and that could be a distance.
pub(super) const PLAUSIBLE_TTL: u8 = 55;

const TWO_PORTS: &str = "server { listen @LISTEN@; proxy_connect_timeout 3s; location / { proxy_pass http://@UPSTREAM@; } \
     location /other { proxy_pass http://@BACKUP@; } }\n";
const HTTP2: &str =
    "server { listen @LISTEN@ http2; location / { proxy_pass http://@UPSTREAM@; proxy_buffering off; } }\n";
const SLOW_444: &str = "server { listen @LISTEN@; reset_timedout_connection on; location / { auth_request /auth; \
     error_page 403 = @drop; } location /auth { internal; proxy_pass http://@UPSTREAM@; } location @drop { return 444; } }\n";
const PAIR: &str = "upstream @NAME@ { server @UPSTREAM@; server @BACKUP@; }\n\
     server { listen @LISTEN@; location / { proxy_pass http://@NAME@; } }\n";

/// That is all of it that Nginx's host gets to see, whoever is to blame.
const SLOW: Expect = Expect {
    party: "upstream",
    causes: &["upstream_slow"],
    kinds: &["timeout"],
    most: Certainty::Weak,
    ..INCIDENT
};

/// Nginx ended the upstream leg, and nothing that can be seen tells why.
const UNEXPLAINED: Expect = Expect {
    party: "unknown",
    causes: &["insufficient_evidence"],
    impacts: &["unknown", "connection_only", "request_failed"],
    least: Certainty::Undetermined,
    logged: false,
    ..INCIDENT
};

/// The line says that a client cancelled the stream; its connection goes on.
const CANCELLED: Expect = Expect {
    party: "client",
    causes: &["client_abort"],
    impacts: &["request_failed", "response_truncated"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    logged: false,
    checks: &[Check::Evidence(&["log_client_aborted"])],
    ..INCIDENT
};

/// From Nginx's end it looks like a device as far away as the upstream.
const OWN_FILTER: Expect =
    Expect { party: "middlebox", causes: &["middlebox_forged_reset"], most: Certainty::Weak, ..ABORT };

/// Doubts.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "doubt-answer-lost",
        says: "the request was acknowledged, and the answer is lost on its way: it looks like an upstream that does not answer",
        servers: IMPATIENT,
        families: V4,
        drive: |stage| {
            let (client, upstream) = unheard(stage)?;
            stage.answer(upstream)?;
            stage.response(client, "504")
        },
        expect: &[SLOW],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "doubt-answer-too-large",
        says: "full segments of the answer vanish behind its head: it looks like an upstream that stopped",
        servers: IMPATIENT,
        families: V4,
        drive: answer_too_large,
        expect: &[Expect {
            impacts: &["response_truncated"],
            most: Certainty::Undetermined,
            least: Certainty::Undetermined,
            kinds: &["log_only", "timeout"],
            side: None,
            ..SLOW
        }],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "doubt-overflow-beside",
        says: "a remote listener is full, and another one of the same host answers meanwhile",
        servers: TWO_PORTS,
        families: V4,
        drive: |stage| {
            let address = stage.upstream();
            stage.server()?.tell(&format!("listen {address} 1"))?;
            for _ in 0..2 {
                stage.server()?.tell(&format!("connect {} {address}", address.ip()))?;
            }
            let beside = SocketAddr::new(address.ip(), seat::BACKUP);
            let other = numbered(&stage.server()?.tell(&format!("listen {beside} 64"))?)?.0;
            let client = stage.connect()?;
            stage.request(client, "GET /full")?;
            stage.wait_connecting()?;
            wait::pass(Duration::from_millis(1_200))?;
            let first = stage.truth.client.clone();
            let second = stage.connect()?;
            stage.request(second, "GET /other")?;
            let upstream = stage.accept(other)?;
            stage.read_request(upstream)?;
            stage.answer(upstream)?;
            stage.response(second, "200")?;
            stage.truth.client = first;
            stage.truth.upstream_local = None;
            stage.response(client, "504")
        },
        // The queue there cannot be seen from here.
        expect: &[Expect {
            party: "middlebox",
            causes: &["middlebox_drop"],
            kinds: &["timeout"],
            most: Certainty::Weak,
            ..INCIDENT
        }],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "nginx-return-444-late",
        says: "the same after a slow subrequest decided on it",
        servers: SLOW_444,
        families: V4,
        drive: |stage| {
            let listener = stage.listen()?;
            let client = stage.connect()?;
            stage.request(client, "GET /nothing")?;
            let upstream = stage.accept(listener)?;
            stage.read_request(upstream)?;
            wait::pass(Duration::from_millis(600))?;
            stage
                .server()?
                .tell(&format!("send {upstream} HTTP/1.1 403 No\\r\\nContent-Length: 0\\r\\n\\r\\n"))?;
            stage.client.tell(&format!("drain {client}")).map(drop)
        },
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_closed_unread"],
            kinds: &["reset_sent"],
            side: Some(Side::Client),
            ..INCIDENT
        }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-http2-cancel-waiting",
        says: "an HTTP/2 client cancels a stream on which it waits for the upstream, and keeps the connection",
        servers: HTTP2,
        families: V4,
        drive: |stage| {
            let (client, upstream) = http2_in_flight(stage)?;
            stage.client.tell(&format!("hex {client} {HTTP2_CANCEL}"))?;
            stage.server()?.tell(&format!("drain {upstream}"))?;
            // A connection that ends with the stream is a client that leaves.
            wait::pass(Duration::from_millis(300))?;
            stage.client.tell(&format!("finish {client}"))?;
            stage.client.tell(&format!("drain {client}")).map(drop)
        },
        expect: &[Expect { most: Certainty::Weak, ..UNEXPLAINED }],
        expect_at_info: &[CANCELLED],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-http2-cancel-unread",
        says: "the same in the middle of a response of which Nginx has not read everything",
        servers: HTTP2,
        families: V4,
        drive: |stage| {
            let (client, upstream) = http2_in_flight(stage)?;
            let head = "HTTP/1.1 200 OK\\r\\nContent-Length: 4000000\\r\\n\\r\\n";
            stage.server()?.tell(&format!("send {upstream} {head}"))?;
            stage.server()?.start_command(&format!("fill {upstream} 4000000"))?;
            stage.client.tell(&format!("read {client} 60000"))?;
            wait::pass(Duration::from_millis(300))?;
            stage.client.tell(&format!("hex {client} {HTTP2_CANCEL}"))?;
            wait::pass(Duration::from_millis(300))?;
            stage.client.tell(&format!("finish {client}"))?;
            stage.client.tell(&format!("drain {client}")).map(drop)
        },
        expect: &[],
        expect_at_info: &[CANCELLED],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-own-ttl-near",
        says: "a listener with a TTL of its own that could be a distance, were the way to it not so short; its host forgets",
        families: V4,
        servers: KEPT,
        drive: |stage| forgotten_by_own_ttl(stage, PLAUSIBLE_TTL),
        expect: &[FORGOTTEN_BETWEEN],
        with_both: &["upstream"],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "trap-own-ttl-filter",
        says: "the packet filter of a host whose listener has a TTL of its own rejects the request, and its server goes on: \
               the RST has the system's TTL, and no device is proven by that",
        servers: PLAIN,
        families: V4,
        drive: own_filter,
        expect: &[OWN_FILTER],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "two-bad-upstreams",
        says: "one upstream resets the request, the next one refuses it (proxy_next_upstream)",
        servers: PAIR,
        families: V4,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            stage.server()?.tell(&format!("reset {upstream}"))?;
            stage.response(client, "502")?;
            stage.truth.upstream_local = None;
            Ok(())
        },
        expect: &[
            Expect { impacts: &["request_retried", "request_failed"], ..ABORT },
            Expect {
                causes: &["upstream_refused"],
                kinds: &["refused"],
                impacts: &["request_failed", "request_retried"],
                side: None,
                logged: false,
                ..ABORT
            },
        ],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "two-parties-at-once",
        says: "client and upstream reset the two halves of a request before Nginx looks",
        servers: PLAIN,
        families: V4,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            let frozen = stage.freeze()?;
            stage.client.tell(&format!("reset {client}"))?;
            stage.server()?.tell(&format!("reset {upstream}"))?;
            stage.wait_client("the client's RST reaches Nginx's host", |socket| socket.is_none())?;
            stage.wait_upstream("the upstream's RST, too", |socket| socket.is_none())?;
            drop(frozen);
            wait::pass(Duration::from_millis(200))
        },
        expect: &[UNLOGGED_ABORT, Expect { impacts: &[], logged: false, ..ABORT }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-local-killed-with-504",
        says: "a local upstream is killed in the moment Nginx gives up",
        place: Place::Local,
        servers: IMPATIENT,
        families: V4,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            stage.client.tell(&format!("readable {client}"))?;
            stage.kill_server()?;
            stage.response(client, "504")
        },
        expect: &[Expect { most: Certainty::Proven, ..SLOW }],
        log: TIMED_OUT,
        ..ORDINARY
    },
];

/// A request that the upstream has acknowledged, and from now on nothing of the upstream is heard.
pub(super) fn unheard(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    wait::pass(Duration::from_millis(200))?;
    let rule = format!("{} drop", stage.leaving_upstream());
    stage.filter(Node::Far, &rule)?;
    Ok((client, upstream))
}

fn own_filter(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    stage.server()?.tell(&format!("ttl {listener} {PLAUSIBLE_TTL}"))?;
    let rule = format!("{} {REJECT_DATA}", stage.towards_upstream());
    stage.filter_input(Node::Upstream, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /rejected")?;
    let upstream = stage.accept(listener)?;
    stage.response(client, "502")?;
    wait::pass(THINKS)?;
    stage.answer(upstream)?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

fn http2_in_flight(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.client.tell(&format!("hex {client} {HTTP2_REQUEST}"))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    Ok((client, upstream))
}

fn answer_too_large(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    let rule = format!("{} meta length > 1300 drop", stage.leaving_upstream());
    stage.filter(Node::Far, &rule)?;
    let head = "HTTP/1.1 200 OK\\r\\nContent-Length: 4800\\r\\n\\r\\n";
    stage.server()?.tell(&format!("send {upstream} {head}"))?;
    stage.server()?.tell(&format!("fill {upstream} 4800"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}
