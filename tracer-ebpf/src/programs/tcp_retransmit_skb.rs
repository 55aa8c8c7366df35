//! Retransmissions are counted, never reported: the socket itself carries how many it made.
//!
//! match-proto: `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb)` to 6.14,
//! `(…, int err)` from 6.17, where it also fires for failed attempts.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::kernel::globals::offset;
use crate::kernel::maps::netns_counts;
use crate::kernel::read::{Kernel, read};
use crate::kernel::sock::netns;

#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
fn tcp_retransmit_skb(ctx: RawTracePointContext) -> i32 {
    if let Some(counts) = netns_counts(netns(ctx.arg(0))) {
        counts.retransmits += segments(ctx.arg(1));
    }
    0
}

/// `tcp_skb_pcount`: `TcpRetransSegs` counts segments, not skbs.
#[inline(always)]
fn segments(skb: Kernel) -> u64 {
    let control_block = skb.wrapping_add(offset!(skb_cb) as usize);
    u64::from(read::<u16>(control_block, offset!(tcp_gso_segs))).max(1)
}
