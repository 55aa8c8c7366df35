//! Dropped packets with a reason: netfilter of this host, full listeners, RSTs that were refused, segments without a socket.
//! An accepted RST is freed in another way and never passes here.
//!
//! match-proto: `kfree_skb(struct sk_buff *skb, void *location)` to 5.16, `(…, enum skb_drop_reason reason)` from 5.17,
//! `(…, struct sock *rx_sk)` from 6.11. A raw tracepoint on purpose, see `tcp_send_reset`: `rx_sk` is often null.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use rstscope_ebpf::abi::{Filtered, Forgetful, Hook, Kind, side};

use super::tcp_send_reset;
use crate::kernel::conns;
use crate::kernel::globals::{config, drop_reason, offset};
use crate::kernel::maps::{FILTERED, keep, netns_counts};
use crate::kernel::read::{Checked, Memory};
use crate::kernel::sock::{cookie, identity, snapshot, state};
use crate::kernel::{emit, listener, side as sides, skb, task};

#[raw_tracepoint(tracepoint = "kfree_skb")]
fn kfree_skb(ctx: RawTracePointContext) -> i32 {
    let reason = ctx.arg::<u32>(2);
    if config!(send_reset_has_reason) == 0 && reason == drop_reason!(no_socket) {
        answered(Checked::at(ctx.arg(0)), reason);
        return 0;
    }
    if reason == drop_reason!(netfilter_drop) {
        filtered(Checked::at(ctx.arg(0)));
        return 0;
    }
    if config!(kfree_skb_has_socket) == 0 {
        return 0;
    }
    let overflow = reason == drop_reason!(tcp_listen_overflow);
    let no_socket = reason == drop_reason!(no_socket);
    if !(overflow || no_socket || refuses_reset(reason)) {
        return 0;
    }
    let sk = Checked::at(ctx.arg(3));
    if !sk.is_null() {
        dropped(Checked::at(ctx.arg(0)), sk, reason, overflow, no_socket);
    }
    0
}

/// Netfilter of this host dropped a packet of Nginx's: on its way out it has its socket, on its way in the one that early
/// demultiplexing found for it (`tcp_v4_early_demux`). Told with the next record of the connection.
#[inline(always)]
fn filtered(packet: Checked) {
    let sk = packet.follow(offset!(skb_sk));
    if sk.is_null() {
        return;
    }
    let cookie = cookie(sk);
    if conns::find(cookie).is_none() {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the entry is updated in place; a torn read of a statistic does no harm.
    if let Some(entry) = FILTERED.get_ptr_mut(cookie).map(|entry| unsafe { &mut *entry }) {
        entry.last_ns = now;
        entry.count += 1;
        return;
    }
    keep(Forgetful::Filtered, &FILTERED, &cookie, &Filtered { last_ns: now, count: 1 });
}

/// A segment without a socket is answered with a RST, which `tcp_send_reset` does not tell before 6.10.
/// It does where it passes a reason.
#[inline(always)]
fn answered(packet: Checked, reason: u32) {
    let headers = skb::headers(packet);
    // RSTs are never answered; datagrams have the same reason.
    if headers.is_tcp() && headers.flags() & skb::RST == 0 {
        tcp_send_reset::without_socket(Hook::KfreeSkb, Checked::at(core::ptr::null()), packet, reason);
    }
}

#[inline(always)]
fn refuses_reset(reason: u32) -> bool {
    reason == drop_reason!(tcp_reset)
        || reason == drop_reason!(tcp_old_sequence)
        || reason == drop_reason!(tcp_invalid_sequence)
        || reason == drop_reason!(tcp_invalid_end_sequence)
}

#[inline(always)]
fn dropped(packet: Checked, sk: Checked, reason: u32, overflow: bool, no_socket: bool) {
    let Some(id) = identity(sk) else { return };
    // The ACK of a SYN cookie that found the accept queue full is "without a socket", although its listener is
    // named (`tcp_get_cookie_sock`); a segment that really has none names no socket.
    if overflow || (no_socket && id.state == state::LISTEN && listener::is_full(sk)) {
        listener::overflow(Hook::KfreeSkb, sk, &id, Some(packet));
        return;
    }
    if no_socket || id.state == state::LISTEN || skb::headers(packet).flags() & skb::RST == 0 {
        return;
    }
    if reason == drop_reason!(tcp_reset)
        && id.state != state::SYN_SENT
        && let Some(counts) = netns_counts(id.netns)
    {
        counts.resets_refused += 1;
    }
    let mut conn = conns::find(id.cookie);
    let side = sides::of(&id, conn.as_deref());
    if side == side::NONE {
        return;
    }
    if let Some(conn) = &mut conn
        && !emit::may_repeat(Hook::KfreeSkb, conn)
    {
        return;
    }
    emit::record(Kind::ResetRefused, Hook::KfreeSkb, |record| {
        snapshot(sk, &id, side, conn.as_deref(), &mut record.sock);
        task::describe(Checked::current_task(), false, &mut record.task);
        record.reason = reason;
        skb::copy(packet, &mut record.packet);
    });
}
