//! Other addresses in the captured headers of a packet. Checksums are adjusted by the difference (RFC 1624), so that a
//! right one stays right and a wrong one stays wrong.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Place of the checksum in an IPv4 header.
const IPV4_CHECKSUM: usize = 10;
/// Place of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;

/// Headers in hexadecimal digits with the addresses that `address` gives; `None` if they are none of TCP over IP.
pub fn rewritten(digits: &str, address: impl FnMut(IpAddr) -> IpAddr) -> Option<String> {
    let mut bytes = read(digits)?;
    rewrite(&mut bytes, address)?;
    let mut out = String::with_capacity(digits.len());
    for byte in bytes {
        // Writing into a string does not fail.
        let _written = write!(out, "{byte:02x}");
    }
    Some(out)
}

fn read(digits: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.as_bytes().chunks(2).map(pair).collect())?
}

fn rewrite(bytes: &mut [u8], mut address: impl FnMut(IpAddr) -> IpAddr) -> Option<()> {
    let version = bytes.first()? >> 4;
    let (places, length, header) = match version {
        4 => ([12, 16], 4, usize::from(bytes.first()? & 0x0f) * 4),
        6 => ([8, 24], 16, 40),
        _ => return None,
    };
    for place in places {
        let old = bytes.get(place..place + length)?.to_vec();
        let new = octets(address(ip(&old)?), length)?;
        bytes.get_mut(place..place + length)?.copy_from_slice(&new);
        if version == 4 {
            adjust(bytes, IPV4_CHECKSUM, &old, &new);
        }
        adjust(bytes, header + TCP_CHECKSUM, &old, &new);
    }
    Some(())
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
    }
}

fn octets(ip: IpAddr, length: usize) -> Option<Vec<u8>> {
    match (ip, length) {
        (IpAddr::V4(ip), 4) => Some(ip.octets().to_vec()),
        (IpAddr::V6(ip), 16) => Some(ip.octets().to_vec()),
        (IpAddr::V4(ip), _) => Some(ip.to_ipv6_mapped().octets().to_vec()),
        (IpAddr::V6(_), _) => None,
    }
}

/// RFC 1624, equation 3: `HC' = ~(~HC + ~m + m')`.
fn adjust(bytes: &mut [u8], place: usize, old: &[u8], new: &[u8]) {
    let Some(checksum) = bytes.get_mut(place..place + 2) else { return };
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    let mut sum = !word(checksum) & 0xffff;
    for (old, new) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
        sum += (!word(old) & 0xffff) + word(new);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let complement = u16::try_from(!sum & 0xffff).unwrap_or(0);
    checksum.copy_from_slice(&complement.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN-ACK with right checksums.
    const SYN_ACK: &str = "4500003c000040003e06d1a00a4d050a0a4d03011f90cf32d67fa85c29f95772a012fe880000000002040\
                           5b40402080a322a14bc48989d9e0103030a";

    fn sum(bytes: &[u8]) -> u16 {
        let mut sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn a_right_checksum_stays_right() {
        let digits: String = SYN_ACK.split_whitespace().collect();
        let mut bytes = read(&digits).unwrap();
        bytes[10..12].fill(0);
        let checksum = sum(&bytes[..20]).to_be_bytes();
        bytes[10..12].copy_from_slice(&checksum);
        rewrite(&mut bytes, |_| "240.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(sum(&bytes[..20]), 0);
        assert_eq!(bytes[12..20], [240, 0, 0, 1, 240, 0, 0, 1]);
    }

    #[test]
    fn broken_bytes_are_refused() {
        for broken in ["", "4", "zz", "45", "4500003c", "75000000000000000000"] {
            assert_eq!(rewritten(broken, |ip| ip), None, "{broken}");
        }
    }
}
