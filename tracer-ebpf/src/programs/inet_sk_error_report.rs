//! A socket error reaches the application. Errors that end a connection are reported with its end; what only
//! passes here is an error on a connection that goes on, an ICMP message for instance.
//!
//! match-proto: `inet_sk_error_report(const struct sock *sk)`, from 5.14. Not raised for orphans.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use rstscope_ebpf::abi::{Hook, Kind};

use crate::kernel::conns;
use crate::kernel::globals::offset;
use crate::kernel::read::{Checked, Memory, Typed, copy};
use crate::kernel::sock::{TCP, cookie, identity, snapshot, state};
use crate::kernel::{emit, task};

#[btf_tracepoint(function = "inet_sk_error_report")]
fn inet_sk_error_report_typed(ctx: BtfTracePointContext) -> i32 {
    reported(Typed::at(ctx.arg(0)));
    0
}

#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
fn inet_sk_error_report(ctx: RawTracePointContext) -> i32 {
    reported(Checked::at(ctx.arg(0)));
    0
}

#[inline(always)]
fn reported<M: Memory>(sk: M) {
    if sk.get::<u16>(offset!(protocol)) != TCP || sk.get::<u32>(offset!(err)) == 0 {
        return;
    }
    let Some(conn) = conns::find(cookie(sk)) else { return };
    let Some(id) = identity(sk) else { return };
    if conn.reset_seen == 1 || id.state == state::CLOSE || id.state == state::SYN_SENT {
        return; // The end of the connection is reported elsewhere.
    }
    if !emit::may_repeat(Hook::InetSkErrorReport, conn) {
        return;
    }
    emit::record(Kind::Closed, Hook::InetSkErrorReport, |record| {
        snapshot(sk, &id, conn.side, Some(conn), &mut record.sock);
        record.old_state = id.state;
        record.new_state = id.state;
        task::describe(M::current_task(), false, &mut record.task);
        copy(&raw mut record.syn_ack, &raw const conn.syn_ack);
    });
}
