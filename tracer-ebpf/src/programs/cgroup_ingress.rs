//! Headers of SYN, SYN-ACK and RST, where a socket is known for them. Everything else passes at once.
//!
//! `cgroup_skb/ingress` at the root cgroup v2: the packet starts at the IP header. It runs before TCP looks at
//! the segment, so the header of an accepted RST is there when `tcp_receive_reset` fires.
//! The program must return 1 on every path: anything else drops the packet.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_skb_load_bytes, bpf_skb_load_bytes_relative, bpf_skc_to_tcp_sock,
};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use rstscope_ebpf::abi::record::HEADER_BYTES;
use rstscope_ebpf::abi::side::NONE as NOBODYS;
use rstscope_ebpf::abi::{Forgetful, Header, Hook, MISSING};

use crate::kernel::globals::offset;
use crate::kernel::maps::{self, RESETS, SCRATCH};
use crate::kernel::read::{Memory, Typed};
use crate::kernel::skb::{ACK, RST, SYN};
use crate::kernel::sock::{self, identity};
use crate::kernel::{conns, listener, side};

const PASS: i32 = 1;
const PROTOCOL_TCP: u8 = 6;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const FLAGS: usize = 13;
/// Where an Ethernet header has its source address.
const SOURCE_MAC: u32 = 6;
/// `BPF_HDR_START_MAC` of `include/uapi/linux/bpf.h`.
const FROM_LINK_HEADER: u32 = 0;

#[cgroup_skb]
fn cgroup_ingress(ctx: SkBuffContext) -> i32 {
    let flags = tcp_flags(&ctx);
    if flags & (SYN | RST) != 0 {
        keep(&ctx, flags);
    }
    PASS
}

#[inline(always)]
fn keep(ctx: &SkBuffContext, flags: u8) {
    if flags & RST != 0 {
        keep_reset(ctx);
    } else if flags & ACK != 0 {
        keep_syn_ack(ctx);
    } else {
        check_listener(ctx);
    }
}

/// Flags byte of a TCP segment, zero for anything else. IPv4 options and IPv6 extension headers take the slow way.
#[inline(always)]
fn tcp_flags(ctx: &SkBuffContext) -> u8 {
    // SAFETY: the context is valid; the verifier turns both fields into packet pointers.
    let (start, end) = unsafe { ((*ctx.skb.skb).data as usize, (*ctx.skb.skb).data_end as usize) };
    if start + IPV4_HEADER > end {
        return 0;
    }
    let byte = |at: usize| {
        // SAFETY: every caller has compared `at` with the end of the packet.
        unsafe { core::ptr::read_volatile((start + at) as *const u8) }
    };
    let first = byte(0);
    if first >> 4 == 6 {
        if start + IPV6_HEADER + FLAGS + 1 > end || byte(6) != PROTOCOL_TCP {
            return 0;
        }
        return byte(IPV6_HEADER + FLAGS);
    }
    if byte(9) != PROTOCOL_TCP {
        return 0;
    }
    if first != 0x45 {
        return load_byte(ctx, u32::from(first & 0x0f) * 4 + FLAGS as u32);
    }
    if start + IPV4_HEADER + FLAGS + 1 > end {
        return 0;
    }
    byte(IPV4_HEADER + FLAGS)
}

#[inline(always)]
fn load_byte(ctx: &SkBuffContext, at: u32) -> u8 {
    let mut byte = 0u8;
    // SAFETY: one byte is written into a byte.
    unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), at, (&raw mut byte).cast(), 1) };
    byte
}

#[inline(always)]
fn cookie(ctx: &SkBuffContext) -> u64 {
    // SAFETY: the context is valid.
    unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) }
}

#[inline(always)]
fn keep_reset(ctx: &SkBuffContext) {
    let Some(cookie) = cookie_of_interest(ctx) else { return };
    let Some(header) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: a per-CPU value; programs on one CPU do not preempt each other.
    let header = unsafe { &mut *header };
    copy(ctx, header);
    let header: &Header = header;
    maps::keep(Forgetful::Resets, &RESETS, &cookie, header);
}

/// The cookie of a socket that is Nginx's or its peer's. Others get none, and no place in the table: a port scan by
/// somebody on this host must not drive out what Nginx's connections need.
#[inline(always)]
fn cookie_of_interest(ctx: &SkBuffContext) -> Option<u64> {
    let id = identity(socket(ctx)?)?;
    if side::of(&id, conns::find(id.cookie).as_deref()) == NOBODYS {
        return None;
    }
    if id.cookie != 0 {
        return Some(id.cookie);
    }
    let made = cookie(ctx);
    (made != 0).then_some(made)
}

#[inline(always)]
fn keep_syn_ack(ctx: &SkBuffContext) {
    // A connection that is followed has a cookie; others need none.
    let Some(sk) = socket(ctx) else { return };
    let Some(conn) = conns::find(sock::cookie(sk)) else { return };
    copy(ctx, &mut conn.syn_ack);
}

#[inline(always)]
fn copy(ctx: &SkBuffContext, out: &mut Header) {
    // SAFETY: a helper without arguments; the context is valid.
    let (now, len, ifindex) = unsafe { (bpf_ktime_get_ns(), (*ctx.skb.skb).len, (*ctx.skb.skb).ifindex) };
    out.time_ns = now;
    out.ifindex = ifindex;
    out.len = 0;
    let len = if len > HEADER_BYTES as u32 { HEADER_BYTES as u32 } else { len };
    if len < IPV4_HEADER as u32 {
        return;
    }
    // SAFETY: at most `HEADER_BYTES` are written, and that is what `bytes` holds.
    let result = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, out.bytes.as_mut_ptr().cast(), len) };
    out.len = if result == 0 { len as u16 } else { 0 };
    copy_source_mac(ctx, out);
}

/// The link-layer header is still in front of the packet (`skb_mac_header`), except on interfaces without one.
#[inline(always)]
fn copy_source_mac(ctx: &SkBuffContext, out: &mut Header) {
    // SAFETY: six bytes are written into six bytes.
    let result = unsafe {
        let target = out.source_mac.as_mut_ptr().cast();
        bpf_skb_load_bytes_relative(ctx.skb.skb.cast(), SOURCE_MAC, target, 6, FROM_LINK_HEADER)
    };
    out.has_mac = u16::from(result == 0);
}

/// The socket of the packet.
#[inline(always)]
fn socket(ctx: &SkBuffContext) -> Option<Typed> {
    // SAFETY: the field is a socket or null; the helper returns null for anything but a TCP socket.
    let tcp = unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        bpf_skc_to_tcp_sock(sk.cast())
    };
    if tcp.is_null() { None } else { Some(Typed::at(tcp.cast())) }
}

/// A SYN for a full accept queue will be dropped without a trace (`tcp_conn_request`), so it is counted here.
#[inline(always)]
fn check_listener(ctx: &SkBuffContext) {
    let Some(sk) = socket(ctx) else { return };
    if offset!(ack_backlog) == MISSING || !listener::is_full(sk) {
        return;
    }
    if let Some(id) = identity(sk) {
        listener::overflow(Hook::CgroupIngress, sk, &id, None);
    }
}
