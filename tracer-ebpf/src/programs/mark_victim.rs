//! The OOM killer has chosen a process.
//!
//! match-proto: `mark_victim(int pid)` to 6.8, `(struct task_struct *task, uid_t uid)` from 6.9 and in backports.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use rstscope_ebpf::abi::{Hook, Kind};

use crate::kernel::globals::config;
use crate::kernel::read::{Checked, Memory, Typed};
use crate::kernel::{emit, task};

#[btf_tracepoint(function = "mark_victim")]
fn mark_victim_typed(ctx: BtfTracePointContext) -> i32 {
    emit::record(Kind::OomVictim, Hook::MarkVictim, |record| {
        if config!(oom_arg_is_task) == 1 {
            task::describe(Typed::at(ctx.arg(0)), false, &mut record.task);
        } else {
            record.task.pid = ctx.arg::<u32>(0);
        }
    });
    0
}

#[raw_tracepoint(tracepoint = "mark_victim")]
fn mark_victim(ctx: RawTracePointContext) -> i32 {
    emit::record(Kind::OomVictim, Hook::MarkVictim, |record| {
        if config!(oom_arg_is_task) == 1 {
            task::describe(Checked::at(ctx.arg(0)), false, &mut record.task);
        } else {
            record.task.pid = ctx.arg::<u32>(0);
        }
    });
    0
}
