//! A hostile neighbour beside Nginx: a SYN flood on its port, port scans from outside and inside, a full listener of
//! somebody else, tens of thousands of sockets, and a reload every second, while clients and an upstream reset a known
//! number of its connections. Afterwards every count must agree with the kernel's own, every difference must have a
//! name, every real reset its verdict or its place among the losses, and the tracer must have stayed small.

use super::net::{Family, Network, Node};
use super::nginx::{self, Nginx};
use super::puppet::{Puppet, numbered};
use super::storm::{self, listener, proxied, upstream};
use super::tracer::{self, Setup};
use super::{cleanup, kernel, unseen, wait};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Name of the check in the count.
pub const NAME: &str = "counts reconcile beside a hostile neighbour";
/// Number of the network, apart from those of the lab's benches.
const NETWORK: usize = 92;
const WORKERS: u32 = 2;
/// Seconds of the attack.
const SECONDS: u64 = 6;
/// SYNs a second.
const FLOOD: u32 = 4_000;
/// Clients of each kind of reset at the same time, and their requests a second.
const RESETS: (u32, u32) = (8, 40);
/// Ports that are closed, from this one on, and how many of them are tried from outside and from inside.
const CLOSED: u16 = 20_000;
const TRIED: u16 = 2_000;
/// Connections of the crowd, twice as many sockets, and its port.
const CROWD: (u32, u16) = (25_000, 6_000);
/// A listener of others that nobody serves: port, backlog, connects to it.
const STUCK: (u16, u32, u32) = (6_001, 4, 60);
/// A server of others whose clients abort.
const HASTY: u16 = 6_002;
/// RSTs in the window, but not exact, on one connection; the kernel answers the first and holds back the next.
const REFUSED: u32 = 5;
const HEALTHY: usize = 3_000;
/// Until everything is over, on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);
/// The namespace is quiet when its counters have stood still for so long: longer than the first retransmissions wait.
const QUIET: Duration = Duration::from_millis(2_500);
/// Most memory of the tracer, KiB.
const MEMORY: u64 = 160 << 10;

/// What must agree with the kernel to the last one.
const EXACT: [&str; 5] =
    ["TcpOutRsts", "TcpEstabResets", "TcpRetransSegs", "TcpExtListenOverflows", "TcpExtTCPAbortOnData"];
/// What the attack must have moved, or it was none.
const MOVED: [&str; 7] = [
    "OutRsts",
    "EstabResets",
    "RetransSegs",
    "ListenOverflows",
    "TCPAbortOnData",
    "TCPChallengeACK",
    "SyncookiesSent",
];

/// One kind of real reset: cause, what its upstream does, whether the client aborts.
const REAL: [(&str, &str, bool); 2] = [("client_abort", "wait", true), ("upstream_abort", "reset", false)];

/// Plays it with this tracer, and once more where what it fails for may be what the kernel let no hook see.
pub fn test(binary: &Path) -> Result<()> {
    match play(binary)? {
        (Err(error), stats) if unseen::is_in(&stats) => {
            crate::say!("played again, the kernel ran no hook for a part of it: {error:#}");
            play(binary)?.0
        }
        (result, _) => result,
    }
}

/// What came of it, and what the tracer said at its end.
fn play(binary: &Path) -> Result<(Result<()>, Value)> {
    cleanup::prepare();
    cleanup::leftovers();
    let setup = Setup { include_harmless: true, ..Setup::quiet(binary.to_owned()) };
    let network = Network::lay(NETWORK, None)?;
    // What the flood leaves behind goes while the test still looks.
    network.setting(Node::Web, "ipv4/tcp_synack_retries", "1")?;
    network.setting(Node::Web, "ipv4/tcp_syn_retries", "1")?;
    let (nginx, tracer) = storm::start(&network, &setup, (NETWORK, WORKERS), &servers())?;
    let counters = || MOVED.map(|name| kernel::counter(nginx.master(), name));
    let before = counters();
    let met = attack(&network, &nginx)?;
    wait_for_quiet(&counters)?;
    let moved = counters();
    let memory = peak_memory(tracer.pid())?;
    let file = tracer.records_file();
    let stats = tracer.stop().context("the tracer")?;
    for ((name, before), after) in MOVED.into_iter().zip(before).zip(moved) {
        ensure!(after > before, "the attack did not move {name}");
    }
    show(&stats, memory);
    ensure!(
        kernel_count(&stats, "TcpOutRsts") == Some(moved[0] - before[0]),
        "the tracer counted another time"
    );
    ensure!(memory <= MEMORY, "the tracer took {memory} KiB of memory");
    let records = tracer::read_records(&file)?;
    Ok((reconciled(&stats).and_then(|()| told(&met, &records, &stats)), stats))
}

fn servers() -> Vec<String> {
    let plain = format!("server {{ listen {}; location / {{ return 200; }} }}\n", listener(2));
    (0..2).map(proxied).chain([plain]).collect()
}

/// Everything at once; gives how many resets of each kind there really were.
fn attack(network: &Network, nginx: &Nginx) -> Result<Vec<u64>> {
    let mut server = Puppet::start(network, Node::Upstream)?;
    let mut clients = Vec::new();
    for (number, (_, fault, aborts)) in (0..).zip(REAL) {
        server.tell(&format!("storm-upstream {} {fault}", upstream(number)))?;
        let (from, to, abort) = (Family::V4.client(number), listener(number), if aborts { 20 } else { 0 });
        let (many, rate) = RESETS;
        let mut client = Puppet::start(network, Node::Client)?;
        client.start_command(&format!("storm {from} {to} {abort} {many} {rate} {SECONDS}"))?;
        clients.push(client);
    }
    // Before the flood, which would hide the connection from the device.
    let _held = refused_resets(network)?;
    let mut others = neighbours(network)?;
    for _ in 0..SECONDS {
        wait::pass(Duration::from_secs(1))?;
        nginx::signal(nginx.master(), Signal::HUP)?;
    }
    for neighbour in &mut others {
        neighbour.finish_command(LIMIT)?;
    }
    clients.iter_mut().map(|client| Ok(client.finish_command(LIMIT)?.parse()?)).collect()
}

/// Those who have nothing to do with the resets: what each is doing has begun.
fn neighbours(network: &Network) -> Result<Vec<Puppet>> {
    let (web, client) = (Family::V4.web(), Family::V4.client(9));
    let last = CLOSED + TRIED;
    let (crowd, crowd_port) = CROWD;
    let (stuck, backlog, connects) = STUCK;
    let commands = [
        (Node::Client, vec![format!("syn-flood 10.77.0.0 {} {FLOOD} {SECONDS}", listener(0))]),
        (Node::Client, vec![format!("scan {client} {web} {CLOSED} {last}")]),
        (Node::Web, vec![format!("scan {web} {web} {CLOSED} {last}")]),
        (Node::Web, vec![format!("crowd {crowd_port} {crowd}")]),
        (
            Node::Web,
            vec![format!("listen {web}:{stuck} {backlog}"), format!("flood {web} {web}:{stuck} {connects}")],
        ),
        (Node::Web, vec![format!("serve {web}:{HASTY}"), format!("hasty {web}:{HASTY} 1")]),
        (Node::Client, vec![format!("load {} {HEALTHY}", listener(2))]),
    ];
    let mut all = Vec::new();
    for (node, commands) in commands {
        let mut puppet = Puppet::start(network, node)?;
        let (last, first) = commands.split_last().context("nothing to do")?;
        first.iter().try_for_each(|command| puppet.tell(command).map(drop))?;
        puppet.start_command(last)?;
        all.push(puppet);
    }
    Ok(all)
}

/// A connection to Nginx that a device on the path tries to reset with sequence numbers that are not exact.
fn refused_resets(network: &Network) -> Result<Puppet> {
    let mut device = Puppet::start(network, Node::Outer)?;
    device.tell("watch")?;
    let mut client = Puppet::start(network, Node::Client)?;
    let answer = client.tell(&format!("connect {} {}", Family::V4.client(8), listener(2)))?;
    let (id, local) = numbered(&answer)?;
    client.tell(&format!("send {id} GET / HTTP/1.1\\r\\n"))?;
    let sent = wait::until("a RST in the connection's name", wait::SOON, || {
        device.tell(&format!("inject {local} {} 63 0 R 100 0 0", listener(2))).ok()
    });
    sent?;
    for number in 1..REFUSED {
        device.tell(&format!("inject {local} {} 63 0 R {} 0 0", listener(2), 100 + number))?;
    }
    Ok(client)
}

/// Waits until the kernel counts nothing any more.
fn wait_for_quiet<const N: usize>(counters: &impl Fn() -> [u64; N]) -> Result<()> {
    let mut before = counters();
    wait::until("the namespace is quiet", LIMIT, || {
        drop(wait::pass(QUIET));
        let quiet = counters() == before;
        before = counters();
        quiet.then_some(())
    })
}

/// Largest memory of a process so far, KiB.
fn peak_memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn rows(stats: &Value) -> impl Iterator<Item = &Value> {
    stats["reconciliation"].as_array().into_iter().flatten()
}

fn show(stats: &Value, memory: u64) {
    for row in rows(stats) {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let (kernel, seen) = (&row["kernel"], &row["seen"]);
        crate::say!(
            "{:<28} {kernel:>8} {seen:>8}  {} {}",
            text("counter"),
            text("agreement"),
            text("explanation")
        );
    }
    crate::say!("lost: {}; the tracer took {memory} KiB", stats["losses"]);
}

fn kernel_count(stats: &Value, counter: &str) -> Option<u64> {
    rows(stats).find(|row| row["counter"] == counter)?["kernel"].as_u64()
}

/// No count is suspect, none is unexplained, and those that need no explanation are equal.
fn reconciled(stats: &Value) -> Result<()> {
    for row in rows(stats) {
        let (agreement, why) = (row["agreement"].as_str(), row["explanation"].as_str().unwrap_or_default());
        let exact = EXACT.iter().any(|name| row["counter"] == *name);
        if agreement == Some("suspect")
            || (exact && agreement != Some("equal"))
            || why.contains("not seen by any")
        {
            bail!("a count does not reconcile: {row}; losses: {}", stats["losses"]);
        }
    }
    let missing = EXACT.iter().find(|name| kernel_count(stats, name).is_none());
    missing.map_or(Ok(()), |name| bail!("{name} is not compared"))
}

/// Every real reset has a verdict of its cause, or was lost and counted.
fn told(met: &[u64], records: &[Value], stats: &Value) -> Result<()> {
    let lost: u64 =
        stats["losses"].as_object().into_iter().flatten().filter_map(|(_, lost)| lost.as_u64()).sum();
    for ((number, (cause, ..)), met) in (0..).zip(REAL).zip(met) {
        let right =
            records.iter().filter(|record| record["cause"] == cause && concerns(record, number)).count();
        ensure!(*met > 0, "no {cause} happened");
        ensure!(right as u64 + lost >= *met, "{met} times {cause}, {right} verdicts, {lost} events lost");
    }
    Ok(())
}

fn concerns(record: &Value, number: u8) -> bool {
    record["connection"]["local"] == listener(number).to_string().as_str()
        || record["connection"]["remote"] == upstream(number).to_string().as_str()
}
