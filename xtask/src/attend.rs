//! The daemon under the conditions of a long life, on a real kernel with a real Nginx: started before it, reloaded,
//! starved of disk, killed, and started again. Part of `cargo xtask test` (root).
//!
//! Everything happens in network and mount namespaces of its own, which end with the process that plays it.

mod daemon;
pub mod flood;
mod nginx;
mod receiver;
pub mod soak;
pub mod volume;

use crate::suite::Count;
use crate::{project, shell};
use anyhow::{Context, Result, bail, ensure};
use daemon::{Daemon, ask, notice_id};
use nginx::Nginx;
use receiver::Receiver;
use soak::{kernel_counter, metric_value};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Name of the check in the count.
pub const NAME: &str = "the daemon lives through reloads, a full disk and kill -9";
/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);
/// Size of the file system that the store gets.
const DISK: &str = "size=8m";

/// Options of every command that plays in network and mount namespaces of its own.
#[derive(clap::Args, Debug, Default)]
pub struct Namespaces {
    /// A program that is built already.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Inside the namespaces: the folder to work in.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// Plays everything, or says why not.
pub fn test() -> Count {
    let mut count = Count::default();
    if !shell::is_root() {
        crate::say!("the daemon's check is skipped: needs root");
        count.skipped += 2;
        return count;
    }
    count.add_one(NAME, Namespaces::default().again("attend", &["attend"]));
    count.add_one(soak::NAME, soak::short());
    count
}

impl Namespaces {
    /// Inside the namespaces it plays, with the folder to work in and the program; outside, this program is run again
    /// inside, with these words.
    fn run(
        &self,
        name: &str,
        words: &[&str],
        play: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<ExitCode> {
        match (&self.inside, &self.binary) {
            (Some(folder), Some(binary)) => {
                loopback_up()?;
                play(folder, binary)?;
            }
            _ => self.again(name, words)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs this program again in namespaces of its own. The folder to work in, which has that name, stays when it fails.
    fn again(&self, name: &str, words: &[&str]) -> Result<()> {
        ensure!(shell::is_root(), "needs root");
        let binary = self.binary.clone().map_or_else(build, Ok)?;
        let binary = std::fs::canonicalize(&binary).with_context(|| format!("no {}", binary.display()))?;
        let folder = std::env::temp_dir().join(format!("rstscope-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("state"))?;
        let ours = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private"]).arg(ours).args(words);
        let played = shell::run(command.arg("--binary").arg(binary).arg("--inside").arg(&folder));
        if played.is_ok() {
            std::fs::remove_dir_all(&folder)?;
        }
        played.with_context(|| format!("what was left is in {}", folder.display()))
    }
}

/// The release build, as it is shipped.
fn build() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--quiet", "--release", "--locked", "--package", "rstscope"]))?;
    Ok(project::target().join("release/rstscope"))
}

/// Runs the sub-command.
pub fn run(namespaces: &Namespaces) -> Result<ExitCode> {
    namespaces.run("attend", &["attend"], play)
}

fn play(folder: &Path, binary: &Path) -> Result<()> {
    let state = folder.join("state");
    shell::run(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(&state))?;
    let receiver = Receiver::start()?;
    let mut daemon = Daemon::start(binary, folder)?;
    let steps: [(&str, Step); 11] = [
        ("it is ready and says that it waits, before there is an Nginx", ready_before_nginx),
        ("privileges are given up", privileges),
        ("verdicts are stored, told and counted, hostile strings included", verdicts),
        ("the webhook and the command are told, hostile strings as data", notices),
        ("a collector that was busy gets everything, after a kill -9 in between", export),
        ("a reload, a restart and an upgrade of Nginx are followed", nginx_changes),
        ("the configuration is read again; a wrong one changes nothing", reload),
        ("a full disk stops nothing, and nothing is lost", full_disk),
        (
            "what happens while it is frozen is told once when it goes on, and counted as the kernel does",
            frozen,
        ),
        ("kill -9 loses nothing that was told", killed),
        ("it ends in order, and the store has what a report needs", ended),
    ];
    let mut others = Others { nginx: Nginx::new(folder)?, receiver };
    for (name, step) in steps {
        step(&mut daemon, &mut others).with_context(|| name.to_owned())?;
        crate::say!("  ok {name}");
    }
    Ok(())
}

fn loopback_up() -> Result<()> {
    shell::run(Command::new("ip").args(["link", "set", "lo", "up"]))
}

type Step = fn(&mut Daemon, &mut Others) -> Result<()>;

/// What the daemon lives with.
struct Others {
    nginx: Nginx,
    receiver: Receiver,
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + SOON;
    while !condition()? {
        ensure!(Instant::now() < end, "{what}: not within {} s", SOON.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn ready_before_nginx(daemon: &mut Daemon, others: &mut Others) -> Result<()> {
    until("READY=1 came", || Ok(daemon.notified("READY=1")))?;
    until("a sign of life came", || Ok(daemon.notified("WATCHDOG=1")))?;
    until("the status says it waits", || Ok(daemon.notified("STATUS=waiting for an Nginx")))?;
    others.nginx.start()?;
    until("Nginx is found", || Ok(daemon.notified("STATUS=watching 1 Nginx master")))?;
    ensure!(ask("/healthz")?.starts_with("HTTP/1.1 200"), "not healthy");
    ensure!(ask("/readyz")?.starts_with("HTTP/1.1 200"), "not ready");
    Ok(())
}

/// The bits of `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE` and, on older kernels, `CAP_BPF`.
const MAY_BE_KEPT: u64 = 1 << 2 | 1 << 19 | 1 << 39;

fn privileges(daemon: &mut Daemon, _others: &mut Others) -> Result<()> {
    for (thread, permitted, no_new_privileges) in daemon.threads()? {
        ensure!(no_new_privileges, "{thread} may gain privileges");
        ensure!(permitted & !MAY_BE_KEPT == 0, "{thread} keeps {permitted:#x}");
        let watches = !["store", "serve", "journa", "patter", "webhoo", "comman", "otlp"]
            .iter()
            .any(|name| thread.contains(name));
        ensure!(watches || permitted == 0, "{thread} keeps {permitted:#x} and needs nothing");
    }
    Ok(())
}

fn verdicts(daemon: &mut Daemon, _others: &mut Others) -> Result<()> {
    daemon.tail()?;
    Nginx::fail("/plain")?;
    Nginx::fail("/hostile?=HYPERLINK(1)\u{202e}\"'--")?;
    until("two verdicts were told", || Ok(daemon.told()?.len() >= 2))?;
    let csv = daemon.query(&["--format", "csv"])?;
    let text = daemon.query(&[])?;
    ensure!(text.contains("upstream_refused"), "not in the store: {text}");
    for shown in [csv, text] {
        let control = |c: char| c.is_control() && !['\n', '\r'].contains(&c);
        ensure!(!shown.contains(|c| control(c) || c == '\u{202e}'), "unsafe: {shown:?}");
    }
    let counted = "rstscope_incidents_total{party=\"upstream\",cause=\"upstream_refused\"";
    until("the metrics count them", || Ok(ask("/metrics")?.contains(counted)))
}

fn notices(daemon: &mut Daemon, others: &mut Others) -> Result<()> {
    let told = daemon.told()?;
    let webhook =
        || others.receiver.taken("/hook").iter().map(|body| notice_id(body)).collect::<Result<Vec<_>>>();
    until("the webhook was told of everything", || Ok(includes(&webhook()?, &told)))?;
    until("the command was told of everything", || Ok(includes(&daemon.commanded()?, &told)))?;
    let lost = |line: &str| line.starts_with("rstscope_notices_lost_total") && !line.ends_with(" 0");
    ensure!(!ask("/metrics")?.lines().any(lost), "a notice was lost");
    // One that cannot be reached is counted, and the journal has it.
    others.receiver.answer_notices(404);
    Nginx::fail("/nobody-hears")?;
    until("a refused notice is counted", || Ok(ask("/metrics")?.lines().any(lost)))?;
    until("it is said", || {
        Ok(daemon.log().contains("webhook: a notice did not arrive: the receiver answered 404"))
    })?;
    others.receiver.answer_notices(200);
    Ok(())
}

fn export(daemon: &mut Daemon, others: &mut Others) -> Result<()> {
    others.receiver.answer_exports(503);
    until("it is said", || {
        Nginx::fail("/exported")?;
        Ok(daemon.log().contains("otlp: the collector takes nothing: the collector answered 503"))
    })?;
    let waits = |line: &str| line.starts_with("rstscope_otlp_queue_bytes") && !line.ends_with(" 0.0");
    ensure!(ask("/metrics")?.lines().any(waits), "nothing waits for the collector");
    let told = daemon.told()?;
    let last = told.last().context("nothing was told")?;
    until("everything that was told waits on disk", || {
        Ok(daemon.waiting_exports()?.contains(last.as_str()))
    })?;
    daemon.kill_and_start_again()?;
    daemon.tail()?;
    others.receiver.answer_exports(200);
    let sent = || others.receiver.taken("/v1/logs").concat();
    until("everything arrives", || Ok(told.iter().all(|id| sent().contains(id.as_str()))))?;
    until("metrics arrive", || {
        Ok(others.receiver.taken("/v1/metrics").concat().contains("rstscope.incidents"))
    })?;
    let is_loss = |line: &str| line.starts_with("rstscope_otlp_lost_total") && !line.ends_with(" 0");
    ensure!(!ask("/metrics")?.lines().any(is_loss), "something was lost on the way to the collector");
    Ok(())
}

fn includes(all: &[String], some: &[String]) -> bool {
    some.iter().all(|one| all.contains(one))
}

fn nginx_changes(daemon: &mut Daemon, others: &mut Others) -> Result<()> {
    for (what, change) in [
        ("reload", Nginx::reload as fn(&mut Nginx) -> Result<()>),
        ("upgrade", Nginx::upgrade),
        ("restart", Nginx::restart),
    ] {
        change(&mut others.nginx)?;
        // A request may come before the daemon has looked again: it is seen all the same, or the next is.
        let before = daemon.told()?.len();
        until(&format!("a verdict after the {what}"), || {
            Nginx::fail(&format!("/{what}"))?;
            Ok(daemon.told()?.len() > before)
        })?;
    }
    Ok(())
}

fn reload(daemon: &mut Daemon, _others: &mut Others) -> Result<()> {
    daemon.configure("kep = \"1d\"\n")?;
    until("the error is said", || Ok(daemon.log().contains("did you mean `keep`?")))?;
    daemon.configure("keep = \"30d\"\n")?;
    until("it was read", || Ok(daemon.log().contains("the configuration was read again")))
}

fn full_disk(daemon: &mut Daemon, _others: &mut Others) -> Result<()> {
    let filler = daemon.fill_disk()?;
    let failing = |wanted: &str| Ok(ask("/metrics")?.contains(&format!("rstscope_store_failing {wanted}.0")));
    let before = daemon.told()?.len();
    until("the disk takes nothing", || {
        Nginx::fail("/full")?;
        failing("1")
    })?;
    ensure!(ask("/readyz")?.starts_with("HTTP/1.1 503"), "ready with a full disk");
    until("readers are told all the same", || Ok(daemon.told()?.len() > before))?;
    std::fs::remove_file(filler)?;
    until("the disk takes verdicts again", || failing("0"))?;
    until("everything that was told is stored", || Ok(daemon.missing()?.is_empty()))?;
    ensure!(ask("/metrics")?.contains("rstscope_lost_total{handover=\"store\"} 0"), "something was lost");
    Ok(())
}

/// Faults while nobody looks: the kernel's side keeps them.
const WHILE_FROZEN: usize = 50;
/// Longer than a daemon that runs ever looks away.
const FREEZE: Duration = Duration::from_secs(4);

fn frozen(daemon: &mut Daemon, _others: &mut Others) -> Result<()> {
    let before = daemon.told()?.len();
    let counted = || metric_value("rstscope_resets_sent_total");
    // What both had counted before; the kernel had begun earlier.
    until("nothing is under way", || {
        let sent = (counted()?, kernel_counter("OutRsts")?);
        std::thread::sleep(Duration::from_millis(200));
        Ok((counted()?, kernel_counter("OutRsts")?) == sent)
    })?;
    let (ours, theirs) = (counted()?, kernel_counter("OutRsts")?);
    daemon.freeze(true)?;
    let failed = (0..WHILE_FROZEN).try_for_each(|number| Nginx::fail(&format!("/frozen{number}")));
    std::thread::sleep(FREEZE);
    daemon.freeze(false)?;
    failed?;
    until("every fault is told", || Ok(daemon.told()?.len() >= before + WHILE_FROZEN))?;
    Nginx::fail("/thawed")?;
    until("it goes on", || Ok(daemon.query(&["--text", "/thawed", "--count"])?.trim() == "1"))?;
    let told = daemon.query(&["--text", "/frozen", "--count"])?;
    ensure!(
        told.trim() == WHILE_FROZEN.to_string(),
        "{told} verdicts of {WHILE_FROZEN} faults with their lines"
    );
    until("the RSTs counted are the kernel's", || {
        Ok(counted()?.saturating_sub(ours) == kernel_counter("OutRsts")?.saturating_sub(theirs))
    })
}

fn killed(daemon: &mut Daemon, _others: &mut Others) -> Result<()> {
    for round in 0..3 {
        let before = daemon.told()?.len();
        until("verdicts are told", || {
            Nginx::fail(&format!("/killed{round}"))?;
            Ok(daemon.told()?.len() > before + 3)
        })?;
        daemon.kill_and_start_again()?;
        let missing = daemon.missing()?;
        if !missing.is_empty() {
            bail!("told and then lost: {}", missing.join(", "));
        }
        daemon.tail()?;
    }
    Ok(())
}

fn ended(daemon: &mut Daemon, _others: &mut Others) -> Result<()> {
    daemon.end()?;
    let report = daemon.report()?;
    for wanted in ["Observed (UTC)", "Connections seen", "Listeners", "[inet_sock_set_state]"] {
        ensure!(report.contains(wanted), "{wanted} is not in the report: {report}");
    }
    ensure!(!report.contains("Made from the verdict alone"), "an incident has no steps: {report}");
    Ok(())
}

/// Runs a program to its end and gives what it says.
pub(crate) fn read(program: &Path, arguments: &[&str]) -> Result<String> {
    shell::read(Command::new(program).args(arguments).env("TZ", "UTC"))
}
