//! One bench: a network, one Nginx, one tracer, and the scenarios played on them one after the other.
//!
//! A scenario starts while the tracer still thinks about the one before, as on a real host; its addresses
//! tell its records apart from all others. Records are compared when everything has been played.

use super::capture::{self, Capture, Observed};
use super::fixture::Neutral;
use super::judge::{self, Finding};
use super::net::{Family, Network, Node, SEATS};
use super::nginx::{Instance, Level, Nginx};
use super::scenario::{Loss, Scenario, View};
use super::schema::Schema;
use super::seat::Seat;
use super::stage::{Stage, Truth};
use super::tracer::{self, Setup, Tracer};
use super::{inherited, kernel, quiet, report, two_ends, unseen, wait};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From the end of the last scenario until every expected record must be there.
pub const PATIENCE: Duration = Duration::from_secs(12);
/// From the end of a driver until its log line must be there.
const LOG_PATIENCE: Duration = Duration::from_secs(3);

/// Ends the line that Nginx writes at `info` for every kept-alive client that closes in order.
const ORDERLY_END: &str = "closed keepalive connection";

/// What a bench is laid with.
#[derive(Clone)]
pub struct Plan {
    /// Number of the bench in this run.
    pub number: usize,
    /// Level of its error log.
    pub level: Level,
    /// What is played, in order.
    pub seats: Vec<Seat>,
    /// How long a packet takes over the link to the clients, and over that to the upstreams.
    pub delay: Option<Duration>,
}

impl Plan {
    /// A name for its files: what they are, and its scenario, or a number where it has several.
    fn name(&self, kind: &str) -> String {
        let level = self.level.name();
        match self.seats.as_slice() {
            [seat] => format!("{kind}-{}-{}-{level}", seat.scenario.name, seat.family.name()),
            _ if self.delay.is_some() => format!("{kind}-far-{:02}-{level}", self.number),
            _ => format!("{kind}-{:02}-{level}", self.number),
        }
    }
}

/// What becomes of a bench when everything was played.
#[derive(Debug, Default)]
pub struct After {
    /// It stays until Ctrl-C.
    pub keep: bool,
    /// Its files are copied there.
    pub copy_to: Option<PathBuf>,
    /// Its recording and its verdicts are copied there.
    pub record_to: Option<PathBuf>,
    /// A second tracer looks on at the upstreams' host, and both recordings are judged together.
    pub two_ends: bool,
    /// Hooks are missing that the ground truth counts on, or everything is farther away than the scenarios were made
    /// for: only what is said for sure is held against it.
    pub lenient: bool,
    /// It is captured, and this program judges the capture.
    pub pcap: Option<PathBuf>,
}

/// Result of one seat.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name of the scenario.
    pub name: &'static str,
    /// Family.
    pub family: Family,
    /// Level of the error log.
    pub level: Level,
    /// What was expected and what came.
    pub findings: Vec<Finding>,
    /// What went wrong beside the findings: the driver, the log, the schema.
    pub troubles: Vec<String>,
    /// The kernel counted something on this bench for which it ran no hook.
    pub unseen: bool,
    /// It was played a second time for that.
    pub again: bool,
}

impl Row {
    /// Is everything as it should be?
    pub fn passed(&self) -> bool {
        self.troubles.is_empty() && self.findings.iter().all(|finding| finding.differences.is_empty())
    }
}

/// A laid network with its Nginx.
pub struct Bench {
    // Fields are dropped in this order: Nginx ends before its namespace goes.
    /// The Nginx under observation.
    pub nginx: Nginx,
    /// The namespaces.
    pub network: Network,
}

impl Bench {
    /// Lays the network and starts Nginx with the listeners of every seat.
    pub fn lay(plan: &mut Plan) -> Result<Self> {
        if plan.seats.len() > usize::from(SEATS) {
            bail!("{} scenarios on one bench, more than {SEATS}", plan.seats.len());
        }
        let network = Network::lay(plan.number, plan.delay)?;
        let namespace = kernel::namespace_inode(&network.name(Node::Web));
        for (number, seat) in (0..).zip(&mut plan.seats) {
            (seat.number, seat.namespace) = (number, namespace);
        }
        let listeners: Vec<SocketAddr> = plan.seats.iter().map(Seat::listener).collect();
        let servers = |root: &str| plan.seats.iter().map(|seat| seat.servers(root)).collect();
        let by_mptcp = plan.seats.iter().filter(|seat| seat.scenario.mptcp).map(Seat::listener);
        let by_mptcp = by_mptcp.map(|address| inherited::mptcp_listener(&network, address));
        let by_mptcp = by_mptcp.collect::<Result<Vec<_>>>()?;
        let nginx =
            Nginx::start(&network, Instance::web(plan.number, plan.level), servers, &listeners, &by_mptcp)?;
        Ok(Self { nginx, network })
    }

    /// Arguments of the tracer: what it sees, and what the scenarios want beside that.
    pub fn arguments(&self, plan: &Plan) -> Vec<String> {
        let whole = plan.seats.iter().any(|seat| seat.scenario.view == View::WholeHost);
        let (flag, value) = if whole {
            ("--pid", self.nginx.master().to_string())
        } else {
            ("--netns", format!("/run/netns/{}", self.network.name(Node::Web)))
        };
        let view = [flag.to_owned(), value].into_iter();
        view.chain(plan.seats.iter().flat_map(Seat::arguments)).collect()
    }

    /// What has to be there before the tracer.
    fn before<'a>(&'a self, plan: &'a Plan) -> Result<Option<Stage<'a>>> {
        let older = plan.seats.iter().find_map(|seat| Some((seat, seat.scenario.before?)));
        let Some((seat, before)) = older else { return Ok(None) };
        let mut stage = Stage::set(self, seat)?;
        before(&mut stage)?;
        Ok(Some(stage))
    }

    /// Plays one scenario, on a stage that may be set already, and looks at the log it left; gives the truth and what went wrong.
    pub fn play(&self, seat: &Seat, prepared: Option<Stage<'_>>) -> (Truth, Vec<String>) {
        let mut troubles = Vec::new();
        let mut truth = Truth::default();
        match prepared.map_or_else(|| Stage::set(self, seat), Ok) {
            Ok(mut stage) => {
                let _disturbing = seat.scenario.host_wide.then(quiet::disturb);
                if let Err(error) = (seat.scenario.drive)(&mut stage) {
                    troubles.push(format!("the scenario did not come about: {error:#}"));
                }
                truth = stage.truth.clone();
            }
            Err(error) => troubles.push(format!("the stage could not be set: {error:#}")),
        }
        if troubles.is_empty() {
            troubles.extend(self.check_log(seat));
        }
        (truth, troubles)
    }

    /// The line of the ground truth must appear, and at a silent level none may.
    fn check_log(&self, seat: &Seat) -> Option<String> {
        let client = seat.client().to_string();
        let notable = |line: &&str| names(line, &client) && !line.ends_with(ORDERLY_END);
        let lines = || self.nginx.log().lines().filter(notable).collect::<Vec<_>>().join(" | ");
        if let Some(wanted) = seat.scenario.log.at(seat.level) {
            let seen = wait::until("the log line", LOG_PATIENCE, || lines().contains(wanted).then_some(()));
            return seen.is_err().then(|| format!("nginx did not log `{wanted}` but `{}`", lines()));
        }
        let silent = seat.scenario.log.silent_at(seat.level);
        (silent && !lines().is_empty()).then(|| format!("nginx was to log nothing but logged `{}`", lines()))
    }
}

/// Does the line name this client, and not one whose address only begins alike?
fn names(line: &str, client: &str) -> bool {
    line.match_indices(client).any(|(place, _)| {
        let next = line[place + client.len()..].chars().next();
        !next.is_some_and(|next| next.is_ascii_hexdigit() || next == '.' || next == ':')
    })
}

/// Plays a whole plan with a tracer, or without one to see that the faults are real.
pub fn run(mut plan: Plan, setup: Option<&Setup>, schema: &Schema, after: &After) -> Result<Vec<Row>> {
    let bench = Bench::lay(&mut plan)?;
    let _quiet = plan.seats.iter().any(|seat| seat.scenario.expects_silence()).then(quiet::keep);
    let loss = plan.seats.iter().find_map(|seat| seat.scenario.loss);
    let disabled = plan.seats.iter().map(|seat| seat.scenario.disabled).find(|it| !it.is_empty());
    let setup = setup.map(|setup| Setup {
        sizes: loss.map_or("", |loss| loss.sizes),
        disabled: disabled.map_or_else(|| setup.disabled.clone(), str::to_owned),
        ..setup.clone()
    });
    let mut older = bench.before(&plan)?;
    let start = |setup| Tracer::start(setup, &bench.arguments(&plan), bench.nginx.folder(), None);
    let tracer = setup.as_ref().map(start).transpose()?;
    let second = setup.as_ref().filter(|_| after.two_ends);
    let observe = |setup| two_ends::observe(&bench.network, setup, bench.nginx.folder());
    let second = second.map(observe).transpose()?;
    let capture = |node, name| Capture::start(&bench.network, node, bench.nginx.folder(), name);
    let captures = match after.pcap {
        Some(_) => Some([
            capture(Node::Web, "web.pcap")?,
            capture(Node::Upstream, "upstream.pcap")?,
            capture(Node::Client, "client.pcap")?,
        ]),
        None => None,
    };
    let mut played = Vec::new();
    for seat in &plan.seats {
        let frozen = tracer.as_ref().filter(|_| loss.is_some_and(|loss| loss.frozen));
        let _frozen = frozen.map(Tracer::freeze).transpose()?;
        played.push(bench.play(seat, older.take()));
        if super::cleanup::interrupted() {
            bail!("interrupted");
        }
    }
    if let (Some(captures), Some(binary)) = (captures, &after.pcap) {
        return captured(&plan, &played, captures, binary, &bench, after);
    }
    let Some(tracer) = tracer else { return Ok(without_records(&plan, played)) };
    let file = tracer.records_file();
    let (records, stats) = collect(&plan, &played, tracer)?;
    if let (Some(second), Some(setup)) = (second, &setup) {
        wait::pass(two_ends::LINGER)?;
        second.stop().context("the second tracer")?;
        let records = two_ends::judged(&setup.binary, bench.nginx.folder())?;
        if let Some(folder) = &after.copy_to {
            two_ends::copy(bench.nginx.folder(), folder, plan.number)?;
        }
        record_to(&plan, two_ends::judgement(bench.nginx.folder()), "two-ends", after)?;
        return Ok(two_ends::rows(&plan, &played, &records));
    }
    let rows = if after.lenient {
        capture::rows(&plan, &played, &records, Observed::AtNginx)
    } else {
        rows(&plan, played, &records, &stats, schema)
    };
    if let Some(folder) = &after.copy_to {
        copy_files(bench.nginx.folder(), folder, plan.number)?;
    }
    record_to(&plan, (bench.nginx.folder().join(tracer::RECORDING), file), "lab", after)?;
    if after.keep {
        report::print(&rows);
        crate::say!("\nkept until Ctrl-C: {} and its namespaces", bench.nginx.folder().display());
        drop(wait::pass(Duration::from_hours(24)));
    }
    Ok(rows)
}

/// What the captures say, once the last packets have come.
fn captured(
    plan: &Plan,
    played: &[(Truth, Vec<String>)],
    captures: [Capture; 3],
    binary: &Path,
    bench: &Bench,
    after: &After,
) -> Result<Vec<Row>> {
    wait::pass(Duration::from_secs(1))?;
    let files = captures.into_iter().map(Capture::stop).collect::<Result<Vec<_>>>()?;
    let log = bench.nginx.folder().join("error.log");
    if let Some(folder) = &after.copy_to {
        std::fs::create_dir_all(folder)?;
        for file in files.iter().chain([&log]) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            std::fs::copy(file, folder.join(format!("{}-{name}", plan.number)))?;
        }
    }
    let [web, upstream, client] = [&files[0], &files[1], &files[2]].map(PathBuf::as_path);
    let ends: &[(&str, &[&Path])] = if after.two_ends {
        &[("captures", &[web, upstream]), ("captures-client", &[web, client])]
    } else {
        &[("capture", &[web]), ("capture-at-upstream", &[upstream]), ("capture-at-client", &[client])]
    };
    let mut rows = Vec::new();
    for (name, files) in ends {
        let records = capture::judged(binary, files, &log, plan)?;
        record_to(plan, capture::judgement(bench.nginx.folder()), name, after)?;
        let place = match files {
            [_, _] => Observed::AtBoth,
            [place] if *place == web => Observed::AtNginx,
            _ => Observed::Elsewhere,
        };
        rows.extend(capture::rows(plan, played, &records, place));
    }
    Ok(rows)
}

/// Keeps a recording and its verdicts as a fixture, if that was asked for.
fn record_to(
    plan: &Plan,
    (recording, verdicts): (PathBuf, PathBuf),
    kind: &str,
    after: &After,
) -> Result<()> {
    let Some(folder) = &after.record_to else { return Ok(()) };
    Neutral::here().copy(&recording, &verdicts, folder, &plan.name(kind))
}

fn copy_files(from: &Path, to: &Path, bench: usize) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for file in ["verdicts.ndjson", "stats.json", "error.log"] {
        let target = to.join(format!("{bench}-{file}"));
        std::fs::copy(from.join(file), &target)
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    Ok(())
}

fn without_records(plan: &Plan, played: Vec<(Truth, Vec<String>)>) -> Vec<Row> {
    plan.seats.iter().zip(played).map(|(seat, (_, troubles))| row(seat, Vec::new(), troubles)).collect()
}

/// The result of a seat.
pub fn row(seat: &Seat, findings: Vec<Finding>, troubles: Vec<String>) -> Row {
    let (name, family, level) = (seat.scenario.name, seat.family, seat.level);
    Row { name, family, level, findings, troubles, unseen: false, again: false }
}

/// Is there a record for everything this scenario expects?
pub fn is_complete(seat: &Seat, truth: &Truth, records: &[Value]) -> bool {
    let ours: Vec<&Value> = records.iter().filter(|record| judge::concerns(record, seat)).collect();
    judge::compare(seat, truth, &ours).iter().all(|found| found.party != "none")
}

/// Waits until every expected record is there, ends the tracer, and gives all it wrote.
fn collect(plan: &Plan, played: &[(Truth, Vec<String>)], tracer: Tracer) -> Result<(Vec<Value>, Value)> {
    let complete = |records: &[Value]| {
        let mut results = plan.seats.iter().zip(played);
        results.all(|(seat, (truth, troubles))| !troubles.is_empty() || is_complete(seat, truth, records))
    };
    // A record that does not come is a finding of its scenario, not an error of the bench.
    drop(wait::until("every expected record", PATIENCE, || {
        tracer.records().is_ok_and(|records| complete(&records)).then_some(())
    }));
    let file = tracer.records_file();
    let stats = tracer.stop().context("the tracer")?;
    Ok((tracer::read_records(&file)?, stats))
}

/// Compares everything that was played with everything that was recorded.
pub fn rows(
    plan: &Plan,
    played: Vec<(Truth, Vec<String>)>,
    records: &[Value],
    stats: &Value,
    schema: &Schema,
) -> Vec<Row> {
    let mut rows: Vec<Row> = plan
        .seats
        .iter()
        .zip(played)
        .map(|(seat, (truth, mut troubles))| {
            let ours: Vec<&Value> = records.iter().filter(|record| judge::concerns(record, seat)).collect();
            troubles.extend(ours.iter().flat_map(|record| schema.complaints(record)));
            if let Some(loss) = seat.scenario.loss {
                troubles.extend(lost(stats, loss));
                troubles.extend(untold_losses(&ours));
                return row(seat, Vec::new(), troubles);
            }
            if seat.scenario.expects_silence() {
                troubles.extend(silence(seat.scenario, stats, &ours));
            }
            row(seat, judge::compare(seat, &truth, &ours), troubles)
        })
        .collect();
    let expected = |seat: &Seat, record: &Value| {
        judge::concerns(record, seat)
            || (seat.scenario.view == View::WholeHost && judge::is_elsewhere(record, seat))
    };
    let strays = records.iter().filter(|record| !plan.seats.iter().any(|seat| expected(seat, record)));
    let compared = plan.seats.iter().all(|seat| seat.scenario.loss.is_none());
    if let Some(last) = rows.last_mut().filter(|_| compared) {
        last.troubles.extend(strays.map(|record| format!("a record of no scenario: {record}")));
    }
    let unseen = unseen::is_in(stats);
    rows.into_iter().map(|row| Row { unseen, ..row }).collect()
}

/// What was made to be lost is counted.
fn lost(stats: &Value, loss: Loss) -> Option<String> {
    let losses = &stats["losses"];
    let counted = losses[loss.counted].as_u64().unwrap_or(0);
    (counted == 0).then(|| format!("nothing of `{}` was counted as lost: {losses}", loss.counted))
}

/// Verdicts that were given amid losses and do not say so. One that stands alone came when the storm was over: a client
/// whose SYN was dropped comes again a second later, and then nothing is lost around it.
fn untold_losses(records: &[&Value]) -> Vec<String> {
    let times: Vec<f64> = records.iter().map(|record| second_of_day(record)).collect();
    let is_alone = |at: f64| times.iter().filter(|other| (*other - at).abs() < 0.5).count() == 1;
    let amid = records.iter().zip(&times).filter(|(_, at)| !is_alone(**at));
    amid.filter_map(|(record, _)| untold_loss(record)).collect()
}

/// Of `2026-01-31T23:59:59.999Z`; zero where a record has no time.
fn second_of_day(record: &Value) -> f64 {
    let time = record["time"].as_str().and_then(|time| time.get(11..)).unwrap_or_default();
    let parts = time.trim_end_matches('Z').split(':');
    parts.fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap_or(0.0))
}

/// A verdict that was given amid losses says so.
fn untold_loss(record: &Value) -> Option<String> {
    let missing = record["missing"].as_array().into_iter().flatten();
    let told =
        missing.map(|missing| &missing["code"]).any(|code| code == "events_lost" || code == "table_full");
    (!told).then(|| format!("a verdict that says nothing of the losses: {record}"))
}

/// Healthy traffic, and what was not selected, sends nothing through the ring. Where the machine was so slow that
/// segments were sent again, the traffic was not healthy, and its traces may be told, though no verdict; so may RSTs
/// that the kernel sent amid healthy traffic, for a segment that came while its connection moved from table to table.
fn silence(scenario: &Scenario, stats: &Value, records: &[&Value]) -> Option<String> {
    let rows = || stats["reconciliation"].as_array().into_iter().flatten();
    let counted = |name: &str| {
        rows().find(|row| row["counter"] == name).and_then(|row| row["kernel"].as_u64()).unwrap_or(0)
    };
    let sent = stats["ring_records"].as_u64();
    let only_resets = scenario.is_healthy() && sent == Some(counted("TcpOutRsts"));
    if sent == Some(0) || (records.is_empty() && (counted("TcpRetransSegs") > 0 || only_resets)) {
        return None;
    }
    let told: Vec<String> = records.iter().map(|record| record["summary"].to_string()).collect();
    let counted: Vec<String> = rows().map(|row| format!("{} {}", row["counter"], row["kernel"])).collect();
    Some(format!(
        "the kernel side sent {sent:?} records, and there was nothing to tell; verdicts: {}; the kernel counted: {}",
        told.join(", "),
        counted.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn an_address_that_only_begins_alike_is_another_client() {
        assert!(names("client: 10.77.0.1, server", "10.77.0.1"));
        assert!(names("client 10.77.0.1 closed", "10.77.0.1"));
        assert!(!names("client: 10.77.0.11, server", "10.77.0.1"));
        assert!(!names("client: fd00:77::1a, server", "fd00:77::1"));
    }
}
