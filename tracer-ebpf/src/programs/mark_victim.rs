//! The OOM killer has chosen a process.
//!
//! match-proto: `mark_victim(int pid)` to 6.8, `(struct task_struct *task, uid_t uid)` from 6.9 and in backports.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use rstscope_ebpf::abi::{Hook, Kind};

use crate::kernel::globals::config;
use crate::kernel::{emit, task};

#[raw_tracepoint(tracepoint = "mark_victim")]
fn mark_victim(ctx: RawTracePointContext) -> i32 {
    emit::record(Kind::OomVictim, Hook::MarkVictim, |record| {
        if config!(oom_arg_is_task) == 1 {
            task::describe(ctx.arg(0), false, &mut record.task);
        } else {
            record.task.pid = ctx.arg::<u32>(0);
        }
    });
    0
}
