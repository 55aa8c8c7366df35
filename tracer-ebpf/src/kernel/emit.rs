//! Putting a record into the ring buffer. A full ring is counted per hook, and nothing else depends on it.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use rstscope_ebpf::abi::{Counter, Hook, Kind, MISSING, Record};

use super::maps::{EVENTS, count, count_loss};
use super::read::clear;

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
    let Some(mut entry) = EVENTS.reserve::<Record>(0) else {
        count_loss(hook);
        return None;
    };
    clear(entry.as_mut_ptr());
    let record = contents(&mut entry);
    // SAFETY: helpers without arguments.
    unsafe {
        record.time_ns = bpf_ktime_get_ns();
        record.jiffies = bpf_jiffies64();
    }
    record.kind = kind as u8;
    record.hook = hook as u8;
    record.reason = MISSING;
    Some(entry)
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
