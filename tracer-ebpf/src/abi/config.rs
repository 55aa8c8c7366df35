//! Globals set before loading; the kernel freezes them, so the verifier sees constants.

/// Filters, decided at start.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Config {
    /// Inode number of the only network namespace to look at; zero for all.
    pub netns: u32,
    /// 1: only upstreams in `UPSTREAM_FILTER` are followed.
    pub upstream_filter: u32,
    /// 1: the first argument of `oom:mark_victim` is a task, not a pid (6.9 and backports).
    pub oom_arg_is_task: u32,
    /// 1: `tcp_send_reset` passes a reason (6.10 and later).
    pub send_reset_has_reason: u32,
    /// 1: `tcp_retransmit_skb` tells of failed attempts, too, with an error (6.17 and later).
    pub retransmit_has_error: u32,
    /// 1: `kfree_skb` passes the receiving socket (6.11 and later).
    pub kfree_skb_has_socket: u32,
    /// 1: `kfree_skb` reports full listeners (`TCP_LISTEN_OVERFLOW`), so SYN-ACK retransmits need not.
    pub drop_reason_tells_overflow: u32,
    /// 1: `bpf_get_socket_cookie` can be called from tracepoint programs (5.12 and later).
    pub tracing_makes_cookies: u32,
    /// 1: `ipv6_pinfo.mcast_hops` is a whole byte (6.8 and later).
    pub hops_are_a_byte: u32,
    /// 1: programs may read any of the kernel's memory (no `lockdown=confidentiality`).
    pub reads_memory: u32,
    /// `SK_RST_REASON_TCP_ABORT_ON_LINGER`; `MISSING` where RSTs of our own accord have no reason.
    pub reason_abort_on_linger: u32,
    /// `SK_RST_REASON_TCP_ABORT_ON_MEMORY`, likewise.
    pub reason_abort_on_memory: u32,
    /// `SK_RST_REASON_INVALID_SYN`, likewise.
    pub reason_invalid_syn: u32,
    /// Microseconds of a tick (`CONFIG_HZ`), in which sockets count time.
    pub tick_us: u32,
    /// One less than there are slots in `CONNS`, a power of two.
    pub conn_slot_mask: u32,
    /// Records that one CPU may put into the ring in `WINDOW_NS`; what is beyond is counted.
    pub records_per_window: u32,
}

/// Values of `enum skb_drop_reason` on the running kernel; `MISSING` where it has no such name.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names are those of enum skb_drop_reason")]
pub struct DropReasons {
    pub no_socket: u32,
    pub netfilter_drop: u32,
    pub tcp_listen_overflow: u32,
    pub tcp_reset: u32,
    pub tcp_old_sequence: u32,
    pub tcp_invalid_sequence: u32,
    pub tcp_invalid_end_sequence: u32,
}

impl DropReasons {
    /// No name known.
    pub const MISSING: Self = Self {
        no_socket: super::MISSING,
        netfilter_drop: super::MISSING,
        tcp_listen_overflow: super::MISSING,
        tcp_reset: super::MISSING,
        tcp_old_sequence: super::MISSING,
        tcp_invalid_sequence: super::MISSING,
        tcp_invalid_end_sequence: super::MISSING,
    };
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)` structs of `u32` only, no padding, every bit pattern valid.
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::DropReasons {}
}
