//! Address translation between Nginx and the upstream: a router that hides Nginx's address and shows another port of
//! the upstream, as a NAT gateway or a load balancer with a virtual address does.

use super::super::net::{Family, Node};
use super::super::puppet::numbered;
use super::super::scenario::{Certainty, Expect, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::super::wait;
use super::upstream::{ABORT, RECV};
use super::{PLAIN, THINKS};
use anyhow::Result;
use std::net::SocketAddr;

const V4: &[Family] = &[Family::V4];

/// Where the server behind the virtual address really listens.
const REAL_PORT: u16 = 8_081;

const FORGED: Expect =
    Expect { party: "middlebox", causes: &["middlebox_forged_reset"], most: Certainty::Strong, ..ABORT };

/// Translated connections.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "nat-upstream-resets",
        says: "both addresses are translated on the way, and the upstream resets",
        families: V4,
        servers: PLAIN,
        drive: |stage| resets(stage, &translated(stage)),
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "balancer-backend-gone",
        says: "nobody listens behind a virtual address: the refusal comes from the server, through the balancer",
        families: V4,
        servers: PLAIN,
        drive: |stage| {
            translate(stage, &translated(stage))?;
            let client = stage.connect()?;
            stage.request(client, "GET /refused")?;
            stage.response(client, "502")
        },
        expect: &[Expect { causes: &["upstream_refused"], kinds: &["refused"], ..ABORT }],
        log: LogTruth::Always("connect() failed (111"),
        ..ORDINARY
    },
    Scenario {
        name: "balancer-rejects",
        says: "the balancer itself resets a connection in the name of the virtual address; the server stays silent",
        families: V4,
        servers: PLAIN,
        drive: |stage| rejects(stage, false),
        expect: &[FORGED],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "balancer-rejects-server-speaks",
        says: "the same, and the server behind it goes on with the connection",
        families: V4,
        servers: PLAIN,
        drive: |stage| rejects(stage, true),
        expect: &[Expect { least: Certainty::Strong, most: Certainty::Proven, ..FORGED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "nat-to-this-host-refused",
        says: "the Nginx host translates the upstream's address to its own, where nobody listens: it looks like a filter's refusal",
        families: V4,
        servers: PLAIN,
        drive: |stage| {
            translate_here(stage)?;
            let client = stage.connect()?;
            stage.request(client, "GET /refused")?;
            stage.response(client, "502")
        },
        // Its kernel refuses a stranger, as far as can be seen: no event tells that from a filter's refusal.
        expect: &[Expect {
            party: "middlebox",
            causes: &["local_firewall"],
            kinds: &["refused"],
            most: Certainty::Weak,
            ..ABORT
        }],
        log: LogTruth::Always("connect() failed (111"),
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "nat-to-this-host-resets",
        says: "the same with a process that listens there and resets",
        families: V4,
        servers: PLAIN,
        drive: |stage| {
            let real = translate_here(stage)?;
            let mut beside = stage.beside()?;
            let (listener, _) = numbered(&beside.tell(&format!("listen {real} 64"))?)?;
            let client = stage.connect()?;
            stage.request(client, "GET /fault")?;
            let (upstream, local) = numbered(&beside.tell(&format!("accept {listener}"))?)?;
            stage.truth.upstream_local = Some(local);
            beside.tell(&format!("head {upstream}"))?;
            beside.tell(&format!("reset {upstream}"))?;
            stage.response(client, "502")
        },
        expect: &[Expect { most: Certainty::Proven, ..ABORT }],
        log: RECV,
        alone: true,
        ..ORDINARY
    },
];

/// The Nginx host itself translates, as for a service of a cluster; gives the address behind it.
fn translate_here(stage: &Stage<'_>) -> Result<SocketAddr> {
    let (service, real) = (stage.upstream(), SocketAddr::new(stage.listener().ip(), REAL_PORT));
    let script = format!(
        "table ip service {{\n chain out {{\n  type nat hook output priority -100;\n  \
         ip daddr {} tcp dport {} dnat to {real}\n }}\n}}\n",
        service.ip(),
        service.port()
    );
    stage.script(Node::Web, &script)?;
    Ok(real)
}

/// Only the upstream's port is another one.
fn translated(stage: &Stage<'_>) -> SocketAddr {
    SocketAddr::new(stage.upstream().ip(), REAL_PORT)
}

/// The router beside Nginx translates; connections that are there stay as they are.
fn translate(stage: &Stage<'_>, real: &SocketAddr) -> Result<()> {
    let (virtual_address, name) = (stage.upstream(), stage.upstream().to_string().replace(['.', ':'], "_"));
    let (address, port) = (virtual_address.ip(), virtual_address.port());
    stage.script(
        Node::Near,
        &format!(
            "table ip nat_{name} {{\n chain before {{\n  type nat hook prerouting priority -100;\n  \
             ip daddr {address} tcp dport {port} dnat to {real}\n }}\n \
             chain after {{\n  type nat hook postrouting priority 100;\n  ip daddr {address} masquerade\n }}\n}}\n"
        ),
    )
}

/// A request that the server behind the virtual address has; gives client and server connection.
fn requested(stage: &mut Stage<'_>, real: &SocketAddr) -> Result<(u32, u32)> {
    translate(stage, real)?;
    let answer = stage.server()?.tell(&format!("listen {real} 64"))?;
    let (listener, _) = numbered(&answer)?;
    let client = stage.connect()?;
    stage.request(client, "GET /translated")?;
    let upstream = stage.accept(listener)?;
    // The server sees the router's address.
    stage.find_upstream_local()?;
    stage.read_request(upstream)?;
    Ok((client, upstream))
}

fn resets(stage: &mut Stage<'_>, real: &SocketAddr) -> Result<()> {
    let (client, upstream) = requested(stage, real)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

/// The balancer rejects the request; the server behind it goes on, or stays silent.
fn rejects(stage: &mut Stage<'_>, speaks: bool) -> Result<()> {
    let real = translated(stage);
    translate(stage, &real)?;
    let answer = stage.server()?.tell(&format!("listen {real} 64"))?;
    let (listener, _) = numbered(&answer)?;
    let rule = format!("{} meta length > 88 reject with tcp reset", stage.towards_upstream());
    stage.filter(Node::Near, &rule)?;
    let client = stage.connect()?;
    stage.request(client, "GET /rejected")?;
    let upstream = stage.accept(listener)?;
    stage.truth.upstream_local = None;
    stage.response(client, "502")?;
    if speaks {
        wait::pass(THINKS)?;
        stage.answer(upstream)?;
        return stage.server()?.tell(&format!("drain {upstream}")).map(drop);
    }
    stage.mute_upstream()
}
