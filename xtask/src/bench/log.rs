//! `cargo xtask bench log`: how fast `rstscope log` reads ordinary error.log, beside grep with the patterns of the
//! guides and a parser made of one regular expression; and how much memory an endless log takes.
//!
//! Processor time counts, not the clock on the wall: user and system time of the process, once it has ended.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::{project, shell};

/// What the guides tell people to look for.
const GUIDES: &str = "connect\\(\\) failed|recv\\(\\) failed|readv\\(\\) failed|upstream timed out|no live upstreams|\
    prematurely closed connection|too big header|Permission denied|No such file|worker_connections are not enough";
/// One regular expression for a whole line, and a count per upstream: what log shippers do.
const REGEX: &str = r#"if (m{^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(\w+)\] (\d+)#(\d+): (?:\*(\d+) )?(.*?)(?: while ([^,]+))?, client: ([^,]+), server: ([^,]*)(?:, request: "([^"]*)")?(?:, upstream: "([^"]*)")?(?:, host: "([^"]*)")?(?:, referrer: "([^"]*)")?$}) { $count{$11 // ""}++ } END { print scalar(keys %count), "\n" }"#;
/// The one whose output is as long as the log.
const RECORDS: &str = "rstscope log --records";
/// Pause between looks at a process' memory.
const LOOK: Duration = Duration::from_millis(20);
/// Clock ticks per second (`USER_HZ`), which is 100 on every architecture there is a build for.
const TICKS: f64 = 100.0;

/// Options of `bench log`.
#[derive(clap::Args, Debug)]
pub struct LogOptions {
    /// Size of the log, megabytes.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    megabytes: u64,
    /// How often everyone takes a turn; the best counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Then let rstscope read a log of this many gigabytes from a pipe, and look at its memory.
    #[arg(long, value_name = "N", default_value_t = 10)]
    gigabytes: u64,
    /// An rstscope that is built already.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Processor time and memory of a process.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    peak_kib: u64,
}

/// Runs the sub-command.
pub fn run(options: &LogOptions) -> Result<ExitCode> {
    let rstscope = binary(options)?;
    let folder = std::env::temp_dir().join(format!("rstscope-bench-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let done = measure(options, &rstscope, &folder.join("error.log"));
    std::fs::remove_dir_all(&folder).context("cannot remove the log of the benchmark")?;
    done.map(|()| ExitCode::SUCCESS)
}

fn binary(options: &LogOptions) -> Result<PathBuf> {
    if let Some(binary) = &options.binary {
        return Ok(binary.clone());
    }
    shell::run(shell::cargo().args(["build", "--release", "--locked", "--package", "rstscope"]))?;
    Ok(project::target().join("release/rstscope"))
}

fn measure(options: &LogOptions, rstscope: &Path, log: &Path) -> Result<()> {
    let bytes = options.megabytes * 1_000_000;
    let mut file = BufWriter::new(File::create(log)?);
    write_log(&mut file, bytes)?;
    file.flush()?;
    crate::say!(
        "{} MB of error.log, the best of {} rounds, processor time",
        options.megabytes,
        options.rounds
    );
    crate::say!("{:<44} {:>8} {:>8} {:>10}", "", "seconds", "GB/s", "memory");
    for (name, mut command) in commands(rstscope, log) {
        let mut best: Option<Cost> = None;
        for _ in 0..options.rounds.max(1) {
            // grep stops at the first match when nobody can read what it says.
            let out = if name == RECORDS { Stdio::null() } else { Stdio::piped() };
            let cost = watch(command.stdout(out).stdin(Stdio::null()).spawn()?)?;
            best = best.filter(|best| best.seconds <= cost.seconds).or(Some(cost));
        }
        let best = best.context("no round was run")?;
        row(name, bytes, best);
    }
    if options.gigabytes > 0 {
        endless(options.gigabytes * 1_000_000_000, rstscope)?;
    }
    Ok(())
}

fn commands(rstscope: &Path, log: &Path) -> Vec<(&'static str, Command)> {
    let command = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).arg(log).env("LC_ALL", "C");
        command
    };
    vec![
        ("rstscope log", command(rstscope, &["log", "--zone", "UTC"])),
        (RECORDS, command(rstscope, &["log", "--zone", "UTC", "--records"])),
        ("grep -c, one word", command(Path::new("grep"), &["-c", "upstream timed out"])),
        ("grep -cE, the guides' patterns", command(Path::new("grep"), &["-cE", GUIDES])),
        ("perl, one regular expression, a count", command(Path::new("perl"), &["-ne", REGEX])),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "bytes that are shown with three digits")]
fn row(name: &str, bytes: u64, cost: Cost) {
    let rate = bytes as f64 / 1e9 / cost.seconds.max(0.001);
    crate::say!("{name:<44} {:>8.2} {rate:>8.2} {:>6.1} MiB", cost.seconds, cost.peak_kib as f64 / 1024.0);
}

/// A log that nobody could keep: made while it is read.
fn endless(bytes: u64, rstscope: &Path) -> Result<()> {
    let mut child = Command::new(rstscope)
        .args(["log", "--zone", "UTC", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let pipe = child.stdin.take().context("no pipe")?;
    let writer = std::thread::spawn(move || write_log(&mut BufWriter::with_capacity(1 << 20, pipe), bytes));
    let cost = watch(child)?;
    let written = writer.join().map_err(|_| anyhow::anyhow!("the writer of the log failed"))?;
    written.context("cannot write the log")?;
    row("rstscope log -, from a pipe", bytes, cost);
    Ok(())
}

/// Waits for a process; what it used is read while its entry in the table of processes is still there.
fn watch(mut child: Child) -> Result<Cost> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    let mut peak_kib = 0;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), options)?.is_none() {
        peak_kib = peak(child.id()).unwrap_or(0).max(peak_kib);
        std::thread::sleep(LOOK);
    }
    let seconds = processor_time(child.id()).context("the process is gone too early")?;
    let status = child.wait()?;
    ensure!(status.success(), "a program of the benchmark failed: {status}");
    Ok(Cost { seconds, peak_kib })
}

/// `VmHWM` of `/proc/PID/status`, KiB.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// User and system time of `/proc/PID/stat`, seconds.
fn processor_time(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(") ")?.1;
    let ticks: Vec<f64> =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    (ticks.len() == 2).then(|| ticks.iter().sum::<f64>() / TICKS)
}

/// A bare generator of numbers, so that the log is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % limit.max(1)
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let at = usize::try_from(self.below(choices.len() as u64)).unwrap_or(0);
        choices.get(at).copied().unwrap_or_default()
    }
}

const SERVERS: [&str; 4] = ["shop.example.com", "api.example.com", "_", "www.example.org"];
/// What is asked for, up to a number.
const PATHS: [&str; 6] = [
    "/api/v1/orders/items?sort=created_at&limit=50&cursor=",
    "/assets/app.bundle.js?v=",
    "/users/profile/settings/",
    "/search?page=2&lang=en&q=shoes+size+",
    "/images/products/large/",
    "/checkout/payment/confirm?session=",
];
/// Where the client came from, behind the server's name.
const REFERRERS: [&str; 3] = ["/", "/products/category/shoes?page=2", "/account/orders"];

/// Level and message of lines about upstreams, in the proportions of a bad day.
const UPSTREAM: [(&str, &str); 8] = [
    ("error", "connect() failed (111: Connection refused) while connecting to upstream"),
    ("error", "connect() failed (111: Connection refused) while connecting to upstream"),
    ("error", "upstream timed out (110: Connection timed out) while reading response header from upstream"),
    ("error", "upstream timed out (110: Connection timed out) while reading response header from upstream"),
    ("error", "recv() failed (104: Connection reset by peer) while reading response header from upstream"),
    ("error", "upstream prematurely closed connection while reading response header from upstream"),
    ("error", "no live upstreams while connecting to upstream"),
    ("warn", "upstream server temporarily disabled while connecting to upstream"),
];

/// Writes ordinary lines: most about upstreams, some about files, limits and clients; 350 bytes on average, which is the
/// length of lines that people show in bug reports.
fn write_log(out: &mut impl Write, bytes: u64) -> std::io::Result<()> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut written, mut number) = (0, 0_u64);
    while written < bytes {
        number += 1;
        let line = line(&mut random, number);
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    out.flush()
}

fn line(random: &mut Random, number: u64) -> String {
    let seconds = number / 8;
    let (day, hour) = (1 + seconds / 86_400 % 28, seconds / 3600 % 24);
    let (minute, second) = (seconds / 60 % 60, seconds % 60);
    let pid = 1200 + random.below(8);
    let head = |level: &str| {
        format!("2026/11/{day:02} {hour:02}:{minute:02}:{second:02} [{level}] {pid}#{pid}: *{} ", number * 3)
    };
    // Clients come from a few hundred networks.
    let client = format!("198.{}.{}.{}", 18 + random.below(2), random.below(200), random.below(256));
    let (server, path) = (random.of(&SERVERS), format!("{}{}", random.of(&PATHS), random.below(1_000_000)));
    let request = format!("client: {client}, server: {server}, request: \"GET {path} HTTP/1.1\"");
    match random.below(20) {
        0 => format!(
            "{}open() \"/var/www{path}\" failed (2: No such file or directory), {request}, host: \"{server}\"\n",
            head("error")
        ),
        1 => format!(
            "{}limiting requests, excess: {}.5 by zone \"api\", {request}, host: \"{server}\"\n",
            head("error"),
            random.below(20)
        ),
        2 => format!("{}client {client} closed keepalive connection\n", head("info")),
        _ => {
            let (level, message) = UPSTREAM[usize::try_from(random.below(8)).unwrap_or(0)];
            let upstream = format!("10.0.{}.{}:8080", random.below(4), random.below(10));
            let referrer = random.of(&REFERRERS);
            format!(
                "{}{message}, {request}, upstream: \"http://{upstream}{path}\", host: \"{server}\", \
                 referrer: \"https://{server}{referrer}\"\n",
                head(level)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_size_asked_for_and_is_the_same_every_time() {
        let make = || {
            let mut out = Vec::new();
            write_log(&mut out, 20_000).unwrap();
            out
        };
        let log = make();
        assert!((20_000..21_000).contains(&log.len()));
        assert_eq!(log, make());
        assert!(log.ends_with(b"\n"));
    }

    #[test]
    fn processor_time_of_a_process_is_read() {
        let cost = watch(Command::new("true").spawn().unwrap()).unwrap();
        assert!(cost.seconds < 5.0);
    }
}
