//! What access.log knows and the kernel does not: that another try served the request, that a response broke off.

use super::super::scenario::{Expect, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::upstream::{ABORT, RECV, RETRIED, half_answered, in_flight};
use anyhow::Result;

/// A format with all that helps, and a second server that takes over where the first fails.
const LOGGED: &str = "log_format @NAME@ '$connection|$remote_addr|$remote_port|$request|$status|\
     $body_bytes_sent|$sent_http_content_length|$request_completion|$upstream_addr|$upstream_status';\n\
     upstream @NAME@ { server @UPSTREAM@ max_fails=0; server unix:@ROOT@/@NAME@.sock backup; }\n\
     server { listen unix:@ROOT@/@NAME@.sock; return 200 served; }\n\
     server { listen @LISTEN@; access_log @ROOT@/@NAME@.log @NAME@; proxy_buffering off; \
     location / { proxy_pass http://@NAME@; } }\n";

/// Requests whose end stands in access.log.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "ending-retried",
        says: "the upstream resets, Nginx tries another server, and the client gets its answer",
        servers: LOGGED,
        drive: retried,
        expect: &[RETRIED],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "ending-cut",
        says: "the upstream resets in the middle of its response, which access.log calls a success",
        servers: LOGGED,
        drive: cut,
        expect: &[Expect { impacts: &["response_truncated"], ..ABORT }],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
];

fn retried(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "200")
}

fn cut(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = half_answered(stage)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}
