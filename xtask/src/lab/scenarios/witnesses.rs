//! Pieces of evidence that disagree, or of which one has to outweigh the other: a path that changes under a genuine
//! reset, a forger as far away as the peer, both ends seen where the header says something else, a path that falls silent
//! under a request that had arrived.

use super::super::kernel::CLOSE_WAIT;
use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, LogTruth, ORDINARY, Place, Scenario, View};
use super::super::stage::Stage;
use super::super::wait;
use super::clients::UNLOGGED_ABORT;
use super::inject::{EXACT, FORGED, Rst, inject, reset, watched};
use super::silence::IMPATIENT_KEPT;
use super::upstream::{ABORT, RECV, in_flight, in_flight_beside_another};
use super::{KEPT, PLAIN, race};
use anyhow::Result;
use std::time::Duration;

const V4: &[Family] = &[Family::V4];
const PATIENT: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; proxy_ignore_client_abort on; } }\n";
const PROBING: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; \
     proxy_socket_keepalive on; } }\n";

/// From the client's FIN until Nginx has seen it.
const SEEN: Duration = Duration::from_millis(50);
/// From a line until the close that it speaks of has been looked up.
const LOOKED_UP: Duration = Duration::from_millis(150);

const PROVEN: Expect = Expect { least: Certainty::Proven, most: Certainty::Proven, ..ABORT };

/// Witnesses that disagree.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "trap-path-longer",
        says: "the way back gets four hops longer, and the upstream's application resets: its RST has its own clock",
        servers: PLAIN,
        drive: path_longer,
        expect: &[Expect { most: Certainty::Weak, ..ABORT }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-burst-same-distance",
        says: "a volley of made-up RSTs with the right hop limit: guesses betray the forger, its distance does not",
        servers: PLAIN,
        drive: volley,
        expect: &[Expect { least: Certainty::Weak, most: Certainty::Weak, ..FORGED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "inject-without-clock",
        says: "a made-up RST with the right hop limit, ACK and window, and without the timestamps that a Linux peer sends",
        servers: PLAIN,
        // A Linux host is known by its SYN-ACK in IPv4 only.
        families: V4,
        drive: |stage| reset(stage, Rst { flags: "RA", window: 512, identification: 7, ..EXACT }, None),
        expect: &[Expect { least: Certainty::Weak, most: Certainty::Weak, ..FORGED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "ends-path-longer",
        says: "both ends are on this host: the upstream's process resets without timestamps, from another distance",
        servers: PLAIN,
        drive: seen_from_farther,
        expect: &[Expect { checks: &[Check::Sender], ..PROVEN }],
        log: RECV,
        alone: true,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "ends-race-fin-lost",
        says: "both ends are on this host: the FIN of an idle connection is lost, and the next request meets a bare RST",
        servers: KEPT,
        drive: race::fin_lost,
        expect: &[Expect {
            least: Certainty::Proven,
            kinds: &["reset_received"],
            most: Certainty::Proven,
            ..race::RACE
        }],
        log: LogTruth::Always("recv() failed (104"),
        alone: true,
        families: V4,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "client-both-reset",
        says: "devices reset both ends of a client's connection; from Nginx's end one of them is seen",
        servers: PLAIN,
        drive: client_both,
        expect: &[Expect { party: "middlebox", causes: &["middlebox_forged_reset"], ..UNLOGGED_ABORT }],
        log: LogTruth::Either,
        alone: true,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "trap-client-socket-gone",
        says: "a device resets a waiting client in Nginx's name; its host answers the response with a bare RST of its own",
        servers: PLAIN,
        drive: client_gone,
        // That is all of it that Nginx's host gets to see.
        expect: &[Expect {
            causes: &["client_abort", "client_vanished"],
            most: Certainty::Weak,
            ..UNLOGGED_ABORT
        }],
        elsewhere: &["middlebox"],
        with_both: &["middlebox"],
        log: LogTruth::Either,
        alone: true,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "trap-path-longer-known",
        says: "the way back gets longer, as another connection does not show, and the upstream's application resets",
        servers: PLAIN,
        drive: path_longer_known,
        expect: &[Expect { least: Certainty::Undetermined, most: Certainty::Weak, ..ABORT }],
        log: RECV,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "trap-client-reset-in-our-name",
        says: "a device resets an idle client in Nginx's name: Nginx hears nothing of it",
        servers: PLAIN,
        drive: |stage| {
            let mut device = stage.device(Node::Outer)?;
            let listener = stage.listen()?;
            let client = stage.connect()?;
            stage.exchange(client, listener)?;
            let to = stage.truth.client.clone().unwrap_or_default();
            device.tell(&format!("inject {} {to} 60 0 R 0 0 0", stage.listener()))?;
            stage.client.tell(&format!("drain {client}")).map(drop)
        },
        log: LogTruth::Silent,
        alone: true,
        hidden: true,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "trap-drop-then-killed",
        says: "both ends are on this host: a router drops the request, and then the upstream is killed, which nobody hears",
        servers: IMPATIENT_KEPT,
        drive: dropped_then_killed,
        expect: &[Expect {
            party: "middlebox",
            causes: &["middlebox_drop"], // Nginx's timer ended it, and the process at the other end was gone by then.
            kinds: &["timeout", "closed_early"],
            ..ABORT
        }],
        log: LogTruth::Always("upstream timed out (110"),
        alone: true,
        families: V4,
        view: View::WholeHost,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-oom-killed-unread",
        says: "a local upstream is chosen by the OOM killer before it has read the request: a RST",
        place: Place::Local,
        servers: PLAIN,
        drive: oom_killed_unread,
        expect: &[Expect {
            causes: &["upstream_oom_kill"],
            checks: &[Check::Sender, Check::Says("SIGKILL")],
            ..PROVEN
        }],
        log: RECV,
        host_wide: true,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "trap-killed-by-another-while-lost",
        says: "a process of the Nginx host destroys a connection whose request a router drops",
        servers: PLAIN,
        drive: destroyed_while_lost,
        expect: &[Expect {
            party: "unknown",
            causes: &["insufficient_evidence"],
            kinds: &[],
            least: Certainty::Undetermined,
            most: Certainty::Undetermined,
            checks: &[Check::Evidence(&["local_kill"])],
            ..ABORT
        }],
        log: LogTruth::Always("recv() failed (103"),
        needs: &["ss"],
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "trap-half-closed-client-resets",
        says: "a client closes its half, Nginx works on (proxy_ignore_client_abort), and the client resets",
        servers: PATIENT,
        drive: half_closed_then_reset,
        expect: &[UNLOGGED_ABORT],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "trap-probes-unanswered-waiting",
        says: "the request had arrived, then the path falls silent: the kernel gives up on its own probes (proxy_socket_keepalive)",
        servers: PROBING,
        drive: probed,
        expect: &[Expect {
            party: "middlebox",
            causes: &["middlebox_idle_drop", "middlebox_drop"],
            kinds: &[],
            ..ABORT
        }],
        log: LogTruth::Either,
        alone: true,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "race-half-closed",
        says: "the upstream closes its half of an idle connection when Nginx uses it again: a FIN, and no RST",
        servers: KEPT,
        drive: half_closed_race,
        expect: &[Expect { kinds: &["closed_early"], ..race::RACE }],
        log: LogTruth::Always("upstream prematurely closed connection"),
        families: V4,
        ..ORDINARY
    },
];

fn longer(family: Family) -> &'static str {
    if family == Family::V4 { "ip ttl set 59" } else { "ip6 hoplimit set 59" }
}

/// RSTs that leave the upstream come from farther away than its other packets.
fn moved_away(stage: &mut Stage<'_>) -> Result<()> {
    let rule = format!("{} tcp flags & rst == rst {}", stage.leaving_upstream(), longer(stage.family()));
    stage.filter(Node::Far, &rule)
}

fn path_longer(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    moved_away(stage)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

fn volley(stage: &mut Stage<'_>) -> Result<()> {
    let (mut device, client, _) = watched(stage)?;
    stage.mute_upstream()?;
    for offset in [1_460, 4_380, 0] {
        inject(stage, &mut device, Rst { offset, ..EXACT })?;
    }
    stage.response(client, "502")
}

fn seen_from_farther(stage: &mut Stage<'_>) -> Result<()> {
    stage.setting(Node::Upstream, "ipv4/tcp_timestamps", "0")?;
    stage.server_acts()?;
    path_longer(stage)
}

/// The router beside Nginx rejects the response, the one beside the client what that sends next.
fn client_both(stage: &mut Stage<'_>) -> Result<()> {
    const RESET: &str = "meta length > 88 reject with tcp reset";
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    let rule = format!("{} {RESET}", stage.towards_client());
    stage.filter(Node::Inner, &rule)?;
    let rule = format!("{} {RESET}", stage.leaving_client());
    stage.filter(Node::Outer, &rule)?;
    stage.answer(upstream)?;
    stage.wait_client("the RST reaches Nginx's host", |socket| socket.is_none())?;
    let more = "and more than the eighty-eight bytes that the router lets pass without a word of its own";
    stage.client.tell(&format!("send {client} {more}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn client_gone(stage: &mut Stage<'_>) -> Result<()> {
    let mut device = stage.device(Node::Outer)?;
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    let to = stage.truth.client.clone().unwrap_or_default();
    device.tell(&format!("inject {} {to} 60 0 R 0 0 0", stage.listener()))?;
    stage.client.tell(&format!("drain {client}"))?;
    stage.answer(upstream)?;
    stage.wait_client("the RST reaches Nginx's host", |socket| socket.is_none())
}

fn path_longer_known(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight_beside_another(stage)?;
    moved_away(stage)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

fn dropped_then_killed(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    for rule in [stage.towards_upstream(), stage.leaving_upstream()] {
        stage.filter(Node::Near, &format!("{rule} drop"))?;
    }
    stage.request(client, "GET /lost")?;
    stage.wait_upstream("the request is sent", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged > 0)
    })?;
    wait::pass(Duration::from_millis(500))?;
    stage.kill_server()?;
    stage.response(client, "504")
}

fn oom_killed_unread(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.starve_server()?;
    stage.response(client, "502")
}

fn destroyed_while_lost(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let rule = format!("{} meta length > 88 drop", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /lost")?;
    stage.accept(listener)?;
    stage.wait_upstream("the request is repeated", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged > 0)
    })?;
    wait::pass(Duration::from_millis(700))?;
    stage.destroy_upstream_connections()?;
    stage.response(client, "502")
}

fn half_closed_then_reset(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.client.tell(&format!("finish {client}"))?;
    stage.wait_client("the FIN reaches Nginx's host", |socket| {
        socket.is_some_and(|socket| socket.state == CLOSE_WAIT)
    })?;
    wait::pass(SEEN)?;
    stage.client.tell(&format!("reset {client}"))?;
    stage.wait_client("the RST reaches Nginx's host", |socket| socket.is_none())?;
    stage.answer(upstream)
}

fn probed(stage: &mut Stage<'_>) -> Result<()> {
    for (name, value) in [("time", "1"), ("intvl", "1"), ("probes", "2")] {
        stage.setting(Node::Web, &format!("ipv4/tcp_keepalive_{name}"), value)?;
    }
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.mute_upstream()?;
    stage.client.tell(&format!("head {client}")).map(drop)
}

fn half_closed_race(stage: &mut Stage<'_>) -> Result<()> {
    let (client, listener, upstream) = race::kept(stage)?;
    let idle = stage.idle(race::IDLE)?;
    let frozen = stage.freeze()?;
    stage.request(client, "GET /again")?;
    stage.server()?.tell(&format!("finish {upstream}"))?;
    stage.wait_upstream("the FIN reaches Nginx's host", |socket| {
        socket.is_some_and(|socket| socket.state == CLOSE_WAIT)
    })?;
    stage.idle_ended(idle);
    drop(frozen);
    race::repaired(stage, client, listener)?;
    // The close that the line speaks of is looked up a moment later; no other may have come since.
    wait::pass(LOOKED_UP)
}
