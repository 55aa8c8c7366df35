//! Loads and attaches the programs, each on its own; what fails is recorded, not fatal.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf};
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, RawTracePoint, SockOps,
};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader, VerifierLogLevel, include_bytes_aligned};
use rstscope_ebpf::abi::{Config, Counter, DropReasons, MISSING, NetnsCounts, Offsets};
use thiserror::Error;

use super::btf::{BtfError, KernelTypes};
use super::environment::{Environment, FLOOR, KERNEL_BTF, below_floor};
use super::hooks::{Attachment, HOOKS, HookSpec, MAKES_COOKIES, Need};
use super::names::Names;
use crate::model::{HookState, Losses};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rstscope-ebpf"));

/// What is decided before loading.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Only this network namespace (inode number); zero for all.
    pub netns: u32,
    /// Whether `filter::set_upstreams` will name the only upstreams to follow.
    pub upstream_filter: bool,
    /// Bytes of the ring buffer; a power of two, at least a page.
    pub ring_bytes: u32,
    /// Type information other than the running kernel's own.
    pub btf: Option<PathBuf>,
    /// Hooks that must not run.
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
    /// Names of this kernel's enum values.
    pub names: Names,
    /// Members that this kernel does not have.
    pub missing_members: Vec<&'static str>,
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
        let best = config(settings, &types, &names);
        let load = |config| kernel.load(offsets, names.drop_reasons(), config);
        let (mut ebpf, mut hooks) = load(best)?;
        if refused(&hooks, MAKES_COOKIES) {
            // The old programs go before the new ones come: memory may be counted.
            drop(ebpf);
            (ebpf, hooks) = load(Config { tracing_makes_cookies: 0, ..best })?;
        }
        Ok(Self { ebpf, hooks, names, missing_members })
    }

    /// What each program cost so far; empty unless the kernel counts it (`sysctl kernel.bpf_stats_enabled=1`).
    pub fn cost(&self) -> Vec<ProgramCost> {
        let cost = |(name, program): (&str, &aya::programs::Program)| {
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

    /// Records that found the ring full, per hook.
    pub fn losses(&self) -> Result<Losses, ProbeError> {
        let mut losses = Losses::default();
        for spec in HOOKS {
            let lost = self.per_cpu("LOSSES", spec.hook as u32)?;
            if lost > 0 {
                losses.by_handover.insert(spec.name.to_owned(), lost);
            }
        }
        Ok(losses)
    }

    /// Counts of the namespaces given to `filter::count_namespaces`, all CPUs and namespaces added up.
    pub fn netns_counts(&self) -> Result<NetnsCounts, ProbeError> {
        let name = "NETNS_COUNTS";
        let map = self.ebpf.map(name).ok_or(ProbeError::NoMap(name))?;
        let map = PerCpuHashMap::<_, u32, NetnsCounts>::try_from(map);
        let map = map.map_err(|source| ProbeError::Map { name, source })?;
        let values = map.iter().filter_map(Result::ok).flat_map(|(_, values)| values.to_vec());
        Ok(values.fold(NetnsCounts::default(), add))
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

fn add(one: NetnsCounts, other: NetnsCounts) -> NetnsCounts {
    NetnsCounts {
        resets_sent: one.resets_sent + other.resets_sent,
        resets_received: one.resets_received + other.resets_received,
        established_resets: one.established_resets + other.established_resets,
        retransmits: one.retransmits + other.retransmits,
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
        tracing_makes_cookies: 1,
    }
}

/// Whether the kernel did not take a hook.
fn refused(hooks: &[HookState], name: &str) -> bool {
    hooks.iter().any(|state| state.name == name && !state.running)
}

/// What loading depends on.
#[derive(Clone, Copy)]
struct Kernel<'a> {
    settings: &'a Settings,
    environment: &'a Environment,
    types: &'a KernelTypes,
    btf: &'a Btf,
}

impl Kernel<'_> {
    /// Loads the object with these globals and attaches what can be attached.
    fn load(
        &self,
        offsets: Offsets,
        reasons: DropReasons,
        config: Config,
    ) -> Result<(Ebpf, Vec<HookState>), ProbeError> {
        let mut ebpf = EbpfLoader::new()
            .btf(Some(self.btf))
            .verifier_log_level(VerifierLogLevel::DEBUG | VerifierLogLevel::STATS)
            .override_global("OFFSETS", &offsets, true)
            .override_global("REASONS", &reasons, true)
            .override_global("CONFIG", &config, true)
            .map_max_entries("EVENTS", self.settings.ring_bytes)
            .load(OBJECT)?;
        let needed =
            |spec: &&HookSpec| spec.need != Need::NoTracingCookies || config.tracing_makes_cookies == 0;
        let hooks = HOOKS.iter().filter(needed).map(|spec| self.attach(&mut ebpf, spec)).collect();
        Ok((ebpf, hooks))
    }

    fn attach(&self, ebpf: &mut Ebpf, spec: &HookSpec) -> HookState {
        let result = if self.settings.disabled.iter().any(|name| name == spec.name) {
            Err("switched off".to_owned())
        } else {
            self.try_attach(ebpf, spec)
        };
        HookState {
            name: spec.name.to_owned(),
            running: result.is_ok(),
            problem: result.err(),
            lost_evidence: spec.lost_evidence.to_owned(),
        }
    }

    /// What the kernel's own description says against a hook, before anything is tried.
    fn lacks(&self, spec: &HookSpec) -> Option<String> {
        if matches!(spec.attachment, Attachment::CgroupIngress | Attachment::SockOps) {
            return None;
        }
        let Some(arguments) = self.types.tracepoint(spec.name) else {
            return Some("this kernel has no such tracepoint".to_owned());
        };
        match spec.need {
            Need::Argument(index, what) if arguments.len() <= index => {
                Some(format!("this kernel's tracepoint does not pass {what}"))
            }
            _ => None,
        }
    }

    fn try_attach(&self, ebpf: &mut Ebpf, spec: &HookSpec) -> Result<(), String> {
        if let Some(problem) = self.lacks(spec) {
            return Err(problem);
        }
        let program = ebpf.program_mut(spec.name).ok_or("the kernel object has no such program")?;
        match spec.attachment {
            Attachment::RawTracepoint => {
                let program: &mut RawTracePoint = program.try_into().map_err(explain)?;
                program.load().map_err(explain)?;
                program.attach(spec.name).map_err(explain)?;
            }
            Attachment::BtfTracepoint => {
                let program: &mut BtfTracePoint = program.try_into().map_err(explain)?;
                program.load(spec.name, self.btf).map_err(explain)?;
                program.attach().map_err(explain)?;
            }
            Attachment::CgroupIngress => {
                let root = self.root_cgroup()?;
                let program: &mut CgroupSkb = program.try_into().map_err(explain)?;
                program.load().map_err(explain)?;
                let mode = CgroupAttachMode::Single;
                program.attach(root, CgroupSkbAttachType::Ingress, mode).map_err(explain)?;
            }
            Attachment::SockOps => {
                let root = self.root_cgroup()?;
                let program: &mut SockOps = program.try_into().map_err(explain)?;
                program.load().map_err(explain)?;
                program.attach(root, CgroupAttachMode::Single).map_err(explain)?;
            }
        }
        Ok(())
    }

    fn root_cgroup(&self) -> Result<File, String> {
        let root = self.environment.cgroup.as_deref().ok_or("cgroup v2 is not mounted")?;
        File::open(root).map_err(|error| format!("{}: {error}", root.display()))
    }
}

/// Kernels before 5.11 count maps against `RLIMIT_MEMLOCK`; on others this does nothing.
fn raise_memlock() {
    let all = rustix::process::Rlimit { current: None, maximum: None };
    // A failure shows as a failing map on the kernels that care.
    let _unprivileged = rustix::process::setrlimit(rustix::process::Resource::Memlock, all);
}

/// Lines of the verifier's log that are kept: the last ones say what it did not like.
const VERIFIER_LINES: usize = 6;

fn explain(error: ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = &error else {
        return format!("{:#}", anyhow::Error::new(error));
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(VERIFIER_LINES)..).unwrap_or_default().join(" | ");
    if last.is_empty() {
        format!("the kernel refused it: {io_error}")
    } else {
        format!("the kernel refused it: {io_error}: {last}")
    }
}

/// Size of the ring buffer for a host with `cpus` processors: 512 KiB for each, within 1 and 16 MiB.
pub fn ring_bytes(cpus: usize) -> u32 {
    let wanted = u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(512 << 10);
    wanted.clamp(1 << 20, 16 << 20).next_power_of_two().min(16 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_size_is_a_bounded_power_of_two() {
        for cpus in [1, 2, 3, 8, 12, 64, 1024] {
            let bytes = ring_bytes(cpus);
            assert!(bytes.is_power_of_two());
            assert!((1 << 20..=16 << 20).contains(&bytes));
        }
    }
}
