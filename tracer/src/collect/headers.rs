//! Captured header bytes to `model::Packet`. Broken bytes give `None`, never a panic.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpSlice};
use rstscope_ebpf::abi::Header;

use super::options::{option_names, timestamps};
use crate::model::{Mac, Mono, Packet, TcpFlags};

/// Index of the loopback interface in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
/// Where the flags are in a TCP header.
const FLAGS: usize = 13;

/// What the IP header says.
struct Network {
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    ip_id: Option<u16>,
    dont_fragment: Option<bool>,
    tos: u8,
    header_len: usize,
    total_len: usize,
}

/// Decodes a captured packet; `None` if there is none or it is not TCP over IP.
pub fn decode(header: &Header) -> Option<Packet> {
    let bytes = header.bytes.get(..usize::from(header.len))?;
    let ip = network(bytes)?;
    let tcp = TcpSlice::from_slice(bytes.get(ip.header_len..)?).ok()?;
    let headers_len = ip.header_len + tcp.header_slice().len();
    Some(Packet {
        time: (header.time_ns > 0).then_some(Mono(header.time_ns)),
        source: SocketAddr::new(ip.source.to_canonical(), tcp.source_port()),
        destination: SocketAddr::new(ip.destination.to_canonical(), tcp.destination_port()),
        ttl: ip.ttl,
        ip_id: ip.ip_id,
        dont_fragment: ip.dont_fragment,
        tos: ip.tos,
        flags: TcpFlags(*tcp.header_slice().get(FLAGS)?),
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        window: tcp.window_size(),
        timestamps: timestamps(&tcp),
        options: option_names(&tcp),
        payload_len: u32::try_from(ip.total_len.saturating_sub(headers_len)).unwrap_or(0),
        ifindex: header.ifindex,
        on_loopback: header.ifindex == LOOPBACK,
        source_mac: (header.has_mac == 1).then_some(Mac(header.source_mac)),
        raw: bytes.get(..headers_len)?.to_vec(),
    })
}

fn network(bytes: &[u8]) -> Option<Network> {
    match bytes.first()? >> 4 {
        4 => Some(ipv4(&Ipv4HeaderSlice::from_slice(bytes).ok()?)),
        6 => Some(ipv6(&Ipv6HeaderSlice::from_slice(bytes).ok()?)),
        _ => None,
    }
}

fn ipv4(ip: &Ipv4HeaderSlice<'_>) -> Network {
    Network {
        source: ip.source_addr().into(),
        destination: ip.destination_addr().into(),
        ttl: ip.ttl(),
        ip_id: Some(ip.identification()),
        dont_fragment: Some(ip.dont_fragment()),
        tos: ip.dcp().value() << 2 | ip.ecn().value(),
        header_len: ip.slice().len(),
        total_len: usize::from(ip.total_len()),
    }
}

fn ipv6(ip: &Ipv6HeaderSlice<'_>) -> Network {
    Network {
        source: ip.source_addr().into(),
        destination: ip.destination_addr().into(),
        ttl: ip.hop_limit(),
        ip_id: None,
        dont_fragment: None,
        tos: ip.traffic_class(),
        header_len: ip.slice().len(),
        total_len: ip.slice().len() + usize::from(ip.payload_length()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamps;

    fn header(bytes: &[u8]) -> Header {
        let mut header = Header::EMPTY;
        header.bytes[..bytes.len()].copy_from_slice(bytes);
        header.len = 104;
        (header.has_mac, header.source_mac) = (1, [2, 0, 0, 0, 0, 7]);
        header.ifindex = 2;
        header
    }

    /// A RST|ACK with timestamps as Linux sends it for `close()` with unread data, and bytes behind it that
    /// the capture took from the rest of the buffer.
    fn active_reset() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 52, 0x12, 0x34, 0x40, 0, 63, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend([0x1f, 0x90, 0x30, 0x39, 0, 0, 0, 10, 0, 0, 0, 20, 0x80, 0x14, 0, 64, 0, 0, 0, 0]);
        bytes.extend([1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9]);
        bytes.extend([0xff; 8]);
        bytes
    }

    #[test]
    fn an_active_reset_is_read_in_full() {
        let packet = decode(&header(&active_reset())).unwrap();
        assert_eq!(packet.source, "10.0.0.1:8080".parse().unwrap());
        assert_eq!(packet.destination, "10.0.0.2:12345".parse().unwrap());
        assert_eq!(
            (packet.ttl, packet.ip_id, packet.seq, packet.ack, packet.window),
            (63, Some(0x1234), 10, 20, 64)
        );
        assert_eq!(packet.flags.names(), "RST|ACK");
        assert_eq!(packet.timestamps, Some(Timestamps { value: 7, echo: 9 }));
        assert_eq!(packet.options, ["timestamps"]);
        assert_eq!(packet.source_mac, Some(Mac([2, 0, 0, 0, 0, 7])));
        assert_eq!(packet.raw.len(), 52);
        assert_eq!(packet.payload_len, 0);
        assert!(!packet.is_stateless_reset());
    }

    #[test]
    fn broken_bytes_are_no_packet() {
        assert!(decode(&Header::EMPTY).is_none());
        for len in 0..40 {
            let mut short = header(&active_reset());
            short.len = len;
            assert!(decode(&short).is_none(), "{len} bytes");
        }
        assert!(decode(&header(&[0x75; 60])).is_none());
    }
}
