//! A link on the path takes only small packets, and nobody says so: the black hole of path MTU discovery.

use super::super::net::Node;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use anyhow::Result;

pub(super) const PATIENT: &str = "server { listen @LISTEN@; client_max_body_size 1m; keepalive_timeout 5s; \
     location / { proxy_pass http://@UPSTREAM@; proxy_read_timeout 5s; } }\n";

/// What the small link does not take: full segments of Ethernet, not handshakes, heads and last segments.
const TOO_LARGE: &str = "meta length > 1300 drop";

/// Bytes of a body: three full segments and a small one, headers included.
const BODY: usize = 4_800;

const BLACK_HOLE: Expect = Expect {
    party: "middlebox",
    causes: &["middlebox_mtu_blackhole"],
    kinds: &["timeout"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    checks: &[Check::Evidence(&["large_segments_lost"])],
    ..INCIDENT
};

/// Black holes.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "mtu-upload",
        says: "a link before the upstream silently drops full-sized packets: an upload never arrives",
        servers: PATIENT,
        drive: upload,
        expect: &[Expect { impacts: &["request_failed"], ..BLACK_HOLE }],
        log: LogTruth::Always("upstream timed out (110"),
        ..ORDINARY
    },
    Scenario {
        name: "mtu-download",
        says: "a link before the client does it: the response never arrives, and Nginx logs nothing",
        servers: PATIENT,
        drive: download,
        expect: &[Expect { side: Some(Side::Client), ..BLACK_HOLE }],
        log: LogTruth::Silent,
        ..ORDINARY
    },
];

fn upload(stage: &mut Stage<'_>) -> Result<()> {
    let (client, _) = swallowed_upload(stage)?;
    stage.response(client, "504")
}

/// An upload whose full-sized packets never arrive: the client that sent it and the upstream's end.
pub(super) fn swallowed_upload(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    stage.segment_before_the_wire()?;
    let listener = stage.listen()?;
    let rule = format!("{} {TOO_LARGE}", stage.towards_upstream());
    stage.filter(Node::Far, &rule)?;
    let client = stage.connect()?;
    let head = format!("POST /upload HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: {BODY}\\r\\n\\r\\n");
    stage.client.tell(&format!("send {client} {head}"))?;
    stage.client.tell(&format!("fill {client} {BODY}"))?;
    let upstream = stage.accept(listener)?;
    Ok((client, upstream))
}

fn download(stage: &mut Stage<'_>) -> Result<()> {
    stage.segment_before_the_wire()?;
    let listener = stage.listen()?;
    let rule = format!("{} {TOO_LARGE}", stage.towards_client());
    stage.filter(Node::Outer, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /download")?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    let head = format!("HTTP/1.1 200 OK\\r\\nContent-Length: {BODY}\\r\\n\\r\\n");
    stage.server()?.tell(&format!("send {upstream} {head}"))?;
    stage.server()?.tell(&format!("fill {upstream} {BODY}"))?;
    stage.wait_client("Nginx closes the connection it thinks idle", |socket| {
        socket.is_none_or(|socket| socket.state != super::super::kernel::ESTABLISHED)
    })
}
