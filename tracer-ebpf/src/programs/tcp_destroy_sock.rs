//! The connection is gone for good; its entry goes too.
//!
//! match-proto: `tcp_destroy_sock(struct sock *sk)`, 4.16 to 7.2.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::kernel::maps::CONNS;
use crate::kernel::read::Kernel;
use crate::kernel::sock::cookie;

#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    let cookie = cookie(sk);
    if cookie != 0 {
        let _most_sockets_are_not_nginxs = CONNS.remove(cookie);
    }
    0
}
