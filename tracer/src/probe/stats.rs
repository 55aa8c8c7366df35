//! How often programs ran, as the kernel counts it while somebody asks for it (`BPF_ENABLE_STATS`, 5.8).

use std::os::fd::OwnedFd;

use aya::programs::Program;
use aya::sys::{Stats, enable_stats};

use super::Probe;

/// Lets the kernel count runs as long as the descriptor is open; `None` where it does not.
pub fn count_runs() -> Option<OwnedFd> {
    enable_stats(Stats::RunTime).ok()
}

/// Runs of every running hook since counting began.
pub fn runs(probe: &Probe) -> Vec<(&'static str, u64)> {
    let of = |(name, program): (&'static str, &Program)| Some((name, program.info().ok()?.run_count()));
    probe.running().filter_map(of).collect()
}
