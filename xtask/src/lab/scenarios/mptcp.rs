//! MPTCP: peers that offer it to an Nginx that does not speak it, so that both fall back to TCP, and an Nginx whose
//! listener does speak it, so that what the tracer follows are subflows.

use super::super::puppet::numbered;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::PLAIN;
use super::upstream::{ABORT, RECV};
use anyhow::Result;

/// What the kernel must have.
const KERNEL: &[&str] = &["/proc/sys/net/mptcp/enabled"];

const CLIENT: Expect = Expect {
    party: "client",
    causes: &["client_abort"],
    kinds: &["reset_received"],
    impacts: &["request_failed"],
    most: Certainty::Strong,
    side: Some(Side::Client),
    ..INCIDENT
};

/// Peers and listeners that speak MPTCP.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "mptcp-client-aborts",
        says: "a client offers MPTCP, gets TCP, and resets while the upstream works",
        servers: PLAIN,
        drive: client_aborts,
        expect: &[CLIENT],
        log: LogTruth::Either,
        needs: KERNEL,
        ..ORDINARY
    },
    Scenario {
        name: "mptcp-upstream-resets",
        says: "an upstream's listener speaks MPTCP, Nginx does not; the upstream reads the request and resets",
        servers: PLAIN,
        drive: upstream_resets,
        expect: &[ABORT],
        log: RECV,
        needs: KERNEL,
        ..ORDINARY
    },
    Scenario {
        name: "mptcp-listener-client-aborts",
        says: "Nginx inherits a listener that speaks MPTCP, and a client of it resets all of its subflows",
        servers: PLAIN,
        mptcp: true,
        drive: client_aborts,
        // Which worker accepted a subflow is not known, so the close of its upstream connection has no reason.
        expect: &[
            // RFC 8684, section 3.6.
            Expect { checks: &[Check::Carries("mp_tcprst")], ..CLIENT },
            Expect {
                party: "unknown",
                causes: &["insufficient_evidence"],
                kinds: &["timeout"],
                impacts: &[],
                least: Certainty::Undetermined,
                most: Certainty::Undetermined,
                logged: false,
                ..ABORT
            },
        ],
        log: LogTruth::Either,
        alone: true,
        needs: KERNEL,
        ..ORDINARY
    },
];

fn client_aborts(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let (from, to) = (stage.client_address(), stage.listener());
    let (client, local) = numbered(&stage.client.tell(&format!("connect-mptcp {from} {to}"))?)?;
    stage.truth.client = Some(local);
    stage.request(client, "GET /fault")?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage.client.tell(&format!("reset {client}"))?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.server()?.tell(&format!("close {upstream}")).map(drop)
}

fn upstream_resets(stage: &mut Stage<'_>) -> Result<()> {
    let address = stage.upstream();
    let (listener, _) = numbered(&stage.server()?.tell(&format!("listen-mptcp {address} 8"))?)?;
    let client = stage.connect()?;
    stage.request(client, "GET /fault")?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}
