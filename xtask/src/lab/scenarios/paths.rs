//! The path changes while a connection lasts: an address moves to another server, a firewall starts anew, a port is
//! used again that the upstream still holds. None of it is anybody's wish to end a connection.

use super::super::net::{Family, Node};
use super::super::puppet::numbered;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::super::wait;
use super::upstream::{ABORT, RECV, RETRIED};
use super::{KEPT, PLAIN};
use anyhow::Result;
use std::time::Duration;

const V4: &[Family] = &[Family::V4];

/// Another host of the upstream's network, on which nothing listens.
const OTHER_SERVER: &str = "10.77.5.2";

/// TTL with which the other server's packets leave the router beside it: four hops farther away than the upstream.
const FARTHER: &str = "ip ttl set 59";

/// Silence in which the path changes; a connection this old is none that was opened a moment ago.
const MOVES: Duration = Duration::from_millis(1_300);

/// The only port of the Nginx host while a connection is reused.
const PORT: u16 = 39_100;

const DOUBTED: Expect = Expect { most: Certainty::Weak, ..RETRIED };

/// Whether a device on the link or the address's new host sent it cannot be told.
const TAKEN: Expect = Expect {
    party: "unknown",
    causes: &["insufficient_evidence"],
    least: Certainty::Undetermined,
    most: Certainty::Undetermined,
    checks: &[Check::Says("failover")],
    ..RETRIED
};

/// Changing paths.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "trap-address-moved",
        says: "a virtual address moves to another server, which has no such connection: a bare RST from as far away",
        families: V4,
        servers: KEPT,
        drive: |stage| moved(stage, ""),
        // Whether its host restarted, or closed and its FIN was lost, cannot be seen.
        expect: &[Expect { causes: &["upstream_restarted", "upstream_keepalive_race"], ..DOUBTED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "trap-address-moved-farther",
        says: "the same, and the other server is four hops farther away: the distance alone makes nobody a forger",
        families: V4,
        servers: KEPT,
        drive: |stage| moved(stage, FARTHER),
        expect: &[Expect { party: "middlebox", causes: &["middlebox_forged_reset"], ..DOUBTED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "trap-address-taken-on-link",
        says: "a host on Nginx's own link takes the upstream's address over (VRRP) and has no such connection: a bare RST, much nearer, from another Ethernet address",
        families: V4,
        servers: KEPT,
        drive: |stage| taken(stage, Duration::from_millis(100)),
        expect: &[TAKEN],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "trap-address-taken-on-link-late",
        says: "the same on a connection that has been idle for longer than a second",
        families: V4,
        servers: KEPT,
        drive: |stage| taken(stage, MOVES),
        // After silence the upstream may as well have closed, with its FIN lost.
        expect: &[Expect {
            party: "upstream",
            causes: &["upstream_keepalive_race", "upstream_restarted"],
            least: Certainty::Weak,
            most: Certainty::Weak,
            ..TAKEN
        }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "trap-bridge-rejects",
        says: "a bridge that filters rejects the request: its RST has the gateway's Ethernet address",
        families: V4,
        servers: PLAIN,
        drive: bridge_rejects,
        expect: &[Expect {
            party: "middlebox",
            causes: &["middlebox_forged_reset"],
            checks: &[Check::Evidence(&["hop_differs"])],
            ..ABORT
        }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "firewall-started-anew",
        says: "a stateful firewall starts anew and rejects what it takes for invalid: a connection it does not know",
        servers: KEPT,
        drive: firewall_anew,
        expect: &[Expect {
            party: "middlebox",
            causes: &["middlebox_forged_reset"],
            most: Certainty::Strong,
            ..DOUBTED
        }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "trap-port-still-held",
        says: "Nginx connects from a port that the upstream still holds a connection with: challenge, RST, second SYN",
        servers: PLAIN,
        drive: still_held,
        log: LogTruth::Silent,
        alone: true,
        hidden: true,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-aborts-on-overflow",
        says: "a full listener resets a handshake that Nginx took for complete (tcp_abort_on_overflow)",
        servers: PLAIN,
        drive: aborts_on_overflow,
        expect: &[Expect {
            causes: &["upstream_listen_overflow", "upstream_abort"],
            kinds: &["reset_received", "refused"],
            most: Certainty::Weak,
            ..ABORT
        }],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "trap-overflow-before",
        says: "a local listener overflowed a moment ago; now its application resets a connection it has accepted",
        place: Place::Local,
        servers: PLAIN,
        drive: overflow_before,
        expect: &[
            Expect {
                causes: &["upstream_abort"],
                least: Certainty::Proven,
                checks: &[Check::Sender],
                most: Certainty::Proven,
                ..ABORT
            },
            Expect {
                causes: &["upstream_listen_overflow"],
                kinds: &["listen_overflow"],
                impacts: &[],
                least: Certainty::Proven,
                side: None,
                logged: false,
                ..INCIDENT_UP
            },
        ],
        log: RECV,
        ..ORDINARY
    },
];

const INCIDENT_UP: Expect = Expect { party: "upstream", ..INCIDENT };

/// The upstream's address moves to Nginx's own link after this time.
fn taken(stage: &mut Stage<'_>, after: Duration) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    let reset = stage.truth.upstream_local.clone();
    let mut other = stage.device(Node::Near)?;
    wait::pass(after)?;
    stage.take_over()?;
    // Nginx repeats the request on a new connection, which the new host serves.
    let (listener, _) = numbered(&other.tell(&format!("listen {} 64", stage.upstream()))?)?;
    stage.request(client, "GET /moved")?;
    let (connection, _) = numbered(&other.tell(&format!("accept {listener}"))?)?;
    other.tell(&format!("head {connection}"))?;
    other.tell(&format!("send {connection} HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"))?;
    stage.response(client, "200")?;
    stage.truth.upstream_local = reset;
    Ok(())
}

/// Traffic to the upstream goes to another server from now on, as by a balancer that keeps no state.
fn moved(stage: &mut Stage<'_>, distance: &str) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    let local = stage.upstream_local_port()?;
    let (address, port) = (stage.upstream().ip(), stage.upstream().port());
    let name = address.to_string().replace('.', "_");
    wait::pass(MOVES)?;
    stage.script(
        Node::Far,
        &format!(
            "table ip moved_{name} {{\n chain there {{\n  type filter hook prerouting priority -300;\n  \
             ip daddr {address} tcp dport {port} tcp sport {local} ip daddr set {OTHER_SERVER}\n }}\n \
             chain back {{\n  type filter hook postrouting priority -300;\n  \
             ip saddr {OTHER_SERVER} tcp sport {port} tcp dport {local} {distance} ip saddr set {address}\n }}\n}}\n"
        ),
    )?;
    let moved = stage.truth.upstream_local.clone();
    stage.exchange(client, listener)?;
    stage.truth.upstream_local = moved;
    // The server that had the connection never speaks of it again.
    let silent = format!("{} tcp dport {local} drop", stage.leaving_upstream());
    stage.silence(Node::Far, &silent)
}

/// `nf_send_reset` answers a bridged packet with its Ethernet addresses exchanged.
fn bridge_rejects(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let rule = format!("{} meta length > 88 reject with tcp reset", stage.towards_upstream());
    let _bridge = stage.bridge(&rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /forbidden")?;
    stage.accept(listener)?;
    stage.response(client, "502")?;
    stage.mute_upstream()
}

/// Until the rule is there, nothing on the router keeps state.
fn firewall_anew(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    let family = stage.family().nft();
    stage.script(
        Node::Far,
        &format!(
            "table {family} firewall {{\n chain lab {{\n  type filter hook forward priority 0; policy accept;\n  \
             ct state invalid tcp flags & rst == 0 reject with tcp reset\n }}\n}}\n"
        ),
    )?;
    stage.setting(Node::Far, "netfilter/nf_conntrack_tcp_loose", "0")?;
    let reset = stage.truth.upstream_local.clone();
    stage.exchange(client, listener)?;
    stage.truth.upstream_local = reset;
    Ok(())
}

/// Somebody else on the Nginx host loses a connection of which the upstream hears nothing.
fn still_held(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    stage.single_local_port(PORT)?;
    let mut beside = stage.beside()?;
    let (to, from) =
        (stage.upstream(), if stage.family() == Family::V4 { "10.77.3.1" } else { "fd00:77:3::1" });
    let (id, _) = numbered(&beside.tell(&format!("connect {from} {to}"))?)?;
    let held = stage.accept(listener)?;
    let rule = format!("{} drop", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    beside.tell(&format!("reset {id}"))?;
    stage.clear_filters();
    let client = stage.connect()?;
    stage.request(client, "GET /again")?;
    stage.server()?.try_tell(&format!("drain {held}"))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage.answer(upstream)?;
    stage.response(client, "200")
}

/// The handshake's last segment is lost, the queue fills, and the repeated one finds no room.
fn aborts_on_overflow(stage: &mut Stage<'_>) -> Result<()> {
    stage.setting(Node::Upstream, "ipv4/tcp_abort_on_overflow", "1")?;
    let address = stage.upstream();
    stage.server()?.tell(&format!("listen {address} 0"))?;
    let rule = format!("{} tcp flags & (syn | ack) == ack drop", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /full")?;
    wait::until("Nginx has a connection", wait::SOON, || (stage.upstreams() == 1).then_some(()))?;
    stage.find_upstream_local()?;
    stage.server()?.tell(&format!("connect {} {address}", address.ip()))?;
    stage.clear_filters();
    stage.response(client, "502")
}

fn overflow_before(stage: &mut Stage<'_>) -> Result<()> {
    let address = stage.upstream();
    let (listener, _) = numbered(&stage.server()?.tell(&format!("listen {address} 1"))?)?;
    for _ in 0..2 {
        stage.server()?.tell(&format!("connect {} {address}", address.ip()))?;
    }
    let mut late = stage.beside()?;
    late.start_command(&format!("connect {} {address}", address.ip()))?;
    wait::pass(Duration::from_millis(300))?;
    for _ in 0..2 {
        let (id, _) = numbered(&stage.server()?.tell(&format!("accept {listener}"))?)?;
        stage.server()?.tell(&format!("close {id}"))?;
    }
    late.finish_any()?;
    let (id, _) = numbered(&stage.server()?.tell(&format!("accept {listener}"))?)?;
    stage.server()?.tell(&format!("close {id}"))?;
    stage.server_acts()?;
    let client = stage.connect()?;
    stage.request(client, "GET /fault")?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}
