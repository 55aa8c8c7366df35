//! ICMP error messages to `model::IcmpError`. Broken bytes give `None`, never a panic.

use std::net::{IpAddr, SocketAddr};

use etherparse::LaxIpSlice;

use crate::model::IcmpError;

/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// Bytes in front of what a message quotes (RFC 792, RFC 4443).
const HEADER: usize = 8;
/// Ports and sequence number: what is wanted of the quoted segment.
const WANTED: usize = 8;

/// Reads the message that begins with this IP header; `None` if it is no error about a TCP segment, or no error at all
/// but a step of finding the path MTU.
pub fn decode(bytes: &[u8]) -> Option<IcmpError> {
    let (ip, _) = LaxIpSlice::from_slice(bytes).ok()?;
    let message = ip.payload().payload;
    let (sender, ttl) = match &ip {
        LaxIpSlice::Ipv4(ip) => (IpAddr::from(ip.header().source_addr()), ip.header().ttl()),
        LaxIpSlice::Ipv6(ip) => (IpAddr::from(ip.header().source_addr()), ip.header().hop_limit()),
    };
    let [kind, code, ..] = *message else { return None };
    if !is_error(sender.is_ipv4(), kind, code) {
        return None;
    }
    let quoted = message.get(HEADER..)?;
    let (source, destination, segment) = quoted_addresses(quoted)?;
    let segment: &[u8; WANTED] = segment.first_chunk()?;
    let [port, other] = [0, 2].map(|at| u16::from_be_bytes([segment[at], segment[at + 1]]));
    let end = segment.as_ptr().addr() + WANTED - bytes.as_ptr().addr();
    Some(IcmpError {
        sender,
        kind,
        code,
        ttl,
        local: SocketAddr::new(source.to_canonical(), port),
        remote: SocketAddr::new(destination.to_canonical(), other),
        seq: u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]),
        raw: bytes.get(..end)?.to_vec(),
    })
}

/// As the kernel program has it (`icmp_error`): unreachable, time exceeded, parameter problem.
fn is_error(v4: bool, kind: u8, code: u8) -> bool {
    if v4 { matches!((kind, code), (3, 0..=3 | 5..) | (11 | 12, _)) } else { matches!(kind, 1 | 3 | 4) }
}

/// Source, destination and what follows the quoted IP header, if it is TCP.
fn quoted_addresses(quoted: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    match quoted.first()? >> 4 {
        4 => {
            let header = usize::from(quoted[0] & 15) * 4;
            Some((octets::<4>(quoted, 12)?.into(), octets::<4>(quoted, 16)?.into(), tcp(quoted, 9, header)?))
        }
        6 => Some((octets::<16>(quoted, 8)?.into(), octets::<16>(quoted, 24)?.into(), tcp(quoted, 6, 40)?)),
        _ => None,
    }
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn tcp(quoted: &[u8], protocol: usize, header: usize) -> Option<&[u8]> {
    (*quoted.get(protocol)? == TCP).then(|| quoted.get(header..)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `communication administratively prohibited` from 10.0.0.9 about a SYN from 10.0.0.1:40000 to 10.0.0.2:80.
    fn prohibited() -> Vec<u8> {
        let mut bytes = vec![
            0x45, 0, 0, 56, 0, 0, 0, 0, 63, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1, // IP
            3, 13, 0, 0, 0, 0, 0, 0, // ICMP
            0x45, 0, 0, 60, 0, 0, 0x40, 0, 62, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // quoted IP
        ];
        bytes.extend(40_000u16.to_be_bytes().iter().chain(&80u16.to_be_bytes()));
        bytes.extend(7u32.to_be_bytes());
        bytes
    }

    #[test]
    fn the_sender_and_the_quoted_segment_are_read() {
        let error = decode(&prohibited()).unwrap();
        assert_eq!(error.sender, "10.0.0.9".parse::<IpAddr>().unwrap());
        assert_eq!(
            (error.local.port(), error.remote, error.seq),
            (40_000, "10.0.0.2:80".parse().unwrap(), 7)
        );
        assert_eq!((error.kind, error.code, error.ttl, error.raw.len()), (3, 13, 63, 56));
    }

    #[test]
    fn the_search_for_the_mtu_is_no_error_and_neither_is_a_quoted_udp_packet() {
        let mut bytes = prohibited();
        bytes[21] = 4;
        assert_eq!(decode(&bytes), None);
        let mut bytes = prohibited();
        bytes[37] = 17;
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(&prohibited()[..55]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..128), flip in 0usize..56) {
            drop(decode(&bytes));
            let mut message = prohibited();
            message[flip] ^= 0xff;
            drop(decode(&message));
        }
    }
}
