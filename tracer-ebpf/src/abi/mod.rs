//! Layout of everything that crosses the kernel boundary.

pub mod config;
pub mod map;
pub mod offsets;
pub mod record;

pub use config::{Config, DropReasons};
pub use map::{
    Conn, Departed, DepartedKey, Endpoint, Filtered, GivenUp, ListenAddress, ListenPort, OverflowKey,
    OverflowState, Peer, PeerKey, Slot, Tombstone, Tuple,
};
pub use offsets::{MISSING, Offsets};
pub use record::{HEADER_BYTES, Header, Record, Sock, Task};

/// Hooks, by the index they use in the loss counters and in `Record::hook`.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the kernel's tracepoints")]
pub enum Hook {
    InetSockSetState = 0,
    TcpReceiveReset = 1,
    TcpSendReset = 2,
    TcpRetransmitSkb = 3,
    TcpRetransmitSynack = 4,
    TcpRcvSpaceAdjust = 5,
    TcpDestroySock = 6,
    KfreeSkb = 7,
    InetSkErrorReport = 8,
    SchedProcessFork = 9,
    SchedProcessExit = 10,
    MarkVictim = 11,
    CgroupIngress = 12,
    SockOps = 13,
    IcmpError = 14,
    CgroupGetpeername4 = 15,
    CgroupGetpeername6 = 16,
}

/// Number of hooks, the size of the loss counters.
pub const HOOKS: u32 = 17;

/// Counters kept per CPU, by index.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Records put into the ring buffer.
    RingRecords = 0,
    /// Packets dropped by full listeners of Nginx.
    Overflows = 1,
    /// Connections of Nginx followed.
    Connections = 2,
    /// Connections of Nginx that found the table full, and are not followed.
    ConnectionsRefused = 3,
}

/// Tables that forget their oldest entry when they are full; new entries are counted by this index.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the tables")]
pub enum Forgetful {
    Resets = 0,
    Tombstones = 1,
    Endpoints = 2,
    Peers = 3,
    Departed = 4,
    Overflows = 5,
    Filtered = 6,
}

/// Number of these tables.
pub const FORGETFUL: u32 = 7;

/// Length of the stretch of time that the limit of records is for: 2^30 ns, about a second.
pub const WINDOW_NS: u64 = 1 << 30;

/// Records that tell of one connection again and again (refused RSTs, socket errors) before the rest is only counted.
pub const REPEATS: u8 = 8;

/// Microseconds by which the kernel's tick of this length may be behind its clock. Where the processor that counts it gets
/// no time, another one takes over after five ticks (`MAX_STALLED_JIFFIES`, 5.18); a virtual machine whose host is busy is
/// late beyond that. What a socket holds in ticks is earlier than it was by as much. Less than a delayed acknowledgment
/// takes (`TCP_DELACK_MIN`, 40 ms), as far as the tick allows.
pub const fn stalled_us(tick_us: u32) -> u64 {
    const TICKS: u64 = 8;
    const LEAST: u64 = 32_000;
    let ticks = TICKS * tick_us as u64;
    if ticks > LEAST { ticks } else { LEAST }
}

/// ICMP errors told per CPU and stretch of time: anybody can send them, and they must not use up what resets need.
pub const ICMP_RECORDS: u64 = 64;

/// RSTs that answer a segment of no connection known, told per CPU and stretch of time: anybody can make a host send
/// them, as many as he likes.
pub const STRANGER_RECORDS: u64 = 512;

/// Records of this CPU in the current stretch of time.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    /// Number of the stretch: time divided by `WINDOW_NS`.
    pub window: u64,
    /// Records made in it.
    pub spent: u64,
}

/// Number of counters.
pub const COUNTERS: u32 = 4;

/// What is counted of every TCP socket in the namespaces that Nginx lives in, to be held against the
/// kernel's own counters of the same namespace.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetnsCounts {
    /// RSTs sent by the TCP stack (`TcpOutRsts`).
    pub resets_sent: u64,
    /// RSTs accepted.
    pub resets_received: u64,
    /// Connections that left `ESTABLISHED` or `CLOSE_WAIT` for `CLOSE` (`TcpEstabResets`).
    pub established_resets: u64,
    /// Segments retransmitted (`TcpRetransSegs`).
    pub retransmits: u64,
    /// Connections closed with unread data (`TCPAbortOnClose`).
    pub closed_unread: u64,
    /// RSTs inside the window that were not exactly what was expected (answered by `TCPChallengeACK`).
    pub resets_refused: u64,
    /// Packets that a full accept queue dropped, of any listener (`ListenOverflows`).
    pub listen_overflows: u64,
    /// Connections closed with zero linger, or met by data after the close (`TCPAbortOnData`).
    pub aborted_on_data: u64,
    /// Connections given up with `ETIMEDOUT` (`TCPAbortOnTimeout`).
    pub aborted_on_timeout: u64,
    /// RSTs for lack of memory or too many orphans (`TCPAbortOnMemory`), from 6.12.
    pub aborted_on_memory: u64,
    /// RSTs of `TCP_LINGER2` (`TCPAbortOnLinger`), from 6.12.
    pub aborted_on_linger: u64,
}

impl NetnsCounts {
    /// Both added up.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            resets_sent: self.resets_sent + other.resets_sent,
            resets_received: self.resets_received + other.resets_received,
            established_resets: self.established_resets + other.established_resets,
            retransmits: self.retransmits + other.retransmits,
            closed_unread: self.closed_unread + other.closed_unread,
            resets_refused: self.resets_refused + other.resets_refused,
            listen_overflows: self.listen_overflows + other.listen_overflows,
            aborted_on_data: self.aborted_on_data + other.aborted_on_data,
            aborted_on_timeout: self.aborted_on_timeout + other.aborted_on_timeout,
            aborted_on_memory: self.aborted_on_memory + other.aborted_on_memory,
            aborted_on_linger: self.aborted_on_linger + other.aborted_on_linger,
        }
    }
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: a `repr(C)` struct of `u64` only, no padding, every bit pattern valid.
    unsafe impl aya::Pod for super::NetnsCounts {}
}

/// Kinds of record (`Record::kind`).
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at `model::EventKind`, which they become")]
pub enum Kind {
    ResetReceived = 1,
    ResetSent = 2,
    ResetRefused = 3,
    Closed = 4,
    ListenOverflow = 5,
    ProcessExit = 6,
    OomVictim = 7,
    IcmpError = 8,
}

/// Sides (`Conn::side`, `Sock::side`); zero is "none of ours".
pub mod side {
    /// Not a connection of interest.
    pub const NONE: u8 = 0;
    /// Nginx towards a client.
    pub const CLIENT: u8 = 1;
    /// Nginx towards an upstream.
    pub const UPSTREAM: u8 = 2;
    /// The upstream's own end on this host.
    pub const UPSTREAM_PEER: u8 = 3;
    /// The client's own end on this host.
    pub const CLIENT_PEER: u8 = 4;
}
