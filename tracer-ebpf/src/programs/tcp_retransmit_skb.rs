//! Retransmissions are counted, never reported: the socket itself carries how many it made.
//!
//! match-proto: `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb)` to 6.14,
//! `(…, int err)` from 6.17, where it also fires for failed attempts. `TcpRetransSegs` has only those of them that came
//! as far as the device, and `TCPRetransFail` has them again (`__tcp_retransmit_skb`), so only the others are counted.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::kernel::globals::{config, offset};
use crate::kernel::maps::netns_counts;
use crate::kernel::read::{Checked, Memory, Typed};
use crate::kernel::sock::netns;

#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit_skb_typed(ctx: BtfTracePointContext) -> i32 {
    if config!(retransmit_has_error) == 0 || ctx.arg::<i32>(2) == 0 {
        retransmitted(Typed::at(ctx.arg(0)), Typed::at(ctx.arg(1)));
    }
    0
}

#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
fn tcp_retransmit_skb(ctx: RawTracePointContext) -> i32 {
    if config!(retransmit_has_error) == 0 || ctx.arg::<i32>(2) == 0 {
        retransmitted(Checked::at(ctx.arg(0)), Checked::at(ctx.arg(1)));
    }
    0
}

#[inline(always)]
fn retransmitted<M: Memory>(sk: M, skb: M) {
    if let Some(counts) = netns_counts(netns(sk)) {
        counts.retransmits += segments(skb);
    }
}

/// `tcp_skb_pcount`: `TcpRetransSegs` counts segments, not skbs.
#[inline(always)]
fn segments<M: Memory>(skb: M) -> u64 {
    u64::from(skb.get::<u16>(offset!(skb_cb).saturating_add(offset!(tcp_gso_segs)))).max(1)
}
