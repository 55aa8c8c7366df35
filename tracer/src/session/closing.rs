//! The end of a session: what it added up to, what was lost, and our counts beside the kernel's.

use std::collections::BTreeMap;

use rstscope_ebpf::abi::Counter;

use crate::account::mib::Snapshot;
use crate::account::reconcile::{Observed, reconcile};
use crate::model::{Clock, Losses, Mono};
use crate::nginx::discover::Instance;
use crate::output::{Closing, Tally};
use crate::probe::ProbeError;

use super::kernel::KernelSide;

/// The kernel's counters of each namespace, as they stood when it was first watched.
#[derive(Debug, Default)]
pub struct Baseline {
    namespaces: BTreeMap<u32, (Snapshot, u32)>,
}

impl Baseline {
    /// Takes the counters of namespaces that are not known yet.
    pub fn extend(&mut self, instances: &[Instance]) {
        for instance in instances {
            if let Some((_, pid)) = self.namespaces.get_mut(&instance.netns) {
                *pid = instance.master; // The process that was there at first may be gone by the end.
            } else if let Ok(snapshot) = Snapshot::of_process(instance.master) {
                self.namespaces.insert(instance.netns, (snapshot, instance.master));
            }
        }
    }

    /// What the kernel counted since; namespaces whose processes are all gone are left out.
    fn difference(&self) -> Snapshot {
        let grown = self
            .namespaces
            .values()
            .filter_map(|(then, pid)| Some(Snapshot::of_process(*pid).ok()?.since(then)));
        grown.fold(Snapshot::default(), |sum, snapshot| snapshot.plus(&sum))
    }
}

/// Everything that is said at the end.
pub fn closing(
    kernel: &KernelSide,
    baseline: &Baseline,
    tally: &Tally,
    losses: Losses,
    clock: Clock,
    (from, to): (Mono, Mono),
) -> Result<Closing, ProbeError> {
    let observed = observed(kernel)?;
    Ok(Closing {
        from: clock.utc(from).rfc3339(),
        to: clock.utc(to).rfc3339(),
        tally: tally.clone(),
        reconciliation: reconcile(&baseline.difference(), &observed, losses.total()),
        losses,
        hooks: kernel.hooks.clone(),
        ring_records: kernel.count(Counter::RingRecords)?,
        connections: kernel.count(Counter::Connections)?,
    })
}

/// What the hooks counted in the same namespaces. A count without its hook is not known, rather than zero.
fn observed(kernel: &KernelSide) -> Result<Observed, ProbeError> {
    let counts = kernel.netns_counts()?;
    let with = |hook: &str, count: u64| kernel.runs(hook).then_some(count);
    Ok(Observed {
        resets_sent: with("tcp_send_reset", counts.resets_sent),
        established_resets: with("inet_sock_set_state", counts.established_resets),
        retransmits: with("tcp_retransmit_skb", counts.retransmits),
        listen_overflows: with("kfree_skb", kernel.count(Counter::Overflows)?),
        closed_unread: with("tcp_send_reset", counts.closed_unread),
        resets_refused: kernel.sees_refused_resets().then_some(counts.resets_refused),
        ..Observed::default()
    })
}
