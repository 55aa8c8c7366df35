//! Children of Nginx's processes are Nginx's processes: workers after a reload.
//!
//! match-proto: `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, all kernels.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::kernel::maps::NGINX;
use crate::kernel::read::{Checked, Memory, Typed};
use crate::kernel::task;

#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork_typed(ctx: BtfTracePointContext) -> i32 {
    forked(Typed::at(ctx.arg(0)), Typed::at(ctx.arg(1)));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    forked(Checked::at(ctx.arg(0)), Checked::at(ctx.arg(1)));
    0
}

#[inline(always)]
fn forked<M: Memory>(parent: M, child: M) {
    if task::is_nginx(task::pid(parent)) {
        let _full_is_seen_by_the_rescan = NGINX.insert(task::pid(child), 1, 0);
    }
}
