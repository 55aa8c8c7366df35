//! The capture of a bench: tcpdump beside Nginx and beside the upstreams while the scenarios are played, and
//! what `rstscope pcap` makes of it. A capture cannot decide everything; what it says for sure must be right.

use super::bench::{self, Plan, Row};
use super::cleanup::{self, Action, Guard};
use super::judge::{self, Finding};
use super::net::{Network, Node};
use super::scenario::Certainty;
use super::stage::Truth;
use super::{nginx, tracer, wait};
use crate::shell;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Bytes of each packet; headers and the beginning of a request.
const SNAPLEN: &str = "400";

/// A running tcpdump.
pub struct Capture {
    child: Child,
    guard: Option<Guard>,
    lines: Receiver<String>,
    /// What it writes.
    pub file: PathBuf,
}

impl Capture {
    /// Starts it on every interface of a node and waits until it captures.
    pub fn start(network: &Network, node: Node, folder: &Path, name: &str) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let file = folder.join(name);
        let mut command = network.inside(node, shell::need("tcpdump")?);
        command.args([
            "-Z",
            "root",
            "-i",
            "any",
            "-U",
            "--immediate-mode",
            "-B",
            "8192",
            "-s",
            SNAPLEN,
            "-w",
        ]);
        command.arg(&file).arg("tcp or icmp or icmp6");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start tcpdump")?;
        let guard = Some(cleanup::later(Action::Kill(child.id())));
        let stderr = child.stderr.take().context("tcpdump without stderr")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let listens = || lines.try_iter().any(|line: String| line.contains("listening on")).then_some(());
        wait::until("tcpdump captures", wait::SOON, listens)?;
        Ok(Self { child, guard, lines, file })
    }

    /// Ends it; the file is whole then.
    pub fn stop(mut self) -> Result<PathBuf> {
        nginx::signal(self.child.id(), Signal::INT)?;
        wait::until("tcpdump ends", wait::SOON, || self.child.try_wait().ok().flatten())?;
        if let Some(guard) = self.guard.take() {
            guard.forget();
        }
        let dropped = self.lines.iter().find(|line| line.ends_with("dropped by kernel"));
        if let Some(line) = dropped.filter(|line| !line.starts_with("0 ")) {
            crate::say!("tcpdump: {line}");
        }
        Ok(self.file.clone())
    }
}

/// What `rstscope pcap` says of the capture and the log of a bench, or `rstscope correlate` of captures of both ends.
pub fn judged(binary: &Path, captures: &[&Path], log: &Path, plan: &Plan) -> Result<Vec<Value>> {
    let mut command = Command::new(binary);
    let (recording, verdicts) = judgement(log.parent().context("a log without a folder")?);
    command.arg(if captures.len() > 1 { "correlate" } else { "pcap" }).args(captures);
    command.arg("--error-log").arg(log).arg("--record").arg(recording);
    command.args(["--format", "json", "--include-harmless"]);
    for seat in &plan.seats {
        command.args(["--nginx", &seat.listener().to_string(), "--upstream", &seat.upstream().to_string()]);
    }
    let out = command.output().with_context(|| format!("cannot start {}", binary.display()))?;
    if !out.status.success() {
        bail!("rstscope ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    std::fs::write(&verdicts, out.stdout)?;
    tracer::read_records(&verdicts)
}

/// Where the recording of what was judged is, and what was said of it.
pub fn judgement(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("captures.rec"), folder.join("captures.ndjson"))
}

/// Where something was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// On the host of Nginx.
    AtNginx,
    /// At another end of the connections.
    Elsewhere,
    /// At both ends.
    AtBoth,
}

/// One row per seat: what was observed says beside the ground truth. Wrong is only what it says for sure.
pub fn rows(plan: &Plan, played: &[(Truth, Vec<String>)], records: &[Value], place: Observed) -> Vec<Row> {
    // The truth of a scenario with flags of its own is what these flags leave over.
    let seats = plan
        .seats
        .iter()
        .zip(played)
        .filter(|(seat, _)| seat.scenario.arguments.is_empty() && seat.scenario.loss.is_none());
    seats
        .map(|(seat, (_, troubles))| {
            let ours = records.iter().filter(|record| judge::concerns(record, seat));
            let parties: Vec<&str> = seat.expected().iter().map(|expect| expect.party).collect();
            let others = match place {
                Observed::AtNginx => &[],
                Observed::Elsewhere => seat.scenario.elsewhere,
                Observed::AtBoth => seat.scenario.with_both,
            };
            bench::row(seat, findings(&parties, others, ours), troubles.clone())
        })
        .collect()
}

fn findings<'a>(parties: &[&str], others: &[&str], records: impl Iterator<Item = &'a Value>) -> Vec<Finding> {
    let told: Vec<Finding> = records
        .filter(|record| record["impact"] != "harmless")
        .map(|record| finding(parties, others, record))
        .collect();
    let missing = |party: &&&str| !told.iter().any(|finding| finding.wanted == **party);
    let silent: Vec<Finding> = parties.iter().filter(missing).map(|party| nothing(party)).collect();
    told.into_iter().chain(silent).collect()
}

fn finding(parties: &[&str], others: &[&str], record: &Value) -> Finding {
    let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let (party, certainty) = (text("party"), text("certainty"));
    let right = parties.iter().chain(others).any(|right| *right == party);
    let sure = Certainty::parse(&certainty).is_some_and(|certainty| certainty >= Certainty::Strong);
    let wanted = if right { party.clone() } else { parties.first().copied().unwrap_or("none").to_owned() };
    let differences =
        if sure && !right { vec![format!("surely wrong: {}", text("summary"))] } else { Vec::new() };
    Finding { wanted, party, cause: text("cause"), certainty, differences }
}

fn nothing(party: &str) -> Finding {
    Finding {
        wanted: party.to_owned(),
        party: "none".to_owned(),
        cause: String::new(),
        certainty: String::new(),
        differences: Vec::new(),
    }
}
