//! Made-up packets: a device that chooses hop limit, identification, flags and sequence numbers.

use super::super::net::{Family, Node};
use super::super::puppet::Puppet;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::super::wait;
use super::clients::UNLOGGED_ABORT;
use super::upstream::{ABORT, RECV, in_flight};
use super::{PLAIN, THINKS};
use anyhow::Result;
use std::time::Duration;

const V4: &[Family] = &[Family::V4];

/// Longer than the time that is waited for the line of the log.
const LATE: Duration = Duration::from_millis(1_500);

pub(super) const FORGED: Expect = Expect {
    party: "middlebox",
    causes: &["middlebox_forged_reset"],
    kinds: &["reset_received"],
    impacts: &["request_failed"],
    least: Certainty::Strong,
    most: Certainty::Strong,
    ..INCIDENT
};

/// The same, where the evidence need not decide.
const SUSPECTED: Expect = Expect { impacts: &[], least: Certainty::Weak, ..FORGED };

/// That is all of it that Nginx's host gets to see.
const CLOSED: Expect = Expect {
    party: "upstream",
    causes: &["upstream_closed_early"],
    kinds: &["closed_early"],
    most: Certainty::Weak,
    ..INCIDENT
};

const PROVEN: Expect = Expect { least: Certainty::Proven, most: Certainty::Proven, ..FORGED };

/// Made-up resets.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "inject-other-distance",
        says: "a device sends a RST with ACK, window and identification, from nearer than the upstream",
        servers: PLAIN,
        drive: |stage| reset(stage, Rst { hops: 64, ..EXACT }, None),
        expect: &[Expect { least: Certainty::Weak, checks: &[Check::Evidence(&["hop"])], ..FORGED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-other-link",
        says: "the same from another Ethernet address than the handshake's: the device has a name",
        servers: PLAIN,
        drive: other_link,
        expect: &[Expect { least: Certainty::Weak, checks: &[Check::Evidence(&["link_differs"])], ..FORGED }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "trap-gateway-failover",
        says: "another gateway takes over, and the upstream's application resets: nothing of it is the gateway's doing",
        servers: PLAIN,
        drive: failed_over,
        expect: &[Expect {
            party: "upstream",
            causes: &["upstream_abort"],
            most: Certainty::Strong,
            ..FORGED
        }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "inject-same-distance-speaks",
        says: "the hop limit is made to fit, and the upstream speaks again: its host's own filter would look the same",
        servers: PLAIN,
        drive: |stage| reset(stage, EXACT, Some(THINKS)),
        expect: &[Expect { least: Certainty::Weak, most: Certainty::Weak, ..FORGED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-whole-header-speaks-late",
        says: "the RST has ACK, a window and the right distance; the upstream answers 1.5 s later, after most would have judged",
        servers: PLAIN,
        drive: |stage| reset(stage, Rst { flags: "RA", window: 512, identification: 7, ..EXACT }, Some(LATE)),
        expect: &[PROVEN],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-with-data",
        says: "the RST carries data, which a RST may (RFC 9293, section 3.5.3) and hardly any host's does",
        servers: PLAIN,
        drive: |stage| reset(stage, Rst { hops: 60, payload: 40, ..EXACT }, None),
        expect: &[FORGED],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-burst",
        says: "a censor's volley: several RSTs with rising sequence numbers, of which one is right",
        servers: PLAIN,
        drive: volley,
        expect: &[FORGED],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "trap-inject-refused",
        says: "RSTs in the window but not exact: the kernel asks back (RFC 5961), and the request succeeds",
        servers: PLAIN,
        drive: refused,
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "trap-inject-outside",
        says: "RSTs outside the window: the kernel ignores them, and the request succeeds",
        servers: PLAIN,
        drive: outside,
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "inject-fin",
        says: "a device makes up a FIN in the name of an upstream that stays silent",
        servers: PLAIN,
        families: V4,
        drive: |stage| forged_fin(stage, false),
        expect: &[CLOSED],
        log: LogTruth::Always("upstream prematurely closed"),
        ..ORDINARY
    },
    Scenario {
        name: "inject-fin-speaks",
        says: "the same, and the upstream goes on",
        servers: PLAIN,
        families: V4,
        drive: |stage| forged_fin(stage, true),
        expect: &[CLOSED],
        log: LogTruth::Always("upstream prematurely closed"),
        ..ORDINARY
    },
    Scenario {
        name: "inject-copied-clock",
        says: "a made-up RST with everything that passed before in it, the timestamps, too: its clock stands still",
        servers: PLAIN,
        families: V4,
        drive: |stage| {
            let (mut device, client, _) = watched(stage)?;
            stage.mute_upstream()?;
            wait::pass(Duration::from_millis(200))?;
            let nginx = stage.truth.upstream_local.clone().unwrap_or_default();
            device.tell(&format!("inject {} {nginx} 63 7 RA 0 512 0 clock", stage.upstream()))?;
            stage.response(client, "502")
        },
        expect: &[Expect { party: "upstream", causes: &["upstream_abort"], most: Certainty::Weak, ..ABORT }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-client-name",
        says: "a device makes up a RST in the name of a waiting client, from as far away and without a clock",
        servers: PLAIN,
        families: V4,
        drive: |stage| {
            let (mut device, _, upstream) = watched_from(stage, Node::Outer)?;
            let (from, to) = (stage.truth.client.clone().unwrap_or_default(), stage.listener());
            device.tell(&format!("inject {from} {to} 63 7 RA 0 512 0"))?;
            stage.wait_client("the RST reaches Nginx's host", |socket| socket.is_none())?;
            stage.server()?.tell(&format!("drain {upstream}")).map(drop)
        },
        expect: &[Expect { most: Certainty::Weak, ..UNLOGGED_ABORT }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "inject-behind-fin",
        says: "the upstream closes in the middle of its answer, and a device sends a RST right behind its FIN",
        servers: PLAIN,
        families: V4,
        drive: |stage| {
            let (mut device, client, upstream) = watched(stage)?;
            let frozen = stage.freeze()?;
            stage
                .server()?
                .tell(&format!("send {upstream} HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf"))?;
            stage.server()?.tell(&format!("close {upstream}"))?;
            stage.wait_upstream("the FIN", |socket| {
                socket.is_some_and(|socket| socket.state == super::super::kernel::CLOSE_WAIT)
            })?;
            inject(stage, &mut device, Rst { hops: 60, ..EXACT })?;
            stage.wait_upstream("the RST", |socket| socket.is_none())?;
            drop(frozen);
            stage.client.tell(&format!("drain {client}")).map(drop)
        },
        expect: &[SUSPECTED],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "inject-thrice",
        says: "a device sends the same RST three times from elsewhere",
        servers: PLAIN,
        families: V4,
        drive: |stage| {
            let (mut device, client, _) = watched_from(stage, Node::Near)?;
            for _ in 0..3 {
                inject(stage, &mut device, Rst { hops: 64, ..EXACT })?;
            }
            stage.response(client, "502")
        },
        expect: &[SUSPECTED],
        log: RECV,
        ..ORDINARY
    },
];

/// Header of a made-up RST towards Nginx.
#[derive(Clone, Copy)]
pub(super) struct Rst {
    pub hops: u8,
    pub identification: u16,
    pub flags: &'static str,
    pub offset: u32,
    pub window: u16,
    /// Bytes of data behind the header.
    pub payload: usize,
}

/// As the kernel of an upstream behind this router would send it: the routers on the way take two hops.
pub(super) const EXACT: Rst =
    Rst { hops: 63, identification: 0, flags: "R", offset: 0, window: 0, payload: 0 };

pub(super) fn inject(stage: &Stage<'_>, device: &mut Puppet, rst: Rst) -> Result<()> {
    let Rst { hops, identification, flags, offset, window, payload } = rst;
    let nginx = stage.truth.upstream_local.clone().unwrap_or_default();
    device
        .tell(&format!(
            "inject {} {nginx} {hops} {identification} {flags} {offset} {window} {payload}",
            stage.upstream()
        ))
        .map(drop)
}

/// A device beside the upstream, and a request that the upstream's application has.
pub(super) fn watched(stage: &mut Stage<'_>) -> Result<(Puppet, u32, u32)> {
    watched_from(stage, Node::Far)
}

/// The same with the device beside another node.
fn watched_from(stage: &mut Stage<'_>, node: Node) -> Result<(Puppet, u32, u32)> {
    let device = stage.device(node)?;
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    Ok((device, client, upstream))
}

pub(super) fn reset(stage: &mut Stage<'_>, rst: Rst, speaks: Option<Duration>) -> Result<()> {
    let (mut device, client, upstream) = watched(stage)?;
    if speaks.is_none() {
        stage.mute_upstream()?;
    }
    inject(stage, &mut device, rst)?;
    stage.response(client, "502")?;
    if let Some(time) = speaks {
        wait::pass(time)?;
        stage.answer(upstream)?;
        stage.server()?.tell(&format!("drain {upstream}"))?;
    }
    Ok(())
}

fn other_link(stage: &mut Stage<'_>) -> Result<()> {
    let (mut device, client, _) = watched(stage)?;
    stage.mute_upstream()?;
    stage.fail_over()?;
    inject(stage, &mut device, Rst { hops: 64, ..EXACT })?;
    stage.response(client, "502")
}

fn failed_over(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.fail_over()?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

fn volley(stage: &mut Stage<'_>) -> Result<()> {
    let (mut device, client, _) = watched(stage)?;
    stage.mute_upstream()?;
    for offset in [1_460, 4_380, 0] {
        let rst = Rst { hops: 60, identification: 9, flags: "RA", offset, window: 512, payload: 0 };
        inject(stage, &mut device, rst)?;
    }
    stage.response(client, "502")
}

fn refused(stage: &mut Stage<'_>) -> Result<()> {
    let before = stage.counter("TCPChallengeACK");
    let (mut device, client, upstream) = watched(stage)?;
    inject(stage, &mut device, Rst { offset: 100, ..EXACT })?;
    wait::until("the kernel asks back", wait::SOON, || {
        (stage.counter("TCPChallengeACK") > before).then_some(())
    })?;
    stage.answer(upstream)?;
    stage.response(client, "200")
}

fn outside(stage: &mut Stage<'_>) -> Result<()> {
    let (mut device, client, upstream) = watched(stage)?;
    for offset in [u32::MAX - 5_000, 1 << 30] {
        inject(stage, &mut device, Rst { offset, ..EXACT })?;
    }
    stage.answer(upstream)?;
    stage.response(client, "200")
}

fn forged_fin(stage: &mut Stage<'_>, speaks: bool) -> Result<()> {
    let (mut device, client, upstream) = watched(stage)?;
    if !speaks {
        stage.mute_upstream()?;
    }
    inject(stage, &mut device, Rst { flags: "FA", window: 512, identification: 7, ..EXACT })?;
    stage.response(client, "502")?;
    if speaks {
        wait::pass(THINKS)?;
        stage.answer(upstream)?;
        stage.server()?.tell(&format!("drain {upstream}"))?;
    }
    Ok(())
}
