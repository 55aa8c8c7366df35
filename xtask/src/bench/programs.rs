//! Run statistics of the kernel programs that a process holds (`BPF_ENABLE_STATS`, Linux 5.8).

use super::bpf;
use anyhow::{Context, Result, bail};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Where a host can have switched statistics on for good.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
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
        let then = before.get(name).copied().unwrap_or_default();
        (
            name.clone(),
            Runs { time: now.time.saturating_sub(then.time), count: now.count.saturating_sub(then.count) },
        )
    };
    after.iter().map(since).filter(|(_, runs)| runs.count > 0).collect()
}

/// What the statistics themselves cost: an empty program's time as they see it, and what switching them on adds.
#[derive(Debug, Clone, Copy)]
pub struct Overhead {
    /// Nanoseconds that every measured run contains.
    pub inside: f64,
    /// Nanoseconds that every run takes longer.
    pub added: f64,
}

/// Measures it.
pub fn overhead() -> Result<Overhead> {
    let (program, frame) = (bpf::empty_program()?, bpf::data_segment());
    let bare = bpf::test_run(program.as_fd(), &frame, REPEAT)?;
    let _on = switch_on()?;
    let measured = bpf::test_run(program.as_fd(), &frame, REPEAT)?;
    let id = program_id(&std::fs::read_to_string(format!("/proc/self/fdinfo/{}", number(&program)))?);
    let info =
        loaded_programs().flatten().find(|info| Some(info.id()) == id).context("our own program is gone")?;
    let inside = info.run_time().as_nanos() as f64 / info.run_count().max(1) as f64;
    Ok(Overhead { inside, added: measured.as_nanos() as f64 - bare.as_nanos() as f64 })
}

fn number(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd()
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
