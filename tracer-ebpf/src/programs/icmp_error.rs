//! ICMP errors about segments of Nginx's: who on the path refused to carry them.
//!
//! A socket filter on raw ICMP sockets, one for each family and namespace: the kernel hands them every message before
//! TCP takes it (`raw_local_deliver`, `raw6_local_deliver`), and traffic that is no ICMP costs nothing. Nothing is
//! ever queued on these sockets: the filter keeps zero bytes of everything.
//!
//! "Fragmentation needed" and "packet too big" are how the path MTU is found, not errors. Messages behind IP options,
//! and quoted segments with them, are not read: Nginx's segments have none.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes_relative};
use aya_ebpf::macros::socket_filter;
use aya_ebpf::programs::SkBuffContext;
use rstscope_ebpf::abi::{Header, Hook, Kind, side};

use crate::kernel::maps::{ICMP_SOCKETS, SCRATCH};
use crate::kernel::read::{Word, copy};
use crate::kernel::sock::mapped;
use crate::kernel::{emit, side as sides};

/// Bytes of every message that the socket keeps.
const NOTHING: i64 = 0;
/// `BPF_HDR_START_NET` of `include/uapi/linux/bpf.h`.
const FROM_IP_HEADER: u32 = 1;
/// `ETH_P_IP` and `ETH_P_IPV6` of `include/uapi/linux/if_ether.h`, as they lie in memory.
const IPV4: u32 = u16::to_be(0x0800) as u32;
const IPV6: u32 = u16::to_be(0x86dd) as u32;
const PROTOCOL_TCP: u8 = 6;

/// Where the parts of a message are.
struct Layout {
    /// Version and header length of a header without options, in the bits of `version_mask`.
    version: u8,
    version_mask: u8,
    /// Type, and code behind it.
    kind: usize,
    /// The quoted IP header: its beginning, protocol and addresses.
    quoted: usize,
    protocol: usize,
    source: usize,
    destination: usize,
    /// The quoted ports; the sequence number behind them ends the message (RFC 792 wants eight bytes of a segment).
    ports: usize,
    end: usize,
}

const LAYOUT_V4: Layout = Layout {
    version: 0x45,
    version_mask: 0xff,
    kind: 20,
    quoted: 28,
    protocol: 37,
    source: 40,
    destination: 44,
    ports: 48,
    end: 56,
};
const LAYOUT_V6: Layout = Layout {
    version: 0x60,
    version_mask: 0xf0,
    kind: 40,
    quoted: 48,
    protocol: 54,
    source: 56,
    destination: 72,
    ports: 88,
    end: 96,
};

/// A connection as the quoted segment names it.
struct Quoted {
    local: [u8; 16],
    remote: [u8; 16],
    local_port: u16,
    remote_port: u16,
}

#[socket_filter]
fn icmp_error(ctx: SkBuffContext) -> i64 {
    // SAFETY: the context is valid.
    match unsafe { (*ctx.skb.skb).protocol } {
        IPV4 => look(&ctx, &LAYOUT_V4, is_error_v4, |bytes, at| mapped(word(bytes, at))),
        IPV6 => look(&ctx, &LAYOUT_V6, is_error_v6, word),
        _ => {}
    }
    NOTHING
}

/// RFC 792: destination unreachable, time exceeded, parameter problem; code 4 of the first finds the MTU.
#[inline(always)]
fn is_error_v4(kind: u8, code: u8) -> bool {
    matches!(kind, 11 | 12) || (kind == 3 && code != 4)
}

/// RFC 4443: likewise; "packet too big" has a type of its own.
#[inline(always)]
fn is_error_v6(kind: u8, _code: u8) -> bool {
    matches!(kind, 1 | 3 | 4)
}

#[inline(always)]
fn look(
    ctx: &SkBuffContext,
    layout: &Layout,
    is_error: impl FnOnce(u8, u8) -> bool,
    address: impl Fn(&Header, usize) -> [u8; 16],
) {
    let Some(message) = load(ctx, layout) else { return };
    let bytes = &message.bytes;
    let is = |at: usize| bytes[at] & layout.version_mask == layout.version;
    let ours = is(0) && is(layout.quoted) && bytes[layout.protocol] == PROTOCOL_TCP;
    if !ours || !is_error(bytes[layout.kind], bytes[layout.kind + 1]) {
        return;
    }
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let quoted = Quoted {
        local: address(message, layout.source),
        remote: address(message, layout.destination),
        local_port: port(layout.ports),
        remote_port: port(layout.ports + 2),
    };
    tell(ctx, message, &quoted);
}

/// The beginning of the message, from the IP header on, which is hidden from `ICMPv6` sockets otherwise.
#[inline(always)]
fn load(ctx: &SkBuffContext, layout: &Layout) -> Option<&'static Header> {
    let message = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a per-CPU value; programs on one CPU do not preempt each other. `end` is less than `bytes` holds.
    let (message, result) = unsafe {
        let message = &mut *message;
        let target = message.bytes.as_mut_ptr().cast();
        let (skb, length) = (ctx.skb.skb.cast(), layout.end as u32);
        (&mut *message, bpf_skb_load_bytes_relative(skb, 0, target, length, FROM_IP_HEADER))
    };
    if result != 0 {
        return None; // Shorter than an error can be.
    }
    // SAFETY: a helper without arguments; the context is valid.
    (message.time_ns, message.ifindex) = unsafe { (bpf_ktime_get_ns(), (*ctx.skb.skb).ifindex) };
    message.len = layout.end as u16;
    Some(message)
}

#[inline(always)]
fn tell(ctx: &SkBuffContext, message: &Header, quoted: &Quoted) {
    // SAFETY: the context is valid: the cookie is that of the raw socket (`sk_filter_trim_cap`).
    let socket = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    // SAFETY: the value is a word.
    let Some(netns) = (unsafe { ICMP_SOCKETS.get(socket) }).copied() else { return };
    let side = side_of(netns, quoted);
    if side == side::NONE || !emit::may_tell_icmp() {
        return;
    }
    emit::record(Kind::IcmpError, Hook::IcmpError, |record| {
        record.sock.side = side;
        record.sock.netns = netns;
        record.sock.local = quoted.local;
        record.sock.remote = quoted.remote;
        record.sock.local_port = quoted.local_port;
        record.sock.remote_port = quoted.remote_port;
        copy(&raw mut record.packet, &raw const *message);
    });
}

/// Whose segment is quoted, by its addresses alone.
#[inline(always)]
fn side_of(netns: u32, quoted: &Quoted) -> u8 {
    if sides::is_listener(netns, quoted.local_port, || quoted.local) {
        return side::CLIENT;
    }
    let upstream = sides::is_endpoint(&quoted.remote, quoted.remote_port);
    if upstream && sides::upstream_wanted(&quoted.remote, quoted.remote_port) {
        return side::UPSTREAM;
    }
    side::NONE
}

/// A word of the message; every place of it that is read is a multiple of four.
#[inline(always)]
fn word<T: Word>(message: &Header, at: usize) -> T {
    // SAFETY: inside the bytes of the header, see the layouts.
    unsafe { T::load(message.bytes.as_ptr().add(at)) }
}
