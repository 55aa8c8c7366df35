//! Full listeners: one record per listener and tenth of a second. Each carries the number of drops so far,
//! and the map has it too, so that drops after the last record are not lost.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use rstscope_ebpf::abi::{Counter, Forgetful, Hook, Kind, ListenPort, OverflowKey, OverflowState};

use super::emit;
use super::globals::offset;
use super::maps::{OVERFLOWS, count, keep, netns_counts};
use super::read::Memory;
use super::sock::{Identity, snapshot};
use super::{side, skb};

/// Shortest distance between two records of one listener, nanoseconds.
const RECORD_EVERY_NS: u64 = 100_000_000;

/// The accept queue (`sk_ack_backlog > sk_max_ack_backlog`).
pub const ACCEPT_QUEUE: u32 = 0;

/// Whether the accept queue has no room (`sk_acceptq_is_full`).
#[inline(always)]
pub fn is_full<M: Memory>(listener: M) -> bool {
    listener.get::<u32>(offset!(ack_backlog)) > listener.get::<u32>(offset!(max_ack_backlog))
}

/// Reports a packet that the full `listener` dropped.
#[inline(always)]
pub fn overflow<M: Memory>(hook: Hook, listener: M, id: &Identity, packet: Option<M>) {
    if let Some(counts) = netns_counts(id.netns) {
        counts.listen_overflows += 1;
    }
    let side = side::of(id, None);
    if side == rstscope_ebpf::abi::side::NONE {
        return;
    }
    count(Counter::Overflows, 1);
    let Some(dropped) = drops_to_report(id) else { return };
    // Not a closure: three programs would share it as a function of its own, see `read::copy`.
    let Some(mut entry) = emit::begin(Kind::ListenOverflow, hook) else { return };
    let record = emit::contents(&mut entry);
    snapshot(listener, id, side, None, &mut record.sock);
    record.queue = ACCEPT_QUEUE;
    record.dropped = dropped;
    if let Some(packet) = packet.and_then(Memory::checked) {
        skb::copy(packet, &mut record.packet);
    }
    emit::end(entry);
}

/// Counts one drop. The number so far if a record is due.
#[inline(always)]
fn drops_to_report(id: &Identity) -> Option<u64> {
    let key = OverflowKey {
        port: ListenPort { netns: id.netns, port: id.local_port, pad: 0 },
        queue: ACCEPT_QUEUE,
    };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(state) = OVERFLOWS.get_ptr_mut(key) else {
        keep(Forgetful::Overflows, &OVERFLOWS, &key, &OverflowState { last_record_ns: now, total: 1 });
        return Some(1);
    };
    // SAFETY: a map value; a race between CPUs costs a count.
    let state = unsafe { &mut *state };
    state.total += 1;
    if now.wrapping_sub(state.last_record_ns) < RECORD_EVERY_NS {
        return None;
    }
    state.last_record_ns = now;
    Some(state.total)
}
