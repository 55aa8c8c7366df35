//! `cargo xtask bench store`: the daemon on a store of millions of verdicts, with a hundred thousand connections of Nginx
//! open and faults among them: its memory, and how long questions take meanwhile.
//!
//! The verdicts are real ones, played here and copied with other times, ids, upstreams and clients, because so many
//! incidents would take days. A command for people: it needs 5 kB of disk for each verdict, or 2.2 kB for a short one.

use super::daemon::{Daemon, ask};
use super::nginx::{ADDRESS, Nginx};
use super::receiver::Receiver;
use super::soak::{MOST_MEMORY, Sample, Traffic, metric_value};
use super::{Namespaces, read, until};
use crate::peer::sockets::connected;
use anyhow::{Context, Result, bail, ensure};
use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests a second while verdicts are made that are copied, and while the memory is looked at.
const RATE: u32 = 200;
/// How long verdicts are made that are copied.
const MODELS: Duration = Duration::from_secs(10);
/// Verdicts copied in one transaction.
const AT_ONCE: i64 = 50_000;
/// Connections from one address, which are a third of its ports, in one table of descriptors.
const FROM_ONE: usize = 10_000;

/// Copies of the models with numbers from `?1`, a tenth of a second apart from the time `?2` on; at most `?3`.
const COPY: &str = "INSERT INTO verdicts
        (id, time, party, cause, certainty, impact, upstream, client, words, verdict, dossier)
        SELECT printf('00%024X', ?1 + row_number() OVER ()), ?2 + 100000000 * (?1 + row_number() OVER ()),
            party, cause, certainty, impact,
            iif(upstream IS NULL, NULL, printf('10.0.%d.%d:8080', abs(random()) % 4, abs(random()) % 64)),
            iif(client IS NULL, NULL, printf('198.51.%d.%d', abs(random()) % 100, abs(random()) % 256)),
            words, verdict, dossier
        FROM models LIMIT ?3";

/// What a record needs to be read, and no more.
const SHORTEN: &str =
    "UPDATE models SET dossier = NULL, verdict = json_set(verdict, '$.evidence', json('[]'),
    '$.missing', json('[]'), '$.alternatives', json('[]'), '$.reset', NULL)";

/// Options of `bench store`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Verdicts in the store.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    verdicts: u64,
    /// Copy no packets and leave evidence and alternatives out of the records, where the disk is too small.
    #[arg(long)]
    short: bool,
    /// Connections of Nginx that are open.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    connections: usize,
    /// How long the memory is looked at, seconds.
    #[arg(long, value_name = "S", default_value_t = 60)]
    duration: u64,
    #[command(flatten)]
    namespaces: Namespaces,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let numbers = [options.verdicts, options.connections as u64, options.duration].map(|one| one.to_string());
    let [verdicts, connections, duration] = &numbers;
    let mut words =
        vec!["bench", "store", "--verdicts", verdicts, "--connections", connections, "--duration", duration];
    words.extend(options.short.then_some("--short"));
    options.namespaces.run("store", &words, |folder, binary| {
        let measured = measure(options, folder, binary);
        // Gigabytes, whatever became of it.
        fs::remove_dir_all(folder.join("state"))?;
        measured
    })
}

fn measure(options: &Options, folder: &Path, binary: &Path) -> Result<()> {
    // Kept to the end: the daemon sends to it.
    let _receiver = Receiver::start_forgetful()?;
    raise_descriptors()?;
    let mut nginx = Nginx::with_workers(folder, options.connections / FROM_ONE + 1)?;
    nginx.start()?;
    let mut daemon = start(binary, folder)?;
    let traffic = Traffic::start(RATE)?;
    std::thread::sleep(MODELS);
    traffic.stop();
    daemon.end()?;
    let store = folder.join("state/verdicts.db");
    let begin = Instant::now();
    multiply(&store, options.verdicts, options.short)?;
    let megabytes = fs::metadata(&store)?.len() >> 20;
    crate::say!("{} verdicts, {megabytes} MiB, copied in {:.0?}", options.verdicts, begin.elapsed());
    drop(daemon);
    let mut daemon = start(binary, folder)?;
    let silent = Silent::open(options.connections)?;
    until("every connection is followed", || {
        Ok(metric_value("rstscope_connections_total")? >= options.connections as u64)
    })?;
    let traffic = Traffic::again(RATE);
    let highest = highest(&daemon, options.duration)?;
    crate::say!(
        "{} connections open; memory at most {highest} KiB in {} s",
        options.connections,
        options.duration
    );
    let asked = questions(binary, &store);
    crate::say!("{} requests meanwhile", traffic.stop());
    asked?;
    silent.close();
    daemon.end()?;
    ensure!(highest < MOST_MEMORY, "more memory than {MOST_MEMORY} KiB");
    Ok(())
}

fn start(binary: &Path, folder: &Path) -> Result<Daemon> {
    let daemon = Daemon::start_with(binary, folder, "size = \"1000G\"\nkeep = \"36500d\"")?;
    until("it is ready", || Ok(ask("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))))?;
    until("Nginx is found", || Ok(ask("/metrics")?.contains("rstscope_nginx_masters 1.0")))?;
    Ok(daemon)
}

/// Makes so many verdicts of those that are there: each with a time and an id of its own, earlier than the real ones,
/// and upstreams and clients as a busy edge has them.
fn multiply(store: &Path, wanted: u64, short: bool) -> Result<()> {
    let wanted = i64::try_from(wanted)?;
    let mut connection = Connection::open(store)?;
    connection.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; PRAGMA temp_store = MEMORY;
         CREATE TEMP TABLE models AS SELECT * FROM verdicts;",
    )?;
    if short {
        connection.execute_batch(SHORTEN)?;
    }
    let (models, earliest): (i64, i64) =
        connection
            .query_row("SELECT count(*), min(time) FROM models", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    ensure!(models > 0, "nothing was stored that could be copied");
    let first = earliest - wanted.saturating_mul(100_000_000);
    let mut made = models;
    while made < wanted {
        let transaction = connection.transaction()?;
        let end = wanted.min(made + AT_ONCE);
        while made < end {
            let few = models.min(end - made);
            transaction.prepare_cached(COPY)?.execute((made, first, few))?;
            made += few;
        }
        transaction.commit()?;
    }
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

/// Every connection that is held takes a descriptor.
fn raise_descriptors() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Connections that say nothing. The limit of descriptors is one of each table: every thread has its own.
struct Silent(Vec<(Sender<()>, JoinHandle<()>)>);

impl Silent {
    fn open(wanted: usize) -> Result<Self> {
        let (opened, news) = channel();
        let mut threads = Vec::new();
        for first in (0..wanted).step_by(FROM_ONE) {
            let (end, ended) = channel();
            let (opened, number) = (opened.clone(), FROM_ONE.min(wanted - first));
            let thread = std::thread::spawn(move || {
                let held = hold(first / FROM_ONE, number);
                let failed = held.as_ref().err().map(ToString::to_string);
                // Both only end when nobody asks any more.
                let _told = opened.send(failed);
                let _end: Result<(), _> = ended.recv();
                drop(held);
            });
            threads.push((end, thread));
        }
        for _ in &threads {
            if let Some(failure) = news.recv()? {
                bail!("not every connection could be opened: {failure}");
            }
        }
        Ok(Self(threads))
    }

    fn close(self) {
        for (end, thread) in self.0 {
            drop(end);
            // One that failed holds nothing either.
            let _ended = thread.join();
        }
    }
}

fn hold(group: usize, number: usize) -> Result<Vec<TcpStream>> {
    // SAFETY: nothing of this thread is a descriptor yet; those that it gets a copy of are left alone.
    unsafe { unshare_unsafe(UnshareFlags::FILES)? };
    let [high, low] = u16::try_from(group)?.to_be_bytes();
    let (from, to) = (IpAddr::from(Ipv4Addr::new(127, 3, high, low + 1)), ADDRESS.parse()?);
    (0..number).map(|_| connected(from, to)).collect()
}

fn highest(daemon: &Daemon, seconds: u64) -> Result<u64> {
    let mut highest = 0;
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        highest = highest.max(Sample::take(daemon.pid())?.memory);
    }
    Ok(highest)
}

/// How long the questions of people take while the daemon writes.
fn questions(binary: &Path, store: &Path) -> Result<()> {
    let store = store.display().to_string();
    let text = read(binary, &["query", "--store", &store, "--limit", "1", "--format", "json"])?;
    let latest: serde_json::Value = serde_json::from_str(text.lines().next().context("no verdict")?)?;
    let id = latest["id"].as_str().context("no id")?.to_owned();
    let asked: [&[&str]; 8] = [
        &["query"],
        &["query", "--since", "1h"],
        &["query", "--cause", "upstream_abort", "--limit", "20"],
        &["query", "--upstream", "10.0.2.17", "--limit", "20"],
        &["query", "--client", "198.51.42.42", "--limit", "20"],
        &["query", "--since", "24h", "--count"],
        &["query", "--count"],
        &["show", &id],
    ];
    for words in asked {
        let begin = Instant::now();
        let lines = read(binary, &[words, &["--store", &store]].concat())?.lines().count();
        crate::say!("{:>8.0?}, {lines} lines: rstscope {}", begin.elapsed(), words.join(" "));
    }
    Ok(())
}
