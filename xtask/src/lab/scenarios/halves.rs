//! One end closes its half and something else happens on the other: half-closed clients, an upstream that closes
//! twice, early answers to an upload, tunnels that fall silent, errors inside HTTP/2 that are no reset of TCP.

use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Expect, INCIDENT, LogTruth, ORDINARY, Place, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::PLAIN;
use super::protocols::tunnel;
use super::unavailable::LINE_ALONE;
use super::upstream::{ABORT, RECV, half_answered, in_flight};
use anyhow::Result;
use std::time::Duration;

const V4: &[Family] = &[Family::V4];
const STATIC: &str = "server { listen @LISTEN@; root @ROOT@; }\n";
pub(super) const EAGER: &str =
    "server { listen @LISTEN@; proxy_buffering off; location / { proxy_pass http://@UPSTREAM@; } }\n";
const PATIENT: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; proxy_ignore_client_abort on; } }\n";
const STREAMED: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; \
     proxy_http_version 1.1; proxy_request_buffering off; client_max_body_size 1m; } }\n";
const IMPATIENT_TUNNEL: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; proxy_http_version 1.1; \
     proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_read_timeout 1s; } }\n";
const GRPC: &str = "server { listen @LISTEN@; location / { grpc_pass grpc://@UPSTREAM@; } }\n";
const REALIP: &str = "server { listen @LISTEN@; set_real_ip_from 10.77.0.0/16; set_real_ip_from fd00:77::/32; \
     real_ip_header X-Forwarded-For; real_ip_recursive on; location / { proxy_pass http://@UPSTREAM@; } }\n";

/// A client that left while Nginx worked for it.
pub(super) const CLIENT: Expect = Expect {
    party: "client",
    causes: &["client_abort"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    side: Some(Side::Client),
    ..INCIDENT
};

/// The upstream says in HTTP/2 that it will not serve the request; its connection is well.
const REJECTED: Expect = Expect { party: "upstream", causes: &["upstream_abort"], ..LINE_ALONE };

/// Halves.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "trap-half-closed-client",
        says: "a client closes its half behind the request, gets the whole answer and nobody loses anything",
        servers: STATIC,
        drive: half_closed,
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "trap-half-closed-upstream-resets",
        says: "the client has closed its half, Nginx ignores that, and the upstream resets: the upstream's doing",
        servers: PATIENT,
        drive: half_closed_reset,
        expect: &[Expect { impacts: &[], ..ABORT }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "half-closed-waiting",
        says: "a client closes its half while the upstream works: Nginx takes it for gone and drops the upstream",
        servers: PLAIN,
        drive: half_closed_waiting,
        expect: &[Expect { kinds: &["closed_early", "reset_sent", "timeout"], ..CLIENT }],
        log: LogTruth::Info("client prematurely closed connection"),
        ..ORDINARY
    },
    Scenario {
        name: "upstream-closes-twice",
        says: "the upstream sends half of its response, a FIN, and then a RST",
        servers: EAGER,
        drive: closes_twice,
        expect: &[CLOSES_TWICE],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-refuses-upload",
        says: "the upstream answers 413 in the middle of an upload and closes with the rest unread",
        servers: STREAMED,
        drive: refuses_upload,
        expect: &[Expect { impacts: &[], kinds: &[], ..ABORT }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-tunnel-falls-silent",
        says: "nobody speaks in a tunnel for longer than proxy_read_timeout: Nginx ends it, and nobody failed",
        servers: IMPATIENT_TUNNEL,
        drive: silent_tunnel,
        log: LogTruth::Info("upstream timed out (110"),
        ..ORDINARY
    },
    Scenario {
        name: "grpc-goaway",
        says: "a gRPC upstream sends GOAWAY with an error and closes",
        families: V4,
        servers: GRPC,
        drive: |stage| grpc(stage, GOAWAY),
        expect: &[REJECTED],
        log: LogTruth::Always("upstream sent goaway with error 2"),
        ..ORDINARY
    },
    Scenario {
        name: "trap-grpc-stream-reset",
        says: "a gRPC upstream cancels the stream: RST_STREAM is no RST, and the request fails by the upstream's will",
        families: V4,
        servers: GRPC,
        drive: |stage| grpc(stage, RST_STREAM),
        expect: &[REJECTED],
        log: LogTruth::Always("upstream rejected request with error"),
        ..ORDINARY
    },
    Scenario {
        name: "grpc-goaway-unread",
        says: "a gRPC upstream sends GOAWAY with an error, and more that Nginx leaves unread: its close resets",
        families: V4,
        servers: GRPC,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.server()?.tell(&format!("readable {upstream}"))?;
            let frozen = stage.freeze()?;
            stage.server()?.tell(&format!("hex {upstream} {}", GOAWAY.replace(' ', "")))?;
            stage.server()?.tell(&format!("fill {upstream} 60000"))?;
            drop(frozen);
            stage.response(client, "502")
        },
        expect: &[Expect {
            kinds: &["log_only", "reset_sent"],
            least: Certainty::Undetermined,
            most: Certainty::Strong,
            ..REJECTED
        }],
        log: LogTruth::Always("upstream sent goaway with error 2"),
        ..ORDINARY
    },
    Scenario {
        name: "grpc-unknown-stream",
        says: "a gRPC upstream sends a frame for a stream that Nginx did not open",
        families: V4,
        servers: GRPC,
        drive: |stage| grpc(stage, UNKNOWN_STREAM),
        expect: &[REJECTED],
        log: LogTruth::Always("upstream sent frame for unknown stream"),
        ..ORDINARY
    },
    Scenario {
        name: "trap-real-address-upstream-resets",
        says: "the log names the client of a proxy in front (realip); the upstream resets",
        servers: REALIP,
        drive: real_reset,
        expect: &[ABORT],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "trap-real-address-client-aborts",
        says: "the same, and the proxy in front resets while the upstream works",
        servers: REALIP,
        drive: real_abort,
        expect: &[CLIENT],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "local-firewall-input",
        says: "the Nginx host's own filter rejects the request on its way into an upstream of the same host",
        place: Place::Local,
        servers: PLAIN,
        drive: filter_input,
        expect: &[Expect {
            party: "middlebox",
            causes: &["local_firewall"],
            kinds: &["reset_received"],
            impacts: &["request_failed"],
            ..INCIDENT
        }],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "local-firewall-answer",
        says: "the Nginx host's own filter rejects the response to the client: the RST comes in on loopback in its name",
        servers: STATIC,
        drive: filter_answer,
        expect: &[Expect {
            party: "middlebox",
            causes: &["local_firewall"],
            kinds: &["reset_received"],
            impacts: &[],
            least: Certainty::Proven,
            side: Some(Side::Client),
            ..INCIDENT
        }],
        log: LogTruth::Either,
        ..ORDINARY
    },
];

/// SETTINGS and GOAWAY with `INTERNAL_ERROR` (RFC 9113, section 6.8).
const GOAWAY: &str = "000000040000000000 000008070000000000 00000000 00000002";
/// SETTINGS and HEADERS (`:status 200`) for stream 3.
const UNKNOWN_STREAM: &str = "000000040000000000 000001010400000003 88";
/// SETTINGS and `RST_STREAM` of stream 1 with `INTERNAL_ERROR`.
const RST_STREAM: &str = "000000040000000000 000004030000000001 00000002";

fn half_closed(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.client.tell(&format!("finish {client}"))?;
    stage.response(client, "200")?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn half_closed_reset(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.client.tell(&format!("finish {client}"))?;
    wait::pass(Duration::from_millis(50))?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn half_closed_waiting(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    finish(stage, client, upstream)
}

/// The client closes its half, Nginx drops the upstream for it, and then the client.
pub(super) fn finish(stage: &mut Stage<'_>, client: u32, upstream: u32) -> Result<()> {
    stage.client.tell(&format!("finish {client}"))?;
    stage.server()?.tell(&format!("drain {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

pub(super) const CLOSES_TWICE: Expect = Expect {
    causes: &["upstream_closed_early", "upstream_abort"],
    kinds: &[],
    impacts: &["response_truncated"],
    ..ABORT
};

pub(super) fn closes_twice(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = half_answered(stage)?;
    let frozen = stage.freeze()?;
    stage.server()?.tell(&format!("finish {upstream}"))?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    drop(frozen);
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn refuses_upload(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.client.tell(&format!(
        "send {client} POST /upload HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: 300000\\r\\n\\r\\n"
    ))?;
    stage.client.start_command(&format!("fill {client} 200000"))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage.server()?.tell(&format!("read {upstream} 1000"))?;
    let frozen = stage.freeze()?;
    stage.server()?.tell(&format!("send {upstream} HTTP/1.1 413 Too Large\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nhello"))?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    stage.wait_upstream("the RST reaches Nginx's host", |socket| socket.is_none())?;
    drop(frozen);
    stage.client.finish_any()?;
    stage.client.try_tell(&format!("drain {client}"))
}

fn silent_tunnel(stage: &mut Stage<'_>) -> Result<()> {
    let (client, _) = tunnel(stage)?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn grpc(stage: &mut Stage<'_>, frames: &str) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.server()?.tell(&format!("hex {upstream} {}", frames.replace(' ', "")))?;
    stage.response(client, "502")
}

fn forwarded(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.client.tell(&format!(
        "send {client} GET /fault HTTP/1.1\\r\\nHost: lab\\r\\nX-Forwarded-For: 203.0.113.9, 10.77.0.3\\r\\n\\r\\n"
    ))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    Ok((client, upstream))
}

fn real_reset(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = forwarded(stage)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

fn real_abort(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = forwarded(stage)?;
    stage.client.tell(&format!("reset {client}"))?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

fn filter_input(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let rule = format!(
        "{} tcp dport {} meta length > 88 reject with tcp reset",
        stage.towards_upstream(),
        stage.upstream().port()
    );
    stage.filter_input(Node::Web, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /rejected")?;
    let upstream = stage.accept(listener)?;
    stage.response(client, "502")?;
    wait::pass(Duration::from_millis(30))?;
    stage.answer(upstream)?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

fn filter_answer(stage: &mut Stage<'_>) -> Result<()> {
    let rule = format!("{} meta length > 88 reject with tcp reset", stage.towards_client());
    stage.filter_output(Node::Web, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.wait_client("the RST reaches Nginx", |socket| socket.is_none())
}
