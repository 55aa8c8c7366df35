//! A worker whose `worker_connections` are all taken: clients are turned away, upstreams are out of reach, and idle
//! clients have to make room.

use super::super::net::Family;
use super::super::scenario::{Certainty, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::PLAIN;
use super::unavailable::LINE_ALONE;
use anyhow::{Result, bail};

/// Few enough to fill, more than the listeners of a bench take.
const SLOTS: usize = 40;
/// What the master talks through with its worker.
const CHANNEL: usize = 1;
const SPENT: &str = "worker_connections are not enough";
const STATIC: &str = "server { listen @LISTEN@; root @ROOT@; keepalive_timeout 60s; }\n";

const TURNED_AWAY: Expect = Expect {
    party: "nginx",
    causes: &["nginx_resource_limit"],
    kinds: &["reset_sent"],
    impacts: &["request_failed"],
    least: Certainty::Proven,
    side: Some(Side::Client),
    ..INCIDENT
};

/// Workers without a free connection. What Nginx writes of it names no client, so that no line is a scenario's own.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "slots-client-turned-away",
        says: "every connection of the worker is taken, and it closes the next client's at once",
        servers: STATIC,
        before: Some(|stage| stage.nginx().limit_connections(SLOTS)),
        drive: |stage| fill(stage).map(drop),
        expect: &[TURNED_AWAY],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "slots-upstream-out-of-reach",
        says: "a client gets the last connection of the worker, and none is left to its upstream",
        families: &[Family::V4],
        servers: PLAIN,
        before: Some(|stage| stage.nginx().limit_connections(SLOTS)),
        drive: |stage| {
            let taken = fill(stage)?;
            let Some(first) = taken.first() else { bail!("no connection was taken") };
            stage.client.tell(&format!("close {first}"))?;
            wait::until("one is free", wait::SOON, || (stage.clients() < taken.len()).then_some(()))?;
            let client = stage.connect()?;
            stage.request(client, "GET /none-left")?;
            stage.response(client, "500")
        },
        expect: &[
            Expect { side: None, ..TURNED_AWAY },
            Expect { party: "nginx", causes: &["nginx_resource_limit"], logged: false, ..LINE_ALONE },
        ],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "slots-idle-client-dropped",
        says: "every connection is taken: an idle client makes room for a new one, while its next request arrives",
        servers: STATIC,
        before: Some(|stage| stage.nginx().limit_connections(SLOTS)),
        drive: idle_client_dropped,
        // A line of level `warn` tells why.
        expect: &[Expect { causes: &["nginx_resource_limit", "nginx_closed_unread"], ..TURNED_AWAY }],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
];

/// Clients with half a request each take connections until one is turned away; gives the others.
fn fill(stage: &mut Stage<'_>) -> Result<Vec<u32>> {
    let mut taken = Vec::new();
    for _ in 0..SLOTS {
        let frozen = stage.freeze()?;
        let client = stage.connect()?;
        stage.client.tell(&format!("send {client} GET /half HTTP/1.1\\r\\n"))?;
        drop(frozen);
        stage.wait_client("its request is read, or it is turned away", |socket| {
            socket.is_none_or(|socket| socket.unread == 0)
        })?;
        if stage.nginx().log().contains(SPENT) {
            return Ok(taken);
        }
        taken.push(client);
    }
    bail!("a worker with {SLOTS} connections took as many clients")
}

/// Nginx makes room when a sixteenth of its connections is left (`ngx_drain_connections`), and begins with the client that
/// has been idle for longest.
fn idle_client_dropped(stage: &mut Stage<'_>) -> Result<()> {
    let oldest = stage.connect()?;
    let truth = stage.truth.client.clone();
    let clients = SLOTS - stage.listeners() - CHANNEL - SLOTS / 16;
    stage.request(oldest, "GET /small")?;
    stage.response(oldest, "200")?;
    for _ in 1..clients {
        let client = stage.connect()?;
        stage.request(client, "GET /small")?;
        stage.response(client, "200")?;
    }
    let frozen = stage.freeze()?;
    stage.connect()?;
    stage.request(oldest, "GET /small")?;
    stage.truth.client = truth;
    stage.wait_client("its request is there", |socket| socket.is_some_and(|socket| socket.unread > 0))?;
    drop(frozen);
    stage.client.tell(&format!("drain {oldest}")).map(drop)
}
