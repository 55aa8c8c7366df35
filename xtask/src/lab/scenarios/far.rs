//! Clients and upstreams a long way off, where time tells what hops do not, and where what is sent crosses what comes.

use super::super::kernel::ESTABLISHED;
use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::doubts::PLAUSIBLE_TTL;
use super::firewall::{REJECT_DATA, REJECT_SYN, REJECTED};
use super::inject::{EXACT, FORGED, Rst, inject};
use super::race::{IDLE, RACE, kept, repaired};
use super::unavailable::{FORGOTTEN_BETWEEN, forgotten_by_own_ttl};
use super::upstream::{ABORT, RECV, in_flight};
use super::{KEPT, PLAIN};
use anyhow::Result;

const V4: &[Family] = &[Family::V4];

/// Connections that show how near an upstream can be.
const ACQUAINTED: usize = 5;

/// What a long way changes.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "far-device-answers-soon",
        says: "a device near Nginx answers a request in the name of an upstream, from its distance, and much too soon",
        servers: PLAIN,
        drive: device_answers_soon,
        expect: &[Expect {
            // A way on which SYNs alone are slow looks the same: until data was acknowledged, its time is not known.
            least: Certainty::Weak,
            most: Certainty::Weak,
            checks: &[Check::Evidence(&["answered_too_soon"])],
            ..FORGED
        }],
        log: RECV,
        ..FAR
    },
    Scenario {
        name: "far-syn-rejected-soon",
        says: "a router near Nginx rejects the SYN to an upstream that other connections have shown the distance of",
        servers: PLAIN,
        drive: |stage| rejected_soon(stage, Node::Near, REJECT_SYN),
        expect: &[Expect {
            impacts: &["request_failed"],
            checks: &[Check::Evidence(&["answered_too_soon"])],
            ..REJECTED
        }],
        log: LogTruth::Always("connect() failed (111"),
        ..FAR
    },
    Scenario {
        name: "far-router-rejects",
        says: "a router near Nginx rejects the request to an upstream: a bare RST, one hop off and much too soon",
        servers: PLAIN,
        drive: |stage| rejected_soon(stage, Node::Far, REJECT_DATA),
        expect: &[Expect { checks: &[Check::Evidence(&["answered_too_soon"])], ..FORGED }],
        log: RECV,
        ..FAR
    },
    Scenario {
        name: "far-own-ttl",
        says: "a listener with a TTL of its own that could be a distance on a way this long; its host forgets",
        families: V4,
        servers: KEPT,
        drive: |stage| forgotten_by_own_ttl(stage, PLAUSIBLE_TTL),
        expect: &[FORGOTTEN_BETWEEN],
        with_both: &["upstream"],
        log: LogTruth::Always("failed (104"),
        ..FAR
    },
    Scenario {
        name: "far-upstream-resets",
        says: "the application of a distant upstream resets the connection with the request read",
        servers: PLAIN,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            stage.server()?.tell(&format!("reset {upstream}"))?;
            stage.response(client, "502")
        },
        expect: &[Expect { most: Certainty::Strong, ..ABORT }],
        log: RECV,
        ..FAR
    },
    Scenario {
        name: "far-race",
        says: "a distant upstream closes an idle connection, and Nginx uses it again before the FIN is there",
        servers: KEPT,
        drive: race,
        expect: &[Expect { kinds: &["closed_early", "reset_received"], ..RACE }],
        log: LogTruth::Either,
        ..FAR
    },
    Scenario {
        name: "far-healthy",
        says: "a kept connection to a distant upstream, used again and again: nothing is told",
        servers: KEPT,
        drive: |stage| {
            let (client, _, upstream) = kept(stage)?;
            (0..10).try_for_each(|_| again(stage, client, upstream))
        },
        ..FAR
    },
];

/// Without TAP devices nothing is far away.
const FAR: Scenario = Scenario { far: true, needs: &["/dev/net/tun"], ..ORDINARY };

fn again(stage: &mut Stage<'_>, client: u32, upstream: u32) -> Result<()> {
    stage.request(client, "GET /again")?;
    stage.read_request(upstream)?;
    stage.answer(upstream)?;
    stage.response(client, "200")
}

/// Several connections to the upstream in a row; gives client and listener.
fn acquainted(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    for _ in 0..ACQUAINTED {
        let upstream = stage.exchange(client, listener)?;
        stage.server()?.tell(&format!("close {upstream}"))?;
        stage.wait_upstream("Nginx closes, too", |socket| {
            socket.is_none_or(|socket| socket.state != ESTABLISHED)
        })?;
    }
    Ok((client, listener))
}

/// The request has left, and its answer is far away.
fn wait_under_way(stage: &Stage<'_>) -> Result<()> {
    stage.wait_upstream("the request is on its way", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged > 0)
    })
}

/// The upstream's host is silent once it has accepted: nothing but the moment tells the device from it.
fn device_answers_soon(stage: &mut Stage<'_>) -> Result<()> {
    let mut device = stage.device(Node::Near)?;
    let (client, listener) = acquainted(stage)?;
    stage.silence(Node::Far, &format!("{} tcp flags & syn == 0 drop", stage.leaving_upstream()))?;
    stage.request(client, "GET /fault")?;
    stage.find_upstream_local()?;
    wait_under_way(stage)?;
    inject(stage, &mut device, Rst { hops: 62, identification: 7, flags: "RA", window: 512, ..EXACT })?;
    stage.response(client, "502")?;
    // Or the end of its process would reset what it has not read, which is another story.
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)
}

/// A router rejects what goes to an upstream whose distance is known.
fn rejected_soon(stage: &mut Stage<'_>, router: Node, rule: &str) -> Result<()> {
    let (client, _) = acquainted(stage)?;
    stage.filter(router, &format!("{} {rule}", stage.towards_upstream()))?;
    stage.request(client, "GET /fault")?;
    stage.response(client, "502")?;
    stage.truth.upstream_local = None;
    Ok(())
}

fn race(stage: &mut Stage<'_>) -> Result<()> {
    let (client, listener, upstream) = kept(stage)?;
    let start = stage.idle(IDLE)?;
    stage.request(client, "GET /again")?;
    wait_under_way(stage)?;
    stage.idle_ended(start);
    stage.server()?.tell(&format!("close {upstream}"))?;
    repaired(stage, client, listener)
}
