//! The end of one of Nginx's processes, before its files are closed.
//!
//! match-proto: `sched_process_exit(struct task_struct *p)`, `(…, bool group_dead)` from 6.17.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use rstscope_ebpf::abi::record::task_flag;
use rstscope_ebpf::abi::{Hook, Kind};

use crate::kernel::globals::offset;
use crate::kernel::maps::NGINX;
use crate::kernel::read::{Checked, Memory, Typed};
use crate::kernel::{emit, task};

#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit_typed(ctx: BtfTracePointContext) -> i32 {
    exits(Typed::at(ctx.arg(0)));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    exits(Checked::at(ctx.arg(0)));
    0
}

#[inline(always)]
fn exits<M: Memory>(exiting: M) {
    let pid = task::pid(exiting);
    if pid != exiting.get::<u32>(offset!(task_pid)) || !task::is_nginx(pid) {
        return;
    }
    let _was_there = NGINX.remove(pid);
    emit::record(Kind::ProcessExit, Hook::SchedProcessExit, |record| {
        task::describe(exiting, true, &mut record.task);
        record.task.flags |= task_flag::NGINX;
    });
}
