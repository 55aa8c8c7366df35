//! Nginx reuses a kept-alive connection in the moment the upstream drops it, in every way that can happen.
//!
//! The worker is stopped while client and upstream act, so the order is ours and not a matter of luck: the
//! client's request is the first event the worker sees when it goes on.

use super::super::kernel::CLOSE_WAIT;
use super::super::net::Node;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::KEPT;
use anyhow::Result;
use std::time::Duration;

/// How long the connection is idle: the scenario itself.
pub(super) const IDLE: Duration = Duration::from_millis(1_200);

pub(super) const RACE: Expect = Expect {
    party: "upstream",
    causes: &["upstream_keepalive_race"],
    impacts: &["request_retried"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    checks: &[Check::Idle],
    ..INCIDENT
};

/// The race in its forms.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "race-reset",
        tour: Some(5),
        says: "Nginx reuses an idle connection that the upstream has just reset",
        servers: KEPT,
        drive: reset,
        expect: &[Expect { kinds: &["reset_received"], ..RACE }],
        log: LogTruth::Always("connect() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "race-fin",
        says: "Nginx reuses an idle connection that the upstream has just closed",
        servers: KEPT,
        drive: fin,
        expect: &[Expect { kinds: &["closed_early", "reset_received"], ..RACE }],
        log: LogTruth::Always("upstream prematurely closed connection"),
        ..ORDINARY
    },
    Scenario {
        name: "race-fin-lost",
        says: "Nginx reuses an idle connection whose closing FIN got lost, and meets a stateless RST",
        servers: KEPT,
        drive: fin_lost,
        expect: &[Expect { kinds: &["reset_received"], ..RACE }],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "race-post",
        says: "the same with a POST, which Nginx must not repeat once it was sent",
        servers: KEPT,
        drive: post,
        expect: &[Expect { kinds: &["reset_received"], impacts: &["request_failed"], ..RACE }],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "trap-idle-pool-reset",
        says: "the upstream resets a connection that lies idle in Nginx's pool; nobody notices",
        servers: KEPT,
        drive: idle_pool,
        expect: &[],
        log: LogTruth::Silent,
        ..ORDINARY
    },
];

/// An exchange over a connection that Nginx then keeps, and the idle time; gives client, listener, upstream.
pub(super) fn kept(stage: &mut Stage<'_>) -> Result<(u32, u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let upstream = stage.exchange(client, listener)?;
    Ok((client, listener, upstream))
}

/// The request is repeated on a new connection, which answers.
pub(super) fn repaired(stage: &mut Stage<'_>, client: u32, listener: u32) -> Result<()> {
    let raced = stage.truth.upstream_local.clone();
    let again = stage.accept(listener)?;
    stage.read_request(again)?;
    stage.answer(again)?;
    stage.response(client, "200")?;
    stage.truth.upstream_local = raced;
    Ok(())
}

fn reset(stage: &mut Stage<'_>) -> Result<()> {
    let (client, listener, upstream) = kept(stage)?;
    let idle = stage.idle(IDLE)?;
    let frozen = stage.freeze()?;
    stage.request(client, "GET /again")?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.wait_upstream("the RST reaches Nginx's host", |socket| socket.is_none())?;
    stage.idle_ended(idle);
    drop(frozen);
    repaired(stage, client, listener)
}

fn fin(stage: &mut Stage<'_>) -> Result<()> {
    let (client, listener, upstream) = kept(stage)?;
    let idle = stage.idle(IDLE)?;
    let frozen = stage.freeze()?;
    stage.request(client, "GET /again")?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    stage.wait_upstream("the FIN reaches Nginx's host", |socket| {
        socket.is_some_and(|socket| socket.state == CLOSE_WAIT)
    })?;
    stage.idle_ended(idle);
    drop(frozen);
    repaired(stage, client, listener)
}

/// The upstream has closed, but its FIN does not arrive.
fn half_dead(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let (client, listener, upstream) = kept(stage)?;
    let idle = stage.idle(IDLE)?;
    let rule = format!("{} tcp flags & fin == fin drop", stage.leaving_upstream());
    stage.filter(Node::Far, &rule)?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    stage.idle_ended(idle);
    Ok((client, listener))
}

pub(super) fn fin_lost(stage: &mut Stage<'_>) -> Result<()> {
    let (client, listener) = half_dead(stage)?;
    stage.request(client, "GET /again")?;
    repaired(stage, client, listener)
}

fn post(stage: &mut Stage<'_>) -> Result<()> {
    let (client, _) = half_dead(stage)?;
    stage.client.tell(&format!(
        "send {client} POST /order HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: 2\\r\\n\\r\\nno"
    ))?;
    stage.response(client, "502")
}

fn idle_pool(stage: &mut Stage<'_>) -> Result<()> {
    let (_, _, upstream) = kept(stage)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.wait_upstream("the RST reaches Nginx's host", |socket| socket.is_none())
}
