//! The end of one of Nginx's processes, before its files are closed.
//!
//! match-proto: `sched_process_exit(struct task_struct *p)`, `(…, bool group_dead)` from 6.17.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use rstscope_ebpf::abi::{Hook, Kind};

use crate::kernel::globals::offset;
use crate::kernel::maps::NGINX;
use crate::kernel::read::{Kernel, read};
use crate::kernel::{emit, task};

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let exiting: Kernel = ctx.arg(0);
    let pid = read::<u32>(exiting, offset!(task_tgid));
    if !task::is_nginx(pid) || pid != read::<u32>(exiting, offset!(task_pid)) {
        return 0;
    }
    emit::record(Kind::ProcessExit, Hook::SchedProcessExit, |record| {
        task::describe(exiting, true, &mut record.task);
    });
    let _was_there = NGINX.remove(pid);
    0
}
