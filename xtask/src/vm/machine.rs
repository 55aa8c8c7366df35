//! Runs one virtual machine to its end: QEMU without acceleration, two serial lines into files, a time limit.

use super::architecture::Architecture;
use super::kernels::Unpacked;
use crate::shell;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than all scenarios take on a busy machine.
const LIMIT: Duration = Duration::from_mins(15);
/// What only a kernel in trouble prints.
const ALARMS: &[&str] = &[
    "BUG:",
    "WARNING:",
    "Oops",
    "general protection",
    "Kernel panic",
    "Call Trace",
    "hung task",
    "rcu_sched detected",
    "unable to handle",
    "verifier bug",
    "verifier internal error",
];

/// What a machine left.
#[derive(Debug)]
pub struct Outcome {
    /// Lines of the report, see `plan::Told`.
    pub report: String,
    /// Lines of the kernel's console that should not be there.
    pub alarms: Vec<String>,
    /// It had to be stopped.
    pub timed_out: bool,
}

/// Boots the kernel with this first file system.
pub fn run(
    architecture: &Architecture,
    kernel: &Unpacked,
    files: &Path,
    parameters: &str,
    arguments: &[String],
    folder: &Path,
) -> Result<Outcome> {
    let (console, report) = (folder.join("console.log"), folder.join("report.log"));
    for file in [&console, &report] {
        std::fs::write(file, "")?;
    }
    let (connect, device) = architecture.report;
    let line = format!(
        "console={} panic=-1 rdinit=/init random.trust_cpu=on {parameters} -- vm-guest --report {device} {}",
        architecture.console,
        arguments.join(" ")
    );
    let mut machine = qemu(architecture, &kernel.image, files, &line)?;
    machine.args(["-serial", &serial(&console)]);
    machine.args(["-chardev", &format!("file,id=report,path={}", report.display())]).args(connect);
    let timed_out = !to_its_end(&mut machine, LIMIT)?;
    let read = |file: &PathBuf| std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Outcome { report: read(&report)?, alarms: alarms(&read(&console)?), timed_out })
}

/// A machine with this kernel, first file system and command line; what it is connected to is the caller's.
pub fn qemu(architecture: &Architecture, kernel: &Path, files: &Path, line: &str) -> Result<Command> {
    let (emulator, package) = architecture.emulator;
    let program = shell::find(emulator).with_context(|| {
        format!("{emulator} is not here: apt-get install --no-install-recommends {package}")
    })?;
    let mut machine = Command::new(program);
    machine.args(["-accel", "tcg", "-smp", "2", "-m", "1536"]).args(architecture.emulated);
    machine.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    machine.arg("-kernel").arg(kernel).arg("-initrd").arg(files).args(["-append", line]);
    Ok(machine)
}

/// Runs a machine until it switches itself off; false if it had to be stopped.
pub fn to_its_end(machine: &mut Command, limit: Duration) -> Result<bool> {
    let mut machine = machine.stdin(Stdio::null()).spawn().context("cannot start QEMU")?;
    let end = Instant::now() + limit;
    let mut by_itself = true;
    while machine.try_wait()?.is_none() {
        if Instant::now() >= end {
            by_itself = false;
            machine.kill()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(by_itself)
}

/// A serial line into a file.
pub fn serial(file: &Path) -> String {
    format!("file:{}", file.display())
}

fn alarms(console: &str) -> Vec<String> {
    let alarming = |line: &&str| ALARMS.iter().any(|alarm| line.contains(alarm));
    console.lines().filter(alarming).map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::alarms;

    #[test]
    fn oopses_are_seen_and_ordinary_lines_are_not() {
        let console = "[ 1.0] Linux version\n[ 2.0] BUG: kernel NULL pointer dereference, address: 0\n";
        assert_eq!(alarms(console).len(), 1);
        assert!(alarms("[ 1.0] veth: loaded\n").is_empty());
    }
}
