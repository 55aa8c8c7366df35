//! Measures: first the programs' own time under each kind of traffic, then Nginx's throughput under every way of
//! watching, which take turns so that whatever else the machine does hits all of them alike.

use super::KernelOptions;
use super::programs::{self, ByName, Control};
use super::report::{self, Report};
use super::scene::Scene;
use super::traffic::{TRAFFIC, Traffic};
use super::watcher::{WAYS, Way};
use super::wrk::Measured;
use crate::lab::{self, cleanup, tracer::Setup, wait};
use crate::{project, shell};
use anyhow::{Context, Result, bail};
use std::process::ExitCode;
use std::time::Duration;

/// From the end of the traffic until its last connections are gone.
const SETTLE: Duration = Duration::from_millis(700);
/// The hook that every packet meets; the kernel keeps 15 letters.
const PACKET_HOOK: &str = "cgroup_ingress";

/// What the programs of one way ran during one kind of traffic.
pub struct Spent {
    /// The traffic.
    pub traffic: &'static Traffic,
    /// Whose programs.
    pub way: Way,
    /// Connections, requests or responses.
    pub units: u64,
    /// Runs by program.
    pub runs: ByName,
    /// Nanoseconds of every run that are the measuring itself: the time of an empty program meanwhile.
    pub measuring: f64,
}

/// Throughput of one kind of traffic under one way of watching, every round.
pub struct Throughput {
    /// The traffic.
    pub traffic: &'static Traffic,
    /// The way.
    pub way: Way,
    /// Rounds.
    pub rounds: Vec<Measured>,
}

/// Time of the packet hook on an ordinary segment.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Nanoseconds of one run.
    pub ours: u64,
    /// Nanoseconds of a run of a program that does nothing.
    pub nothing: u64,
}

/// Runs the sub-command.
pub fn run(options: &KernelOptions) -> Result<ExitCode> {
    if !shell::is_root() {
        bail!("measuring lays network namespaces and reads the programs' statistics: run it as root");
    }
    programs::check_switched_off()?;
    let binary = options.binary.clone().map_or_else(lab::build, Ok)?;
    let setup = Setup::quiet(binary);
    cleanup::prepare();
    cleanup::leftovers();
    let ways: Vec<Way> = WAYS.into_iter().filter(|way| way.is_here()).collect();
    let mut scene = Scene::lay()?;
    let packet = packet(&scene, &setup)?;
    let spent = all_spent(&mut scene, &setup, &ways, options.seconds)?;
    let throughput =
        if options.programs_only { Vec::new() } else { all_throughput(&mut scene, &setup, &ways, options)? };
    let report = Report { packet, spent, throughput };
    let text = report::text(&report);
    crate::say!("{text}");
    if options.write_docs {
        let file = project::root().join("docs/performance.md");
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        crate::say!("{} is written", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn packet(scene: &Scene, setup: &Setup) -> Result<Packet> {
    let watcher = Way::Rstscope.begin(scene, setup)?;
    let pid = watcher.pid().context("rstscope without a process")?;
    let (ours, nothing) = programs::packet_cost(pid, PACKET_HOOK)?;
    Ok(Packet { ours, nothing })
}

/// The programs of rstscope and of bpftrace under every kind of traffic; tcpdump has none that are counted.
fn all_spent(scene: &mut Scene, setup: &Setup, ways: &[Way], seconds: u64) -> Result<Vec<Spent>> {
    let _on = programs::switch_on()?;
    let control = Control::attach()?;
    let mut all = Vec::new();
    for way in ways.iter().copied().filter(|way| matches!(way, Way::Rstscope | Way::Bpftrace)) {
        let watcher = way.begin(scene, setup)?;
        let pids = [watcher.pid().context("a watcher without a process")?];
        for traffic in TRAFFIC {
            let (before, empty) = (programs::of_processes(&pids), control.runs()?);
            let units = traffic.flow(scene, seconds)?.requests;
            wait::pass(SETTLE)?;
            let runs = programs::between(&before, &programs::of_processes(&pids));
            let measuring = control.runs()?.since(empty).each();
            all.push(Spent { traffic, way, units, runs, measuring });
        }
    }
    Ok(all)
}

fn all_throughput(
    scene: &mut Scene,
    setup: &Setup,
    ways: &[Way],
    options: &KernelOptions,
) -> Result<Vec<Throughput>> {
    let mut all = Vec::new();
    for traffic in TRAFFIC.iter().filter(|traffic| traffic.is_healthy()) {
        let mut turns: Vec<Throughput> =
            ways.iter().map(|way| Throughput { traffic, way: *way, rounds: Vec::new() }).collect();
        for round in 0..options.rounds {
            for turn in 0..turns.len() {
                // Each round begins with another way: none is always the one after the break.
                let one = &mut turns[(round + turn) % ways.len()];
                let _watcher = one.way.begin(scene, setup)?;
                one.rounds.push(traffic.flow(scene, options.seconds)?);
                wait::pass(SETTLE)?;
            }
        }
        all.append(&mut turns);
    }
    Ok(all)
}

impl Spent {
    /// Nanoseconds of all programs for one connection, request or response, without the statistics' own part.
    pub fn each(&self) -> f64 {
        let net = |runs: &programs::Runs| runs.time as f64 - runs.count as f64 * self.measuring;
        self.runs.values().map(net).sum::<f64>().max(0.0) / self.units.max(1) as f64
    }
}
