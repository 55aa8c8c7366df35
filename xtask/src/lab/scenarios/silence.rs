//! Nothing is reset: an upstream that does not answer, against packets that do not arrive.
//!
//! The log says `upstream timed out` for all of them; only what TCP saw tells them apart.

use super::super::kernel;
use super::super::net::Node;
use super::super::scenario::{Certainty, Expect, INCIDENT, LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::super::wait;
use super::clients::UNLOGGED_ABORT;
use super::upstream::in_flight;
use anyhow::Result;
use std::time::Duration;

pub(super) const IMPATIENT: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; \
     proxy_connect_timeout 2s; proxy_read_timeout 1s; } }\n";

pub(super) const IMPATIENT_KEPT: &str = "upstream @NAME@ { server @UPSTREAM@; keepalive 8; }\n\
     server { listen @LISTEN@; location / { proxy_pass http://@NAME@; proxy_http_version 1.1; \
     proxy_set_header Connection \"\"; proxy_connect_timeout 2s; proxy_read_timeout 2s; } }\n";

/// From the loss to the exchange beside it.
const LATER: Duration = Duration::from_millis(1_200);

const UPLOADING: &str = "server { listen @LISTEN@; client_max_body_size 0; location / { \
     proxy_pass http://@UPSTREAM@; proxy_http_version 1.1; proxy_request_buffering off; proxy_send_timeout 1s; } }\n";

pub(super) const SLOW: Expect = Expect {
    party: "upstream",
    causes: &["upstream_slow"],
    kinds: &["timeout"],
    impacts: &["request_failed"],
    least: Certainty::Weak,
    most: Certainty::Proven,
    ..INCIDENT
};

const DROP: Expect =
    Expect { party: "middlebox", causes: &["middlebox_drop"], most: Certainty::Strong, ..SLOW };

pub(super) const TIMED_OUT: LogTruth = LogTruth::Always("upstream timed out (110");

/// Timeouts.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "upstream-slow",
        tour: Some(11),
        says: "the upstream takes the request and never answers",
        servers: IMPATIENT,
        drive: slow,
        expect: &[SLOW],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-slow-unread",
        says: "the upstream's host acknowledges the request, but its application never reads it",
        servers: IMPATIENT,
        drive: slow_unread,
        expect: &[SLOW],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-slow-late",
        says: "the upstream answers after Nginx has given up: the RST against the late answer is a consequence",
        servers: IMPATIENT,
        drive: slow_late,
        expect: &[SLOW],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "trap-upstream-slow-then-killed",
        says: "a local upstream is killed after Nginx has given up: its end is not the cause",
        place: Place::Local,
        servers: IMPATIENT,
        drive: slow_then_killed,
        expect: &[SLOW],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-zero-window",
        says: "the upstream's application stops reading an upload: its window closes, and Nginx cannot send on",
        servers: UPLOADING,
        drive: zero_window,
        expect: &[Expect { impacts: &[], ..SLOW }],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "client-zero-window",
        says: "a client stops reading a large response: Nginx gives up after send_timeout and closes in order, then the client goes",
        servers: "server { listen @LISTEN@; root @ROOT@; send_timeout 1s; }\n",
        drive: |stage| {
            let client = stage.connect_narrow()?;
            stage.request(client, "GET /big")?;
            stage.wait_client("Nginx gives up", |socket| {
                socket.is_none_or(|socket| socket.state != kernel::ESTABLISHED)
            })?;
            stage.client.tell(&format!("close {client}")).map(drop)
        },
        expect: &[Expect { impacts: &["response_truncated"], ..UNLOGGED_ABORT }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "drop-data",
        tour: Some(12),
        says: "a router drops Nginx's packets on a connection that has worked",
        servers: IMPATIENT_KEPT,
        drive: |stage| drop_data(stage, false),
        expect: &[DROP],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "drop-data-others-healthy",
        says: "the same while another connection to that upstream works",
        servers: IMPATIENT_KEPT,
        drive: |stage| drop_data(stage, true),
        expect: &[DROP],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "drop-answer",
        says: "a router drops everything that the upstream says from now on: its acknowledgments, too",
        servers: IMPATIENT_KEPT,
        drive: drop_answer,
        expect: &[DROP],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "drop-syn",
        says: "a router drops everything towards an upstream nobody has heard of yet",
        servers: IMPATIENT,
        drive: drop_syn,
        expect: &[Expect { most: Certainty::Weak, ..DROP }],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "drop-syn-others-healthy",
        says: "a router drops only SYNs while a connection to that upstream works",
        servers: IMPATIENT_KEPT,
        drive: drop_syn_healthy,
        expect: &[DROP],
        log: TIMED_OUT,
        ..ORDINARY
    },
];

fn slow(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.response(client, "504")
}

fn zero_window(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let head = "POST /upload HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: 40000000\\r\\n\\r\\n";
    stage.client.tell(&format!("send {client} {head}"))?;
    stage.client.start_command(&format!("fill {client} 40000000"))?;
    stage.accept(listener)?;
    stage.wait_upstream("Nginx gives up", |socket| {
        socket.is_none_or(|socket| socket.state != kernel::ESTABLISHED)
    })
}

fn slow_unread(stage: &mut Stage<'_>) -> Result<()> {
    let (client, _) = in_flight(stage)?;
    stage.response(client, "504")
}

fn slow_then_killed(stage: &mut Stage<'_>) -> Result<()> {
    slow(stage)?;
    stage.kill_server()
}

pub(super) fn slow_late(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.response(client, "504")?;
    stage.answer(upstream)?;
    stage.server()?.try_tell(&format!("send {upstream} more"))?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

fn drop_data(stage: &mut Stage<'_>, others: bool) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    let dropped = stage.truth.upstream_local.clone();
    let rule = format!("{} tcp sport {} drop", stage.towards_upstream(), stage.upstream_local_port()?);
    stage.filter(Node::Near, &rule)?;
    stage.request(client, "GET /lost")?;
    if others {
        beside(stage, listener)?;
    }
    stage.truth.upstream_local = dropped;
    stage.response(client, "504")
}

fn drop_answer(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let upstream = stage.exchange(client, listener)?;
    let rule = format!("{} drop", stage.leaving_upstream());
    stage.filter(Node::Far, &rule)?;
    stage.request(client, "GET /unheard")?;
    stage.read_request(upstream)?;
    stage.response(client, "504")
}

/// Another client's exchange over a connection of its own, while the first one waits.
fn beside(stage: &mut Stage<'_>, listener: u32) -> Result<()> {
    let first = stage.truth.client.clone();
    stage.wait_upstream("the lost request is sent", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged > 0)
    })?;
    // The later, the surer: the host was alive when the third repetition was sent.
    wait::pass(LATER)?;
    let other = stage.connect()?;
    stage.exchange(other, listener)?;
    stage.truth.client = first;
    Ok(())
}

fn drop_syn(stage: &mut Stage<'_>) -> Result<()> {
    let rule = format!("{} drop", stage.towards_upstream());
    stage.filter(Node::Far, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /lost")?;
    stage.response(client, "504")
}

/// The only kept connection is busy, so the second request needs a new one, whose SYN is dropped.
fn drop_syn_healthy(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let busy = stage.connect()?;
    let upstream = stage.exchange(busy, listener)?;
    stage.request(busy, "GET /busy")?;
    stage.read_request(upstream)?;
    let rule = format!("{} tcp flags & (syn | ack) == syn drop", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    stage.truth.upstream_local = None;
    let client = stage.connect()?;
    stage.request(client, "GET /lost")?;
    // Before the busy connection is free again, or the request would go there.
    stage.wait_connecting()?;
    stage.answer(upstream)?;
    stage.response(busy, "200")?;
    stage.response(client, "504")
}
