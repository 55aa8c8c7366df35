//! From an IP packet to a TCP segment: the fields that the tracker needs of every packet, and the whole header
//! as a `model::Packet` where a packet matters. Headers that the capture cut off are read as far as they go.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxIpSlice, TcpSlice};

use crate::collect::icmp;
use crate::collect::options::{self, option_names, timestamps};
use crate::model::{IcmpError, Mac, Mono, Packet, TcpFlags, Timestamps};

/// Bytes of a TCP header without options.
const SHORTEST: usize = 20;
/// ICMP for IPv4 and IPv6.
const ICMP: [u8; 2] = [1, 58];
/// TCP.
const TCP: u8 = 6;

/// What of an IP packet concerns a TCP connection.
#[derive(Debug)]
pub enum Content<'a> {
    /// A segment.
    Tcp(Segment, Bytes<'a>),
    /// An ICMP error about a segment.
    Unreachable(Unreachable),
    /// Another protocol.
    Other,
    /// A fragment that does not hold the TCP header.
    Fragment,
    /// TCP that cannot be read.
    Broken,
}

/// One TCP segment. Numbers are in host byte order.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Who it says it is from.
    pub source: SocketAddr,
    /// Who it is for.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 identification.
    pub ip_id: Option<u16>,
    /// IPv4 don't-fragment bit.
    pub dont_fragment: Option<bool>,
    /// TOS or traffic class.
    pub tos: u8,
    /// TCP flags.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Window, unscaled.
    pub window: u16,
    /// Timestamp option.
    pub timestamps: Option<Timestamps>,
    /// Payload bytes on the wire.
    pub payload: u32,
    /// It passed the loopback interface of the capturing host.
    pub on_loopback: bool,
    /// Who put it on the link it was captured on.
    pub source_mac: Option<Mac>,
}

/// The captured bytes of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    /// From the IP header on.
    pub ip: &'a [u8],
    /// TCP header with options, as far as captured.
    pub tcp: &'a [u8],
    /// Payload, as far as captured.
    pub payload: &'a [u8],
}

/// An ICMP error that quotes a segment.
#[derive(Debug, Clone)]
pub struct Unreachable {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// The message.
    pub error: IcmpError,
}

impl Segment {
    /// Sequence number behind the segment; SYN and FIN count one each (RFC 9293, section 3.4).
    pub fn end(&self) -> u32 {
        self.seq
            .wrapping_add(self.payload)
            .wrapping_add(u32::from(self.flags.has(TcpFlags::SYN)))
            .wrapping_add(u32::from(self.flags.has(TcpFlags::FIN)))
    }

    /// The segment without its options and bytes.
    pub fn bare(&self) -> Packet {
        Packet {
            time: Some(Mono(self.time)),
            source: self.source,
            destination: self.destination,
            ttl: self.ttl,
            ip_id: self.ip_id,
            dont_fragment: self.dont_fragment,
            tos: self.tos,
            flags: self.flags,
            seq: self.seq,
            ack: self.ack,
            window: self.window,
            timestamps: self.timestamps,
            options: Vec::new(),
            payload_len: self.payload,
            ifindex: 0,
            on_loopback: self.on_loopback,
            source_mac: self.source_mac,
            raw: Vec::new(),
        }
    }

    /// The whole packet.
    pub fn packet(&self, bytes: &Bytes<'_>) -> Packet {
        let options = TcpSlice::from_slice(bytes.tcp).map(|tcp| option_names(&tcp)).unwrap_or_default();
        let headers = bytes.ip.len().saturating_sub(bytes.payload.len());
        let raw = bytes.ip.get(..headers).unwrap_or_default().to_vec();
        Packet { options, raw, ..self.bare() }
    }
}

/// MSS and window scale of a SYN.
pub fn offer(bytes: &Bytes<'_>) -> (Option<u16>, Option<u8>) {
    TcpSlice::from_slice(bytes.tcp).map(|tcp| options::offer(&tcp)).unwrap_or_default()
}

/// Reads an IP packet. `original` is the length of the whole frame on the wire, for packets whose IP length
/// field is zero because the network card cuts them later.
pub fn content<'a>(
    time: u64,
    ip: &LaxIpSlice<'a>,
    bytes: &'a [u8],
    original: u32,
    captured: usize,
) -> Content<'a> {
    let payload = ip.payload();
    let number = payload.ip_number.0;
    if ICMP.contains(&number) && !payload.fragmented {
        let error = icmp::decode(bytes).map(|error| Unreachable { time, error });
        return error.map_or(Content::Other, Content::Unreachable);
    }
    if number != TCP {
        return Content::Other;
    }
    if payload.fragmented && !first_fragment(ip) {
        return Content::Fragment;
    }
    let cut = usize::try_from(original).unwrap_or(0).saturating_sub(captured);
    segment(time, ip, payload.payload, bytes, cut)
        .map_or(Content::Broken, |(segment, bytes)| Content::Tcp(segment, bytes))
}

/// Whether a fragment is the first of its packet, with the header of what it carries.
pub fn first_fragment(ip: &LaxIpSlice<'_>) -> bool {
    match ip {
        LaxIpSlice::Ipv4(ip) => ip.header().fragments_offset().value() == 0,
        LaxIpSlice::Ipv6(ip) => {
            let fragment = ip.extensions().clone().into_iter().find_map(|extension| match extension {
                etherparse::Ipv6ExtensionSlice::Fragment(fragment) => {
                    Some(fragment.fragment_offset().value())
                }
                _ => None,
            });
            fragment == Some(0)
        }
    }
}

fn segment<'a>(
    time: u64,
    ip: &LaxIpSlice<'a>,
    transport: &'a [u8],
    bytes: &'a [u8],
    cut: usize,
) -> Option<(Segment, Bytes<'a>)> {
    let fixed: &[u8; SHORTEST] = transport.first_chunk()?;
    let header_len = usize::from(fixed[12] >> 4) * 4;
    if header_len < SHORTEST {
        return None;
    }
    let mut shortened = *fixed;
    shortened[12] = 5 << 4;
    let whole = TcpSlice::from_slice(transport);
    let tcp = match &whole {
        Ok(tcp) => tcp.clone(),
        Err(_) => TcpSlice::from_slice(&shortened).ok()?,
    };
    let on_wire = on_wire(ip, transport, bytes, cut);
    let (source, destination) = addresses(ip);
    let (ip_id, dont_fragment, ttl, tos) = header(ip);
    let header_end = header_len.min(transport.len());
    let payload = u32::try_from(on_wire.saturating_sub(header_len)).unwrap_or(0);
    let segment = Segment {
        time,
        source: SocketAddr::new(source.to_canonical(), tcp.source_port()),
        destination: SocketAddr::new(destination.to_canonical(), tcp.destination_port()),
        ttl,
        ip_id,
        dont_fragment,
        tos,
        flags: TcpFlags(fixed[13]),
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        window: tcp.window_size(),
        timestamps: whole.ok().and_then(|tcp| timestamps(&tcp)),
        payload,
        on_loopback: false,
        source_mac: None,
    };
    let length = usize::try_from(payload).unwrap_or(0);
    let data = &transport[header_end..];
    let data = &data[..data.len().min(length)];
    let start = bytes
        .len()
        .min(transport.as_ptr().addr().saturating_sub(bytes.as_ptr().addr()) + header_end + data.len());
    Some((segment, Bytes { ip: &bytes[..start], tcp: &transport[..header_end], payload: data }))
}

/// Length of TCP header and payload on the wire, from the IP header; from the frame where that says zero.
fn on_wire(ip: &LaxIpSlice<'_>, transport: &[u8], bytes: &[u8], cut: usize) -> usize {
    let before = transport.as_ptr().addr().saturating_sub(bytes.as_ptr().addr());
    let length = match ip {
        LaxIpSlice::Ipv4(ip) => usize::from(ip.header().total_len()),
        LaxIpSlice::Ipv6(ip) => match ip.header().payload_length() {
            0 => 0,
            length => usize::from(length) + 40,
        },
    };
    match length {
        0 => transport.len() + cut,
        length => length.saturating_sub(before),
    }
}

fn addresses(ip: &LaxIpSlice<'_>) -> (IpAddr, IpAddr) {
    match ip {
        LaxIpSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxIpSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
    }
}

fn header(ip: &LaxIpSlice<'_>) -> (Option<u16>, Option<bool>, u8, u8) {
    match ip {
        LaxIpSlice::Ipv4(ip) => {
            let header = ip.header();
            let tos = header.dcp().value() << 2 | header.ecn().value();
            (Some(header.identification()), Some(header.dont_fragment()), header.ttl(), tos)
        }
        LaxIpSlice::Ipv6(ip) => (None, None, ip.header().hop_limit(), ip.header().traffic_class()),
    }
}
