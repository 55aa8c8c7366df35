//! Ways in which the kernel sends a RST in Nginx's name that no other scenario takes: a listener that is closed with
//! connections waiting, a socket that an administrator destroys, keep-alive probes that nobody answers.

use super::super::net::Node;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::{kernel, wait};
use super::PLAIN;
use super::upstream::in_flight;
use anyhow::Result;

const PROBING: &str = "server { listen @LISTEN@ so_keepalive=1s:1s:1; root @ROOT@; }\n";
const STATIC: &str = "server { listen @LISTEN@; root @ROOT@; lingering_close off; }\n";

const SENT: Expect = Expect {
    party: "nginx",
    kinds: &["reset_sent"],
    least: Certainty::Strong,
    side: Some(Side::Client),
    logged: false,
    ..INCIDENT
};

const NOBODY: Expect = Expect {
    party: "unknown",
    causes: &["insufficient_evidence"],
    least: Certainty::Undetermined,
    most: Certainty::Undetermined,
    ..SENT
};

/// Emitters.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "emitter-listener-closed",
        says: "Nginx is killed while a connection waits to be accepted: its listener goes and resets it (TCP_STATE)",
        servers: STATIC,
        drive: listener_closed,
        expect: &[Expect {
            causes: &["nginx_not_listening"],
            checks: &[Check::Evidence(&["listener_closed"])],
            ..SENT
        }],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "emitter-socket-destroyed",
        says: "an administrator destroys Nginx's socket (`ss -K`): neither Nginx nor the client did it",
        servers: PLAIN,
        drive: socket_destroyed,
        expect: &[
            Expect { checks: &[Check::Evidence(&["local_kill"])], ..NOBODY },
            // Nginx then lets go of the upstream; without a line of the log nobody says why.
            Expect { kinds: &["timeout"], side: Some(Side::Upstream), ..NOBODY },
        ],
        log: LogTruth::Either,
        alone: true,
        needs: &["ss"],
        ..ORDINARY
    },
    Scenario {
        name: "emitter-keepalive-unanswered",
        says: "a client's host vanishes and keep-alive probes are not answered (TCP_KEEPALIVE_TIMEOUT)",
        servers: PROBING,
        drive: keepalive_unanswered,
        expect: &[Expect {
            party: "client",
            causes: &["client_vanished"],
            least: Certainty::Weak,
            most: Certainty::Weak,
            harmless: true,
            checks: &[Check::Evidence(&["keepalive_unanswered"])],
            ..SENT
        }],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "emitter-time-wait",
        says: "a client sends on after Nginx has answered and closed: TIME_WAIT answers (TCP_TIMEWAIT_SOCKET)",
        servers: STATIC,
        drive: time_wait,
        expect: &[Expect {
            causes: &["nginx_closed_unread"],
            // What is left of the socket does not say what the client was still to get.
            impacts: &["connection_only", "response_truncated", "request_failed", "unknown"],
            checks: &[Check::Evidence(&["data_after_close"])],
            ..SENT
        }],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
];

fn listener_closed(stage: &mut Stage<'_>) -> Result<()> {
    let frozen = stage.freeze()?;
    let client = stage.connect()?;
    wait::until("the connection waits", wait::SOON, || (stage.waiting() > 0).then_some(()))?;
    stage.kill_nginx()?;
    drop(frozen);
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn socket_destroyed(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.destroy_client_socket()?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

/// The router beside Nginx lets nothing of the client through any more.
fn keepalive_unanswered(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.response(client, "200")?;
    let rule = format!("{} drop", stage.leaving_client());
    stage.filter(Node::Inner, &rule)?;
    stage.wait_client("the probes are over", |socket| socket.is_none())
}

/// Nginx has answered and closed, and the client knows of its FIN.
fn time_wait(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.last_exchange(client)?;
    stage.wait_client("Nginx has let go of the socket", |socket| {
        socket.is_none_or(|socket| socket.state == kernel::FIN_WAIT2)
    })?;
    stage.client.tell(&format!("send {client} more"))?;
    stage.client.try_tell(&format!("drain {client}"))
}
