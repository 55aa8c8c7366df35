//! Never attached: each of these dereferences an argument of `tcp_send_reset` that can be null, without a test.
//! A verifier that refuses them knows so, and respects tests; one that takes them may delete the tests, and a program
//! that relies on them would bring the host down (`probe::nullable`).

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::kernel::globals::offset;
use crate::kernel::read::{Memory, Typed};

#[btf_tracepoint(function = "tcp_send_reset")]
fn null_probe_socket(ctx: BtfTracePointContext) -> i32 {
    i32::from(Typed::at(ctx.arg(0)).get::<u8>(offset!(state)))
}

#[btf_tracepoint(function = "tcp_send_reset")]
fn null_probe_packet(ctx: BtfTracePointContext) -> i32 {
    i32::from(Typed::at(ctx.arg(1)).get::<u16>(offset!(skb_network_header)))
}
