//! Clients that leave in order: with last words that Nginx never reads, so that its own close is the one that resets.

use super::super::kernel;
use super::super::net::Family;
use super::super::scenario::{Certainty, Check, Expect, LogTruth, ORDINARY, Scenario};
use super::super::wait;
use super::PLAIN;
use super::halves::{CLIENT, EAGER, finish};
use super::upstream::{half_answered, in_flight};
use std::time::Duration;

const V4: &[Family] = &[Family::V4];

/// A record of TLS 1.3 as long as its `close_notify`.
const FAREWELL: &str = "17030300130102030405060708090a0b0c0d0e0f10111213";

/// Longer than a line of access.log takes to be read.
const PAUSE: Duration = Duration::from_millis(1_500);

const LEFT: Expect =
    Expect { kinds: &["reset_sent"], impacts: &["request_failed"], checks: &[Check::OtherHalf], ..CLIENT };

const LINE: LogTruth = LogTruth::Info("client prematurely closed connection");

/// Clients that leave.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "client-leaves-with-farewell",
        says: "a client says what TLS says at the end, and closes, while the upstream works",
        servers: PLAIN,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            stage.client.tell(&format!("hex {client} {FAREWELL}"))?;
            finish(stage, client, upstream)
        },
        expect: &[LEFT],
        log: LINE,
        ..ORDINARY
    },
    Scenario {
        name: "client-leaves-pipelined",
        says: "a client asks for more behind its request, and closes, while the upstream works",
        families: V4,
        servers: PLAIN,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            let agent = "x".repeat(100);
            let more = format!("GET /more HTTP/1.1\\r\\nHost: lab\\r\\nUser-Agent: {agent}\\r\\n\\r\\n");
            stage.client.tell(&format!("send {client} {more}"))?;
            finish(stage, client, upstream)
        },
        expect: &[LEFT],
        log: LINE,
        ..ORDINARY
    },
    Scenario {
        name: "client-leaves-download",
        says: "the same as the first in the middle of a response",
        families: V4,
        servers: EAGER,
        drive: |stage| {
            let (client, upstream) = half_answered(stage)?;
            stage.client.tell(&format!("hex {client} {FAREWELL}"))?;
            finish(stage, client, upstream)
        },
        expect: &[Expect { impacts: &["response_truncated", "request_failed"], checks: &[], ..LEFT }],
        log: LINE,
        ..ORDINARY
    },
    Scenario {
        name: "client-leaves-pause",
        says: "a client closes in order in the middle of a response: the kernel sees an orderly close, only a line tells",
        families: V4,
        servers: EAGER,
        drive: |stage| {
            let (client, upstream) = half_answered(stage)?;
            wait::pass(PAUSE)?;
            finish(stage, client, upstream)
        },
        expect: &[],
        expect_at_info: &[Expect {
            kinds: &["log_only"],
            impacts: &["response_truncated"],
            least: Certainty::Undetermined,
            side: None,
            ..CLIENT
        }],
        log: LINE,
        ..ORDINARY
    },
    Scenario {
        name: "client-resets-in-pause",
        says: "a client resets while a response pauses of which it has got everything so far",
        servers: EAGER,
        drive: |stage| {
            let (client, upstream) = half_answered(stage)?;
            wait::pass(PAUSE)?;
            stage.client.tell(&format!("reset {client}"))?;
            stage.server()?.tell(&format!("drain {upstream}")).map(drop)
        },
        // A format of access.log with `$request_time` would tell, too.
        expect: &[],
        expect_at_info: &[Expect { impacts: &["response_truncated"], logged: false, ..CLIENT }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-other-client-leaves",
        says: "a client that has its answer resets at the moment in which another one leaves its request",
        families: V4,
        servers: PLAIN,
        drive: |stage| {
            let listener = stage.listen()?;
            let done = stage.connect()?;
            stage.exchange(done, listener)?;
            let client = stage.connect()?;
            stage.request(client, "GET /left")?;
            let upstream = stage.accept(listener)?;
            stage.read_request(upstream)?;
            let frozen = stage.freeze()?;
            stage.client.tell(&format!("reset {done}"))?;
            stage.client.tell(&format!("close {client}"))?;
            drop(frozen);
            stage.server()?.tell(&format!("drain {upstream}")).map(drop)
        },
        expect: &[Expect { kinds: &["closed_early"], impacts: &["request_failed"], logged: false, ..CLIENT }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "client-meets-idle-close",
        says: "a client's next request meets Nginx's close of the idle connection (keepalive_timeout)",
        families: V4,
        servers: "server { listen @LISTEN@; root @ROOT@; keepalive_timeout 1s; }\n",
        drive: |stage| {
            let client = stage.connect()?;
            stage.request(client, "GET /small")?;
            stage.response(client, "200")?;
            stage.wait_client("Nginx closes", |socket| {
                socket.is_none_or(|socket| socket.state != kernel::ESTABLISHED)
            })?;
            stage.request(client, "GET /again")?;
            stage.client.tell(&format!("drain {client}")).map(drop)
        },
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_closed_unread"],
            least: Certainty::Proven,
            most: Certainty::Proven,
            checks: &[Check::Says("keepalive_timeout")],
            ..LEFT
        }],
        log: LogTruth::Silent,
        ..ORDINARY
    },
];
