//! Reading sockets: identity first, the full snapshot only when something is reported.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use rstscope_ebpf::abi::record::Sock;
use rstscope_ebpf::abi::{Conn, MISSING, PeerKey};

use super::globals::{config, offset};
use super::maps::{FILTERED, PEERS};
use super::read::{Checked, Memory, bit, byte_at_bit, copy};

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
    let words = [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), u32::from_ne_bytes(v4)];
    // SAFETY: four words are sixteen bytes. Ten zeros in a row would become a call of `memset`, see `read::copy`.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
}

/// The namespace of a socket.
#[inline(always)]
pub fn netns<M: Memory>(sk: M) -> u32 {
    sk.follow(offset!(net)).get(offset!(ns_inum))
}

/// Whether the namespace is one to look at.
#[inline(always)]
pub fn netns_wanted(netns: u32) -> bool {
    config!(netns) == 0 || config!(netns) == netns
}

/// The cookie, zero if the kernel has not made one.
#[inline(always)]
pub fn cookie<M: Memory>(sk: M) -> u64 {
    sk.get(offset!(cookie))
}

/// Whether everything of `struct tcp_sock` is there: `TIME_WAIT` and request sockets share only `sock_common`.
#[inline(always)]
pub fn is_full(state: u8) -> bool {
    state != state::TIME_WAIT && state != state::NEW_SYN_RECV
}

/// Identity of any TCP socket, full or not; `None` for other families.
#[inline(always)]
pub fn identity<M: Memory>(sk: M) -> Option<Identity> {
    let (local, remote) = match sk.get::<u16>(offset!(family)) {
        AF_INET => (mapped(sk.get(offset!(saddr))), mapped(sk.get(offset!(daddr)))),
        AF_INET6 => (sk.get(offset!(saddr6)), sk.get(offset!(daddr6))),
        _ => return None,
    };
    let state = sk.get::<u8>(offset!(state));
    Some(Identity {
        cookie: cookie(sk),
        local,
        remote,
        netns: netns(sk),
        local_port: local_port(sk, state),
        remote_port: u16::from_be(sk.get(offset!(dport))),
        state,
    })
}

/// The local address alone.
#[inline(always)]
pub fn local_address<M: Memory>(sk: M) -> [u8; 16] {
    address(sk, offset!(saddr), offset!(saddr6))
}

/// The remote address alone.
#[inline(always)]
pub fn remote_address<M: Memory>(sk: M) -> [u8; 16] {
    address(sk, offset!(daddr), offset!(daddr6))
}

/// Word by word: an array that is zero on one way would become a call of `memset`.
#[inline(always)]
fn address<M: Memory>(sk: M, v4: u32, v6: u32) -> [u8; 16] {
    if sk.get::<u16>(offset!(family)) == AF_INET {
        return mapped(sk.get(v4));
    }
    let word = |at: u32| sk.get::<u32>(v6.saturating_add(at));
    // SAFETY: four words are sixteen bytes.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>([word(0), word(4), word(8), word(12)]) }
}

/// `skc_num` is zeroed before →CLOSE is traced, `inet_sport` is not; a `TIME_WAIT` socket has only `skc_num`.
#[inline(always)]
fn local_port<M: Memory>(sk: M, state: u8) -> u16 {
    let number = sk.get(offset!(num));
    if number != 0 || !is_full(state) {
        return number;
    }
    sk.tcp().map_or(0, |tcp| u16::from_be(tcp.get(offset!(sport))))
}

/// Fills the snapshot. `conn` is what the connection table knows.
#[inline(always)]
pub fn snapshot<M: Memory>(sk: M, id: &Identity, side: u8, conn: Option<&Conn>, out: &mut Sock) {
    addresses(id, side, out);
    peer(id, out);
    filtered(id.cookie, out);
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
    let Some(tcp) = sk.tcp() else { return };
    tcp.get_into(&mut out.retransmits, offset!(retransmits));
    out.handshake_ttl = handshake_ttl(tcp, out.max_ack_backlog);
    sequence(tcp, out);
    accounting(tcp, out);
}

/// Levels of the tree of unacknowledged segments that are looked at: enough for some hundred.
const LEVELS: u32 = 8;

/// When the newest segment left, if it is not acknowledged yet: the kernel keeps these segments in a tree in the order
/// of their numbers, each with the time of its latest transmission (`skb_mstamp_ns`, the clock of `bpf_ktime_get_ns`).
/// Costs nothing until something is told. Zero where the tree is empty, too deep, or does not end with the last byte.
#[inline(always)]
pub fn newest_sent_ns(sk: Checked, snd_nxt: u32) -> u64 {
    let mut node = sk.follow(offset!(rtx_queue));
    for _ in 0..LEVELS {
        let right = node.follow(offset!(rb_right));
        if right.is_null() {
            break;
        }
        node = right;
    }
    if node.is_null() || offset!(skb_rbnode) == MISSING {
        return 0;
    }
    let skb = Checked::at(node.address().wrapping_sub(offset!(skb_rbnode) as usize));
    let end = skb.get::<u32>(offset!(skb_cb).saturating_add(offset!(tcp_end_seq)));
    if end == snd_nxt { skb.get(offset!(skb_mstamp_ns)) } else { 0 }
}

/// Addresses only, for what has no socket.
#[inline(always)]
pub fn addresses(id: &Identity, side: u8, out: &mut Sock) {
    out.cookie = id.cookie;
    out.local = id.local;
    out.remote = id.remote;
    out.local_port = id.local_port;
    out.remote_port = id.remote_port;
    out.netns = id.netns;
    out.state = id.state;
    out.side = side;
}

#[inline(always)]
fn filtered(cookie: u64, out: &mut Sock) {
    // SAFETY: the entry is read only; a torn read of a statistic does no harm.
    if let Some(filtered) = unsafe { FILTERED.get(cookie) } {
        // SAFETY: a helper without arguments.
        let ago = unsafe { bpf_ktime_get_ns() }.wrapping_sub(filtered.last_ns);
        out.filtered = if filtered.count > 255 { 255 } else { filtered.count as u8 };
        out.filtered_ms = (ago / 1_000_000) as u32;
    }
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
fn generic<M: Memory>(sk: M, out: &mut Sock) {
    sk.get_into(&mut out.error, offset!(err));
    sk.get_into(&mut out.shutdown, offset!(shutdown));
    sk.get_into(&mut out.sk_flags, offset!(flags));
    out.owned = u8::from(owned(sk));
    out.linger_zero = u8::from(lingers_not(sk));
    backlog(sk, out);
}

/// The accept queue of a listener; for others the numbers mean nothing, but see `handshake_ttl`.
#[inline(always)]
pub fn backlog<M: Memory>(sk: M, out: &mut Sock) {
    sk.get_into(&mut out.ack_backlog, offset!(ack_backlog));
    sk.get_into(&mut out.max_ack_backlog, offset!(max_ack_backlog));
}

/// Whether `SO_LINGER` is set to zero: closing aborts.
#[inline(always)]
pub fn lingers_not<M: Memory>(sk: M) -> bool {
    sk.get::<u32>(offset!(flags)) & SOCK_LINGER != 0 && sk.get::<u64>(offset!(lingertime)) == 0
}

/// Whether a process holds the socket: `lock_sock` by a process, not the softirq spinlock.
#[inline(always)]
pub fn owned<M: Memory>(sk: M) -> bool {
    sk.get::<u32>(offset!(owned)) != 0
}

/// TTL of the packet that completed the handshake. Only accepted sockets have it: there
/// `tcp_v4_syn_recv_sock` stores it in `mc_ttl` (IPv6: `mcast_hops`); a listener's backlog tells them apart.
#[inline(always)]
fn handshake_ttl<M: Memory>(tcp: M, max_ack_backlog: u32) -> u8 {
    if max_ack_backlog == 0 {
        return 0;
    }
    let v6 = tcp.follow(offset!(pinet6));
    if tcp.get::<u16>(offset!(family)) == AF_INET6 && !v6.is_null() {
        let hops = hop_limit(v6);
        if hops != 0 {
            return hops;
        }
    }
    tcp.get(offset!(mc_ttl))
}

/// `mcast_hops`: nine bits somewhere in two bytes before 6.8, a byte since.
#[inline(always)]
fn hop_limit<M: Memory>(v6: M) -> u8 {
    let bit = offset!(mcast_hops_bit);
    if config!(hops_are_a_byte) == 1 { v6.get(bit / 8) } else { byte_at_bit(v6, bit) }
}

#[inline(always)]
fn sequence<M: Memory>(tcp: M, out: &mut Sock) {
    tcp.get_into(&mut out.rcv_nxt, offset!(rcv_nxt));
    tcp.get_into(&mut out.copied_seq, offset!(copied_seq));
    tcp.get_into(&mut out.snd_nxt, offset!(snd_nxt));
    tcp.get_into(&mut out.snd_una, offset!(snd_una));
    tcp.get_into(&mut out.write_seq, offset!(write_seq));
    tcp.get_into(&mut out.snd_wnd, offset!(snd_wnd));
    tcp.get_into(&mut out.ts_recent, offset!(ts_recent));
    out.tstamp_ok = u8::from(bit(tcp, offset!(tstamp_ok_bit)));
    tcp.get_into(&mut out.lsndtime, offset!(lsndtime));
    tcp.get_into(&mut out.lrcvtime, offset!(lrcvtime));
    tcp.get_into(&mut out.rcv_tstamp, offset!(rcv_tstamp));
    tcp.get_into(&mut out.delivered_us, offset!(delivered_mstamp));
}

#[inline(always)]
fn accounting<M: Memory>(tcp: M, out: &mut Sock) {
    tcp.get_into(&mut out.bytes_sent, offset!(bytes_sent));
    tcp.get_into(&mut out.bytes_retrans, offset!(bytes_retrans));
    tcp.get_into(&mut out.bytes_acked, offset!(bytes_acked));
    tcp.get_into(&mut out.bytes_received, offset!(bytes_received));
    tcp.get_into(&mut out.data_segs_in, offset!(data_segs_in));
    tcp.get_into(&mut out.data_segs_out, offset!(data_segs_out));
    tcp.get_into(&mut out.srtt_us_8, offset!(srtt_us));
    tcp.get_into(&mut out.min_rtt_us, rtt_min_value());
    tcp.get_into(&mut out.total_retrans, offset!(total_retrans));
    tcp.get_into(&mut out.mss, offset!(mss_cache));
    tcp.get_into(&mut out.packets_out, offset!(packets_out));
    tcp.get_into(&mut out.sacked_out, offset!(sacked_out));
}

/// `struct minmax { struct { u32 t, v; } s[3]; }`: the value is the second word.
#[inline(always)]
fn rtt_min_value() -> u32 {
    offset!(rtt_min).saturating_add(4)
}
