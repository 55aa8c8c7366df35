//! The end of a session: what it added up to, what was lost, and our counts beside the kernel's.

use std::collections::BTreeMap;

use rstscope_ebpf::abi::{Counter, NetnsCounts};

use crate::account::mib::Snapshot;
use crate::account::reconcile::{Counted, Observed, reconcile};
use crate::model::{Clock, Losses, Mono};
use crate::nginx::discover::Instance;
use crate::output::{Closing, Tally};
use crate::probe::ProbeError;

use super::kernel::KernelSide;

/// The kernel's counters of each namespace, as they stood when it was first watched.
#[derive(Debug, Default)]
pub struct Baseline {
    namespaces: BTreeMap<u32, Start>,
}

/// Where the comparison of a namespace begins.
#[derive(Debug)]
struct Start {
    /// The kernel's counters just before our counts began.
    before: Snapshot,
    /// The same just after.
    after: Snapshot,
    /// A process that lives there.
    pid: u32,
}

impl Baseline {
    /// Begins to count in namespaces that are not known yet.
    pub fn extend(&mut self, kernel: &mut KernelSide, instances: &[Instance]) -> Result<(), ProbeError> {
        for instance in instances {
            let pid = instance.master;
            if let Some(start) = self.namespaces.get_mut(&instance.netns) {
                start.pid = pid; // The process that was there at first may be gone by the end.
                continue;
            }
            let Ok(before) = Snapshot::of_process(pid) else { continue };
            if let Some(probe) = kernel.probe() {
                probe.count_namespaces(&[instance.netns])?;
            }
            let Ok(after) = Snapshot::of_process(pid) else { continue };
            self.namespaces.insert(instance.netns, Start { before, after, pid });
        }
        Ok(())
    }

    /// What the kernel counted since, and our counts of the same namespaces; those whose processes are all gone are
    /// left out of both.
    fn compare(&self, kernel: &KernelSide) -> Result<(Counted, NetnsCounts), ProbeError> {
        let (mut all, mut ours) = (Counted::default(), NetnsCounts::default());
        for (netns, start) in &self.namespaces {
            let Ok(first) = Snapshot::of_process(start.pid) else { continue };
            let counts = kernel.netns_counts(Some(*netns))?;
            let Ok(last) = Snapshot::of_process(start.pid) else { continue };
            all.grown = last.since(&start.before).plus(&all.grown);
            all.between = last.since(&first).plus(&start.after.since(&start.before)).plus(&all.between);
            ours = ours.plus(&counts);
        }
        Ok((all, ours))
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
    let (counted, ours) = baseline.compare(kernel)?;
    Ok(Closing {
        from: clock.utc(from).rfc3339(),
        to: clock.utc(to).rfc3339(),
        tally: tally.clone(),
        reconciliation: reconcile(&counted, &observed(kernel, &ours), losses.total()),
        losses,
        hooks: kernel.hooks.clone(),
        ring_records: kernel.count(Counter::RingRecords)?,
        connections: kernel.count(Counter::Connections)?,
    })
}

/// What the hooks counted in the same namespaces. A count without its hook is not known, rather than zero.
fn observed(kernel: &KernelSide, counts: &NetnsCounts) -> Observed {
    let with = |hook: &str, count: u64| kernel.runs(hook).then_some(count);
    let with_reason = |count: u64| kernel.names_aborts().then_some(count);
    Observed {
        resets_sent: with("tcp_send_reset", counts.resets_sent),
        sees_answers: kernel.sees_answers(),
        established_resets: with("inet_sock_set_state", counts.established_resets),
        retransmits: with("tcp_retransmit_skb", counts.retransmits),
        listen_overflows: with("cgroup_ingress", counts.listen_overflows),
        sees_dropped_acks: kernel.sees_dropped_acks(),
        closed_unread: with("tcp_send_reset", counts.closed_unread),
        aborted_on_data: with("tcp_send_reset", counts.aborted_on_data),
        aborted_on_timeout: with("inet_sock_set_state", counts.aborted_on_timeout),
        aborted_on_memory: with_reason(counts.aborted_on_memory),
        aborted_on_linger: with_reason(counts.aborted_on_linger),
        resets_refused: kernel.sees_refused_resets().then_some(counts.resets_refused),
    }
}
