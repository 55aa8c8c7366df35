//! What the Nginx host does itself: a worker that dies, limits that are reached, closes that reset.

use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::upstream::in_flight;
use super::{KEPT, PLAIN};
use anyhow::Result;
use std::time::Duration;

const CLOSE_SILENTLY: &str =
    "server { listen @LISTEN@; reset_timedout_connection on; location / { return 444; } }\n";

/// Silence after which the upstream connection counts as pooled.
const POOLED: Duration = Duration::from_millis(800);

/// Far above `proxy_buffer_size`, so that most of it is unread when Nginx gives up.
const BIG_HEADER: usize = 30_000;

const NGINX: Expect = Expect {
    party: "nginx",
    impacts: &["request_failed"],
    least: Certainty::Proven,
    most: Certainty::Proven,
    ..INCIDENT
};

const WORKER_EXIT: Expect =
    Expect { causes: &["nginx_worker_exit"], impacts: &[], checks: &[Check::Says("SIGKILL")], ..NGINX };

/// Faults of the Nginx host.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "nginx-worker-killed",
        says: "the worker is killed (-9) while the upstream works on a request",
        servers: PLAIN,
        drive: worker_killed,
        expect: &[Expect {
            impacts: &["request_failed"],
            side: Some(Side::Client),
            checks: &[Check::Says("SIGKILL"), Check::OtherHalf],
            ..WORKER_EXIT
        }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "nginx-worker-killed-unread",
        says: "the worker is killed (-9) with a request unread in its socket: a RST",
        servers: KEPT,
        drive: worker_killed_unread,
        expect: &[Expect { kinds: &["reset_sent"], side: Some(Side::Client), ..WORKER_EXIT }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "nginx-gone",
        says: "a client connects in the gap after Nginx was killed: the kernel refuses in its name",
        servers: PLAIN,
        drive: gone,
        expect: &[Expect {
            causes: &["nginx_not_listening"],
            kinds: &["reset_sent", "refused"],
            impacts: &[],
            side: Some(Side::Client),
            ..NGINX
        }],
        log: LogTruth::Silent,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "nginx-upstream-header-too-big",
        says: "the upstream's response head is larger than proxy_buffer_size: Nginx closes with the rest unread",
        servers: PLAIN,
        drive: header_too_big,
        expect: &[Expect {
            causes: &["nginx_config"],
            kinds: &["reset_sent"],
            least: Certainty::Strong,
            ..NGINX
        }],
        log: LogTruth::Always("upstream sent too big header"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-no-local-port",
        says: "the only local port left is taken by another connection to the same upstream",
        servers: KEPT,
        drive: no_local_port,
        expect: &[Expect { causes: &["nginx_resource_limit"], least: Certainty::Weak, ..NGINX }],
        log: LogTruth::Always("failed (99"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-return-444",
        says: "`return 444` with reset_timedout_connection: a reset on purpose, but nothing has timed out",
        servers: CLOSE_SILENTLY,
        drive: return_444,
        expect: &[Expect {
            causes: &["nginx_closed_unread"],
            kinds: &["reset_sent"],
            side: Some(Side::Client),
            ..NGINX
        }],
        log: LogTruth::Silent,
        ..ORDINARY
    },
];

fn worker_killed(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.nginx().kill_worker()?;
    stage.client.tell(&format!("drain {client}"))?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

fn worker_killed_unread(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let upstream = stage.exchange(client, listener)?;
    wait::pass(POOLED)?;
    let frozen = stage.freeze()?;
    stage.request(client, "GET /unread")?;
    stage.wait_client("the request has arrived", |socket| socket.is_some_and(|socket| socket.unread > 0))?;
    stage.nginx().kill_worker()?;
    drop(frozen);
    stage.client.tell(&format!("drain {client}"))?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

fn gone(stage: &mut Stage<'_>) -> Result<()> {
    stage.kill_nginx()?;
    let command = format!("connect {} {}", stage.client_address(), stage.listener());
    match stage.client.tell(&command) {
        Ok(answer) => anyhow::bail!("somebody listens: {answer}"),
        Err(_) => Ok(()),
    }
}

/// The worker is stopped until everything lies in its socket, so that the rest is unread for certain.
fn header_too_big(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    let frozen = stage.freeze()?;
    stage.server()?.tell(&format!("send {upstream} HTTP/1.1 200 OK\\r\\nX-Big: "))?;
    stage.server()?.tell(&format!("fill {upstream} {BIG_HEADER}"))?;
    stage.wait_upstream("the head has arrived", |socket| {
        socket.is_some_and(|socket| socket.unread as usize > BIG_HEADER)
    })?;
    drop(frozen);
    stage.response(client, "502")?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

/// The only kept connection is busy and holds the only port.
fn no_local_port(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let busy = stage.connect()?;
    let upstream = stage.exchange(busy, listener)?;
    stage.request(busy, "GET /busy")?;
    stage.read_request(upstream)?;
    let port = stage.upstream_local_port()?;
    stage.single_local_port(port)?;
    stage.truth.upstream_local = None;
    let client = stage.connect()?;
    stage.request(client, "GET /no-port")?;
    stage.response(client, "502")?;
    stage.answer(upstream)?;
    stage.response(busy, "200")
}

fn return_444(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /nothing")?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}
