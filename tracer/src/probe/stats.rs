//! How often programs ran, as the kernel counts it while somebody asks for it (`BPF_ENABLE_STATS`, 5.8).

use std::os::fd::OwnedFd;

use aya::sys::{Stats, enable_stats};

use super::Probe;
use super::hooks::HOOKS;

/// Lets the kernel count runs as long as the descriptor is open; `None` where it does not.
pub fn count_runs() -> Option<OwnedFd> {
    enable_stats(Stats::RunTime).ok()
}

/// Runs of every loaded hook since counting began.
pub fn runs(probe: &Probe) -> Vec<(&'static str, u64)> {
    let of = |name: &'static str| {
        let program = probe.ebpf.program(name)?;
        Some((name, program.info().ok()?.run_count()))
    };
    HOOKS.iter().filter_map(|spec| of(spec.name)).collect()
}
