//! A reload ends the worker that holds a request: in order, or when `worker_shutdown_timeout` is over.

use super::super::net::Family;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::PLAIN;
use super::halves::CLIENT;
use super::upstream::in_flight;
use anyhow::Result;

const V4: &[Family] = &[Family::V4];

/// Ends of workers that were told to end in order.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "shutdown-timeout",
        says: "a reload, and the old worker's `worker_shutdown_timeout` ends before its upstream has answered",
        servers: PLAIN,
        before: Some(|stage| stage.nginx().limit_shutdown("1s")),
        drive: |stage| {
            let (client, upstream) = reloaded_in_flight(stage)?;
            stage.client.tell(&format!("drain {client}"))?;
            stage.server()?.tell(&format!("drain {upstream}")).map(drop)
        },
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_worker_exit"],
            kinds: &["closed_early"],
            impacts: &["request_failed"],
            least: Certainty::Strong,
            most: Certainty::Strong,
            checks: &[Check::Says("worker_shutdown_timeout")],
            ..INCIDENT
        }],
        log: LogTruth::Silent,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "healthy-shutdown",
        says: "a reload, and the old worker waits for the answer that its upstream has yet to give",
        families: V4,
        servers: PLAIN,
        before: Some(|stage| stage.nginx().limit_shutdown("10s")),
        drive: |stage| {
            let (client, upstream) = reloaded_in_flight(stage)?;
            stage.answer(upstream)?;
            stage.response(client, "200")
        },
        alone: true,
        hidden: true,
        ..ORDINARY
    },
    Scenario {
        name: "trap-shutdown-client-leaves",
        says: "a client leaves the worker that a reload has told to end, which ends with it",
        families: V4,
        servers: PLAIN,
        before: Some(|stage| stage.nginx().limit_shutdown("10s")),
        drive: |stage| {
            let (client, upstream) = reloaded_in_flight(stage)?;
            stage.client.tell(&format!("close {client}"))?;
            stage.server()?.tell(&format!("drain {upstream}")).map(drop)
        },
        expect: &[CLIENT],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
];

/// A request that waits for its answer on a worker that is about to end, beside the one that has taken over.
fn reloaded_in_flight(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.nginx().renew()?;
    Ok((client, upstream))
}
