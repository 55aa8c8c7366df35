//! The task that runs.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use rstscope_ebpf::abi::record::{Task, task_flag};

use super::globals::offset;
use super::maps::NGINX;
use super::read::Memory;

/// `PF_EXITING` of `include/linux/sched.h`, the same since 2.6.
const PF_EXITING: u32 = 0x4;

/// tgid of a task.
#[inline(always)]
pub fn pid<M: Memory>(task: M) -> u32 {
    task.get(offset!(task_tgid))
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

/// Whether the task is exiting.
#[inline(always)]
pub fn is_exiting<M: Memory>(task: M) -> bool {
    task.get::<u32>(offset!(task_flags)) & PF_EXITING != 0
}

/// How often the task gave up its CPU by itself. Unchanged: it has not waited for an event since.
#[inline(always)]
pub fn sleeps<M: Memory>(task: M) -> u64 {
    task.get(offset!(task_nvcsw))
}

/// Copies `comm` of the thread group leader; 16 bytes (`TASK_COMM_LEN`), zeros if they cannot be read.
#[inline(always)]
pub fn leader_comm<M: Memory>(task: M, comm: &mut [u8; 16]) {
    task.follow(offset!(task_leader)).get_into(comm, offset!(task_comm));
}

/// Describes `task`. `actor` says whether it caused what is reported.
#[inline(always)]
pub fn describe<M: Memory>(task: M, actor: bool, out: &mut Task) {
    out.pid = pid(task);
    out.tid = task.get(offset!(task_pid));
    out.exit_code = 0;
    out.flags = if actor { task_flag::ACTOR } else { 0 };
    if is_nginx(out.pid) {
        out.flags |= task_flag::NGINX;
    }
    if is_exiting(task) {
        out.flags |= task_flag::EXITING;
        out.exit_code = exit_code(task);
    }
    leader_comm(task, &mut out.comm);
}

/// A thread killed with its group carries the code in the group's place (`do_group_exit`).
#[inline(always)]
fn exit_code<M: Memory>(task: M) -> u32 {
    let group = task.follow(offset!(task_signal)).get::<u32>(offset!(group_exit_code));
    if group != 0 { group } else { task.get(offset!(task_exit_code)) }
}
