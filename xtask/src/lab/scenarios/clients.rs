//! The client resets: in the middle of things, after them, and in ways that touch the upstream too.

use super::super::kernel::ESTABLISHED;
use super::super::net::Node;
use super::super::scenario::{Certainty, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::upstream::in_flight;
use super::{KEPT, PLAIN};
use anyhow::Result;
use std::time::Duration;

pub(super) const STATIC: &str = "server { listen @LISTEN@; root @ROOT@; }\n";

/// Nginx keeps the socket after its FIN; otherwise it may be a mere time-wait entry, on which no RST is traced.
const LINGERING: &str = "server { listen @LISTEN@; root @ROOT@; lingering_close always; }\n";

const HASTY: &str = "server { listen @LISTEN@; root @ROOT@; send_timeout 3s; }\n";

const ABORT: Expect = Expect {
    party: "client",
    causes: &["client_abort"],
    kinds: &["reset_received"],
    impacts: &["response_truncated", "request_failed"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    side: Some(Side::Client),
    ..INCIDENT
};

/// The same where no line of the log is looked for, and what it did to the request is not compared.
pub(super) const UNLOGGED_ABORT: Expect = Expect { impacts: &[], logged: false, ..ABORT };

const HARMLESS: Expect =
    Expect { causes: &["client_late_reset"], impacts: &["harmless"], harmless: true, ..ABORT };

/// Faults of the client, and what only looks like one.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "client-abort-static",
        tour: Some(6),
        says: "the client resets in the middle of a large file",
        servers: STATIC,
        drive: abort_static,
        expect: &[ABORT],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "client-abort-proxied",
        says: "the client resets in the middle of a large proxied response; Nginx then drops the upstream",
        servers: PLAIN,
        drive: abort_proxied,
        expect: &[ABORT],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "client-abort-waiting",
        says: "the client resets while the upstream still works on the request",
        servers: PLAIN,
        drive: abort_waiting,
        expect: &[Expect { impacts: &["request_failed"], ..ABORT }],
        log: LogTruth::Info(
            "client prematurely closed connection, so upstream connection is closed too (104",
        ),
        ..ORDINARY
    },
    Scenario {
        name: "trap-upstream-reset-after-client-abort",
        says: "the client resets, Nginx closes the upstream, and the upstream answers that with a RST",
        servers: PLAIN,
        drive: upstream_follows,
        expect: &[Expect { impacts: &["request_failed"], ..ABORT }],
        log: LogTruth::Info(
            "client prematurely closed connection, so upstream connection is closed too (104",
        ),
        ..ORDINARY
    },
    Scenario {
        name: "trap-upstream-talks-after-client-abort",
        says: "the client resets, Nginx closes the upstream, and the upstream still sends: our own kernel resets it",
        servers: PLAIN,
        drive: upstream_talks,
        expect: &[Expect { impacts: &["request_failed"], ..ABORT }],
        log: LogTruth::Info(
            "client prematurely closed connection, so upstream connection is closed too (104",
        ),
        ..ORDINARY
    },
    Scenario {
        name: "client-late-reset",
        tour: Some(7),
        says: "the client resets after a complete response that Nginx has closed",
        servers: LINGERING,
        drive: late_reset,
        expect: &[HARMLESS],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "client-later-reset",
        says: "the same when Nginx has let go of the socket: harmless, if it is seen at all",
        servers: STATIC,
        drive: late_reset,
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "client-idle-reset",
        says: "the client resets a kept-alive connection between two requests",
        servers: STATIC,
        drive: idle_reset,
        expect: &[Expect { causes: &["client_idle_reset", "client_late_reset"], ..HARMLESS }],
        log: LogTruth::Info("closed keepalive connection (104"),
        ..ORDINARY
    },
    Scenario {
        name: "client-idle-reset-proxied",
        says: "the same after a proxied response, with the upstream connection kept",
        servers: KEPT,
        drive: idle_reset_proxied,
        expect: &[Expect { causes: &["client_idle_reset", "client_late_reset"], ..HARMLESS }],
        log: LogTruth::Info("closed keepalive connection (104"),
        ..ORDINARY
    },
    Scenario {
        name: "client-handshake-reset",
        says: "the client connects and resets without a byte, as health checks and scans do",
        servers: STATIC,
        drive: handshake_reset,
        expect: &[Expect {
            causes: &["client_handshake_reset"],
            impacts: &["harmless", "connection_only"],
            ..ABORT
        }],
        log: LogTruth::Info("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "client-leaves-waiting",
        says: "the client closes in order while the upstream still works on the request: a FIN, not a RST",
        servers: PLAIN,
        drive: leaves_waiting,
        expect: &[Expect { kinds: &[], impacts: &["request_failed"], side: None, ..ABORT }],
        log: LogTruth::Info("client prematurely closed connection, so upstream connection is closed too"),
        ..ORDINARY
    },
    Scenario {
        name: "client-vanished",
        says: "from the middle of a request on, no packet to or from the client passes the router",
        servers: HASTY,
        drive: vanished,
        expect: &[Expect {
            causes: &["client_vanished"],
            kinds: &["timeout"],
            impacts: &["response_truncated"],
            ..ABORT
        }],
        log: LogTruth::Info("client timed out (110"),
        ..ORDINARY
    },
];

/// The client has the head of a large response and reads no further, so bytes are in flight.
fn stuck(stage: &mut Stage<'_>) -> Result<u32> {
    let client = stage.connect_narrow()?;
    stage.request(client, "GET /big")?;
    Ok(client)
}

fn reset_when_stuck(stage: &mut Stage<'_>, client: u32) -> Result<()> {
    stage.client.tell(&format!("head {client}"))?;
    stage.wait_client("the response is in flight", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged > 0)
    })?;
    stage.client.tell(&format!("reset {client}"))?;
    stage.wait_client("the RST reaches Nginx's host", |socket| socket.is_none())
}

pub(super) fn abort_static(stage: &mut Stage<'_>) -> Result<()> {
    let client = stuck(stage)?;
    reset_when_stuck(stage, client)
}

fn abort_proxied(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stuck(stage)?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage
        .server()?
        .tell(&format!("send {upstream} HTTP/1.1 200 OK\\r\\nContent-Length: 2000000000\\r\\n\\r\\n"))?;
    stage.server()?.start_command(&format!("fill {upstream} 2000000000"))?;
    reset_when_stuck(stage, client)?;
    stage.server()?.finish_any()
}

/// The client resets while Nginx waits for the upstream; gives the upstream connection.
fn abandoned(stage: &mut Stage<'_>) -> Result<u32> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.client.tell(&format!("reset {client}"))?;
    // Nginx gives up the upstream connection: its FIN arrives there.
    stage.server()?.tell(&format!("readable {upstream}"))?;
    Ok(upstream)
}

pub(super) fn abort_waiting(stage: &mut Stage<'_>) -> Result<()> {
    let upstream = abandoned(stage)?;
    stage.server()?.tell(&format!("close {upstream}")).map(drop)
}

fn leaves_waiting(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    // Within a tick or two a request looks like the last words of TLS, see UNANSWERED_TICKS.
    wait::pass(Duration::from_millis(50))?;
    stage.client.tell(&format!("close {client}"))?;
    // Nginx gives up the upstream connection: its FIN arrives there.
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.server()?.tell(&format!("close {upstream}")).map(drop)
}

/// The worker is stopped until the router drops, so that no byte of the response gets through.
fn vanished(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.wait_accepted()?;
    let frozen = stage.freeze()?;
    stage.request(client, "GET /big")?;
    stage.wait_client("the request has arrived", |socket| socket.is_some_and(|socket| socket.unread > 0))?;
    let rule = format!("{} drop", stage.leaving_client());
    stage.silence(Node::Inner, &rule)?;
    let rule = format!("{} drop", stage.towards_client());
    stage.filter(Node::Inner, &rule)?;
    drop(frozen);
    stage.wait_client("Nginx gives up", |socket| socket.is_none_or(|socket| socket.state != ESTABLISHED))
}

fn upstream_follows(stage: &mut Stage<'_>) -> Result<()> {
    let upstream = abandoned(stage)?;
    stage.server()?.tell(&format!("reset {upstream}")).map(drop)
}

fn upstream_talks(stage: &mut Stage<'_>) -> Result<()> {
    let upstream = abandoned(stage)?;
    stage.answer(upstream)?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)?;
    stage.server()?.try_tell(&format!("send {upstream} more")).map(drop)
}

fn late_reset(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.last_exchange(client)?;
    stage.client.tell(&format!("readable {client}"))?;
    stage.client.tell(&format!("reset {client}")).map(drop)
}

fn idle_reset(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.response(client, "200")?;
    stage.client.tell(&format!("reset {client}")).map(drop)
}

fn idle_reset_proxied(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    stage.client.tell(&format!("reset {client}"))?;
    stage.wait_client("the RST reaches Nginx's host", |socket| socket.is_none())
}

/// The worker must have accepted, or the connection would be gone before Nginx saw it.
fn handshake_reset(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.wait_accepted()?;
    stage.client.tell(&format!("reset {client}")).map(drop)
}
