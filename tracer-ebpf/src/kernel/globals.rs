//! Globals that user space sets before loading. They live in `.rodata`, which is frozen, so the
//! verifier knows their values and removes the branches they switch off.

use rstscope_ebpf::abi::{Config, DropReasons, MISSING, Offsets};

#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::MISSING;

#[unsafe(no_mangle)]
pub static REASONS: DropReasons = DropReasons::MISSING;

#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    netns: 0,
    upstream_filter: 0,
    oom_arg_is_task: 0,
    send_reset_has_reason: 0,
    retransmit_has_error: 0,
    kfree_skb_has_socket: 0,
    drop_reason_tells_overflow: 0,
    tracing_makes_cookies: 0,
    hops_are_a_byte: 0,
    reads_memory: 0,
    reason_abort_on_linger: MISSING,
    reason_abort_on_memory: MISSING,
    reason_invalid_syn: MISSING,
    tick_us: 4_000,
    conn_slot_mask: 0,
    records_per_window: u32::MAX,
};

/// A member's offset. Volatile, or the compiler would fold in the default.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: reads an initialised static.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::globals::OFFSETS.$field) }
    };
}

/// A drop reason's value.
macro_rules! drop_reason {
    ($field:ident) => {
        // SAFETY: reads an initialised static.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::globals::REASONS.$field) }
    };
}

/// A configuration value.
macro_rules! config {
    ($field:ident) => {
        // SAFETY: reads an initialised static.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::globals::CONFIG.$field) }
    };
}

pub(crate) use {config, drop_reason, offset};
