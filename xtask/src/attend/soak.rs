//! `cargo xtask soak`: the daemon under mixed traffic for as long as wanted. At the end its memory and descriptors must
//! not have grown, and its counts must be those of the kernel, to the last packet. A short one is part of the tests.

use super::daemon::{Daemon, ask};
use super::nginx::Nginx;
use super::receiver::Receiver;
use super::{Namespaces, until};
use crate::project;
use anyhow::{Context, Result, bail, ensure};
use rustix::net::sockopt;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Name of the short one in the count.
pub const NAME: &str =
    "the daemon takes no more after a while of mixed traffic, and its counts are the kernel's";
/// Upstream that resets every connection.
pub const RESETTING: &str = "127.0.0.1:9913";
/// Clients at the same time.
const CLIENTS: u32 = 4;
/// Most resident memory, KiB.
pub const MOST_MEMORY: u64 = 48 << 10;
/// Growth of memory that is no leak: tables that fill, KiB.
const GROWTH: u64 = 2 << 10;
/// Growth of the number of descriptors that is none: scrapes and batches under way.
const DESCRIPTORS: u64 = 4;
/// The part of the time at the beginning in which tables fill, as a divisor.
const WARM_UP: usize = 4;

/// Metrics and the kernel's counters of the same.
const COUNTED: [(&str, &str); 2] =
    [("rstscope_resets_sent_total", "OutRsts"), ("rstscope_retransmits_total", "RetransSegs")];

/// Hand-overs behind the store, whose pace is that of others.
const RECEIVERS: [&str; 2] = ["handover=\"webhook\"", "handover=\"command\""];

/// Options of `soak`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// How long, seconds.
    #[arg(long, value_name = "S", default_value_t = 600)]
    duration: u64,
    /// Requests a second, all clients together.
    #[arg(long, value_name = "N", default_value_t = 200)]
    rate: u32,
    #[command(flatten)]
    namespaces: Namespaces,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (duration, rate) = (options.duration.to_string(), options.rate.to_string());
    let words = ["soak", "--duration", &duration, "--rate", &rate];
    options.namespaces.run("soak", &words, |folder, binary| soak(options, folder, binary))
}

/// A short one, with the program that the daemon's check has built.
pub fn short() -> Result<()> {
    let binary = Some(project::target().join("release/rstscope"));
    let namespaces = Namespaces { binary, inside: None };
    run(&Options { duration: 20, rate: 200, namespaces }).map(drop)
}

fn soak(options: &Options, folder: &Path, binary: &Path) -> Result<()> {
    // Kept to the end: the daemon sends to it.
    let _receiver = Receiver::start_forgetful()?;
    let mut daemon = Daemon::start(binary, folder)?;
    until("it answers", || Ok(ask("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))))?;
    let mut nginx = Nginx::new(folder)?;
    nginx.start()?;
    until("Nginx is found", || Ok(ask("/metrics")?.contains("rstscope_nginx_masters 1.0")))?;
    // What was sent before anything was counted there.
    let before = COUNTED.map(|(_, counter)| kernel_counter(counter).unwrap_or(0));
    let traffic = Traffic::start(options.rate)?;
    let mut samples = Vec::new();
    let end = Instant::now() + Duration::from_secs(options.duration);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(1));
        samples.push(Sample::take(daemon.pid())?);
    }
    let requests = traffic.stop();
    crate::say!("{requests} requests in {} s", options.duration);
    // Both are said, whatever the other is like: a long one is not repeated for the half that was not looked at.
    let (flat, reconciled) = (flat(&samples), reconcile(before));
    let ended = daemon.end();
    flat.and(reconciled).and(ended)
}

/// What the daemon takes at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Resident, KiB.
    pub memory: u64,
    descriptors: u64,
    switches: u64,
}

impl Sample {
    /// Takes one.
    pub fn take(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().unwrap_or_default().parse::<u64>()
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        Ok(Self { memory: field("VmRSS:")?, descriptors, switches: field("voluntary_ctxt_switches:")? })
    }
}

/// Parts of the time of which the memory is told.
const PARTS: usize = 8;

/// After the warm-up the second half must not take more than the first. A leak raises the median; the most of all, which
/// one moment decides in which other work had the processors, has a bound of its own.
fn flat(samples: &[Sample]) -> Result<()> {
    let memory = |sample: &Sample| sample.memory;
    let over_time: Vec<String> = samples
        .chunks(samples.len().div_ceil(PARTS).max(1))
        .map(|part| format!("{} ({})", median(part, memory), most(part, memory)))
        .collect();
    crate::say!("memory over time, KiB, median (most): {}", over_time.join(", "));
    let warm = &samples[samples.len() / WARM_UP..];
    let (early, late) = warm.split_at(warm.len() / 2);
    let medians = [early, late].map(|part| median(part, memory));
    let highest = most(warm, memory);
    let descriptors = [early, late].map(|part| most(part, |sample| sample.descriptors));
    let last = samples.last().context("no sample")?;
    crate::say!(
        "memory {} then {} KiB, at most {highest}; descriptors {} then {}; {} voluntary switches of the main thread",
        medians[0],
        medians[1],
        descriptors[0],
        descriptors[1],
        last.switches,
    );
    ensure!(medians[1] <= medians[0] + GROWTH, "memory grows");
    ensure!(highest < MOST_MEMORY, "more memory than {MOST_MEMORY} KiB");
    ensure!(descriptors[1] <= descriptors[0] + DESCRIPTORS, "descriptors grow");
    Ok(())
}

fn most(part: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    part.iter().map(of).max().unwrap_or(0)
}

fn median(part: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut all: Vec<u64> = part.iter().map(of).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

/// The daemon's counts against the kernel's own of this namespace, less what these were before.
fn reconcile(before: [u64; 2]) -> Result<()> {
    for ((metric, counter), before) in COUNTED.into_iter().zip(before) {
        let theirs = || kernel_counter(counter).map(|count| count.saturating_sub(before));
        until(&format!("{metric} is {counter}"), || Ok(metric_value(metric)? == theirs()?))
            .with_context(|| format!("{metric} {:?}, {counter} {:?}", metric_value(metric), theirs()))?;
        crate::say!("{metric} {} equals the kernel's {counter}", metric_value(metric)?);
    }
    nothing_lost(&ask("/metrics")?)
}

/// Nothing between the kernel and the store. Notices may be, where a receiver has no processor to run on: they are said.
fn nothing_lost(page: &str) -> Result<()> {
    let lost = page.lines().filter(|line| line.starts_with("rstscope_lost_total") && !line.ends_with(" 0"));
    let (notices, lost): (Vec<&str>, Vec<&str>) =
        lost.partition(|line| RECEIVERS.iter().any(|receiver| line.contains(receiver)));
    if !notices.is_empty() {
        crate::say!("notices that did not arrive: {}", notices.join("; "));
    }
    ensure!(lost.is_empty(), "lost: {}", lost.join("; "));
    Ok(())
}

/// A metric without labels, as the daemon serves it now.
pub fn metric_value(name: &str) -> Result<u64> {
    let page = ask("/metrics")?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

/// A counter of `/proc/net/snmp`: names in one line, numbers in the next.
pub fn kernel_counter(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/net/snmp")?;
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (Some(names), Some(values)) = (tcp.next(), tcp.next()) else { bail!("no counters of TCP") };
    let at =
        names.split_whitespace().position(|found| found == name).with_context(|| format!("no {name}"))?;
    Ok(values.split_whitespace().nth(at).context("no number")?.parse()?)
}

/// Clients that ask for all kinds of things, and the upstream that resets.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    requests: Arc<AtomicU64>,
}

impl Traffic {
    /// Starts upstream and clients, so many requests a second together.
    pub fn start(rate: u32) -> Result<Self> {
        resetting_upstream(TcpListener::bind(RESETTING)?);
        Ok(Self::again(rate))
    }

    /// Starts clients, where the upstream is there already.
    pub fn again(rate: u32) -> Self {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pause = Duration::from_secs(1) * CLIENTS / rate.max(1);
        let client = |number: u32| {
            let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
            std::thread::spawn(move || {
                for round in number.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // What goes wrong is what is wanted.
                    let _answered = request(round);
                    requests.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(pause);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, clients, requests }
    }

    /// Ends the clients; gives the number of requests.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            // A client that failed has made fewer requests.
            let _ended = client.join();
        }
        self.requests.load(Ordering::Relaxed)
    }
}

/// Resets every connection, whatever the request is.
pub fn resetting_upstream(listener: TcpListener) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _read = stream.read(&mut [0; 4096]);
            let _set = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
        }
    });
}

/// Six of ten requests are healthy; the others meet a refusal, a reset, or a client that leaves.
fn request(round: u32) -> Result<()> {
    let (target, leaves) = match round % 10 {
        0 => ("/refused", false),
        1 => ("/reset", false),
        2 => ("/reset?=\u{202e}\"'--", false),
        3 => ("/static", true),
        _ => ("/static", false),
    };
    let mut stream = TcpStream::connect(super::nginx::ADDRESS)?;
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
    if leaves {
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        return Ok(());
    }
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
