//! Nothing is wrong: no incident may be reported, and the kernel side stays silent.

use super::super::scenario::{LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::{KEPT, PLAIN};
use anyhow::{Result, bail};
use std::net::SocketAddr;
use std::time::Duration;

/// The load itself, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// The port of others.
const BESIDE: u16 = 7_777;

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
        name: "other-traffic",
        says: "10,000 requests and a second of resets between others on the Nginx host, none of them Nginx's",
        servers: PLAIN,
        drive: of_others,
        log: LogTruth::Silent,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "healthy-python",
        says: "requests to python3's http.server",
        servers: PLAIN,
        drive: |stage| real_server(stage, "python3", &["upstream.py", "@HOST@", "@PORT@"]),
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "healthy-python-local",
        says: "the same on the Nginx host",
        place: Place::Local,
        servers: KEPT,
        drive: |stage| real_server(stage, "python3", &["upstream.py", "@HOST@", "@PORT@"]),
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

/// A server beside Nginx, on a port that Nginx has nothing to do with.
fn of_others(stage: &mut Stage<'_>) -> Result<()> {
    let beside = SocketAddr::new(stage.listener().ip(), BESIDE);
    let mut server = stage.beside()?;
    server.tell(&format!("serve {beside}"))?;
    stage.client.start_command(&format!("load {beside} 10000"))?;
    let answer = stage.client.finish_command(LIMIT)?;
    if answer != "10000 0" {
        bail!("done and failed requests: {answer}");
    }
    stage.client.start_command(&format!("hasty {beside} 1"))?;
    stage.client.finish_command(LIMIT).map(drop)
}

fn real_server(stage: &mut Stage<'_>, program: &str, arguments: &[&str]) -> Result<()> {
    let server = stage.program(program, arguments)?;
    for _ in 0..3 {
        let client = stage.connect()?;
        for _ in 0..3 {
            stage.request(client, "GET /healthy")?;
            stage.response(client, "200")?;
        }
        stage.leave(client)?;
    }
    server.end()
}
