//! `cargo xtask lab`: faults of known origin on a real Nginx and a real kernel, against the tracer's verdicts.
//!
//! Benches run side by side, each with its own network, Nginx and tracer; each plays its share of the
//! scenarios. Nothing leaves the namespaces, and nothing is left behind.

mod bench;
mod capture;
pub mod cleanup;
mod fixture;
mod inherited;
mod judge;
mod kernel;
mod memory;
pub mod neighbour;
pub mod net;
pub mod nginx;
mod program;
pub mod puppet;
mod quiet;
mod repeat;
mod report;
mod scenario;
mod scenarios;
pub mod schema;
mod seat;
mod stage;
pub mod storm;
pub mod tour;
pub mod tracer;
mod two_ends;
mod unseen;
pub mod wait;
mod wire;

use crate::{project, setup, shell};
use anyhow::{Context, Result, bail};
use bench::{After, Plan, Row};
use nginx::Level;
use scenario::FAR_AWAY;
use schema::Schema;
use seat::Seat;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;
use tracer::Setup;

/// Distant scenarios of one bench: they take several seconds each.
const FAR_SHARE: usize = 8;

/// Benches at the same time, unless told otherwise.
const JOBS: usize = 4;

/// Options of `lab`.
#[derive(clap::Args, Debug, Default)]
pub struct Options {
    /// Only scenarios whose name contains this; `*` stands for anything, commas separate several.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    scenario: Vec<String>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Keep network and logs after the scenarios until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Benches at the same time.
    #[arg(long, value_name = "N", default_value_t = JOBS)]
    jobs: usize,
    /// Only this level of the error log.
    #[arg(long, value_name = "LEVEL", value_parser = ["error", "info"])]
    level: Option<String>,
    /// Copy every bench's records, statistics and error log into this folder.
    #[arg(long, value_name = "FOLDER")]
    records: Option<PathBuf>,
    /// Record every bench, and put each recording with its verdicts into this folder: fixtures of tests/replay.rs. With
    /// `--two-ends` or `--pcap` it is the recording of what the two recordings, or the captures, gave.
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_tracer")]
    record: Option<PathBuf>,
    /// Capture every bench with tcpdump, beside Nginx, its upstreams and its clients, and judge each capture with the log
    /// instead of running a tracer; with `--two-ends` the first with each of the others. Fails if a strong or proven
    /// verdict names the wrong party.
    #[arg(long, conflicts_with = "no_tracer")]
    pcap: bool,
    /// Run a second tracer on the host of the upstreams, and judge with both recordings (`rstscope correlate`). Fails
    /// if a strong or proven verdict names the wrong party, or if the second recording does not decide what it must.
    #[arg(long, conflicts_with = "no_tracer")]
    two_ends: bool,
    /// Play with these hooks missing, as `RSTSCOPE_DISABLE` has it (`probe_read_kernel`: as under
    /// lockdown=confidentiality). Fails if a strong or proven verdict names the wrong party.
    #[arg(long, value_name = "HOOK,…", conflicts_with_all = ["no_tracer", "pcap", "two_ends"])]
    without: Option<String>,
    /// Clients and upstreams are far away: each packet takes this many milliseconds to them, and as many back. Fails if
    /// a strong or proven verdict names the wrong party.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    delay: Option<u64>,
    /// Play the faults without a tracer: checks what Nginx logs.
    #[arg(long)]
    no_tracer: bool,
    /// A tracer that is built already.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Play everything this many times, and name what was not the same each time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "json")]
    repeat: u32,
    /// List the scenarios and stop.
    #[arg(long)]
    list: bool,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        scenarios::all().for_each(|scenario| crate::say!("{:<40} {}", scenario.name, scenario.says));
        return Ok(ExitCode::SUCCESS);
    }
    if options.repeat > 1 {
        return repeated(options);
    }
    let rows = play(options)?;
    let failed = rows.iter().filter(|row| !row.passed()).count();
    if options.json {
        crate::say!("{}", report::json(&rows));
    } else {
        report::print(&rows);
        crate::say!("\n{} passed, {failed} failed", rows.len() - failed);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays everything several times.
fn repeated(options: &Options) -> Result<ExitCode> {
    let mut runs = Vec::new();
    for run in 1..=options.repeat {
        let rows = play(options)?;
        crate::say!("run {run}: {} of {} passed", rows.iter().filter(|row| row.passed()).count(), rows.len());
        runs.push(rows);
    }
    repeat::print(&runs);
    let passed = runs.iter().flatten().all(Row::passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything, as the test command runs it; gives how many passed, failed and were skipped.
pub fn test() -> Result<(usize, usize, usize)> {
    let mut rows = play(&Options { jobs: JOBS, ..Options::default() })?;
    rows.extend(play(&with_two_ends())?);
    report::print(&rows);
    let failed = rows.iter().filter(|row| !row.passed()).count();
    Ok((rows.len() - failed, failed, all_seats() - rows.len()))
}

/// What shows in a few seconds that two observers decide more than one.
fn with_two_ends() -> Options {
    let names = [
        "upstream-linger-zero",
        "nat-upstream-resets",
        "forged-near-silent",
        "inject-other-distance",
        "drop-data",
        "drop-answer",
    ];
    let scenario = names.map(str::to_owned).to_vec();
    Options {
        scenario,
        level: Some(Level::Error.name().to_owned()),
        two_ends: true,
        jobs: JOBS,
        ..Options::default()
    }
}

/// Prepares the removal of everything that is put on the machine, and removes what earlier runs left.
pub fn prepare() {
    cleanup::prepare();
    cleanup::leftovers();
}

/// How many results the lab would give.
pub fn count() -> usize {
    all_seats() + 1 // The hostile neighbour.
}

fn all_seats() -> usize {
    let alone: usize = [Level::Error, Level::Info].into_iter().map(|level| seats(&[], level).count()).sum();
    alone + seats(&with_two_ends().scenario, Level::Error).count()
}

fn play(options: &Options) -> Result<Vec<Row>> {
    if !shell::is_root() {
        bail!(
            "the lab lays network namespaces: run it as root, for example `sudo -E env PATH=$PATH cargo xtask lab`"
        );
    }
    let setup = if options.no_tracer { None } else { Some(tracer_setup(options)?) };
    let pcap = setup.as_ref().filter(|_| options.pcap).map(|setup| setup.binary.clone());
    let setup = setup.filter(|_| !options.pcap);
    let schema = Schema::load()?;
    cleanup::prepare();
    cleanup::leftovers();
    let after = After {
        keep: options.keep,
        copy_to: options.records.clone(),
        record_to: options.record.clone(),
        two_ends: options.two_ends,
        lenient: options.without.is_some() || options.delay.is_some(),
        pcap,
    };
    let plans = plans(options)?;
    let run = |plan| bench::run(plan, setup.as_ref(), &schema, &after);
    side_by_side(options.jobs.max(1), plans, |plan| unseen::play(&plan, run))
}

/// The tracer is built unless one is given.
fn tracer_setup(options: &Options) -> Result<Setup> {
    let binary = match options.binary.clone() {
        Some(binary) => binary,
        None => build()?,
    };
    let record = options.record.is_some() || options.two_ends;
    let (format, launcher) = ("json", Vec::new());
    Ok(Setup {
        binary,
        format,
        colour: false,
        include_harmless: true,
        record,
        launcher,
        sizes: "",
        disabled: options.without.clone().unwrap_or_default(),
    })
}

/// Builds the tracer; gives its place.
pub fn build() -> Result<PathBuf> {
    setup::ensure(true)?;
    shell::run(shell::cargo().args(["build", "--quiet", "--release", "--locked", "--package", "rstscope"]))?;
    Ok(project::target().join("release/rstscope"))
}

/// Shares the chosen scenarios out: one bench per level and share, and one for each that wants to be alone.
fn plans(options: &Options) -> Result<Vec<Plan>> {
    let levels = [Level::Error, Level::Info];
    let chosen = |level: &Level| options.level.as_deref().is_none_or(|name| name == level.name());
    let mut groups: Vec<(Level, Option<Duration>, Vec<Seat>)> = Vec::new();
    let delay = options.delay.map(Duration::from_millis);
    for level in levels.into_iter().filter(chosen) {
        let (alone, shared): (Vec<Seat>, Vec<Seat>) =
            seats(&options.scenario, level).filter(playable).partition(|seat| seat.scenario.alone);
        let (far, shared): (Vec<Seat>, Vec<Seat>) = shared.into_iter().partition(|seat| seat.scenario.far);
        let size = shared.len().div_ceil(options.jobs.div_ceil(2)).clamp(1, usize::from(net::SEATS));
        groups.extend(shared.chunks(size).map(|share| (level, delay, share.to_vec())));
        groups.extend(alone.into_iter().map(|seat| (level, delay, vec![seat])));
        groups.extend(far.chunks(FAR_SHARE).map(|share| (level, delay.or(Some(FAR_AWAY)), share.to_vec())));
    }
    // Beside the JSON object, where there is one.
    let tell = if options.json { crate::out::complain } else { crate::out::say };
    skipped(options).for_each(|(name, why)| tell(format_args!("skipped: {name}: {why}")));
    if groups.is_empty() && skipped(options).next().is_none() {
        let patterns = options.scenario.join(",");
        bail!("no scenario matches `{patterns}`; `cargo xtask lab --list` shows them");
    }
    Ok((0..)
        .zip(groups)
        .map(|(number, (level, delay, seats))| Plan { number, level, seats, delay })
        .collect())
}

fn playable(seat: &Seat) -> bool {
    seat.scenario.missing().is_none()
}

/// Chosen scenarios that cannot be played here, and why.
fn skipped(options: &Options) -> impl Iterator<Item = (&'static str, String)> {
    let mut names: Vec<_> = seats(&options.scenario, Level::Error)
        .filter_map(|seat| Some((seat.scenario.name, seat.scenario.missing()?)))
        .collect();
    names.dedup();
    names.into_iter()
}

fn seats(patterns: &[String], level: Level) -> impl Iterator<Item = Seat> {
    let wanted = |name| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, name));
    let chosen = scenarios::all().filter(move |scenario| wanted(scenario.name));
    chosen.flat_map(move |scenario| {
        let seat = move |family| Seat { number: 0, scenario, family, level, namespace: None };
        scenario.families.iter().copied().map(seat)
    })
}

/// The parts between the stars must stand in the name, in order.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = name;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(place) => {
            rest = &rest[place + part.len()..];
            true
        }
        None => false,
    })
}

/// Runs the plans on this many threads. The first error ends the run; what is laid is removed as it unwinds.
fn side_by_side(
    jobs: usize,
    plans: Vec<Plan>,
    run: impl Fn(Plan) -> Result<Vec<Row>> + Sync,
) -> Result<Vec<Row>> {
    let mut results: Vec<Option<Result<Vec<Row>>>> = plans.iter().map(|_| None).collect();
    let work = Mutex::new(plans.into_iter().zip(&mut results));
    let next = || work.lock().ok().and_then(|mut work| work.next());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((plan, result)) = next() {
                    *result = Some(run(plan));
                }
            });
        }
    });
    drop(work);
    let mut rows = Vec::new();
    for result in results {
        rows.extend(result.context("a bench did not run")??);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        assert!(matches("*", "race-fin"));
        assert!(matches("race", "race-fin"));
        assert!(matches("race*lost", "race-fin-lost"));
        assert!(!matches("lost*race", "race-fin-lost"));
        assert!(!matches("forged", "race-fin"));
    }
}
