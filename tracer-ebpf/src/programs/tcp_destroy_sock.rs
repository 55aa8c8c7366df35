//! The connection is gone for good; its entry goes too.
//!
//! match-proto: `tcp_destroy_sock(struct sock *sk)`, 4.16 to 7.2.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::kernel::conns;
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
    conns::remove(cookie(sk));
}
