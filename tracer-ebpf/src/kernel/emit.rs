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
    clear(record);
    // SAFETY: the entry is as large as a record, and all of it was written.
    let record = unsafe { &mut *record };
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

/// Zeroes a record word by word. A `memset` would be a loop over bytes, which the verifier walks through.
#[inline(always)]
fn clear(record: *mut Record) {
    const WORDS: usize = size_of::<Record>() / size_of::<u64>();
    for word in 0..WORDS {
        // SAFETY: inside the record, which is aligned to words; zero is valid for every field.
        unsafe { core::ptr::write_volatile(record.cast::<u64>().add(word), 0) };
    }
}

const _: () = assert!(size_of::<Record>() % size_of::<u64>() == 0);
