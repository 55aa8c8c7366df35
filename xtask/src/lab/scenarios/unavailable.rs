//! An upstream that cannot be had: every server marked down, no unix socket, a full listener, a host that
//! has forgotten the connection.

use super::super::kernel;
use super::super::scenario::{Certainty, Expect, INCIDENT, LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::super::wait;
use super::KEPT;
use anyhow::{Context, Result};
use std::time::Duration;

const FAILING_GROUP: &str = "upstream @NAME@ { server @UPSTREAM@ max_fails=1; server @UPSTREAM@ max_fails=1; }\n\
     server { listen @LISTEN@; location / { proxy_pass http://@NAME@; } }\n";
const DOWN: &str = "upstream @NAME@ { server @UPSTREAM@ down; }\n\
     server { listen @LISTEN@; location / { proxy_pass http://@NAME@; } }\n";
const UNIX: &str =
    "server { listen @LISTEN@; location / { proxy_pass http://unix:@ROOT@/missing.sock:/; } }\n";
const IMPATIENT: &str =
    "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; proxy_connect_timeout 2s; } }\n";
const STREAMED: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; \
     proxy_http_version 1.1; proxy_request_buffering off; } }\n";

/// Longer than from a segment to the close of an application that does not want it.
const LATER: Duration = Duration::from_millis(100);

/// A failed request that only the log tells of.
pub(super) const LINE_ALONE: Expect = Expect {
    kinds: &["log_only"],
    impacts: &["request_failed"],
    least: Certainty::Undetermined,
    most: Certainty::Undetermined,
    side: None,
    ..INCIDENT
};

const UNAVAILABLE: Expect = Expect { party: "upstream", causes: &["upstream_unavailable"], ..LINE_ALONE };

const REFUSED: Expect = Expect {
    party: "upstream",
    causes: &["upstream_refused"],
    kinds: &["refused"],
    impacts: &["request_failed"],
    most: Certainty::Strong,
    ..INCIDENT
};

const FORGOTTEN: Expect = Expect { causes: &["upstream_restarted"], kinds: &["reset_received"], ..REFUSED };

const OVERFLOW: Expect =
    Expect { causes: &["upstream_listen_overflow"], impacts: &[], most: Certainty::Proven, ..REFUSED };

/// Upstreams that cannot be had.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "upstream-all-failed",
        says: "both servers of a group refuse once (max_fails=1); the next request finds no live upstream",
        servers: FAILING_GROUP,
        drive: all_failed,
        expect: &[REFUSED, REFUSED, UNAVAILABLE],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-marked-down",
        says: "the only server of the group is marked `down` in the configuration",
        servers: DOWN,
        drive: failing_request,
        expect: &[UNAVAILABLE],
        log: LogTruth::Always("no live upstreams"),
        ..ORDINARY
    },
    Scenario {
        name: "upstream-unix-socket-missing",
        says: "the unix socket of the upstream does not exist",
        servers: UNIX,
        drive: failing_request,
        expect: &[Expect { most: Certainty::Weak, ..UNAVAILABLE }],
        log: LogTruth::Always("failed (2"),
        ..ORDINARY
    },
    Scenario {
        name: "upstream-listen-overflow",
        says: "an upstream on the Nginx host does not accept, and its listen queue is full: SYNs are dropped",
        place: Place::Local,
        servers: IMPATIENT,
        drive: overflow,
        expect: &[
            Expect { kinds: &["listen_overflow"], least: Certainty::Proven, side: None, ..OVERFLOW },
            Expect { kinds: &["timeout"], impacts: &["request_failed"], ..OVERFLOW },
        ],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-forgot-kept",
        says: "the upstream's host loses a kept connection without a word and answers the next request with a bare RST",
        servers: KEPT,
        drive: forgot_kept,
        expect: &[Expect { impacts: &["request_retried"], ..FORGOTTEN }],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "upstream-forgot-upload",
        says: "the same in the middle of an upload",
        servers: STREAMED,
        drive: forgot_upload,
        expect: &[FORGOTTEN],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
];

fn failing_request(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /unavailable")?;
    stage.response(client, "502")
}

fn all_failed(stage: &mut Stage<'_>) -> Result<()> {
    failing_request(stage)?;
    failing_request(stage)
}

/// Two connections fill a queue with a limit of one (the kernel compares with `>`).
fn overflow(stage: &mut Stage<'_>) -> Result<()> {
    let address = stage.upstream();
    stage.server()?.tell(&format!("listen {address} 1"))?;
    for _ in 0..2 {
        stage.server()?.tell(&format!("connect {} {address}", address.ip()))?;
    }
    let client = stage.connect()?;
    stage.request(client, "GET /full")?;
    stage.response(client, "504")
}

/// The upstream's socket goes without a word, as when its host restarts.
fn forget(stage: &mut Stage<'_>, upstream: u32) -> Result<()> {
    stage.server()?.tell(&format!("forget {upstream}")).map(drop)
}

fn forgot_kept(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    forgotten_between(stage, listener)
}

/// What a listener with a TTL of its own leaves of that: whose RST it is cannot be told.
pub(super) const FORGOTTEN_BETWEEN: Expect = Expect {
    party: "unknown",
    causes: &["insufficient_evidence"],
    kinds: &["reset_received"],
    impacts: &["request_retried"],
    least: Certainty::Undetermined,
    most: Certainty::Undetermined,
    ..INCIDENT
};

/// The upstream's connection goes without a word, and the next request on it finds nobody.
fn forgotten_between(stage: &mut Stage<'_>, listener: u32) -> Result<()> {
    let client = stage.connect()?;
    let upstream = stage.exchange(client, listener)?;
    wait_acknowledged(stage)?;
    forget(stage, upstream)?;
    let forgotten = stage.truth.upstream_local.clone();
    stage.exchange(client, listener)?;
    stage.truth.upstream_local = forgotten;
    Ok(())
}

/// The same with a TTL of the listener's own.
pub(super) fn forgotten_by_own_ttl(stage: &mut Stage<'_>, ttl: u8) -> Result<()> {
    let listener = stage.listen()?;
    stage.server()?.tell(&format!("ttl {listener} {ttl}"))?;
    forgotten_between(stage, listener)
}

/// Nginx's ACK of the answer is there: later, it would find the connection forgotten already.
fn wait_acknowledged(stage: &mut Stage<'_>) -> Result<()> {
    let nginx = stage.truth.upstream_local.clone().context("no upstream connection yet")?.parse()?;
    let (pid, own) = (stage.server()?.pid(), stage.upstream());
    let is_ours = |socket: &kernel::Socket| socket.local == own && socket.remote == nginx;
    wait::until("the answer is acknowledged", wait::SOON, || {
        let ours = kernel::sockets(pid).into_iter().find(is_ours)?;
        (ours.unacknowledged == 0).then_some(())
    })
}

fn forgot_upload(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let head = "POST /upload HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: 10\\r\\n\\r\\nhello";
    stage.client.tell(&format!("send {client} {head}"))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage.server()?.tell(&format!("read {upstream} 5"))?;
    // Right behind what was acknowledged, an application that closes looks the same.
    wait::pass(LATER)?;
    forget(stage, upstream)?;
    stage.client.tell(&format!("send {client} world"))?;
    stage.response(client, "502")
}
