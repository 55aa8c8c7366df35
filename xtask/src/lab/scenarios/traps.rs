//! Faults that look like another one: a plausible rule goes wrong here.

use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::super::wait;
use super::protocols::{UPGRADE, tunnel};
use super::race::{RACE, kept, repaired};
use super::unavailable::{FORGOTTEN_BETWEEN, forgotten_by_own_ttl};
use super::upstream::{ABORT, RECV, RETRIED, in_flight};
use super::{KEPT, PLAIN, THINKS};
use anyhow::Result;
use std::time::Duration;

const V4: &[Family] = &[Family::V4];

/// Where the application has the request for this long, nothing races.
const WORKS: Duration = Duration::from_millis(300);
/// Silence after which a connection counts as pooled.
const IDLE: Duration = Duration::from_millis(1_200);
/// No path in the lab is that long: a TTL of the socket's own.
const OWN_TTL: u8 = 100;

const INTERCEPTING: &str = "server { listen @LISTEN@; root @ROOT@; proxy_intercept_errors on; \
     error_page 404 /small; location = /small { } location / { proxy_pass http://@UPSTREAM@; } }\n";

/// Far above what Nginx reads with the head.
const BIG_BODY: usize = 300_000;

const FORGED: Expect = Expect {
    party: "middlebox",
    causes: &["middlebox_forged_reset"],
    side: None,
    most: Certainty::Strong,
    ..ABORT
};

/// Traps.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "trap-own-ttl-listener",
        says: "a listener with a TTL of its own; its host forgets a connection and answers with the system's TTL",
        families: V4,
        servers: KEPT,
        drive: |stage| forgotten_by_own_ttl(stage, OWN_TTL),
        expect: &[FORGOTTEN_BETWEEN],
        with_both: &["upstream"],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "trap-reused-then-aborted",
        says: "a connection is used again after silence, the application works on the request, and then resets: no race",
        servers: KEPT,
        drive: |stage| reused(stage, WORKS),
        expect: &[RETRIED],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "trap-reused-aborted-local",
        says: "the same at once, on the Nginx host: the process had read the request, so it is no race",
        place: Place::Local,
        servers: KEPT,
        drive: |stage| {
            stage.server_acts()?;
            reused(stage, Duration::ZERO)
        },
        expect: &[Expect {
            least: Certainty::Proven,
            most: Certainty::Proven,
            checks: &[Check::Sender],
            ..RETRIED
        }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "race-unread",
        says: "the upstream closes an idle connection with the request unread, which looks like an application that gave up",
        servers: KEPT,
        drive: unread,
        expect: &[Expect {
            causes: &["upstream_keepalive_race", "upstream_abort"],
            kinds: &["reset_received"],
            checks: &[],
            ..RACE
        }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "trap-websocket-after-silence",
        says: "the upstream of a tunnel resets on a message that comes after silence: no request, no race",
        servers: UPGRADE,
        drive: message,
        expect: &[Expect { impacts: &["response_truncated"], ..ABORT }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "trap-complete-then-reset",
        says: "the upstream resets right after a complete response: nobody loses anything",
        servers: PLAIN,
        drive: complete,
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "trap-error-page-instead",
        says: "Nginx shows a page of its own for the upstream's 404 and leaves its body unread",
        families: V4,
        servers: INTERCEPTING,
        drive: intercepted,
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "trap-upstream-filter",
        says: "the packet filter of the upstream's own host rejects: as far away as the upstream, and not its application",
        servers: PLAIN,
        drive: own_filter,
        expect: &[Expect {
            causes: &["upstream_restarted", "upstream_abort"],
            most: Certainty::Weak,
            ..ABORT
        }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "trap-two-kinds-in-one-second",
        says: "the upstream resets one connection and a router another in the same moment: equal lines of one worker",
        servers: PLAIN,
        drive: two_kinds,
        expect: &[Expect { side: None, ..ABORT }, FORGED],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "older-upstream-resets",
        says: "the upstream resets a connection that is older than the tracer",
        servers: KEPT,
        before: Some(opened),
        drive: |stage| older(stage, false),
        expect: &[Expect { least: Certainty::Weak, ..RETRIED }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "older-router-rejects",
        says: "a router resets a connection that is older than the tracer, and the upstream speaks again",
        servers: KEPT,
        before: Some(opened),
        drive: |stage| older(stage, true),
        expect: &[Expect {
            side: Some(super::super::scenario::Side::Upstream),
            impacts: &["request_retried"],
            ..FORGED
        }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
];

fn reused(stage: &mut Stage<'_>, works: Duration) -> Result<()> {
    let (client, listener, upstream) = kept(stage)?;
    wait::pass(IDLE)?;
    stage.request(client, "GET /again")?;
    stage.read_request(upstream)?;
    wait::pass(works)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    repaired(stage, client, listener)
}

fn unread(stage: &mut Stage<'_>) -> Result<()> {
    let (client, listener, upstream) = kept(stage)?;
    wait::pass(IDLE)?;
    stage.request(client, "GET /again")?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    repaired(stage, client, listener)
}

fn message(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = tunnel(stage)?;
    wait::pass(IDLE)?;
    stage.client.tell(&format!("send {client} hello"))?;
    stage.server()?.tell(&format!("read {upstream} 5"))?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn complete(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.answer(upstream)?;
    // Sooner, Nginx may try to read on and meet the RST before it has counted what it has.
    wait::pass(THINKS)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "200")
}

/// The worker is stopped until much of the body has arrived, so that the rest is unread for certain.
fn intercepted(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    let frozen = stage.freeze()?;
    let head = format!("HTTP/1.1 404 Not Found\\r\\nContent-Length: {BIG_BODY}\\r\\n\\r\\n");
    stage.server()?.tell(&format!("send {upstream} {head}"))?;
    stage.server()?.start_command(&format!("fill {upstream} {BIG_BODY}"))?;
    stage.wait_upstream("a part of the body has arrived", |socket| {
        socket.is_some_and(|socket| socket.unread > 30_000)
    })?;
    drop(frozen);
    stage.response(client, "404")?;
    stage.server()?.finish_any()
}

fn own_filter(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let rule = format!("{} meta length > 88 reject with tcp reset", stage.towards_upstream());
    stage.filter_input(Node::Upstream, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /filtered")?;
    stage.accept(listener)?;
    stage.response(client, "502")?;
    // Its application, which knows of nothing, is not heard again.
    stage.mute_upstream()
}

fn two_kinds(stage: &mut Stage<'_>) -> Result<()> {
    let (first, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    let rule = format!("{} meta length > 88 reject with tcp reset", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    stage.server()?.start_command(&format!("reset {upstream}"))?;
    let second = stage.connect()?;
    stage.request(second, "GET /rejected")?;
    stage.server()?.finish_command(wait::SOON)?;
    stage.response(first, "502")?;
    stage.response(second, "502")?;
    stage.mute_upstream()
}

pub(super) fn opened(stage: &mut Stage<'_>) -> Result<()> {
    stage.kept = Some(kept(stage)?);
    Ok(())
}

pub(super) fn older(stage: &mut Stage<'_>, rejected: bool) -> Result<()> {
    let Some((client, listener, upstream)) = stage.kept else { anyhow::bail!("nothing is older") };
    if rejected {
        let port = stage.upstream_local_port()?;
        let rule =
            format!("{} tcp sport {port} meta length > 88 reject with tcp reset", stage.towards_upstream());
        stage.filter(Node::Near, &rule)?;
    }
    stage.request(client, "GET /long-enough-for-the-rule")?;
    if rejected {
        repaired(stage, client, listener)?;
        wait::pass(THINKS)?;
        stage.answer(upstream)?;
        return stage.server()?.tell(&format!("drain {upstream}")).map(drop);
    }
    stage.read_request(upstream)?;
    wait::pass(WORKS)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    repaired(stage, client, listener)
}
