//! A router answers in somebody's name: `reject with tcp reset` on an established connection.
//!
//! The rule matches Nginx's packets with a payload, so the handshake passes and the RST goes to Nginx. The
//! other end hears nothing; when it speaks again, it contradicts the RST.

use super::super::net::Node;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::{KEPT, PLAIN, THINKS};
use anyhow::Result;

const STATIC: &str = "server { listen @LISTEN@; root @ROOT@; }\n";

/// Bare segments are shorter than this in both families, a request or a response is longer.
const FORGE: &str = "meta length > 88 reject with tcp reset";

const FORGED: Expect = Expect {
    party: "middlebox",
    causes: &["middlebox_forged_reset"],
    kinds: &["reset_received"],
    impacts: &["request_failed"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    checks: &[Check::Evidence(&["ttl", "hop"])],
    ..INCIDENT
};

const CONTRADICTED: Expect = Expect { least: Certainty::Proven, most: Certainty::Proven, ..FORGED };

const FORGED_CLIENT: Expect = Expect { impacts: &[], side: Some(Side::Client), ..FORGED };

/// Forged resets.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "forged-near-speaks",
        tour: Some(9),
        says: "a router rejects the request with a RST in the upstream's name, and the upstream speaks again",
        servers: PLAIN,
        drive: |stage| fresh(stage, Node::Near, true),
        expect: &[CONTRADICTED],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "forged-far-speaks",
        says: "the same by the router beside the upstream",
        servers: PLAIN,
        drive: |stage| fresh(stage, Node::Far, true),
        expect: &[CONTRADICTED],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "forged-near-silent",
        says: "a router rejects the request with a RST, and the upstream stays silent",
        servers: PLAIN,
        drive: |stage| fresh(stage, Node::Near, false),
        expect: &[FORGED],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "forged-far-silent",
        says: "the same by the router beside the upstream, one hop away from the truth",
        servers: PLAIN,
        drive: |stage| fresh(stage, Node::Far, false),
        expect: &[FORGED],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "forged-kept-speaks",
        says: "a router resets a connection that has served requests, and the upstream speaks again",
        servers: KEPT,
        drive: kept,
        expect: &[Expect { impacts: &["request_retried"], ..CONTRADICTED }],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "forged-client-near-speaks",
        says: "a router answers the response with a RST in the client's name, and the client speaks again",
        servers: STATIC,
        drive: |stage| client(stage, Node::Inner, true),
        expect: &[Expect { least: Certainty::Proven, most: Certainty::Proven, ..FORGED_CLIENT }],
        log: LogTruth::Info("sendfile() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "forged-client-far-silent",
        says: "the router beside the client does it, and the client stays silent",
        servers: STATIC,
        drive: |stage| client(stage, Node::Outer, false),
        expect: &[FORGED_CLIENT],
        log: LogTruth::Info("sendfile() failed (104"),
        ..ORDINARY
    },
];

fn fresh(stage: &mut Stage<'_>, router: Node, speaks: bool) -> Result<()> {
    let listener = stage.listen()?;
    let rule = format!("{} {FORGE}", stage.towards_upstream());
    stage.filter(router, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /forbidden")?;
    let upstream = stage.accept(listener)?;
    stage.response(client, "502")?;
    after(stage, upstream, speaks)
}

/// What the upstream does after the RST in its name.
fn after(stage: &mut Stage<'_>, upstream: u32, speaks: bool) -> Result<()> {
    if speaks {
        wait::pass(THINKS)?;
        stage.answer(upstream)?;
        return stage.server()?.tell(&format!("drain {upstream}")).map(drop);
    }
    stage.mute_upstream()
}

fn kept(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let upstream = stage.exchange(client, listener)?;
    let forged = stage.truth.upstream_local.clone();
    let rule = format!("{} tcp sport {} {FORGE}", stage.towards_upstream(), stage.upstream_local_port()?);
    stage.filter(Node::Near, &rule)?;
    stage.exchange(client, listener)?;
    stage.truth.upstream_local = forged;
    after(stage, upstream, true)
}

fn client(stage: &mut Stage<'_>, router: Node, speaks: bool) -> Result<()> {
    let rule = format!("{} {FORGE}", stage.towards_client());
    stage.filter(router, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /small")?;
    stage.wait_client("the RST reaches Nginx's host", |socket| socket.is_none())?;
    if speaks {
        wait::pass(THINKS)?;
        stage.request(client, "GET /small")?;
        return stage.client.tell(&format!("drain {client}")).map(drop);
    }
    let rule = format!("{} drop", stage.leaving_client());
    stage.silence(Node::Outer, &rule)
}
