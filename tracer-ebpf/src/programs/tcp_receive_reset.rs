//! A RST was accepted: `tcp_reset()` is about to kill the socket.
//!
//! match-proto: `tcp_receive_reset(struct sock *sk)`, 4.16 to 7.2. Always a full socket.
//! It also fires without a RST on the wire, when data arrives after a local shutdown
//! (`tcp_rcv_state_process`); the record then carries no packet, and a sent RST follows.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use rstscope_ebpf::abi::{Forgetful, Hook, Kind, Tombstone, Tuple, side};

use crate::kernel::conns;
use crate::kernel::maps::{RESETS, TOMBSTONES, keep, netns_counts};
use crate::kernel::read::{Checked, Memory, Typed, copy};
use crate::kernel::sock::{Identity, identity, newest_sent_ns, snapshot};
use crate::kernel::{emit, side as sides, task};

#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset_typed(ctx: BtfTracePointContext) -> i32 {
    received(Typed::at(ctx.arg(0)));
    0
}

#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
fn tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    received(Checked::at(ctx.arg(0)));
    0
}

#[inline(always)]
fn received<M: Memory>(sk: M) {
    let Some(id) = identity(sk) else { return };
    if let Some(counts) = netns_counts(id.netns) {
        counts.resets_received += 1;
    }
    let mut conn = conns::find(id.cookie);
    let side = sides::of(&id, conn.as_deref());
    if side == side::NONE {
        return;
    }
    bury(&id, side);
    if let Some(conn) = &mut conn {
        conn.reset_seen = 1;
    }
    emit::record(Kind::ResetReceived, Hook::TcpReceiveReset, |record| {
        snapshot(sk, &id, side, conn.as_deref(), &mut record.sock);
        if let Some(sk) = sk.checked() {
            record.sock.newest_sent_ns = newest_sent_ns(sk, record.sock.snd_nxt);
        }
        task::describe(M::current_task(), false, &mut record.task);
        if let Some(packet) = RESETS.get_ptr(id.cookie) {
            copy(&raw mut record.packet, packet);
        }
        if let Some(conn) = conn.as_deref() {
            copy(&raw mut record.syn_ack, &raw const conn.syn_ack);
        }
    });
}

/// Remembers the tuple, so that what the peer still sends is recognised.
#[inline(always)]
fn bury(id: &Identity, side: u8) {
    let tuple = Tuple {
        local: id.local,
        remote: id.remote,
        netns: 0,
        local_port: id.local_port,
        remote_port: id.remote_port,
    };
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() };
    let stone = Tombstone { time_ns, cookie: id.cookie, side: u32::from(side), received: 1 };
    keep(Forgetful::Tombstones, &TOMBSTONES, &tuple, &stone);
}
