//! Two observers: the tracer beside Nginx and one on the host of the upstreams, each with a recording of its own, and
//! what `rstscope correlate` makes of both. What it says for sure must be right for every scenario; and for some, the
//! second recording must raise or overturn what the first says alone.

use super::bench::{Plan, Row};
use super::capture::{self, Observed};
use super::fixture::Neutral;
use super::judge;
use super::net::{Network, Node};
use super::stage::Truth;
use super::tracer::{self, RECORDING, Setup, Tracer};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where upstreams of the lab listen.
const PORTS: &str = "8080,8081";
/// Folder of the second observer, in that of the bench.
const FOLDER: &str = "upstream";

/// What is missing in the second recording counts only if it goes on behind the failure for longer than a look at the
/// connections, and than the clocks may be apart.
pub const LINGER: Duration = Duration::from_secs(4);

/// What has to follow from both recordings: scenario, cause, certainty, and whose evidence.
const DECIDED: &[(&str, &str, &str, &str)] = &[
    // Really sent by the upstream's application.
    ("upstream-linger-zero", "upstream_abort", "proven", "peer_process_reset"),
    ("upstream-close-unread", "upstream_abort", "proven", "peer_process_reset"),
    ("upstream-killed-unread", "upstream_process_exit", "proven", "peer_process_exit"),
    ("upstream-refused", "upstream_refused", "proven", "peer_no_socket"),
    // The same through addresses that were translated on the way.
    ("nat-upstream-resets", "upstream_abort", "proven", "peer_process_reset"),
    // Forged between the two.
    ("forged-near-silent", "middlebox_forged_reset", "proven", "not_sent"),
    // One hop nearer may also be another way of the upstream's own packets.
    ("inject-other-distance", "middlebox_forged_reset", "strong", "not_sent"),
    // Lost between the two.
    ("drop-data", "middlebox_drop", "proven", "never_arrived"),
    ("drop-data-others-healthy", "middlebox_drop", "proven", "never_arrived"),
    ("drop-syn-others-healthy", "middlebox_drop", "strong", "never_arrived"),
    ("drop-answer", "middlebox_drop", "proven", "answer_lost"),
];

/// Starts the observer on the host of the upstreams.
pub fn observe(network: &Network, setup: &Setup, folder: &Path) -> Result<Tracer> {
    let folder = folder.join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    let namespace = format!("--net=/run/netns/{}", network.name(Node::Upstream));
    // Not `ip netns exec`, which hides the control groups.
    let launcher = vec!["nsenter".to_owned(), namespace];
    let setup = Setup { record: true, launcher, ..setup.clone() };
    Tracer::start(&setup, &["--listen-port".to_owned(), PORTS.to_owned()], &folder, None)
}

/// Judges both recordings.
pub fn judged(binary: &Path, folder: &Path) -> Result<Vec<Value>> {
    let mut command = Command::new(binary);
    let (recording, verdicts) = judgement(folder);
    command.arg("correlate").arg(folder.join(RECORDING)).arg(folder.join(FOLDER).join(RECORDING));
    command.arg("--record").arg(recording);
    let out = command.args(["--format", "json", "--include-harmless"]).output();
    let out = out.with_context(|| format!("cannot start {}", binary.display()))?;
    let said = String::from_utf8_lossy(&out.stderr);
    said.lines().filter(|line| line.contains("clock") || line.contains("raised")).for_each(|line| {
        crate::say!("{line}");
    });
    if !out.status.success() {
        bail!("rstscope correlate ended with {}: {said}", out.status);
    }
    std::fs::write(verdicts, out.stdout)?;
    tracer::read_records(&judgement(folder).1)
}

/// Where the recording of both together is, and what was said of it.
pub fn judgement(folder: &Path) -> (PathBuf, PathBuf) {
    let folder = folder.join(FOLDER);
    (folder.join("together.rec"), folder.join("together.ndjson"))
}

/// Copies both recordings, without what only says on which machine they were made.
pub fn copy(from: &Path, to: &Path, bench: usize) -> Result<()> {
    let neutral = Neutral::here();
    neutral.copy_recording(&from.join(RECORDING), &to.join(format!("{bench}-nginx.rec")))?;
    neutral.copy_recording(&from.join(FOLDER).join(RECORDING), &to.join(format!("{bench}-upstream.rec")))
}

/// One row per seat: what is said for sure beside the ground truth, and what had to be decided.
pub fn rows(plan: &Plan, played: &[(Truth, Vec<String>)], records: &[Value]) -> Vec<Row> {
    let mut rows = capture::rows(plan, played, records, Observed::AtBoth);
    for row in &mut rows {
        let seat = plan.seats.iter().find(|it| it.scenario.name == row.name && it.family == row.family);
        let Some(seat) = seat else { continue };
        let ours: Vec<&Value> = records.iter().filter(|record| judge::concerns(record, seat)).collect();
        // A long way makes the clocks uncertain, and the devices that carry the frames make tracers lose events.
        let wanted = DECIDED.iter().filter(|(name, ..)| plan.delay.is_none() && *name == row.name);
        row.troubles.extend(wanted.filter_map(|(_, cause, certainty, code)| {
            let fits = |record: &&&Value| {
                record["cause"] == *cause
                    && record["certainty"] == *certainty
                    && record["evidence"].to_string().contains(&format!("\"{code}\""))
            };
            let missing = !ours.iter().any(|record| fits(&record));
            missing.then(|| format!("both recordings do not give {cause}, {certainty} by {code}"))
        }));
    }
    rows
}
