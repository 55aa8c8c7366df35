//! Putting a record into the ring buffer. A full ring is counted per hook, and nothing else depends on it.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use rstscope_ebpf::abi::{Counter, Hook, Kind, MISSING, Record};

use super::maps::{EVENTS, count, count_loss};

/// Reserves a record, lets `fill` complete it, and submits it.
#[inline(always)]
pub fn record(kind: Kind, hook: Hook, fill: impl FnOnce(&mut Record)) {
    let Some(mut entry) = EVENTS.reserve::<Record>(0) else {
        count_loss(hook);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is as large as a record; zero is a valid value for every field.
    let record = unsafe {
        core::ptr::write_bytes(record, 0, 1);
        &mut *record
    };
    // SAFETY: helpers without arguments.
    unsafe {
        record.time_ns = bpf_ktime_get_ns();
        record.jiffies = bpf_jiffies64();
    }
    record.kind = kind as u8;
    record.hook = hook as u8;
    record.reason = MISSING;
    fill(record);
    entry.submit(0);
    count(Counter::RingRecords, 1);
}
