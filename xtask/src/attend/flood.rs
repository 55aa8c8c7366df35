//! `cargo xtask bench flood`: the daemon while strangers' segments make Nginx's host send tens of thousands of RSTs a second.
//! Nginx's speed is measured during the flood without and with the daemon, in turns. Memory must stay bounded, the RSTs
//! counted must be the kernel's, what is not told must be counted, and the first real reset afterwards must be told.
//!
//! A command for people: its figures depend on the machine.
#![expect(clippy::cast_precision_loss, reason = "times and counts that are shown with three digits")]

use super::daemon::{Daemon, ask};
use super::nginx::{ADDRESS, Nginx};
use super::soak::{RESETTING, Sample, kernel_counter, metric_value, resetting_upstream};
use super::{Namespaces, until};
use crate::bench::paired;
use crate::bench::wrk::{self, Measured};
use crate::peer::neighbour;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where the made-up senders live; everything there answers to this host.
const STRANGERS: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 0);
/// Connections of the healthy clients.
const HEALTHY: usize = 16;
/// Most resident memory, KiB.
const MOST_MEMORY: u64 = 64 << 10;
/// What the kernel side could not tell.
const LOST: &str = "rstscope_lost_total{";

/// Options of `bench flood`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// How long each time, seconds.
    #[arg(long, value_name = "S", default_value_t = 60)]
    duration: u64,
    /// Segments a second, each of which is answered with a RST.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    rate: u64,
    /// How often without and with the daemon take turns.
    #[arg(long, value_name = "N", default_value_t = 2)]
    rounds: u32,
    #[command(flatten)]
    namespaces: Namespaces,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (duration, rate) = (options.duration.to_string(), options.rate.to_string());
    let rounds = options.rounds.to_string();
    let words = ["bench", "flood", "--duration", &duration, "--rate", &rate, "--rounds", &rounds];
    options.namespaces.run("flood", &words, |folder, binary| play(options, folder, binary))
}

fn play(options: &Options, folder: &Path, binary: &Path) -> Result<()> {
    resetting_upstream(TcpListener::bind(RESETTING)?);
    let mut nginx = Nginx::new(folder)?;
    nginx.start()?;
    let mut all: [Vec<Measured>; 2] = Default::default();
    for round in 0..options.rounds {
        let folder = folder.join(round.to_string());
        fs::create_dir_all(folder.join("state"))?;
        all[0].push(flooded(options)?);
        all[1].push(watched(options, &folder, binary)?);
    }
    for (name, rounds) in ["without", "with"].iter().zip(&all) {
        for measured in rounds {
            crate::say!(
                "{name:<8} {:>8.0} requests/s, p99 {:>7.2} ms, worker {:>6.1} µs/request",
                measured.rate,
                measured.p99_us / 1e3,
                measured.worker_us
            );
        }
    }
    compare(&all);
    Ok(())
}

/// What the daemon changes, each round against the one before it without.
fn compare([without, with]: &[Vec<Measured>; 2]) {
    let beside = |name: &str, figure: fn(&Measured) -> f64| {
        let of = |rounds: &[Measured]| rounds.iter().map(figure).collect::<Vec<f64>>();
        let (median, range) = paired::beside(&of(with), &of(without));
        crate::say!("{name}: {median} with the daemon (median of {} rounds; 95 %: {range})", with.len());
    };
    beside("requests/s", |measured| measured.rate);
    beside("worker's time/request", |measured| measured.worker_us);
}

/// Nginx's speed during the flood.
fn flooded(options: &Options) -> Result<Measured> {
    let before = kernel_counter("OutRsts")?;
    let flood = Flood::start(options.rate)?;
    let (begin, spent) = (Instant::now(), workers_time()?);
    let measured = wrk::load(
        Command::new(wrk::program()?),
        &format!("http://{ADDRESS}/static"),
        HEALTHY,
        options.duration,
    );
    let spent = workers_time()?.saturating_sub(spent);
    let took = begin.elapsed();
    let segments = flood.stop()?;
    let measured = measured?;
    let resets = kernel_counter("OutRsts")?.saturating_sub(before);
    ensure!(resets >= segments, "{segments} segments, but only {resets} RSTs");
    let worker_us = spent.as_secs_f64() * 1e6 / measured.requests.max(1) as f64;
    let seconds = took.as_secs_f64();
    crate::say!("{resets} RSTs in {seconds:.1} s, {:.0} a second", resets as f64 / seconds);
    Ok(Measured { worker_us, ..measured })
}

/// The same with the daemon, and whether it kept its promises.
fn watched(options: &Options, folder: &Path, binary: &Path) -> Result<Measured> {
    let mut daemon = Daemon::start(binary, folder)?;
    until("Nginx is found", || {
        Ok(ask("/metrics").is_ok_and(|page| page.contains("rstscope_nginx_masters 1.0")))
    })?;
    let before = kernel_counter("OutRsts")?;
    let (stop, pid) = (Arc::new(AtomicBool::new(false)), daemon.pid());
    let end = Arc::clone(&stop);
    let sampler = std::thread::spawn(move || most_memory(pid, &end));
    let measured = flooded(options);
    stop.store(true, Ordering::Relaxed);
    let memory = sampler.join().map_err(|_panic| anyhow::anyhow!("the sampler panicked"))?;
    let measured = measured?;
    resumes()?;
    let counted = || {
        Ok(metric_value("rstscope_resets_sent_total")? == kernel_counter("OutRsts")?.saturating_sub(before))
    };
    until("the RSTs counted are the kernel's", counted)?;
    let page = ask("/metrics")?;
    crate::say!(
        "memory at most {memory} KiB; {} RSTs counted, as many as the kernel's",
        metric_value("rstscope_resets_sent_total")?
    );
    page.lines()
        .filter(|line| line.starts_with(LOST) && !line.ends_with(" 0"))
        .for_each(|line| crate::say!("{line}"));
    ensure!(memory < MOST_MEMORY, "more memory than {MOST_MEMORY} KiB");
    daemon.end()?;
    Ok(measured)
}

/// A real reset of Nginx's upstream is told soon after the flood.
fn resumes() -> Result<()> {
    let counted = || -> Result<f64> {
        let page = ask("/metrics")?;
        let of_upstream = |line: &&str| line.starts_with("rstscope_incidents_total{party=\"upstream\"");
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        Ok(page.lines().filter(of_upstream).filter_map(value).sum::<f64>())
    };
    let (before, begin) = (counted()?, Instant::now());
    Nginx::fail("/reset")?;
    until("a real reset is told", || Ok(counted()? > before))?;
    crate::say!("a real reset was told {} ms after the flood", begin.elapsed().as_millis());
    Ok(())
}

fn most_memory(pid: u32, end: &AtomicBool) -> u64 {
    let mut most = 0;
    while !end.load(Ordering::Relaxed) {
        most = Sample::take(pid).map_or(most, |sample| most.max(sample.memory));
        std::thread::sleep(Duration::from_millis(200));
    }
    most
}

/// Processor time of every Nginx worker in this namespace so far.
fn workers_time() -> Result<Duration> {
    let mut spent = Duration::ZERO;
    for entry in fs::read_dir("/proc")?.flatten() {
        let here = entry.path();
        let title = fs::read_to_string(here.join("cmdline")).unwrap_or_default();
        let ours = fs::read_link(here.join("ns/net")).ok() == fs::read_link("/proc/self/ns/net").ok();
        if !(ours && title.starts_with("nginx: worker")) {
            continue;
        }
        let text = fs::read_to_string(here.join("schedstat"))?;
        let first = text.split_whitespace().next().context("no time")?;
        spent += Duration::from_nanos(first.parse()?);
    }
    Ok(spent)
}

/// Segments of connections that nobody has, at a steady rate.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Flood {
    fn start(rate: u64) -> Result<Self> {
        let (stop, to) = (Arc::new(AtomicBool::new(false)), ADDRESS.parse()?);
        let end = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            neighbour::flood(STRANGERS, to, (rate, |tcp| tcp.ack = true), || !end.load(Ordering::Relaxed))
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| anyhow::anyhow!("the flood panicked"))?
    }
}
