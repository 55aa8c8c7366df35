//! Refusals by ICMP: who sent the message decides what it means.

use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::PLAIN;
use super::firewall::{LOCAL, REJECTED, failing_request};
use super::silence::IMPATIENT_KEPT;
use anyhow::Result;

const UNREACHABLE: LogTruth = LogTruth::Always("connect() failed (113");
/// A port is refused with the errno of a RST.
const REFUSED: LogTruth = LogTruth::Always("connect() failed (111");

const PROHIBITION: Expect =
    Expect { least: Certainty::Strong, checks: &[Check::Evidence(&["icmp_prohibited"])], ..REJECTED };

/// Messages by their names in nftables.
const PROHIBITED: &str = "admin-prohibited";
const NO_HOST: &str = "host-unreachable";
const NO_PORT: &str = "port-unreachable";

/// ICMP.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "reject-icmp-v4",
        says: "a router answers the SYN with ICMP `communication administratively prohibited`",
        families: &[Family::V4],
        servers: PLAIN,
        drive: |stage| rejected_by_router(stage, PROHIBITED),
        expect: &[PROHIBITION],
        log: UNREACHABLE,
        ..ORDINARY
    },
    Scenario {
        name: "reject-icmp-v6",
        says: "the same by ICMPv6, which the kernel reports with another errno",
        families: &[Family::V6],
        servers: PLAIN,
        drive: |stage| rejected_by_router(stage, PROHIBITED),
        expect: &[PROHIBITION],
        log: LogTruth::Always("connect() failed (13"),
        ..ORDINARY
    },
    Scenario {
        name: "reject-icmp-unreachable",
        says: "a router says that the upstream's host is not reachable: it may be the host that is down",
        servers: PLAIN,
        drive: |stage| rejected_by_router(stage, NO_HOST),
        expect: &[Expect {
            most: Certainty::Weak,
            checks: &[Check::Evidence(&["icmp_unreachable"])],
            ..REJECTED
        }],
        log: UNREACHABLE,
        ..ORDINARY
    },
    Scenario {
        name: "reject-icmp-by-upstream",
        says: "the upstream's own packet filter answers the SYN with ICMP `port unreachable`",
        servers: PLAIN,
        drive: rejected_by_upstream,
        expect: &[Expect {
            most: Certainty::Weak,
            checks: &[Check::Evidence(&["icmp_from_peer"])],
            ..REJECTED
        }],
        log: REFUSED,
        ..ORDINARY
    },
    Scenario {
        name: "local-firewall-icmp",
        says: "the Nginx host's own packet filter rejects the SYN with ICMP `port unreachable`, as REJECT does by default",
        servers: PLAIN,
        drive: rejected_here,
        expect: &[Expect { checks: &[Check::Evidence(&["icmp_from_here"])], ..LOCAL }],
        log: REFUSED,
        ..ORDINARY
    },
    Scenario {
        name: "trap-next-hop-silent",
        says: "nobody answers for the next hop: no device refused anything, and the upstream may be well",
        servers: PLAIN,
        drive: next_hop_silent,
        expect: &[Expect {
            party: "unknown",
            causes: &["insufficient_evidence"],
            kinds: &["refused"],
            impacts: &["request_failed"],
            least: Certainty::Undetermined,
            most: Certainty::Undetermined,
            checks: &[Check::Evidence(&["next_hop_silent"])],
            ..INCIDENT
        }],
        log: UNREACHABLE,
        ..ORDINARY
    },
    Scenario {
        name: "drop-data-icmp",
        says: "a router refuses the request on a connection that has worked, and says so by ICMP",
        servers: IMPATIENT_KEPT,
        drive: data_rejected,
        expect: &[Expect {
            party: "middlebox",
            causes: &["middlebox_drop"],
            kinds: &["timeout"],
            impacts: &["request_failed"],
            least: Certainty::Strong,
            most: Certainty::Strong,
            checks: &[Check::Evidence(&["icmp_prohibited"])],
            ..INCIDENT
        }],
        log: LogTruth::Always("upstream timed out (110"),
        ..ORDINARY
    },
];

/// A rule that refuses with this message.
fn reject(stage: &Stage<'_>, message: &str) -> String {
    match (stage.family(), message) {
        (Family::V4, message) => format!("reject with icmp type {message}"),
        (Family::V6, NO_HOST) => "reject with icmpv6 type addr-unreachable".to_owned(),
        (Family::V6, message) => format!("reject with icmpv6 type {message}"),
    }
}

fn rejected_by_router(stage: &mut Stage<'_>, message: &str) -> Result<()> {
    stage.listen()?;
    let rule = format!("{} {}", stage.towards_upstream(), reject(stage, message));
    stage.filter(Node::Near, &rule)?;
    failing_request(stage)
}

fn rejected_by_upstream(stage: &mut Stage<'_>) -> Result<()> {
    stage.listen()?;
    // Only TCP: IPv6 finds its neighbours by ICMP.
    let rule = format!("{} meta l4proto tcp {}", stage.towards_upstream(), reject(stage, NO_PORT));
    stage.filter_input(Node::Upstream, &rule)?;
    failing_request(stage)
}

fn rejected_here(stage: &mut Stage<'_>) -> Result<()> {
    stage.listen()?;
    let rule = format!("{} {}", stage.towards_upstream(), reject(stage, NO_PORT));
    stage.filter_output(Node::Web, &rule)?;
    failing_request(stage)
}

fn next_hop_silent(stage: &mut Stage<'_>) -> Result<()> {
    stage.listen()?;
    stage.lead_astray()?;
    failing_request(stage)
}

fn data_rejected(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    let sent = stage.truth.upstream_local.clone();
    let port = stage.upstream_local_port()?;
    let rule = format!("{} tcp sport {port} {}", stage.towards_upstream(), reject(stage, PROHIBITED));
    stage.filter(Node::Near, &rule)?;
    stage.request(client, "GET /refused")?;
    stage.truth.upstream_local = sent;
    stage.response(client, "504")
}
