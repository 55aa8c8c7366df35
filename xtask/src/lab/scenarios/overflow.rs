//! Full listeners that answer with a RST (`net.ipv4.tcp_abort_on_overflow`): Nginx's own, an upstream's in a container
//! beside Nginx, and one on another host, of which Nginx's host sees no more than the RST.
//!
//! The setting is that of a network namespace, so each of these is alone on its bench. What completes the one handshake
//! is held back by a router until the queue is full: then its next segment finds no room, whatever the speed.

use super::super::net::Node;
use super::super::puppet::numbered;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side, View};
use super::super::stage::Stage;
use super::super::wait;
use super::PLAIN;
use anyhow::Result;

const SETTING: &str = "ipv4/tcp_abort_on_overflow";
const SHORT_QUEUE: &str = "server { listen @LISTEN@ backlog=2; root @ROOT@; }\n";
/// The limit of `SHORT_QUEUE`; one more connection fits (the kernel compares with `>`).
const BACKLOG: u64 = 2;
/// What completes a handshake, and everything after it; SYN and SYN-ACK pass.
const NO_SYN: &str = "tcp flags & (syn|ack) == ack drop";

const OURS: Expect = Expect {
    party: "nginx",
    causes: &["nginx_listen_overflow"],
    least: Certainty::Proven,
    logged: false,
    checks: &[Check::Evidence(&["listener_full"])],
    ..INCIDENT
};

const THEIRS: Expect = Expect {
    party: "upstream",
    causes: &["upstream_listen_overflow"],
    impacts: &["request_failed"],
    least: Certainty::Proven,
    checks: &[Check::Evidence(&["peer_listener_full"])],
    ..INCIDENT
};

/// Overflows that abort.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "overflow-abort-nginx",
        says: "Nginx's accept queue is full when a client's handshake completes, and the kernel aborts it",
        servers: SHORT_QUEUE,
        drive: own_listener,
        expect: &[
            Expect {
                kinds: &["listen_overflow"],
                side: None,
                checks: &[Check::ListenerLimit(BACKLOG)],
                ..OURS
            },
            // Told of the listener; what a client meets is shown on demand.
            Expect { kinds: &["reset_sent"], side: Some(Side::Client), harmless: true, ..OURS },
        ],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "overflow-abort-upstream",
        says: "an upstream in a container beside Nginx has a full accept queue, and its kernel aborts Nginx's connection",
        servers: PLAIN,
        drive: upstreams_listener,
        expect: &[
            Expect { kinds: &["reset_received"], ..THEIRS },
            Expect {
                kinds: &["listen_overflow"],
                impacts: &[],
                side: None,
                checks: &[],
                logged: false,
                ..THEIRS
            },
        ],
        log: LogTruth::Always("failed (104"),
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "overflow-abort-remote",
        says: "the same on another host: of the queue nothing is known, only that nobody there had taken the connection",
        servers: PLAIN,
        drive: upstreams_listener,
        expect: &[Expect {
            causes: &["upstream_refused", "upstream_restarted", "upstream_abort"],
            kinds: &["reset_received"],
            least: Certainty::Weak,
            most: Certainty::Strong,
            checks: &[],
            ..THEIRS
        }],
        log: LogTruth::Always("failed (104"),
        alone: true,
        ..ORDINARY
    },
];

fn own_listener(stage: &mut Stage<'_>) -> Result<()> {
    stage.setting(Node::Web, SETTING, "1")?;
    let frozen = stage.freeze()?;
    let rule = format!("{} {NO_SYN}", stage.leaving_client());
    stage.filter(Node::Inner, &rule)?;
    let late = stage.connect()?;
    let aborted = stage.truth.client.take();
    stage.clear_filters();
    for _ in 0..=BACKLOG {
        stage.connect()?;
    }
    wait::until("the queue is full", wait::SOON, || (u64::from(stage.waiting()) > BACKLOG).then_some(()))?;
    stage.client.try_tell(&format!("send {late} GET / HTTP/1.1\\r\\n"))?;
    stage.client.try_tell(&format!("drain {late}"))?;
    stage.truth.client = aborted;
    drop(frozen);
    Ok(())
}

fn upstreams_listener(stage: &mut Stage<'_>) -> Result<()> {
    stage.setting(Node::Upstream, SETTING, "1")?;
    let address = stage.upstream();
    stage.server()?.tell(&format!("listen {address} {BACKLOG}"))?;
    let rule = format!("{} {NO_SYN}", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /full")?;
    stage.find_upstream_local()?;
    for _ in 0..=BACKLOG {
        let answer = stage.server()?.tell(&format!("connect {} {address}", address.ip()))?;
        numbered(&answer)?;
    }
    stage.clear_filters();
    stage.response(client, "502")
}
