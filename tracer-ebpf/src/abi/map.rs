//! Keys and values of the maps. Addresses are 16 bytes, IPv4 as `::ffff:a.b.c.d`; ports in host byte order.

use super::record::Header;

/// One connection of Nginx, by socket cookie.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Conn {
    /// `bpf_ktime_get_ns` when it was opened; zero if older than the tracer.
    pub opened_ns: u64,
    /// Process that connected the socket, or read from it first; zero if not yet known.
    pub owner_pid: u32,
    /// One of `abi::side`.
    pub side: u8,
    /// 1: it existed before the start.
    pub preexisting: u8,
    /// 1: a received RST was reported.
    pub reset_seen: u8,
    /// Records that tell of it again and again, see `abi::REPEATS`.
    pub repeats: u8,
    /// `comm` of the owner.
    pub comm: [u8; 16],
    /// The SYN-ACK that answered the connect; length zero if none was seen.
    pub syn_ack: Header,
}

impl Conn {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        opened_ns: 0,
        owner_pid: 0,
        side: 0,
        preexisting: 0,
        reset_seen: 0,
        repeats: 0,
        comm: [0; 16],
        syn_ack: Header::EMPTY,
    };
}

/// What netfilter of this host dropped of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Filtered {
    /// `bpf_ktime_get_ns` at the last packet.
    pub last_ns: u64,
    /// Packets.
    pub count: u64,
}

/// A place for one connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// Cookie of the connection it holds; zero: free.
    pub cookie: u64,
    /// The connection.
    pub conn: Conn,
}

impl Slot {
    /// Word of `MORE_CONNS_HELD` in which the programs count what they add to `MORE_CONNS`, and everything that goes.
    pub const HELD_BY_PROGRAMS: u32 = 0;
    /// Word of `MORE_CONNS_HELD` in which user space counts the older connections that it added.
    pub const HELD_FROM_BEFORE: u32 = 1;
}

/// A port Nginx listens on.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenPort {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Port.
    pub port: u16,
    /// Padding.
    pub pad: u16,
}

/// A listener bound to one address; looked up only where the port has no wildcard listener.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress {
    /// Namespace and port.
    pub port: ListenPort,
    /// Address.
    pub addr: [u8; 16],
}

/// An address and port that Nginx connects to, or a filter entry (port zero: any).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Address; all zero in a filter: any.
    pub addr: [u8; 16],
    /// Port.
    pub port: u16,
    /// Padding.
    pub pad: u16,
}

/// A connection as this host sees it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Local address.
    pub local: [u8; 16],
    /// Remote address.
    pub remote: [u8; 16],
    /// Inode number of the network namespace; zero in tombstones made from a packet.
    pub netns: u32,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
}

/// A tuple killed by a RST.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Tombstone {
    /// When.
    pub time_ns: u64,
    /// Cookie of the killed socket.
    pub cookie: u64,
    /// One of `abi::side`.
    pub side: u32,
    /// 1: the RST was received; 0: it was sent.
    pub received: u32,
}

/// A peer's address, per namespace.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerKey {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Address.
    pub addr: [u8; 16],
}

/// What connections to a peer taught.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// When the latest SYN-ACK arrived.
    pub last_syn_ack_ns: u64,
    /// Completed handshakes.
    pub handshakes: u32,
    /// Shortest SYN to ESTABLISHED, microseconds.
    pub min_handshake_us: u32,
    /// TTL of the latest SYN-ACK.
    pub ttl: u32,
    /// Padding.
    pub pad: u32,
}

/// When a thread gave up an upstream connection.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct GivenUp {
    /// `bpf_ktime_get_ns`.
    pub time_ns: u64,
    /// `bpf_jiffies64`, to compare with the time stamps of sockets.
    pub jiffies: u64,
    /// How often the thread had slept (`task_struct.nvcsw`).
    pub sleeps: u64,
}

/// Whose connection departed: worker and upstream, and who closed first.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepartedKey {
    /// Process id of the worker.
    pub pid: u32,
    /// Address of the upstream.
    pub upstream: Endpoint,
    /// 1: Nginx closed first, after silence, and whether its request or the answer came last the time stamps do not
    /// tell; 0: the upstream closed first.
    pub by_nginx: u32,
}

/// The latest connection of a worker to an upstream that was closed in order. Healthy or not cannot be told from the
/// socket; a line of the log that calls it premature, or timed out, can.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// When the worker closed it.
    pub time_ns: u64,
    /// `bpf_jiffies64` at that moment.
    pub jiffies: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// When it was opened; zero if not known.
    pub opened_ns: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Local address.
    pub local: [u8; 16],
    /// Network namespace.
    pub netns: u32,
    /// Smoothed round-trip time in eighths of a microsecond.
    pub srtt_us_8: u32,
    /// `lsndtime`.
    pub lsndtime: u32,
    /// `lrcvtime`.
    pub lrcvtime: u32,
    /// Segments with data sent.
    pub data_segs_out: u32,
    /// Segments with data received.
    pub data_segs_in: u32,
    /// Local port.
    pub local_port: u16,
    /// 1: older than the tracer.
    pub preexisting: u16,
    /// Padding.
    pub pad: u32,
}

impl Departed {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        time_ns: 0,
        jiffies: 0,
        cookie: 0,
        opened_ns: 0,
        bytes_sent: 0,
        bytes_received: 0,
        local: [0; 16],
        netns: 0,
        srtt_us_8: 0,
        lsndtime: 0,
        lrcvtime: 0,
        data_segs_out: 0,
        data_segs_in: 0,
        local_port: 0,
        preexisting: 0,
        pad: 0,
    };
}

/// A listener and which of its queues.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverflowKey {
    /// Namespace and port.
    pub port: ListenPort,
    /// 0 accept, 1 SYN.
    pub queue: u32,
}

/// Overflows of one listener.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OverflowState {
    /// When the last record was made.
    pub last_record_ns: u64,
    /// Packets dropped since the tracer started.
    pub total: u64,
}

const _: () = assert!(size_of::<Conn>() == 160);
const _: () = assert!(size_of::<Slot>() == 168);
const _: () = assert!(size_of::<Tuple>() == 40);
const _: () = assert!(size_of::<Tombstone>() == 24);
const _: () = assert!(size_of::<Peer>() == 24);
const _: () = assert!(size_of::<Endpoint>() == 20);
const _: () = assert!(size_of::<DepartedKey>() == 28);
const _: () = assert!(size_of::<Departed>() == 96);
const _: () = assert!(size_of::<ListenAddress>() == 24);

#[cfg(feature = "user")]
mod pod {
    use super::{
        Conn, Departed, DepartedKey, Endpoint, ListenAddress, ListenPort, OverflowKey, OverflowState, Peer,
        PeerKey, Slot, Tombstone, Tuple,
    };
    macro_rules! pod {
        ($($name:ident)+) => {
            // SAFETY: `repr(C)` structs of integers and byte arrays, padding explicit, every bit pattern valid.
            $(unsafe impl aya::Pod for $name {})+
        };
    }
    pod! { Conn Departed DepartedKey Endpoint ListenAddress ListenPort OverflowKey OverflowState Peer PeerKey Slot Tombstone Tuple }
}
