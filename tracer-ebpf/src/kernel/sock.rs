//! Reading sockets: identity first, the full snapshot only when something is reported.

use rstscope_ebpf::abi::record::Sock;
use rstscope_ebpf::abi::{Conn, PeerKey};

use super::globals::{config, offset};
use super::maps::PEERS;
use super::read::{Kernel, copy, read, read_bit, read_byte_at_bit, read_into, read_pointer};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `IPPROTO_TCP`.
pub const TCP: u16 = 6;
/// `SOCK_LINGER` of `enum sock_flags`, bit 4 in every kernel from 4.19.
const SOCK_LINGER: u32 = 1 << 4;

/// States of `include/net/tcp_states.h`.
pub mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const NEW_SYN_RECV: u8 = 12;
}

/// Which connection a socket is. IPv4 addresses as `::ffff:a.b.c.d`, ports in host byte order.
#[derive(Clone, Copy)]
pub struct Identity {
    pub cookie: u64,
    pub local: [u8; 16],
    pub remote: [u8; 16],
    pub netns: u32,
    pub local_port: u16,
    pub remote_port: u16,
    pub state: u8,
}

/// `::ffff:a.b.c.d` of an address in network byte order as it lies in memory.
#[inline(always)]
pub fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// The namespace of a socket.
#[inline(always)]
pub fn netns(sk: Kernel) -> u32 {
    read::<u32>(read_pointer(sk, offset!(net)), offset!(ns_inum))
}

/// Whether the namespace is one to look at.
#[inline(always)]
pub fn netns_wanted(netns: u32) -> bool {
    config!(netns) == 0 || config!(netns) == netns
}

/// The cookie, zero if the kernel has not made one.
#[inline(always)]
pub fn cookie(sk: Kernel) -> u64 {
    read::<u64>(sk, offset!(cookie))
}

/// Whether everything of `struct tcp_sock` is there: `TIME_WAIT` and request sockets share only `sock_common`.
#[inline(always)]
pub fn is_full(state: u8) -> bool {
    state != state::TIME_WAIT && state != state::NEW_SYN_RECV
}

/// Identity of any TCP socket, full or not; `None` for other families.
#[inline(always)]
pub fn identity(sk: Kernel) -> Option<Identity> {
    let family = read::<u16>(sk, offset!(family));
    let (local, remote) = match family {
        AF_INET => (mapped(read(sk, offset!(saddr))), mapped(read(sk, offset!(daddr)))),
        AF_INET6 => (read(sk, offset!(saddr6)), read(sk, offset!(daddr6))),
        _ => return None,
    };
    let state = read::<u8>(sk, offset!(state));
    Some(Identity {
        cookie: cookie(sk),
        local,
        remote,
        netns: netns(sk),
        local_port: local_port(sk, state),
        remote_port: u16::from_be(read(sk, offset!(dport))),
        state,
    })
}

/// `skc_num` is zeroed before →CLOSE is traced, `inet_sport` is not; a `TIME_WAIT` socket has only `skc_num`.
#[inline(always)]
pub fn local_port(sk: Kernel, state: u8) -> u16 {
    if is_full(state) { u16::from_be(read(sk, offset!(sport))) } else { read(sk, offset!(num)) }
}

/// Fills the snapshot. `conn` is what the connection table knows.
#[inline(always)]
pub fn snapshot(sk: Kernel, id: &Identity, side: u8, conn: Option<&Conn>, out: &mut Sock) {
    addresses(id, side, out);
    peer(id, out);
    if let Some(conn) = conn {
        out.opened_ns = conn.opened_ns;
        out.owner_pid = conn.owner_pid;
        copy(&raw mut out.owner_comm, &raw const conn.comm);
        out.preexisting = conn.preexisting;
    }
    if !is_full(id.state) {
        return;
    }
    out.full = 1;
    generic(sk, out);
    sequence(sk, out);
    accounting(sk, out);
}

/// Addresses only, for what has no socket.
#[inline(always)]
pub fn addresses(id: &Identity, side: u8, out: &mut Sock) {
    out.cookie = id.cookie;
    copy(&raw mut out.local, &raw const id.local);
    copy(&raw mut out.remote, &raw const id.remote);
    out.local_port = id.local_port;
    out.remote_port = id.remote_port;
    out.netns = id.netns;
    out.state = id.state;
    out.side = side;
}

#[inline(always)]
fn peer(id: &Identity, out: &mut Sock) {
    let key = PeerKey { netns: id.netns, addr: id.remote };
    // SAFETY: the entry is read only; a torn read of a statistic does no harm.
    if let Some(peer) = unsafe { PEERS.get(key) } {
        out.peer_last_syn_ack_ns = peer.last_syn_ack_ns;
        out.peer_handshakes = peer.handshakes;
        out.peer_min_handshake_us = peer.min_handshake_us;
        out.peer_ttl = peer.ttl as u8;
    }
}

#[inline(always)]
fn generic(sk: Kernel, out: &mut Sock) {
    read_into(&mut out.error, sk, offset!(err));
    read_into(&mut out.shutdown, sk, offset!(shutdown));
    read_into(&mut out.sk_flags, sk, offset!(flags));
    out.owned = u8::from(owned(sk));
    let linger = out.sk_flags & SOCK_LINGER != 0;
    out.linger_zero = u8::from(linger && read::<u64>(sk, offset!(lingertime)) == 0);
    read_into(&mut out.ack_backlog, sk, offset!(ack_backlog));
    read_into(&mut out.max_ack_backlog, sk, offset!(max_ack_backlog));
    read_into(&mut out.retransmits, sk, offset!(retransmits));
    out.handshake_ttl = handshake_ttl(sk, out.max_ack_backlog);
}

/// Whether a process holds the socket: `lock_sock` by a process, not the softirq spinlock.
#[inline(always)]
pub fn owned(sk: Kernel) -> bool {
    read::<u32>(sk, offset!(owned)) != 0
}

/// TTL of the packet that completed the handshake. Only accepted sockets have it: there
/// `tcp_v4_syn_recv_sock` stores it in `mc_ttl` (IPv6: `mcast_hops`); a listener's backlog tells them apart.
#[inline(always)]
fn handshake_ttl(sk: Kernel, max_ack_backlog: u32) -> u8 {
    if max_ack_backlog == 0 {
        return 0;
    }
    let v6 = read_pointer(sk, offset!(pinet6));
    if read::<u16>(sk, offset!(family)) == AF_INET6 && !v6.is_null() {
        let hops = read_byte_at_bit(v6, offset!(mcast_hops_bit));
        if hops != 0 {
            return hops;
        }
    }
    read(sk, offset!(mc_ttl))
}

#[inline(always)]
fn sequence(sk: Kernel, out: &mut Sock) {
    read_into(&mut out.rcv_nxt, sk, offset!(rcv_nxt));
    read_into(&mut out.copied_seq, sk, offset!(copied_seq));
    read_into(&mut out.snd_nxt, sk, offset!(snd_nxt));
    read_into(&mut out.snd_una, sk, offset!(snd_una));
    read_into(&mut out.write_seq, sk, offset!(write_seq));
    read_into(&mut out.snd_wnd, sk, offset!(snd_wnd));
    read_into(&mut out.ts_recent, sk, offset!(ts_recent));
    out.tstamp_ok = u8::from(read_bit(sk, offset!(tstamp_ok_bit)));
    read_into(&mut out.lsndtime, sk, offset!(lsndtime));
    read_into(&mut out.lrcvtime, sk, offset!(lrcvtime));
    read_into(&mut out.rcv_tstamp, sk, offset!(rcv_tstamp));
}

#[inline(always)]
fn accounting(sk: Kernel, out: &mut Sock) {
    read_into(&mut out.bytes_sent, sk, offset!(bytes_sent));
    read_into(&mut out.bytes_retrans, sk, offset!(bytes_retrans));
    read_into(&mut out.bytes_acked, sk, offset!(bytes_acked));
    read_into(&mut out.bytes_received, sk, offset!(bytes_received));
    read_into(&mut out.data_segs_in, sk, offset!(data_segs_in));
    read_into(&mut out.data_segs_out, sk, offset!(data_segs_out));
    read_into(&mut out.srtt_us_8, sk, offset!(srtt_us));
    // `struct minmax { struct { u32 t, v; } s[3]; }`: the value is the second word.
    read_into(&mut out.min_rtt_us, sk.wrapping_add(4), offset!(rtt_min));
    read_into(&mut out.total_retrans, sk, offset!(total_retrans));
    read_into(&mut out.mss, sk, offset!(mss_cache));
    read_into(&mut out.packets_out, sk, offset!(packets_out));
    read_into(&mut out.sacked_out, sk, offset!(sacked_out));
}
