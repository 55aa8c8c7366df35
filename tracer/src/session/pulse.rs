//! What a session is like at one moment: for metrics, for the service manager, for whoever asks whether it lives.
//! Made once a second where somebody wants it; plain data.

use std::net::SocketAddr;

use super::kernel::KernelSide;
use super::upstreams::Change;
use super::watch::Watch;
use crate::engine::Counters;
use crate::model::{HookState, HostFacts, Losses};
use crate::nginx::discover::Instance;
use crate::probe::ProbeError;
pub use crate::probe::programs::ProgramCost;
use rstscope_ebpf::abi::Counter;

/// One moment of a session. Counts only grow.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// Every hook and its state.
    pub hooks: Vec<HookState>,
    /// Nginx masters that run.
    pub masters: usize,
    /// Their workers.
    pub workers: usize,
    /// Process ids of both.
    pub processes: Vec<u32>,
    /// Listen sockets watched.
    pub listeners: usize,
    /// Log files followed.
    pub logs: usize,
    /// Which of them cannot be followed, and why, where that has lasted.
    pub log_problems: Vec<String>,
    /// What was lost before the engine, by hand-over.
    pub losses: Losses,
    /// RSTs sent in the namespaces of Nginx.
    pub resets_sent: u64,
    /// RSTs accepted there.
    pub resets_received: u64,
    /// Segments retransmitted there.
    pub retransmits: u64,
    /// Connections of Nginx followed.
    pub connections: u64,
    /// Records that the kernel programs put into the ring buffer.
    pub ring_records: u64,
    /// By network namespace and port: packets that a full listener dropped.
    pub overflows: Vec<(u32, u16, u64)>,
    /// The accept queues of Nginx's listeners in the namespace of this process.
    pub queues: Vec<Queue>,
    /// What happened to upstreams on this host since the last pulse.
    pub upstream_changes: Vec<Change>,
    /// What the engine did.
    pub engine: Counters,
    /// What is known of the host, where that is new since the last pulse.
    pub host: Option<Box<HostFacts>>,
    /// What the kernel programs cost; empty unless the kernel counts it.
    pub programs: Vec<ProgramCost>,
}

/// How full an accept queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Listen address.
    pub listener: SocketAddr,
    /// Connections waiting.
    pub waiting: u32,
    /// The limit.
    pub limit: u32,
}

impl Pulse {
    /// Whether at least one hook runs: without any, all there is to know comes from the log.
    pub fn sees_the_kernel(&self) -> bool {
        self.hooks.iter().any(|hook| hook.running)
    }

    /// Takes the pulse.
    pub(super) fn take(
        kernel: &mut KernelSide,
        watch: &mut Watch,
        losses: &Losses,
        engine: Counters,
    ) -> Result<Self, ProbeError> {
        let counts = kernel.netns_counts(None)?;
        let dropped = kernel.dropped()?;
        let upstream_changes = watch.take_changes();
        let instances = watch.instances();
        Ok(Self {
            hooks: kernel.hooks.clone(),
            masters: instances.len(),
            workers: instances.iter().map(|instance| instance.workers.len()).sum(),
            processes: instances.iter().flat_map(Instance::processes).collect(),
            listeners: instances.iter().map(|instance| instance.listeners.len()).sum(),
            logs: instances.iter().map(|instance| instance.error_logs.len()).sum(),
            log_problems: Vec::new(),
            losses: losses.clone(),
            resets_sent: counts.resets_sent,
            resets_received: counts.resets_received,
            retransmits: counts.retransmits,
            connections: kernel.count(Counter::Connections)?,
            ring_records: kernel.count(Counter::RingRecords)?,
            overflows: dropped.iter().map(|drop| (drop.netns, drop.port, drop.total)).collect(),
            queues: watch.queues().to_vec(),
            upstream_changes,
            engine,
            host: None,
            programs: kernel.programs(),
        })
    }
}
