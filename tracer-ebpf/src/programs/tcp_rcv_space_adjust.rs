//! The first read tells which worker owns an accepted connection.
//!
//! match-proto: `tcp_rcv_space_adjust(struct sock *sk)`, 4.16 to 7.2. Called from `tcp_recvmsg` only: process context.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::kernel::maps::{SETTLED, SETTLED_SLOTS};
use crate::kernel::read::{Checked, Memory, Typed};
use crate::kernel::sock::cookie;
use crate::kernel::{conns, task};

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn tcp_rcv_space_adjust_typed(ctx: BtfTracePointContext) -> i32 {
    read_by_current(Typed::at(ctx.arg(0)));
    0
}

#[raw_tracepoint(tracepoint = "tcp_rcv_space_adjust")]
fn tcp_rcv_space_adjust(ctx: RawTracePointContext) -> i32 {
    read_by_current(Checked::at(ctx.arg(0)));
    0
}

/// Called for every read of every connection, while there is something to learn from the first one only: `SETTLED`
/// remembers what needs no look-up any more.
#[inline(always)]
fn read_by_current<M: Memory>(sk: M) {
    let cookie = cookie(sk);
    if cookie == 0 {
        return; // No connection of Nginx is without one.
    }
    let Some(settled) = SETTLED.get_ptr_mut(cookie as u32 % SETTLED_SLOTS) else { return };
    // SAFETY: a map value of one word; CPUs that share a slot only make each other look up again.
    if unsafe { *settled } == cookie {
        return;
    }
    if let Some(conn) = conns::find(cookie)
        && conn.owner_pid == 0
    {
        conn.owner_pid = task::current_pid();
        task::leader_comm(M::current_task(), &mut conn.comm);
    }
    // SAFETY: as above.
    unsafe { *settled = cookie };
}
