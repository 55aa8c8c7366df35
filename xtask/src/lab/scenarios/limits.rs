//! Limits, timers and reserves that do their work: servers that give up in order, a second server that takes over, a
//! listener that goes, answers that only the log can call wrong.

use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::{seat, wait};
use super::PLAIN;
use super::clients::UNLOGGED_ABORT;
use super::protocols::HTTP2_REQUEST;
use super::proxies::{STREAMED, UPSTREAM};
use super::unavailable::LINE_ALONE;
use super::upstream::{RECV, in_flight};
use anyhow::Result;
use std::net::SocketAddr;
use std::time::Duration;

const V4: &[Family] = &[Family::V4];

const HAPROXY: &[&str] = &["-db", "-f", "haproxy-http.cfg"];
const RESERVED: &str = "upstream @NAME@ { server @UPSTREAM@; server @BACKUP@ backup; }\n\
     server { listen @LISTEN@; location / { proxy_pass http://@NAME@; } }\n";
const SHORT_LIVED: &str = "upstream @NAME@ { server @UPSTREAM@; keepalive 8; keepalive_time 1s; }\n\
     server { listen @LISTEN@; keepalive_time 1s; location / { proxy_pass http://@NAME@; \
     proxy_http_version 1.1; proxy_set_header Connection \"\"; } }\n";
const ONE_REQUEST_HTTP2: &str = "server { listen @LISTEN@ http2; root @ROOT@; keepalive_requests 1; \
     location / { try_files /small =404; } }\n";
const UNIX: &str = "server { listen @LISTEN@; location / { proxy_pass http://unix:@ROOT@/silent.sock:/; \
     proxy_read_timeout 1s; } }\n";

/// Longer than `keepalive_time`.
const OUTLIVED: Duration = Duration::from_millis(1_200);

const RESERVE_TOOK_OVER: Expect = Expect { impacts: &["request_retried"], ..UPSTREAM };

/// Limits.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "haproxy-server-timeout",
        says: "HAProxy's own upstream hangs for `timeout server`: its 504 is passed on, and no connection fails",
        families: V4,
        servers: PLAIN,
        drive: |stage| {
            let _proxy = stage.program("haproxy", HAPROXY)?;
            let client = stage.connect()?;
            stage.request(client, "GET /slow")?;
            stage.response(client, "504")
        },
        log: LogTruth::Silent,
        needs: &["haproxy"],
        ..ORDINARY
    },
    Scenario {
        name: "haproxy-client-timeout",
        says: "HAProxy waits in vain for the rest of an upload, answers 408 and closes",
        families: V4,
        servers: STREAMED,
        drive: |stage| {
            let _proxy = stage.program("haproxy", HAPROXY)?;
            let client = stage.connect()?;
            let head = "POST /whole HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: 100\\r\\n\\r\\nhalf";
            stage.client.tell(&format!("send {client} {head}"))?;
            stage.response(client, "408")
        },
        log: LogTruth::Either,
        needs: &["haproxy"],
        ..ORDINARY
    },
    Scenario {
        name: "backup-after-reset",
        says: "the only ordinary server resets, and the request is repeated with the backup server",
        servers: RESERVED,
        drive: |stage| {
            let reserve = reserve(stage)?;
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            stage.server()?.tell(&format!("reset {upstream}"))?;
            taken_over(stage, client, reserve)
        },
        expect: &[Expect {
            causes: &["upstream_abort"],
            kinds: &["reset_received"],
            most: Certainty::Strong,
            ..RESERVE_TOOK_OVER
        }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "backup-after-refusal",
        says: "the same where nothing listens on the ordinary server's port",
        servers: RESERVED,
        drive: |stage| {
            let reserve = reserve(stage)?;
            let client = stage.connect()?;
            stage.request(client, "GET /refused")?;
            taken_over(stage, client, reserve)?;
            stage.truth.upstream_local = None;
            Ok(())
        },
        expect: &[Expect {
            causes: &["upstream_refused"],
            kinds: &["refused"],
            most: Certainty::Strong,
            ..RESERVE_TOOK_OVER
        }],
        log: LogTruth::Always("connect() failed (111"),
        ..ORDINARY
    },
    Scenario {
        name: "keepalive-time",
        says: "connections of client and upstream outlive keepalive_time and are closed in order",
        servers: SHORT_LIVED,
        drive: outlived,
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "http2-goaway",
        says: "Nginx ends an HTTP/2 connection by GOAWAY (keepalive_requests): nobody loses anything",
        servers: ONE_REQUEST_HTTP2,
        drive: |stage| {
            let client = stage.connect()?;
            stage.client.tell(&format!("hex {client} {HTTP2_REQUEST}"))?;
            stage.client.tell(&format!("drain {client}")).map(drop)
        },
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "syncookies-client-aborts",
        says: "Nginx's listener answers every SYN by a cookie, and a client resets while its request is worked on",
        servers: PLAIN,
        drive: |stage| {
            stage.setting(Node::Web, "ipv4/tcp_syncookies", "2")?;
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            stage.client.tell(&format!("reset {client}"))?;
            stage.server()?.tell(&format!("drain {upstream}")).map(drop)
        },
        expect: &[UNLOGGED_ABORT],
        log: LogTruth::Either,
        alone: true,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "nginx-listener-closed",
        says: "a reload gives up a port on which a client waits to be accepted: its connection goes with the listener",
        servers: "server { listen @LISTEN@; root @ROOT@; }\n",
        drive: listener_closed,
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_not_listening"],
            kinds: &["reset_sent"],
            impacts: &[],
            least: Certainty::Proven,
            side: Some(Side::Client),
            checks: &[Check::Evidence(&["listener_closed"])],
            ..INCIDENT
        }],
        log: LogTruth::Silent,
        alone: true,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-invalid-header",
        says: "the upstream sends a header without a name and closes: only the log can call that wrong",
        servers: PLAIN,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            let frozen = stage.freeze()?;
            stage.server()?.tell(&format!("send {upstream} HTTP/1.1 200 OK\\r\\n: nothing\\r\\n\\r\\n"))?;
            stage.server()?.tell(&format!("close {upstream}"))?;
            drop(frozen);
            stage.response(client, "502")
        },
        expect: &[Expect { party: "nginx", causes: &["nginx_config"], ..LINE_ALONE }],
        log: LogTruth::Always("upstream sent invalid header"),
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-unix-silent",
        says: "an upstream behind a unix socket takes nothing: no segment of TCP tells of it",
        servers: UNIX,
        drive: |stage| {
            let socket = stage.folder().join("static/silent.sock");
            stage.server()?.tell(&format!("listen-unix {}", socket.display()))?;
            let client = stage.connect()?;
            stage.request(client, "GET /silent")?;
            stage.response(client, "504")
        },
        expect: &[Expect {
            party: "upstream",
            causes: &["upstream_slow"],
            most: Certainty::Strong,
            ..LINE_ALONE
        }],
        log: LogTruth::Always("upstream timed out (110"),
        families: V4,
        ..ORDINARY
    },
];

/// The second server listens; gives its listener's number.
fn reserve(stage: &mut Stage<'_>) -> Result<u32> {
    let address = SocketAddr::new(stage.upstream().ip(), seat::BACKUP);
    let answer = stage.server()?.tell(&format!("listen {address} 64"))?;
    Ok(super::super::puppet::numbered(&answer)?.0)
}

/// The second server answers; the connection of the ground truth stays that with the first.
fn taken_over(stage: &mut Stage<'_>, client: u32, reserve: u32) -> Result<()> {
    let first = stage.truth.upstream_local.clone();
    let upstream = stage.accept(reserve)?;
    stage.read_request(upstream)?;
    stage.answer(upstream)?;
    stage.truth.upstream_local = first;
    stage.response(client, "200")
}

fn outlived(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let upstream = stage.exchange(client, listener)?;
    wait::pass(OUTLIVED)?;
    stage.request(client, "GET /once-more")?;
    stage.read_request(upstream)?;
    stage.answer(upstream)?;
    stage.response(client, "200")?;
    stage.server()?.tell(&format!("drain {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

/// The worker is stopped, so that nobody accepts, until the master has given up the port and asks it to end.
fn listener_closed(stage: &mut Stage<'_>) -> Result<()> {
    let frozen = stage.freeze()?;
    let client = stage.connect()?;
    wait::until("it waits to be accepted", wait::SOON, || (stage.waiting() == 1).then_some(()))?;
    stage.give_up_port()?;
    drop(frozen);
    stage.client.tell(&format!("drain {client}")).map(drop)
}
