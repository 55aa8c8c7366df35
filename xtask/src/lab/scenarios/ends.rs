//! The tracer sees both ends: upstreams that live in another network namespace of the same host, as containers do.

use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, View};
use super::super::stage::Stage;
use super::super::wait;
use super::doubts::unheard;
use super::inject::{EXACT, Rst, inject, watched};
use super::race::{kept, repaired};
use super::silence::{IMPATIENT, TIMED_OUT};
use super::upstream::{ABORT, RECV, in_flight, linger_zero};
use super::{KEPT, PLAIN};
use anyhow::Result;
use std::time::Duration;

/// An id as container runtimes give them.
const CONTAINER: &str = "5eed0c0ffee0123456789abcdef0123456789abcdef0123456789abcdef01234";

const RESET: &str = "meta length > 88 reject with tcp reset";

/// The upstream's end got the RST of a device, and answers what comes later with one of its own.
const FAR_END: Expect = Expect {
    party: "middlebox",
    causes: &["middlebox_forged_reset"],
    kinds: &["reset_received"],
    impacts: &["request_retried"],
    least: Certainty::Proven,
    most: Certainty::Proven,
    ..INCIDENT
};

/// Seen from both ends.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "ends-upstream-linger-zero",
        says: "an upstream in another namespace of this host resets: its process is seen and named",
        servers: PLAIN,
        drive: reset_by_process,
        expect: &[Expect {
            least: Certainty::Proven,
            checks: &[Check::Sender],
            most: Certainty::Proven,
            ..ABORT
        }],
        log: RECV,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-upstream-killed",
        says: "an upstream in another namespace of this host is killed (-9) with the request unread",
        servers: PLAIN,
        drive: killed,
        expect: &[Expect {
            causes: &["upstream_process_exit"],
            least: Certainty::Proven,
            most: Certainty::Proven,
            checks: &[Check::Sender, Check::Says("SIGKILL")],
            ..ABORT
        }],
        log: RECV,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-container-killed",
        says: "the same in a container: its id, the unit, the control group and the executable are named",
        families: &[Family::V4],
        servers: PLAIN,
        drive: container_killed,
        expect: &[Expect {
            causes: &["upstream_process_exit"],
            least: Certainty::Proven,
            most: Certainty::Proven,
            checks: &[
                Check::Sender,
                Check::Says("SIGKILL"),
                Check::Says(CONTAINER),
                Check::Says("container 5eed0c0ffee0"),
                Check::Says("/xtask\",\"exit"),
                Check::Says("/docker-"),
            ],
            ..ABORT
        }],
        log: RECV,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-both-reset",
        says: "devices reset both ends of a connection, and neither end has sent a RST",
        servers: PLAIN,
        drive: both,
        expect: &[Expect {
            party: "middlebox",
            causes: &["middlebox_both_ends_reset"],
            kinds: &["reset_received"],
            impacts: &["request_failed"],
            least: Certainty::Proven,
            ..INCIDENT
        }],
        log: RECV,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-far-end-reset",
        says: "a device turns the upstream's answer into a RST for the upstream: Nginx waits for nothing",
        servers: IMPATIENT,
        drive: far_end,
        expect: &[Expect { kinds: &["timeout"], impacts: &["request_failed"], ..FAR_END }],
        log: LogTruth::Always("upstream timed out (110"),
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-answer-rejected-here",
        says: "the packet filter of Nginx's own host turns the upstream's answer into a RST for the upstream",
        servers: IMPATIENT,
        drive: answer_rejected_here,
        expect: &[Expect {
            causes: &["local_firewall"],
            kinds: &["timeout"],
            impacts: &["request_failed"],
            // Weak where the kernel does not name why it dropped the answer.
            least: Certainty::Weak,
            most: Certainty::Proven,
            ..FAR_END
        }],
        log: LogTruth::Always("upstream timed out (110"),
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-far-end-reset-idle",
        says: "a device resets the upstream's end of an idle connection; its kernel answers Nginx's next request with a RST",
        servers: KEPT,
        drive: far_end_idle,
        expect: &[FAR_END],
        log: RECV,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-far-end-reset-long-ago",
        says: "a device resets the upstream's end of an idle connection; long after, Nginx uses it again",
        servers: KEPT,
        families: &[Family::V4],
        drive: |stage| {
            let mut device = stage.device(Node::Far)?;
            let (client, listener, upstream) = kept(stage)?;
            let nginx = stage.truth.upstream_local.clone().unwrap_or_default();
            device.tell(&format!("inject {nginx} {} 63 0 R 0 0 0", stage.upstream()))?;
            stage.server()?.tell(&format!("drain {upstream}"))?;
            wait::pass(Duration::from_secs(9))?;
            stage.request(client, "GET /again")?;
            repaired(stage, client, listener)
        },
        expect: &[Expect { least: Certainty::Weak, ..FAR_END }],
        log: RECV,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-forged-then-real",
        says: "both ends are on this host: a device resets Nginx's end, and a moment later the upstream's process resets its own",
        servers: PLAIN,
        families: &[Family::V4],
        drive: |stage| {
            let (mut device, client, upstream) = watched(stage)?;
            inject(stage, &mut device, Rst { hops: 60, ..EXACT })?;
            stage.server()?.tell(&format!("reset {upstream}"))?;
            stage.response(client, "502")
        },
        expect: &[Expect { party: "middlebox", causes: &["middlebox_forged_reset"], ..ABORT }],
        // Beside the upstream only its own reset passes.
        elsewhere: &["upstream"],
        log: RECV,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-unheard-exit",
        says: "both ends are on this host: the upstream is killed, its FIN is lost, and Nginx waits for its timer",
        servers: IMPATIENT,
        families: &[Family::V4],
        drive: |stage| {
            let (client, _) = unheard(stage)?;
            stage.kill_server()?;
            stage.response(client, "504")
        },
        expect: &[Expect {
            party: "upstream",
            causes: &["upstream_process_exit"],
            kinds: &["timeout"],
            ..INCIDENT
        }],
        log: TIMED_OUT,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
];

fn reset_by_process(stage: &mut Stage<'_>) -> Result<()> {
    stage.server_acts()?;
    linger_zero(stage)
}

fn killed(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.kill_server()?;
    stage.response(client, "502")
}

/// A runtime puts the process into its group before the program begins.
fn container_killed(stage: &mut Stage<'_>) -> Result<()> {
    let _groups = stage.contain(&format!("docker-{CONTAINER}.scope"))?;
    killed(stage)
}

/// The router beside Nginx rejects the request, the one beside the upstream what that sends.
fn both(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let rule = format!("{} {RESET}", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    let rule = format!("{} {RESET}", stage.leaving_upstream());
    stage.filter(Node::Far, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /both")?;
    let upstream = stage.accept(listener)?;
    stage.answer(upstream)?;
    stage.server()?.tell(&format!("drain {upstream}"))?;
    stage.response(client, "502")
}

/// The request arrives; what answers it is rejected by the router beside the upstream.
fn far_end(stage: &mut Stage<'_>) -> Result<()> {
    let rule = format!("{} {RESET}", stage.leaving_upstream());
    stage.filter(Node::Far, &rule)?;
    answered_in_vain(stage)
}

fn answer_rejected_here(stage: &mut Stage<'_>) -> Result<()> {
    let rule = format!("{} {RESET}", stage.leaving_upstream());
    stage.filter_input(Node::Web, &rule)?;
    answered_in_vain(stage)
}

fn answered_in_vain(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.request(client, "GET /far")?;
    let upstream = stage.accept(listener)?;
    stage.answer(upstream)?;
    stage.server()?.tell(&format!("drain {upstream}"))?;
    stage.response(client, "504")
}

fn far_end_idle(stage: &mut Stage<'_>) -> Result<()> {
    let mut device = stage.device(Node::Far)?;
    let (client, listener, upstream) = kept(stage)?;
    let nginx = stage.truth.upstream_local.clone().unwrap_or_default();
    device.tell(&format!("inject {nginx} {} 63 0 R 0 0 0", stage.upstream()))?;
    stage.server()?.tell(&format!("drain {upstream}"))?;
    stage.request(client, "GET /again")?;
    repaired(stage, client, listener)
}
