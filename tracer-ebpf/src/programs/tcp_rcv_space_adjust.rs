//! The first read tells which worker owns an accepted connection.
//!
//! match-proto: `tcp_rcv_space_adjust(struct sock *sk)`, 4.16 to 7.2. Called from `tcp_recvmsg` only: process context.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::kernel::read::Kernel;
use crate::kernel::sock::cookie;
use crate::kernel::{side, task};

#[raw_tracepoint(tracepoint = "tcp_rcv_space_adjust")]
fn tcp_rcv_space_adjust(ctx: RawTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    let Some(conn) = side::conn(cookie(sk)) else { return 0 };
    if conn.owner_pid == 0 {
        conn.owner_pid = task::current_pid();
        task::leader_comm(task::current(), &mut conn.comm);
    }
    0
}
