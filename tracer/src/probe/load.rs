//! Loads and attaches the programs, each on its own; what fails is recorded, not fatal.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf};
use aya::programs::Program;
use aya::{Btf, Ebpf, EbpfError};
use rstscope_ebpf::abi::{Config, Counter, MISSING, NetnsCounts, Offsets};
use thiserror::Error;

use super::attach::{Kernel, refused};
use super::btf::{BtfError, KernelTypes};
use super::environment::{Environment, FLOOR, KERNEL_BTF, below_floor};
use super::forgetful::{self, Watched};
use super::hooks::{HOOKS, MAKES_COOKIES};
use super::icmp::RawSockets;
use super::names::Names;
use super::sizes::Sizes;
use crate::model::{HookState, Losses, Mono};

/// What is decided before loading.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Only this network namespace (inode number); zero for all.
    pub netns: u32,
    /// Whether `filter::set_upstreams` will name the only upstreams to follow.
    pub upstream_filter: bool,
    /// Sizes of the tables and the ring.
    pub sizes: Sizes,
    /// Type information other than the running kernel's own.
    pub btf: Option<PathBuf>,
    /// Hooks that must not run, and `probe_read_kernel` for all forms that need it.
    pub disabled: Vec<String>,
}

/// Why no probe could be loaded at all.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel is older than the floor.
    #[error("kernel {release} is too old, the ring buffer that carries the records came with {}.{}", FLOOR.0, FLOOR.1)]
    TooOld {
        /// The running release.
        release: String,
    },
    /// No type information.
    #[error(
        "{0}; kernels built without it (CONFIG_DEBUG_INFO_BTF) need a file for exactly this kernel: --btf FILE"
    )]
    Types(#[from] BtfError),
    /// aya could not use the type information.
    #[error("cannot use the kernel's type information: {0}")]
    Btf(#[from] aya::BtfError),
    /// The maps could not be made, or the object does not fit this kernel.
    #[error("cannot create the kernel maps: {0}")]
    Load(#[from] EbpfError),
    /// A map is not what the code expects.
    #[error("map {name}: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// The reason.
        source: MapError,
    },
    /// The object has no such map.
    #[error("the kernel object has no map {0}")]
    NoMap(&'static str),
}

/// What one kernel program cost so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// Times it ran.
    pub runs: u64,
    /// CPU time it took.
    pub time: Duration,
}

/// The running probes. Dropping it detaches everything.
pub struct Probe {
    pub(super) ebpf: Ebpf,
    /// Every hook and its state.
    pub hooks: Vec<HookState>,
    /// What the programs were told of this kernel.
    pub config: Config,
    /// Some of them read memory that the verifier knows nothing of.
    pub reads_memory: bool,
    /// Names of this kernel's enum values.
    pub names: Names,
    /// Hooks that run, and their programs in the object.
    programs: Vec<(&'static str, &'static str)>,
    /// Members that this kernel does not have.
    pub missing_members: Vec<&'static str>,
    /// Tables that forget.
    forgetful: Vec<Watched>,
    /// Older connections that found the table full.
    pub(super) seeds_refused: u64,
    /// Where ICMP errors are seen.
    pub(super) icmp: RawSockets,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

impl Probe {
    /// Loads the object and attaches every hook that this kernel allows. The filter maps are still empty:
    /// nothing is reported before `filter` fills them.
    pub fn load(settings: &Settings, environment: &Environment) -> Result<Self, ProbeError> {
        if below_floor(&environment.kernel) {
            return Err(ProbeError::TooOld { release: environment.kernel.clone() });
        }
        let path = settings.btf.as_deref().unwrap_or_else(|| Path::new(KERNEL_BTF));
        let types = KernelTypes::read(path)?;
        let btf = Btf::parse_file(path, aya::Endianness::default())?;
        let (offsets, missing_members) =
            Offsets::resolve(|structure, member| types.offset_bits(structure, member));
        let names = Names::read(&types);
        raise_memlock();
        let kernel = Kernel { settings, environment, types: &types, btf: &btf };
        let reads_memory = u32::from(kernel.forbids_reading().is_none());
        let best = Config { reads_memory, ..config(settings, &types, &names) };
        let load = |config| kernel.load(&offsets, names.drop_reasons(), config);
        let (mut ebpf, mut hooks) = load(best)?;
        if refused(&hooks.states, MAKES_COOKIES) {
            // The old programs go before the new ones come: memory may be counted.
            drop(ebpf);
            (ebpf, hooks) = load(Config { tracing_makes_cookies: 0, ..best })?;
        }
        Ok(Self {
            forgetful: forgetful::watched(&ebpf),
            ebpf,
            hooks: hooks.states,
            config: best,
            reads_memory: hooks.read_memory,
            programs: hooks.programs,
            names,
            missing_members,
            seeds_refused: 0,
            icmp: RawSockets::new(),
        })
    }

    /// Whether the named hook runs.
    pub fn runs(&self, name: &str) -> bool {
        self.hooks.iter().any(|hook| hook.name == name && hook.running)
    }

    /// What each program cost so far; empty unless the kernel counts it (`sysctl kernel.bpf_stats_enabled=1`).
    pub fn cost(&self) -> Vec<ProgramCost> {
        let cost = |(name, program): (&str, &Program)| {
            let info = program.info().ok()?;
            let (runs, time) = (info.run_count(), info.run_time());
            (runs > 0).then(|| ProgramCost { name: name.to_owned(), runs, time })
        };
        self.ebpf.programs().filter_map(cost).collect()
    }

    /// The ring buffer; it can be taken once.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, ProbeError> {
        let map = self.ebpf.take_map("EVENTS").ok_or(ProbeError::NoMap("EVENTS"))?;
        RingBuf::try_from(map).map_err(|source| ProbeError::Map { name: "EVENTS", source })
    }

    /// What the kernel side could not tell: records that found the ring full or exceeded a limit, runs that the kernel
    /// skipped, connections that found the table full, and what tables forgot that was still of use.
    pub fn losses(&mut self, now: Mono) -> Result<Losses, ProbeError> {
        let mut losses = Losses::default();
        let mut note = |name: String, lost: u64| {
            if lost > 0 {
                losses.by_handover.insert(name, lost);
            }
        };
        for spec in HOOKS {
            let index = spec.hook as u32;
            note(spec.name.to_owned(), self.per_cpu("LOSSES", index)?);
            note(format!("{} (limit)", spec.name), self.per_cpu("LIMITED", index)?);
        }
        for (name, program) in self.running() {
            let fd = program.fd().map(|fd| fd.as_fd().as_raw_fd());
            note(format!("{name} (recursion)"), fd.map_or(0, recursion_misses));
        }
        let refused = self.count(Counter::ConnectionsRefused)? + self.seeds_refused;
        note("connection table".to_owned(), refused);
        for at in 0..self.forgetful.len() {
            let made = self.per_cpu("MADE", self.forgetful[at].index)?;
            let watched = &mut self.forgetful[at];
            note(watched.name.to_owned(), watched.table.observe(now, made));
        }
        Ok(losses)
    }

    /// Hooks that run, with their programs.
    pub(super) fn running(&self) -> impl Iterator<Item = (&'static str, &Program)> {
        self.programs.iter().filter_map(|(hook, program)| Some((*hook, self.ebpf.program(program)?)))
    }

    /// Counts of a namespace given to `filter::count_namespaces`, or of all of them, all CPUs added up.
    pub fn netns_counts(&self, netns: Option<u32>) -> Result<NetnsCounts, ProbeError> {
        let name = "NETNS_COUNTS";
        let map = self.ebpf.map(name).ok_or(ProbeError::NoMap(name))?;
        let map = PerCpuHashMap::<_, u32, NetnsCounts>::try_from(map);
        let map = map.map_err(|source| ProbeError::Map { name, source })?;
        let wanted =
            map.iter().filter_map(Result::ok).filter(|(other, _)| netns.is_none_or(|netns| netns == *other));
        let values = wanted.flat_map(|(_, values)| values.to_vec());
        Ok(values.fold(NetnsCounts::default(), |sum, one| sum.plus(&one)))
    }

    /// One of the kernel side's counters.
    pub fn count(&self, counter: Counter) -> Result<u64, ProbeError> {
        self.per_cpu("COUNTS", counter as u32)
    }

    fn per_cpu(&self, name: &'static str, index: u32) -> Result<u64, ProbeError> {
        let map = self.ebpf.map(name).ok_or(ProbeError::NoMap(name))?;
        let error = |source| ProbeError::Map { name, source };
        let values = PerCpuArray::<_, u64>::try_from(map).map_err(error)?;
        Ok(values.get(&index, 0).map_err(error)?.iter().sum())
    }
}

/// What the programs must know of this kernel, read from its prototypes, never from its version.
fn config(settings: &Settings, types: &KernelTypes, names: &Names) -> Config {
    let arguments = |name: &str| types.tracepoint(name).unwrap_or_default();
    Config {
        netns: settings.netns,
        upstream_filter: u32::from(settings.upstream_filter),
        oom_arg_is_task: u32::from(arguments("mark_victim").first().copied().unwrap_or(false)),
        send_reset_has_reason: u32::from(arguments("tcp_send_reset").len() > 2),
        kfree_skb_has_socket: u32::from(arguments("kfree_skb").len() > 3),
        drop_reason_tells_overflow: u32::from(names.drop_reasons().tcp_listen_overflow != MISSING),
        reads_memory: 0, // Depends on more than the types.
        tracing_makes_cookies: 1,
        reason_abort_on_linger: names.reset_number("TCP_ABORT_ON_LINGER"),
        reason_invalid_syn: names.reset_number("INVALID_SYN"),
        reason_abort_on_memory: names.reset_number("TCP_ABORT_ON_MEMORY"),
        records_per_window: settings.sizes.records,
        hops_are_a_byte: u32::from(types.is_bitfield("ipv6_pinfo", "mcast_hops") == Some(false)),
    }
}

/// Kernels before 5.11 count maps against `RLIMIT_MEMLOCK`; on others this does nothing.
fn raise_memlock() {
    let all = rustix::process::Rlimit { current: None, maximum: None };
    // A failure shows as a failing map on the kernels that care.
    let _unprivileged = rustix::process::setrlimit(rustix::process::Resource::Memlock, all);
}

/// Runs of a program that the kernel skipped because it was already running on that processor (Linux 5.12); told in
/// the text of its descriptor.
fn recursion_misses(program: RawFd) -> u64 {
    // Once a second for every program: one read, and the text is much shorter.
    let mut text = [0; 2048];
    let file = File::open(format!("/proc/self/fdinfo/{program}"));
    let length = file.and_then(|mut file| file.read(&mut text)).unwrap_or(0);
    missed(&String::from_utf8_lossy(&text[..length])).unwrap_or(0)
}

fn missed(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::missed;

    #[test]
    fn skipped_runs_are_read_where_the_kernel_tells_them() {
        assert_eq!(missed("prog_id:\t4\nrun_cnt:\t0\nrecursion_misses:\t17\n"), Some(17));
        assert_eq!(missed("prog_id:\t4\n"), None);
    }
}
