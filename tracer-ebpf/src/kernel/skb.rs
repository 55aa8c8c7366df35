//! Packets: finding the IP and TCP headers of a kernel skb, and the tuple of a packet as its receiver sees it.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_buf};
use rstscope_ebpf::abi::Header;
use rstscope_ebpf::abi::record::HEADER_BYTES;

use super::globals::offset;
use super::read::{Checked, Memory};
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
    network: Checked,
    transport: Checked,
}

/// Headers of a received skb. `network_header` and `transport_header` are used, not `data`:
/// the receive path may have pulled.
#[inline(always)]
pub fn headers(skb: Checked) -> Headers {
    let head = skb.follow(offset!(skb_head)).address();
    let network = skb.get::<u16>(offset!(skb_network_header));
    let transport = skb.get::<u16>(offset!(skb_transport_header));
    let at = |offset: u16| Checked::at(head.wrapping_add(usize::from(offset)));
    Headers { network: at(network), transport: at(transport) }
}

impl Headers {
    /// The TCP flags byte.
    #[inline(always)]
    pub fn flags(&self) -> u8 {
        self.transport.get(13)
    }

    /// Whether it is TCP; with IPv6 extension headers it is not looked at further.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        match self.network.get::<u8>(0) >> 4 {
            4 => self.network.get::<u8>(9) == TCP as u8,
            6 => self.network.get::<u8>(6) == TCP as u8,
            _ => false,
        }
    }

    /// The tuple with the receiver as the local end; no socket, no namespace.
    #[inline(always)]
    pub fn receiver(&self) -> Option<Identity> {
        let (source, destination) = match self.network.get::<u8>(0) >> 4 {
            4 => (mapped(self.network.get(12)), mapped(self.network.get(16))),
            6 => (self.network.get(8), self.network.get(24)),
            _ => return None,
        };
        Some(Identity {
            cookie: 0,
            local: destination,
            remote: source,
            netns: 0,
            local_port: u16::from_be(self.transport.get(2)),
            remote_port: u16::from_be(self.transport.get(0)),
            state: 0,
        })
    }
}

/// Copies the headers of a received skb.
#[inline(always)]
pub fn copy(skb: Checked, out: &mut Header) {
    let headers = headers(skb);
    // SAFETY: a helper without arguments.
    out.time_ns = unsafe { bpf_ktime_get_ns() };
    out.ifindex = skb.get(offset!(skb_iif));
    // SAFETY: the helper checks the address. What lies behind the headers inside the skb's linear
    // buffer is copied too and ignored by the reader, which goes by the header lengths.
    let copied = unsafe { bpf_probe_read_kernel_buf(headers.network.address(), &mut out.bytes) };
    out.len = if copied.is_ok() { HEADER_BYTES as u16 } else { 0 };
}
