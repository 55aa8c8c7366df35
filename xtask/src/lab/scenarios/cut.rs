//! The client resets a response that Nginx has long finished with.

use super::super::kernel::ESTABLISHED;
use super::super::scenario::{Certainty, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use anyhow::Result;

/// A response smaller than the send buffer: Nginx is done with it, and closes, before the client has it.
const BUFFERED: &str =
    "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; proxy_buffers 8 64k; } }\n";

const ABORT: Expect = Expect {
    party: "client",
    causes: &["client_abort"],
    kinds: &["reset_received"],
    impacts: &["response_truncated"],
    logged: false,
    least: Certainty::Weak,
    most: Certainty::Strong,
    side: Some(Side::Client),
    ..INCIDENT
};

/// Responses that are cut.
pub const TABLE: &[Scenario] = &[Scenario {
    name: "client-abort-after-nginx-closed",
    says: "the client resets when Nginx has written all of the response and closed, and the client lacks most of it",
    servers: BUFFERED,
    drive: after_nginx_closed,
    expect: &[ABORT],
    log: LogTruth::Either,
    ..ORDINARY
}];

fn after_nginx_closed(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect_narrow()?;
    let head = "GET /fault HTTP/1.1\\r\\nHost: lab\\r\\nConnection: close\\r\\n\\r\\n";
    stage.client.tell(&format!("send {client} {head}"))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage
        .server()?
        .tell(&format!("send {upstream} HTTP/1.1 200 OK\\r\\nContent-Length: 60000\\r\\n\\r\\n"))?;
    stage.server()?.tell(&format!("fill {upstream} 60000"))?;
    stage
        .wait_client("Nginx has closed", |socket| socket.is_some_and(|socket| socket.state != ESTABLISHED))?;
    stage.client.tell(&format!("reset {client}"))?;
    stage.wait_client("the RST reaches Nginx's host", |socket| socket.is_none())
}
