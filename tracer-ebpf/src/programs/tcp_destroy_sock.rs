//! The connection is gone for good; its entry goes too.
//!
//! match-proto: `tcp_destroy_sock(struct sock *sk)`, 4.16 to 7.2.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::kernel::maps::{CONNS, MORE_CONNS, more_conns_used};
use crate::kernel::read::{Checked, Memory, Typed};
use crate::kernel::sock::cookie;

#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock_typed(ctx: BtfTracePointContext) -> i32 {
    destroyed(Typed::at(ctx.arg(0)));
    0
}

#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    destroyed(Checked::at(ctx.arg(0)));
    0
}

#[inline(always)]
fn destroyed<M: Memory>(sk: M) {
    let cookie = cookie(sk);
    if cookie != 0 && CONNS.remove(cookie).is_err() && more_conns_used() {
        let _most_sockets_are_not_nginxs = MORE_CONNS.remove(cookie);
    }
}
