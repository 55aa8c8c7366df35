//! Nothing is wrong: no incident may be reported, and the kernel side stays silent.

use super::super::kernel::ESTABLISHED;
use super::super::scenario::{LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::{KEPT, PLAIN};
use anyhow::{Result, bail};
use std::time::Duration;

/// The load itself, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// Healthy traffic.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "healthy-10000",
        says: "10,000 requests, kept alive and short-lived, over kept upstream connections",
        servers: KEPT,
        drive: |stage| load(stage, 10_000),
        log: LogTruth::Silent,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "healthy-short-lived-upstream",
        says: "2,000 requests, each over an upstream connection of its own",
        servers: PLAIN,
        drive: |stage| load(stage, 2_000),
        log: LogTruth::Silent,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "healthy-python",
        says: "requests to python3's http.server",
        servers: PLAIN,
        drive: |stage| real_server(stage, "python3", &["upstream.py"]),
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "healthy-python-local",
        says: "the same on the Nginx host",
        place: Place::Local,
        servers: KEPT,
        drive: |stage| real_server(stage, "python3", &["upstream.py"]),
        log: LogTruth::Silent,
        ..ORDINARY
    },
];

fn load(stage: &mut Stage<'_>, requests: usize) -> Result<()> {
    let (upstream, listener) = (stage.upstream(), stage.listener());
    stage.server()?.tell(&format!("serve {upstream}"))?;
    stage.client.start_command(&format!("load {listener} {requests}"))?;
    let answer = stage.client.finish_command(LIMIT)?;
    if answer == format!("{requests} 0") {
        return Ok(());
    }
    bail!("done and failed requests: {answer}")
}

fn real_server(stage: &mut Stage<'_>, program: &str, arguments: &[&str]) -> Result<()> {
    let server = stage.program(program, arguments)?;
    for _ in 0..3 {
        let client = stage.connect()?;
        for _ in 0..3 {
            stage.request(client, "GET /healthy")?;
            stage.response(client, "200")?;
        }
        stage.client.tell(&format!("close {client}"))?;
        stage.wait_client("Nginx closes, too", |socket| {
            socket.is_none_or(|socket| socket.state != ESTABLISHED)
        })?;
    }
    server.end()
}
