//! Run statistics of the kernel programs that a process holds (`BPF_ENABLE_STATS`, Linux 5.8).

use super::bpf;
use anyhow::{Context, Result, bail};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where a host can have switched statistics on for good.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Where the root of cgroup v2 is.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// Runs of a test.
const REPEAT: u32 = 1_000_000;

/// What programs of one name have run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runs {
    /// Nanoseconds, with the part of the statistics that falls inside.
    pub time: u64,
    /// Times.
    pub count: u64,
}

impl Runs {
    /// What has run since `then`.
    pub fn since(self, then: Self) -> Self {
        Self { time: self.time.saturating_sub(then.time), count: self.count.saturating_sub(then.count) }
    }

    /// Nanoseconds of one run.
    pub fn each(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.time as f64 / self.count as f64 }
    }
}

/// Runs by name; the kernel keeps 15 letters of it.
pub type ByName = BTreeMap<String, Runs>;

/// Statistics are measured while this lives.
pub fn switch_on() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime).context("cannot switch run statistics on")
}

/// Fails when the host measures all the time: throughput would be that of the measuring.
pub fn check_switched_off() -> Result<()> {
    let state = std::fs::read_to_string(SWITCH).unwrap_or_default();
    if state.trim() != "0" && !state.is_empty() {
        bail!(
            "this host measures every run of every program ({SWITCH} is {}): switch that off first",
            state.trim()
        );
    }
    Ok(())
}

/// What the programs held by these processes have run so far.
pub fn of_processes(pids: &[u32]) -> ByName {
    let ids: BTreeSet<u32> = pids.iter().flat_map(|pid| held(*pid)).collect();
    let mut runs = ByName::new();
    for program in loaded_programs() {
        let Ok(program) = program else { continue }; // Unloaded meanwhile.
        if ids.contains(&program.id()) {
            let entry = runs.entry(program.name_as_str().unwrap_or("unnamed").to_owned()).or_default();
            entry.time += program.run_time().as_nanos() as u64;
            entry.count += program.run_count();
        }
    }
    runs
}

/// Numbers of the programs that a process has open.
fn held(pid: u32) -> Vec<u32> {
    let folder = PathBuf::from(format!("/proc/{pid}/fdinfo"));
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| program_id(&std::fs::read_to_string(file.path()).ok()?)).collect()
}

/// A link names its program, too; both are the same one.
fn program_id(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix("prog_id:"))?.trim().parse().ok()
}

/// What has run between two readings.
pub fn between(before: &ByName, after: &ByName) -> ByName {
    let since = |(name, now): (&String, &Runs)| {
        (name.clone(), now.since(before.get(name).copied().unwrap_or_default()))
    };
    after.iter().map(since).filter(|(_, runs)| runs.count > 0).collect()
}

/// A program that does nothing, in the place of the packet hook: what it shows is the measuring itself.
pub struct Control {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Control {
    /// Attaches it to the root of cgroup v2.
    pub fn attach() -> Result<Self> {
        let program = bpf::empty_program()?;
        let root = CGROUPS.iter().find(|root| Path::new(root).join("cgroup.controllers").exists());
        let root = File::open(root.context("cgroup v2 is not mounted")?)?;
        let link = bpf::attach_ingress(program.as_fd(), root.as_fd())?;
        Ok(Self { program, _link: link })
    }

    /// What it has run so far.
    pub fn runs(&self) -> Result<Runs> {
        let id =
            program_id(&std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd()))?);
        let info = loaded_programs().flatten().find(|info| Some(info.id()) == id);
        let info = info.context("the empty program is gone")?;
        Ok(Runs { time: info.run_time().as_nanos() as u64, count: info.run_count() })
    }
}

/// Nanoseconds of a process' program on an ordinary data segment, and of an empty program, without statistics.
pub fn packet_cost(pid: u32, name: &str) -> Result<(u64, u64)> {
    let ids = held(pid);
    let ours = loaded_programs()
        .flatten()
        .find(|info| ids.contains(&info.id()) && info.name_as_str() == Some(name))
        .with_context(|| format!("process {pid} has no program {name}"))?;
    let frame = bpf::data_segment();
    let cost = bpf::test_run(ours.fd()?.as_fd(), &frame, REPEAT)?;
    let nothing = bpf::test_run(bpf::empty_program()?.as_fd(), &frame, REPEAT)?;
    Ok((cost.as_nanos() as u64, nothing.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_text_of_its_descriptor() {
        assert_eq!(program_id("pos:\t0\nflags:\t02000002\nprog_type:\t17\nprog_id:\t42\n"), Some(42));
        assert_eq!(program_id("pos:\t0\n"), None);
    }

    #[test]
    fn only_what_ran_meanwhile_is_left() {
        let runs = |time, count| Runs { time, count };
        let before = ByName::from([("a".to_owned(), runs(100, 1)), ("b".to_owned(), runs(7, 7))]);
        let after = ByName::from([("a".to_owned(), runs(400, 4)), ("b".to_owned(), runs(7, 7))]);
        let difference = between(&before, &after);
        assert_eq!(difference, ByName::from([("a".to_owned(), runs(300, 3))]));
        assert!((difference["a"].each() - 100.0).abs() < f64::EPSILON);
    }
}
