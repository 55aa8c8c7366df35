//! Loads and attaches the programs, each on its own; what fails is recorded, not fatal.

use std::mem;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf};
use aya::programs::Program;
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};
use rstscope_ebpf::abi::{Config, Counter, MISSING, NetnsCounts, Offsets};
use thiserror::Error;

use super::attach::{Kernel, refused};
use super::btf::{BtfError, KernelTypes};
use super::environment::{Environment, FLOOR, KERNEL_BTF, below_floor};
use super::forgetful::{self, Watched};
use super::hooks::{HOOKS, MAKES_COOKIES};
use super::icmp::RawSockets;
use super::names::Names;
use super::programs::{Answers, ProgramCost};
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
    #[error("cannot create the kernel maps: {}", with_reasons(.0))]
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

/// An error and what is behind it: that the kernel had no memory, or that the caller may not.
fn with_reasons(error: &dyn std::error::Error) -> String {
    let reasons = std::iter::successors(error.source(), |reason| reason.source());
    reasons.fold(error.to_string(), |said, reason| {
        let reason = reason.to_string();
        if said.contains(&reason) { said } else { format!("{said}: {reason}") }
    })
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
    /// What the kernel last said of the programs.
    answers: Answers,
    /// Older connections that found the table full.
    pub(super) seeds_refused: u64,
    /// Older connections that found room.
    pub(super) seeded: u64,
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
        let loader = without_types();
        let types = KernelTypes::read(path)?;
        let btf = Btf::parse(types.bytes(), aya::Endianness::default())?;
        let (offsets, missing_members) =
            Offsets::resolve(|structure, member| types.offset_bits(structure, member));
        let names = Names::read(&types);
        raise_memlock();
        let kernel = Kernel { settings, environment, types: &types, btf: &btf };
        let reads_memory = u32::from(kernel.forbids_reading().is_none());
        let best = Config { reads_memory, ..config(settings, &types, &names) };
        let load = |loader, config| kernel.load(loader, &offsets, names.drop_reasons(), config);
        let (mut ebpf, mut hooks) = load(loader, best)?;
        if refused(&hooks.states, MAKES_COOKIES) {
            // The old programs go before the new ones come: memory may be counted.
            drop(ebpf);
            (ebpf, hooks) = load(without_types(), Config { tracing_makes_cookies: 0, ..best })?;
        }
        Ok(Self {
            forgetful: forgetful::watched(&ebpf),
            answers: Answers::default(),
            ebpf,
            hooks: hooks.states,
            config: best,
            reads_memory: hooks.read_memory,
            programs: hooks.programs,
            names,
            missing_members,
            seeds_refused: 0,
            seeded: 0,
            icmp: RawSockets::new(),
        })
    }

    /// Whether the named hook runs.
    pub fn runs(&self, name: &str) -> bool {
        self.hooks.iter().any(|hook| hook.name == name && hook.running)
    }

    /// What each program cost when that was last asked; empty unless the kernel counts it
    /// (`sysctl kernel.bpf_stats_enabled=1`).
    pub fn cost(&self) -> &[ProgramCost] {
        &self.answers.costs
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
        self.ask(now)?;
        for (name, skipped) in &self.answers.skipped {
            note(format!("{name} (recursion)"), *skipped);
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

    /// What is said of the programs next is asked then.
    pub fn ask_again(&mut self) {
        self.answers = Answers::default();
    }

    /// Asks what the kernel keeps of the programs, if it is time to.
    fn ask(&mut self, now: Mono) -> Result<(), ProbeError> {
        let records = self.count(Counter::RingRecords)?;
        if self.answers.are_old(now, records) {
            let mut answers = mem::take(&mut self.answers);
            answers.ask((now, records), self.running());
            self.answers = answers;
        }
        Ok(())
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
        retransmit_has_error: u32::from(arguments("tcp_retransmit_skb").len() > 2),
        kfree_skb_has_socket: u32::from(arguments("kfree_skb").len() > 3),
        drop_reason_tells_overflow: u32::from(names.drop_reasons().tcp_listen_overflow != MISSING),
        reads_memory: 0, // Depends on more than the types.
        tracing_makes_cookies: 1,
        reason_abort_on_linger: names.reset_number("TCP_ABORT_ON_LINGER"),
        reason_invalid_syn: names.reset_number("INVALID_SYN"),
        reason_abort_on_memory: names.reset_number("TCP_ABORT_ON_MEMORY"),
        tick_us: tick_us(),
        conn_slot_mask: settings.sizes.slots() - 1,
        records_per_window: settings.sizes.records,
        hops_are_a_byte: u32::from(types.is_bitfield("ipv6_pinfo", "mcast_hops") == Some(false)),
    }
}

/// Microseconds of a tick: the resolution of the coarse clock (`KTIME_LOW_RES`).
fn tick_us() -> u32 {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    u32::try_from(tick.tv_nsec / 1_000).unwrap_or(0)
}

/// A loader that knows no types yet. A new one has read all of the kernel's, which takes ten megabytes: they go before
/// the same are read for everybody.
fn without_types<'a>() -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader
}

/// Kernels before 5.11 count maps against `RLIMIT_MEMLOCK`; on others this does nothing.
fn raise_memlock() {
    let all = rustix::process::Rlimit { current: None, maximum: None };
    // A failure shows as a failing map on the kernels that care.
    let _unprivileged = rustix::process::setrlimit(rustix::process::Resource::Memlock, all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_map_could_not_be_made_is_said() {
        let io_error = std::io::Error::from_raw_os_error(12);
        let error = MapError::CreateError { name: "CONNS".to_owned(), io_error };
        let said = ProbeError::Load(EbpfError::MapError(error)).to_string();
        assert!(said.contains("CONNS") && said.ends_with("Cannot allocate memory (os error 12)"), "{said}");
    }
}
