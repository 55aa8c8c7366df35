//! The record in the ring buffer: one layout for every kind, so that reserving and reading are one path.

/// Bytes of IP and TCP header kept: 40 (IPv6) or 20 (IPv4; more with options, which hardly anybody sends) and up to 60
/// of TCP.
pub const HEADER_BYTES: usize = 104;

/// A packet's headers as captured, starting at the IP header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    /// When it was captured, `bpf_ktime_get_ns`.
    pub time_ns: u64,
    /// Interface it came in on; zero if unknown.
    pub ifindex: u32,
    /// Bytes of `bytes` that were captured; zero: no packet.
    pub len: u16,
    /// 1: `source_mac` is known.
    pub has_mac: u16,
    /// Who put it on the link it came in by, an Ethernet address.
    pub source_mac: [u8; 6],
    /// Padding.
    pub pad: [u8; 2],
    /// IP header and TCP header. What follows them within `len` is not part of the contract.
    pub bytes: [u8; HEADER_BYTES],
}

impl Header {
    /// No packet.
    pub const EMPTY: Self = Self {
        time_ns: 0,
        ifindex: 0,
        len: 0,
        has_mac: 0,
        source_mac: [0; 6],
        pad: [0; 2],
        bytes: [0; HEADER_BYTES],
    };
}

/// The task that ran.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Task {
    /// tgid.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Bits of `task_flag`.
    pub flags: u32,
    /// `task_struct.exit_code` or, if zero, `signal_struct.group_exit_code`; meaningful with `EXITING`.
    pub exit_code: u32,
    /// `comm` of the thread group leader.
    pub comm: [u8; 16],
}

/// Bits of `Task::flags`.
pub mod task_flag {
    /// The task acted itself.
    pub const ACTOR: u32 = 1;
    /// `PF_EXITING`.
    pub const EXITING: u32 = 2;
    /// One of Nginx's processes.
    pub const NGINX: u32 = 4;
}

/// A socket. Addresses are 16 bytes, IPv4 as `::ffff:a.b.c.d`; everything in host byte order.
#[repr(C)]
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "documented at `model::Socket`, which it becomes")]
pub struct Sock {
    pub cookie: u64,
    pub opened_ns: u64,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub peer_last_syn_ack_ns: u64,
    pub newest_sent_ns: u64,
    pub delivered_us: u64,
    pub local: [u8; 16],
    pub remote: [u8; 16],
    pub owner_comm: [u8; 16],
    pub local_port: u16,
    pub remote_port: u16,
    pub netns: u32,
    pub owner_pid: u32,
    pub error: u32,
    pub sk_flags: u32,
    pub rcv_nxt: u32,
    pub copied_seq: u32,
    pub snd_nxt: u32,
    pub snd_una: u32,
    pub write_seq: u32,
    pub snd_wnd: u32,
    pub srtt_us_8: u32,
    pub min_rtt_us: u32,
    pub total_retrans: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    pub lsndtime: u32,
    pub lrcvtime: u32,
    pub rcv_tstamp: u32,
    pub mss: u32,
    pub ts_recent: u32,
    pub ack_backlog: u32,
    pub max_ack_backlog: u32,
    pub packets_out: u32,
    pub sacked_out: u32,
    pub peer_handshakes: u32,
    pub peer_min_handshake_us: u32,
    pub side: u8,
    pub state: u8,
    pub shutdown: u8,
    pub linger_zero: u8,
    pub preexisting: u8,
    pub retransmits: u8,
    pub tstamp_ok: u8,
    pub handshake_ttl: u8,
    pub peer_ttl: u8,
    /// 1: a full socket; 0: only addresses, netns, cookie and state are valid.
    pub full: u8,
    pub owned: u8,
    /// Packets of the connection that netfilter of this host dropped; 255: so many or more.
    pub filtered: u8,
    /// Since the last of them, milliseconds.
    pub filtered_ms: u32,
}

/// One record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Record {
    /// `bpf_ktime_get_ns`.
    pub time_ns: u64,
    /// `bpf_jiffies64`, the clock of the socket's time stamps.
    pub jiffies: u64,
    /// For a sent RST: when the tuple was killed by a received one; zero otherwise.
    pub after_reset_ns: u64,
    /// `abi::Kind`.
    pub kind: u8,
    /// `abi::Hook`.
    pub hook: u8,
    /// Old state of a state change.
    pub old_state: u8,
    /// New state of a state change.
    pub new_state: u8,
    /// Reset or drop reason as the kernel numbers it; `MISSING` if it passes none.
    pub reason: u32,
    /// 0 accept queue, 1 SYN queue (overflows).
    pub queue: u32,
    /// Packets that this listener has dropped so far (overflows).
    pub dropped: u64,
    /// The task.
    pub task: Task,
    /// The socket.
    pub sock: Sock,
    /// The packet.
    pub packet: Header,
    /// The SYN-ACK of the connection.
    pub syn_ack: Header,
}

const _: () = assert!(size_of::<Header>() == 128);
const _: () = assert!(size_of::<Task>() == 32);
const _: () = assert!(size_of::<Sock>() == 248);
const _: () = assert!(size_of::<Record>() == 584);

impl Record {
    /// Reads a record from the ring buffer's bytes; `None` if they are too few.
    #[cfg(not(target_arch = "bpf"))]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: long enough (checked), unaligned read, and every bit pattern is a valid record of integers.
        Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<Self>()) })
    }
}
