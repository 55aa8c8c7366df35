//! A SYN-ACK is repeated although its ACK had come: the accept queue was full when it came.
//! Used where `kfree_skb` does not name the overflow itself.
//!
//! match-proto: `tcp_retransmit_synack(const struct sock *sk, const struct request_sock *req)`, 4.16 to 7.2.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use rstscope_ebpf::abi::Hook;

use crate::kernel::globals::{config, offset};
use crate::kernel::listener;
use crate::kernel::maps::netns_counts;
use crate::kernel::read::{Checked, Memory, bit};
use crate::kernel::sock::{identity, netns};

#[raw_tracepoint(tracepoint = "tcp_retransmit_synack")]
fn tcp_retransmit_synack(ctx: RawTracePointContext) -> i32 {
    let listener = Checked::at(ctx.arg(0));
    if let Some(counts) = netns_counts(netns(listener)) {
        counts.retransmits += 1; // `TcpRetransSegs` counts them, too.
    }
    if config!(drop_reason_tells_overflow) == 0 {
        repeated(listener, Checked::at(ctx.arg(1)));
    }
    0
}

#[inline(always)]
fn repeated(sk: Checked, request: Checked) {
    // `acked` is also set by TCP_DEFER_ACCEPT; only a full queue makes it an overflow.
    if !listener::is_full(sk) || !bit(request, offset!(req_acked_bit)) {
        return;
    }
    if let Some(id) = identity(sk) {
        listener::overflow(Hook::TcpRetransmitSynack, sk, &id, None);
    }
}
