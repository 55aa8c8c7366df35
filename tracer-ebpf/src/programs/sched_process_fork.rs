//! Children of Nginx's processes are Nginx's processes: workers after a reload.
//!
//! match-proto: `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, all kernels.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::kernel::globals::offset;
use crate::kernel::maps::NGINX;
use crate::kernel::read::read;
use crate::kernel::task::is_nginx;

#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let parent = read::<u32>(ctx.arg(0), offset!(task_tgid));
    if is_nginx(parent) {
        let child = read::<u32>(ctx.arg(1), offset!(task_tgid));
        let _full_is_seen_by_the_rescan = NGINX.insert(child, 1, 0);
    }
    0
}
