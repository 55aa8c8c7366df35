//! Losses of the kernel side, each made to happen: it must be counted, and the tracer must go on.

use super::super::scenario::{LogTruth, Loss, ORDINARY, Scenario};
use super::super::stage::Stage;
use anyhow::Result;
use std::time::Duration;

/// Seconds of a storm.
const STORM: u64 = 1;
/// Until it is over, on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);
/// Connections that stay open at the same time.
const OPEN: usize = 12;

/// No upstream, so that the clients' resets are all there is.
const SERVERS: &str = "server { listen @LISTEN@; location / { return 200; } }\n";

/// Answers with a RST.
const RESETTING: &str =
    "server { listen @LISTEN@; reset_timedout_connection on; location / { return 444; } }\n";

const LOSES: Scenario = Scenario { servers: SERVERS, log: LogTruth::Either, alone: true, ..ORDINARY };

/// Losses.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "loss-ring-full",
        says: "clients reset while the tracer is stopped and its ring is a page",
        drive: storm,
        loss: Some(Loss { sizes: "ring=4096", frozen: true, counted: "tcp_receive_reset" }),
        ..LOSES
    },
    Scenario {
        name: "loss-limit",
        says: "clients reset more often than the tracer may tell in a second",
        drive: storm,
        loss: Some(Loss { sizes: "records=5", frozen: false, counted: "tcp_receive_reset (limit)" }),
        ..LOSES
    },
    Scenario {
        name: "loss-limit-sent",
        says: "Nginx itself resets that often, and each of these resets is judged within a second",
        servers: RESETTING,
        drive: storm_of_nginx,
        loss: Some(Loss { sizes: "records=5", frozen: false, counted: "tcp_send_reset (limit)" }),
        ..LOSES
    },
    Scenario {
        name: "loss-channel-full",
        says: "clients reset while only one event may wait for the session",
        drive: storm,
        loss: Some(Loss { sizes: "events=1", frozen: false, counted: "channel" }),
        ..LOSES
    },
    Scenario {
        name: "loss-forgotten",
        says: "clients reset more connections than the tracer has room to remember",
        drive: storm,
        loss: Some(Loss {
            sizes: "tombstones=64,records=100",
            frozen: false,
            counted: "killed connections (forgotten)",
        }),
        ..LOSES
    },
    Scenario {
        name: "loss-table-full",
        says: "more clients are connected than the tracer has room for",
        drive: open_many,
        loss: Some(Loss { sizes: "connections=4", frozen: false, counted: "connection table" }),
        ..LOSES
    },
];

fn storm(stage: &mut Stage<'_>) -> Result<()> {
    run(stage, "hasty")
}

fn storm_of_nginx(stage: &mut Stage<'_>) -> Result<()> {
    run(stage, "hasty-waiting")
}

fn run(stage: &mut Stage<'_>, clients: &str) -> Result<()> {
    let listener = stage.listener();
    stage.client.start_command(&format!("{clients} {listener} {STORM}"))?;
    stage.client.finish_command(LIMIT).map(drop)
}

fn open_many(stage: &mut Stage<'_>) -> Result<()> {
    let clients = (0..OPEN).map(|_| stage.connect()).collect::<Result<Vec<_>>>()?;
    stage.wait_accepted()?;
    clients.iter().try_for_each(|client| stage.client.tell(&format!("close {client}")).map(drop))
}
