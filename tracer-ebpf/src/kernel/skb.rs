//! Packets: finding the IP and TCP headers of a kernel skb, and the tuple of a packet as its receiver sees it.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_buf};
use rstscope_ebpf::abi::Header;
use rstscope_ebpf::abi::record::HEADER_BYTES;

use super::globals::offset;
use super::read::{Kernel, read, read_pointer};
use super::sock::{Identity, TCP, mapped};

/// RST of the TCP flags byte.
pub const RST: u8 = 0x04;
/// SYN of the TCP flags byte.
pub const SYN: u8 = 0x02;
/// ACK of the TCP flags byte.
pub const ACK: u8 = 0x10;

/// Where the headers are.
#[derive(Clone, Copy)]
pub struct Headers {
    network: Kernel,
    transport: Kernel,
}

/// Headers of a received skb. `network_header` and `transport_header` are used, not `data`:
/// the receive path may have pulled.
#[inline(always)]
pub fn headers(skb: Kernel) -> Headers {
    let head = read_pointer(skb, offset!(skb_head));
    let network = read::<u16>(skb, offset!(skb_network_header));
    let transport = read::<u16>(skb, offset!(skb_transport_header));
    Headers { network: head.wrapping_add(network as usize), transport: head.wrapping_add(transport as usize) }
}

impl Headers {
    /// The TCP flags byte.
    #[inline(always)]
    pub fn flags(&self) -> u8 {
        read(self.transport, 13)
    }

    /// Whether it is TCP; with IPv6 extension headers it is not looked at further.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        match read::<u8>(self.network, 0) >> 4 {
            4 => read::<u8>(self.network, 9) == TCP as u8,
            6 => read::<u8>(self.network, 6) == TCP as u8,
            _ => false,
        }
    }

    /// The tuple with the receiver as the local end; no socket, no namespace.
    #[inline(always)]
    pub fn receiver(&self) -> Option<Identity> {
        let (source, destination) = match read::<u8>(self.network, 0) >> 4 {
            4 => (mapped(read(self.network, 12)), mapped(read(self.network, 16))),
            6 => (read(self.network, 8), read(self.network, 24)),
            _ => return None,
        };
        Some(Identity {
            cookie: 0,
            local: destination,
            remote: source,
            netns: 0,
            local_port: u16::from_be(read(self.transport, 2)),
            remote_port: u16::from_be(read(self.transport, 0)),
            state: 0,
        })
    }
}

/// Copies the headers of a received skb.
#[inline(always)]
pub fn copy(skb: Kernel, out: &mut Header) {
    let headers = headers(skb);
    // SAFETY: a helper without arguments.
    out.time_ns = unsafe { bpf_ktime_get_ns() };
    out.ifindex = read(skb, offset!(skb_iif));
    // SAFETY: the helper checks the address. What lies behind the headers inside the skb's linear
    // buffer is copied too and ignored by the reader, which goes by the header lengths.
    let copied = unsafe { bpf_probe_read_kernel_buf(headers.network, &mut out.bytes) };
    out.len = if copied.is_ok() { HEADER_BYTES as u16 } else { 0 };
}
