//! The task that runs.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use rstscope_ebpf::abi::record::{Task, task_flag};

use super::globals::offset;
use super::maps::NGINX;
use super::read::{Kernel, copy, read, read_pointer};

/// `PF_EXITING` of `include/linux/sched.h`, the same since 2.6.
const PF_EXITING: u32 = 0x4;

/// The running task.
#[inline(always)]
pub fn current() -> Kernel {
    // SAFETY: no arguments; returns a valid task.
    unsafe { bpf_get_current_task() as Kernel }
}

/// tgid of a task.
#[inline(always)]
pub fn pid(task: Kernel) -> u32 {
    read(task, offset!(task_tgid))
}

/// tgid of the running task.
#[inline(always)]
pub fn current_pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Thread id of the running task.
#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// Whether the process is one of Nginx's.
#[inline(always)]
pub fn is_nginx(pid: u32) -> bool {
    // SAFETY: the value is a byte, nothing else writes through the reference while it is read.
    unsafe { NGINX.get(pid) }.is_some()
}

/// Whether the running task is exiting.
#[inline(always)]
pub fn current_is_exiting() -> bool {
    read::<u32>(current(), offset!(task_flags)) & PF_EXITING != 0
}

/// How often the running task gave up its CPU by itself. Unchanged: it has not waited for an event since.
#[inline(always)]
pub fn current_sleeps() -> u64 {
    read(current(), offset!(task_nvcsw))
}

/// Copies `comm` of the thread group leader; 16 bytes (`TASK_COMM_LEN`), zeros if they cannot be read.
#[inline(always)]
pub fn leader_comm(task: Kernel, comm: &mut [u8; 16]) {
    let name = read_pointer(task, offset!(task_leader)).wrapping_add(offset!(task_comm) as usize);
    copy(&raw mut *comm, name.cast());
}

/// Describes `task`. `actor` says whether it caused what is reported.
#[inline(always)]
pub fn describe(task: Kernel, actor: bool, out: &mut Task) {
    out.pid = read::<u32>(task, offset!(task_tgid));
    out.tid = read::<u32>(task, offset!(task_pid));
    out.exit_code = 0;
    out.flags = if actor { task_flag::ACTOR } else { 0 };
    if is_nginx(out.pid) {
        out.flags |= task_flag::NGINX;
    }
    if read::<u32>(task, offset!(task_flags)) & PF_EXITING != 0 {
        out.flags |= task_flag::EXITING;
        out.exit_code = exit_code(task);
    }
    leader_comm(task, &mut out.comm);
}

/// A thread killed with its group carries the code in the group's place (`do_group_exit`).
#[inline(always)]
fn exit_code(task: Kernel) -> u32 {
    let group = read::<u32>(read_pointer(task, offset!(task_signal)), offset!(group_exit_code));
    if group != 0 { group } else { read::<u32>(task, offset!(task_exit_code)) }
}
