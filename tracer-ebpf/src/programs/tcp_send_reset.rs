//! A RST was sent by the TCP stack.
//!
//! match-proto: `tcp_send_reset(const struct sock *sk, const struct sk_buff *skb)` to 6.9, full sockets only;
//! `(…, const enum sk_rst_reason reason)` from 6.10, where `sk` may be null or a `TIME_WAIT` socket.
//! `skb` is the segment that is answered, null for a RST of our own accord.
//! A raw tracepoint first: its arguments are scalars, so that tests for null are real on every kernel. The typed
//! form is for kernels that let nothing else read their memory, and only where the verifier is known to respect such
//! tests (`probe::nullable`); it cannot read packets, so it has no RSTs without a connection.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use rstscope_ebpf::abi::{Hook, Kind, MISSING, NetnsCounts, Record, Tombstone, Tuple, side};

use crate::kernel::conns;
use crate::kernel::globals::{config, offset};
use crate::kernel::maps::{TOMBSTONES, netns_counts};
use crate::kernel::read::{Checked, Memory, Typed, copy};
use crate::kernel::sock::{
    Identity, addresses, backlog, identity, is_full, lingers_not, netns, owned, snapshot, state,
};
use crate::kernel::{emit, listener, side as sides, skb, task};

/// `SHUTDOWN_MASK` of `include/net/sock.h`.
const SHUTDOWN_MASK: u8 = 3;
/// `SOCK_DONE` of `enum sock_flags`: a FIN was received. Bit 1 in every kernel from 4.19.
const SOCK_DONE: u32 = 1 << 1;

#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_send_reset_typed(ctx: BtfTracePointContext) -> i32 {
    let reason = if config!(send_reset_has_reason) == 1 { ctx.arg::<u32>(2) } else { MISSING };
    sent(Typed::at(ctx.arg(0)), Typed::at(ctx.arg(1)), reason);
    0
}

#[raw_tracepoint(tracepoint = "tcp_send_reset")]
fn tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    let reason = if config!(send_reset_has_reason) == 1 { ctx.arg::<u32>(2) } else { MISSING };
    sent(Checked::at(ctx.arg(0)), Checked::at(ctx.arg(1)), reason);
    0
}

#[inline(always)]
fn sent<M: Memory>(sk: M, trigger: M, reason: u32) {
    if !is_connection(sk, trigger) {
        without_socket(Hook::TcpSendReset, sk, trigger, reason);
        return;
    }
    let Some(id) = identity(sk) else { return };
    if let Some(counts) = netns_counts(id.netns) {
        counts.resets_sent += 1;
        count_abort(counts, sk, &id, trigger, reason);
    }
    with_socket(sk, &id, trigger, reason);
}

/// Counts a RST as the kernel counts the abort it belongs to (`__tcp_close`, `tcp_rcv_state_process`,
/// `tcp_out_of_resources`).
#[inline(always)]
fn count_abort<M: Memory>(counts: &mut NetnsCounts, sk: M, id: &Identity, trigger: M, reason: u32) {
    if !trigger.is_null() {
        // Only data after the close leaves a full socket that has just become CLOSE.
        counts.aborted_on_data += u64::from(id.state == state::CLOSE);
        return;
    }
    if reason != MISSING && reason == config!(reason_abort_on_linger) {
        counts.aborted_on_linger += 1;
    } else if reason != MISSING && reason == config!(reason_abort_on_memory) {
        counts.aborted_on_memory += 1;
    } else if id.state == state::CLOSE && sk.get::<u8>(offset!(shutdown)) == SHUTDOWN_MASK && owned(sk) {
        let unread = has_unread(sk);
        counts.closed_unread += u64::from(unread);
        counts.aborted_on_data += u64::from(!unread && lingers_not(sk));
    }
}

/// Whether there is data that nobody has read: `rcv_nxt` is ahead of `copied_seq` by more than the peer's FIN.
#[inline(always)]
fn has_unread<M: Memory>(sk: M) -> bool {
    let Some(tcp) = sk.tcp() else { return false };
    let fin = u32::from(sk.get::<u32>(offset!(flags)) & SOCK_DONE != 0);
    let ahead = tcp.get::<u32>(offset!(rcv_nxt)).wrapping_sub(tcp.get(offset!(copied_seq)));
    ahead.wrapping_sub(fin) as i32 > 0
}

/// A listener answers for a connection that it does not know: the tuple is the packet's, as without a socket.
#[inline(always)]
fn is_connection<M: Memory>(sk: M, trigger: M) -> bool {
    !sk.is_null() && (trigger.is_null() || sk.get::<u8>(offset!(state)) != state::LISTEN)
}

#[inline(always)]
fn count_sent(netns: u32) {
    if let Some(counts) = netns_counts(netns) {
        counts.resets_sent += 1;
    }
}

#[inline(always)]
fn with_socket<M: Memory>(sk: M, id: &Identity, trigger: M, reason: u32) {
    let conn = conns::find(id.cookie);
    let side = match conn.as_deref() {
        Some(conn) => conn.side,
        None => sides::of_tuple(id),
    };
    if side == side::NONE {
        return;
    }
    // `current` is the actor only for a RST of our own accord, while it holds the socket.
    let actor = trigger.is_null() && is_full(id.state) && owned(sk);
    emit::record(Kind::ResetSent, Hook::TcpSendReset, |record| {
        snapshot(sk, id, side, conn.as_deref(), &mut record.sock);
        if let Some(conn) = conn.as_deref() {
            copy(&raw mut record.syn_ack, &raw const conn.syn_ack);
        }
        finish(record, trigger, reason, actor);
    });
}

/// A segment for which there is no connection. Reported if a RST killed the connection shortly before,
/// if the port is one of Nginx's, or if it is one that Nginx connects to. `listener` may be null.
#[inline(always)]
pub fn without_socket<M: Memory>(hook: Hook, listener: M, trigger: M, reason: u32) {
    if trigger.is_null() {
        return;
    }
    let netns = if listener.is_null() { packet_netns(trigger) } else { netns(listener) };
    count_sent(netns);
    if is_overflow(listener, reason) {
        overflowed(listener);
    }
    let Some(packet) = trigger.checked() else { return };
    let Some(mut id) = skb::headers(packet).receiver() else { return };
    id.netns = netns;
    let stone = tombstone(&id);
    let side = stone.map_or_else(|| sides::of_tuple(&id), |stone| stone.side as u8);
    if side == side::NONE || (stone.is_none() && !emit::may_tell_stranger(hook)) {
        return;
    }
    // Not a closure: two programs would share it as a function of its own, see `read::copy`.
    let Some(mut entry) = emit::begin(Kind::ResetSent, hook) else { return };
    let record = emit::contents(&mut entry);
    if !listener.is_null() {
        backlog(listener, &mut record.sock);
    }
    id.cookie = stone.map_or(0, |stone| stone.cookie);
    addresses(&id, side, &mut record.sock);
    record.after_reset_ns = stone.map_or(0, |stone| stone.time_ns);
    finish(record, trigger, reason, false);
    emit::end(entry);
}

/// Whether the listener was full and `tcp_abort_on_overflow` says so with a RST (`tcp_check_req`), on kernels that
/// tell it by nothing else. The same reason is given for a bad SYN in a handshake, which meets a queue with room.
#[inline(always)]
fn is_overflow<M: Memory>(listener: M, reason: u32) -> bool {
    config!(drop_reason_tells_overflow) == 0
        && reason != MISSING
        && reason == config!(reason_invalid_syn)
        && !listener.is_null()
        && listener::is_full(listener)
}

#[inline(always)]
fn overflowed<M: Memory>(listener: M) {
    if let Some(id) = identity(listener) {
        listener::overflow(Hook::TcpSendReset, listener, &id, None);
    }
}

#[inline(always)]
fn finish<M: Memory>(record: &mut Record, trigger: M, reason: u32, actor: bool) {
    record.reason = reason;
    task::describe(M::current_task(), actor, &mut record.task);
    if let Some(packet) = trigger.checked()
        && !packet.is_null()
    {
        skb::copy(packet, &mut record.packet);
    }
}

/// The namespace of a packet without a socket: that of the device it came in on.
#[inline(always)]
fn packet_netns<M: Memory>(packet: M) -> u32 {
    let device = packet.follow(offset!(skb_dev));
    if device.is_null() {
        return 0;
    }
    device.follow(offset!(dev_net)).get(offset!(ns_inum))
}

#[inline(always)]
fn tombstone(id: &Identity) -> Option<Tombstone> {
    let tuple = Tuple {
        local: id.local,
        remote: id.remote,
        netns: 0,
        local_port: id.local_port,
        remote_port: id.remote_port,
    };
    // SAFETY: the entry is copied at once.
    unsafe { TOMBSTONES.get(tuple) }.copied()
}
