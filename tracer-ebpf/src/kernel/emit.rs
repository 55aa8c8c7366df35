//! Putting a record into the ring buffer. What finds the ring full, or exceeds a limit, is counted per hook, and
//! nothing else depends on it: programs update their state first.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use rstscope_ebpf::abi::{
    Conn, Counter, Hook, ICMP_RECORDS, Kind, MISSING, REPEATS, Record, STRANGER_RECORDS, WINDOW_NS,
};

use super::globals::config;
use super::maps::{BUDGET, EVENTS, count, count_limited, count_loss};
use super::read::clear;

/// Slots of `BUDGET`.
const ALL: u32 = 0;
const ICMP: u32 = 1;
const STRANGERS: u32 = 2;

/// Reserves a record, lets `fill` complete it, and submits it.
#[inline(always)]
pub fn record(kind: Kind, hook: Hook, fill: impl FnOnce(&mut Record)) {
    let Some(mut entry) = begin(kind, hook) else { return };
    fill(contents(&mut entry));
    end(entry);
}

/// A reserved record that is zero but for what every record has. It must be given to `end`.
#[inline(always)]
pub fn begin(kind: Kind, hook: Hook) -> Option<RingBufEntry<Record>> {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if !is_within_budget(now) {
        count_limited(hook);
        return None;
    }
    let Some(mut entry) = EVENTS.reserve::<Record>(0) else {
        count_loss(hook);
        return None;
    };
    clear(entry.as_mut_ptr());
    let record = contents(&mut entry);
    record.time_ns = now;
    // SAFETY: a helper without arguments.
    record.jiffies = unsafe { bpf_jiffies64() };
    record.kind = kind as u8;
    record.hook = hook as u8;
    record.reason = MISSING;
    Some(entry)
}

/// Whether this CPU may make another record: a storm, or somebody who sends to Nginx's ports what nobody waits for,
/// must not keep the host busy with telling.
#[inline(always)]
fn is_within_budget(now: u64) -> bool {
    spend(ALL, now, u64::from(config!(records_per_window)))
}

/// Whether this CPU may tell another ICMP error.
#[inline(always)]
pub fn may_tell_icmp() -> bool {
    may_tell(Hook::IcmpError, ICMP, ICMP_RECORDS)
}

/// Whether this CPU may tell another RST that answers a segment of no connection known.
#[inline(always)]
pub fn may_tell_stranger(hook: Hook) -> bool {
    may_tell(hook, STRANGERS, STRANGER_RECORDS)
}

#[inline(always)]
fn may_tell(hook: Hook, slot: u32, limit: u64) -> bool {
    // SAFETY: a helper without arguments.
    let may = spend(slot, unsafe { bpf_ktime_get_ns() }, limit);
    if !may {
        count_limited(hook);
    }
    may
}

#[inline(always)]
fn spend(slot: u32, now: u64, limit: u64) -> bool {
    let Some(budget) = BUDGET.get_ptr_mut(slot) else { return false };
    // SAFETY: a per-CPU value; programs on one CPU do not preempt each other.
    let budget = unsafe { &mut *budget };
    let window = now / WINDOW_NS;
    if budget.window != window {
        budget.window = window;
        budget.spent = 0;
    }
    budget.spent += 1;
    budget.spent <= limit
}

/// Whether something that can come again and again may be told of this connection once more.
#[inline(always)]
pub fn may_repeat(hook: Hook, conn: &mut Conn) -> bool {
    if conn.repeats >= REPEATS {
        count_limited(hook);
        return false;
    }
    conn.repeats += 1;
    true
}

/// What was reserved.
#[inline(always)]
pub fn contents(entry: &mut RingBufEntry<Record>) -> &mut Record {
    // SAFETY: the entry is as large as a record, and `begin` has cleared it; zero is valid for every field.
    unsafe { &mut *entry.as_mut_ptr() }
}

/// Submits a record.
#[inline(always)]
pub fn end(entry: RingBufEntry<Record>) {
    entry.submit(0);
    count(Counter::RingRecords, 1);
}
