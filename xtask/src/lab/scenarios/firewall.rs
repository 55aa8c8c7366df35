//! Packet filters that refuse aloud: the Nginx host's own OUTPUT chain, and routers that answer a SYN.

use super::super::net::Node;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::silence::{IMPATIENT, TIMED_OUT};
use super::upstream::in_flight;
use super::{KEPT, PLAIN};
use anyhow::Result;

/// Bare segments are shorter than this in both families, a request is longer.
pub(super) const REJECT_DATA: &str = "meta length > 88 reject with tcp reset";
/// Only the first segment of a connection.
pub(super) const REJECT_SYN: &str = "tcp flags & (syn | ack) == syn reject with tcp reset";

pub(super) const LOCAL: Expect = Expect {
    party: "middlebox",
    causes: &["local_firewall"],
    kinds: &["reset_received", "refused"],
    impacts: &["request_failed"],
    least: Certainty::Proven,
    most: Certainty::Proven,
    ..INCIDENT
};

pub(super) const REJECTED: Expect = Expect {
    party: "middlebox",
    causes: &["middlebox_reject"],
    kinds: &["refused"],
    impacts: &["request_failed"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    ..INCIDENT
};

const DROPPED: Expect =
    Expect { kinds: &["timeout"], checks: &[Check::Evidence(&["dropped_here"])], ..LOCAL };

const DROP_SYN: &str = "tcp flags & (syn | ack) == syn drop";
/// See `REJECT_DATA`.
const DROP_DATA: &str = "meta length > 88 drop";

const REFUSED_LINE: LogTruth = LogTruth::Always("connect() failed (111");

/// Filters that answer.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "local-firewall-syn",
        says: "the Nginx host's own packet filter rejects the SYN towards the upstream",
        servers: PLAIN,
        drive: local_syn,
        // The refusal of an address translated to this host's own looks the same.
        expect: &[Expect { least: Certainty::Weak, most: Certainty::Weak, ..LOCAL }],
        log: REFUSED_LINE,
        ..ORDINARY
    },
    Scenario {
        name: "local-firewall-established",
        says: "the Nginx host's own packet filter rejects the request on an established connection",
        servers: PLAIN,
        drive: local_data,
        expect: &[Expect { kinds: &["reset_received"], ..LOCAL }],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "local-drop-syn",
        says: "the Nginx host's own packet filter drops the SYN towards the upstream",
        servers: IMPATIENT,
        drive: |stage| {
            let rule = format!("{} {DROP_SYN}", stage.towards_upstream());
            stage.filter_output(Node::Web, &rule)?;
            timed_out(stage)
        },
        expect: &[DROPPED],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "local-drop-request",
        says: "the same with the request on an established connection",
        servers: IMPATIENT,
        drive: |stage| {
            let listener = stage.listen()?;
            let rule = format!("{} {DROP_DATA}", stage.towards_upstream());
            stage.filter_output(Node::Web, &rule)?;
            timed_out(stage)?;
            stage.accept(listener).map(drop)
        },
        expect: &[DROPPED],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "local-drop-answer",
        says: "the same with the answer on its way in, which the upstream sends again and again",
        servers: IMPATIENT,
        drive: |stage| {
            let (client, upstream) = in_flight(stage)?;
            stage.read_request(upstream)?;
            let rule = format!("{} {DROP_DATA}", stage.leaving_upstream());
            stage.filter_input(Node::Web, &rule)?;
            stage.answer(upstream)?;
            stage.response(client, "504")
        },
        expect: &[DROPPED],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "trap-local-drop-once",
        says: "the Nginx host's packet filter drops the first copy of a request, which is sent again; then its upstream is slow",
        servers: IMPATIENT,
        drive: |stage| {
            let listener = stage.listen()?;
            let rule = format!("{} {DROP_DATA}", stage.towards_upstream());
            stage.filter_output(Node::Web, &rule)?;
            let client = stage.connect()?;
            stage.request(client, "GET /dropped-once")?;
            let upstream = stage.accept(listener)?;
            stage.clear_filters();
            stage.read_request(upstream)?;
            stage.response(client, "504")
        },
        expect: &[Expect {
            party: "upstream",
            causes: &["upstream_slow"],
            kinds: &["timeout"],
            least: Certainty::Weak,
            most: Certainty::Strong,
            ..LOCAL
        }],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "reject-reset-known-upstream",
        says: "a router answers a SYN with a RST; an earlier handshake has shown how far away the upstream is",
        servers: KEPT,
        drive: reject_reset,
        expect: &[Expect { checks: &[Check::Evidence(&["hop"])], ..REJECTED }],
        log: REFUSED_LINE,
        ..ORDINARY
    },
];

fn local_syn(stage: &mut Stage<'_>) -> Result<()> {
    stage.listen()?;
    let rule = format!("{} {REJECT_SYN}", stage.towards_upstream());
    stage.filter_output(Node::Web, &rule)?;
    failing_request(stage)
}

fn local_data(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let rule = format!("{} {REJECT_DATA}", stage.towards_upstream());
    stage.filter_output(Node::Web, &rule)?;
    failing_request(stage)?;
    stage.accept(listener).map(drop)
}

/// The only kept connection is busy, so the second request needs a new one, whose SYN is rejected.
fn reject_reset(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let busy = stage.connect()?;
    let upstream = stage.exchange(busy, listener)?;
    stage.request(busy, "GET /busy")?;
    stage.read_request(upstream)?;
    let rule = format!("{} {REJECT_SYN}", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    stage.truth.upstream_local = None;
    failing_request(stage)?;
    stage.answer(upstream)?;
    stage.response(busy, "200")
}

fn timed_out(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /dropped")?;
    stage.response(client, "504")
}

pub(super) fn failing_request(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /rejected")?;
    stage.response(client, "502")
}
