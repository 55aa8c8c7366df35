//! From a frame to the IP packet in it: link layers, VLAN tags, MPLS labels, `PPPoE`, and tunnels whose inside is
//! what the hosts speak (VXLAN, Geneve, GTP-U, GRE, ERSPAN, IP in IP). Everything is bounded by the bytes there are;
//! what is not IP gives nothing.

use etherparse::{LaxIpSlice, LaxIpv4Slice, LaxIpv6Slice};

use super::segment::first_fragment;
use crate::model::Mac;

/// Tunnels in tunnels that are opened.
const DEEPEST: usize = 4;
/// Tags and labels that are skipped before IP.
const MOST_TAGS: usize = 8;

/// What a frame carries.
#[derive(Debug)]
pub enum Carried<'a> {
    /// An IP packet that is no tunnel; the bytes begin with its header.
    Ip(LaxIpSlice<'a>, &'a [u8]),
    /// Something that is not IP: ARP, LLDP, …
    OtherProtocol,
    /// A link layer that is not known, with its number.
    UnknownLink(u32),
    /// IP that cannot be read.
    Broken,
}

/// Where reading goes on.
enum Inside<'a> {
    Ether(u16, &'a [u8]),
    Ip(&'a [u8]),
    Frame(&'a [u8]),
    Nothing,
    Unknown,
}

/// The IP packet in a frame of this link type (`LINKTYPE_…`).
pub fn carried(link: u32, frame: &[u8]) -> Carried<'_> {
    let mut inside = open(link, frame);
    for _ in 0..=DEEPEST {
        let bytes = match inside {
            Inside::Unknown => return Carried::UnknownLink(link),
            Inside::Nothing => return Carried::OtherProtocol,
            Inside::Frame(frame) => {
                inside = ethernet(frame);
                continue;
            }
            Inside::Ether(protocol, bytes) => match untagged(protocol, bytes) {
                Some(bytes) => bytes,
                None => return Carried::OtherProtocol,
            },
            Inside::Ip(bytes) => bytes,
        };
        let Some(ip) = ip(bytes) else { return Carried::Broken };
        match tunnel(&ip) {
            Some(deeper) => inside = deeper,
            None => return Carried::Ip(ip, bytes),
        }
    }
    Carried::OtherProtocol
}

/// The link layer says that the packet left the capturing host (`PACKET_OUTGOING` of Linux cooked captures).
pub fn is_outgoing(link: u32, frame: &[u8]) -> bool {
    const OUTGOING: u8 = 4;
    match link {
        113 => frame.get(..2) == Some(&[0, OUTGOING]),
        276 => frame.get(10) == Some(&OUTGOING),
        _ => false,
    }
}

/// The packet passed the loopback interface (`ARPHRD_LOOPBACK` of Linux cooked captures).
pub fn is_loopback(link: u32, frame: &[u8]) -> bool {
    const LOOPBACK: u16 = 772;
    match link {
        113 => number(frame, 2) == Some(LOOPBACK),
        276 => number(frame, 8) == Some(LOOPBACK),
        _ => false,
    }
}

/// The address of who put the frame on this link: Ethernet, and Linux cooked captures of six-byte addresses.
pub fn source_mac(link: u32, frame: &[u8]) -> Option<Mac> {
    let start = match link {
        1 => 6,
        113 if number(frame, 4) == Some(6) => 6,
        276 if frame.get(11) == Some(&6) => 12,
        _ => return None,
    };
    let address: [u8; 6] = frame.get(start..start + 6)?.try_into().ok()?;
    Some(Mac(address))
}

fn ip(bytes: &[u8]) -> Option<LaxIpSlice<'_>> {
    match bytes.first()? >> 4 {
        4 => LaxIpv4Slice::from_slice(bytes).ok().map(|(ip, _)| LaxIpSlice::Ipv4(ip)),
        6 => LaxIpv6Slice::from_slice(bytes).ok().map(|(ip, _)| LaxIpSlice::Ipv6(ip)),
        _ => None,
    }
}

fn open(link: u32, frame: &[u8]) -> Inside<'_> {
    match link {
        1 => ethernet(frame),
        0 | 108 => family(frame),
        12 | 14 | 101 | 228 | 229 => Inside::Ip(frame),
        113 => ether_at(frame, 14, 16),
        276 => ether_at(frame, 0, 20),
        9 | 50 => ppp(frame),
        51 => pppoe(frame).map_or(Inside::Nothing, Inside::Ip),
        10 => frame.get(13..).map_or(Inside::Nothing, snap),
        104 => ether_at(frame, 2, 4),
        105 => wireless(frame),
        127 => length_prefixed(frame, wireless),
        109 => skip(frame, 12),
        117 => skip(frame, frame.first().map_or(0, |length| usize::from(*length).next_multiple_of(4))),
        192 => per_packet_information(frame),
        239 => nflog(frame),
        240 => frame.get(4..).map_or(Inside::Nothing, ethernet),
        242 => ether_at(frame, 40, 44),
        _ => Inside::Unknown,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn skip(frame: &[u8], length: usize) -> Inside<'_> {
    frame.get(length..).map_or(Inside::Nothing, Inside::Ip)
}

fn ether_at(frame: &[u8], protocol: usize, payload: usize) -> Inside<'_> {
    match (number(frame, protocol), frame.get(payload..)) {
        (Some(protocol), Some(payload)) => Inside::Ether(protocol, payload),
        _ => Inside::Nothing,
    }
}

/// Ethernet II, or IEEE 802.3 with an LLC/SNAP header where the length stands instead of the protocol.
fn ethernet(frame: &[u8]) -> Inside<'_> {
    const SMALLEST_PROTOCOL: u16 = 0x600;
    match number(frame, 12) {
        Some(length) if length < SMALLEST_PROTOCOL => frame.get(14..).map_or(Inside::Nothing, snap),
        Some(protocol) => frame.get(14..).map_or(Inside::Nothing, |bytes| Inside::Ether(protocol, bytes)),
        None => Inside::Nothing,
    }
}

/// LLC with a SNAP header (RFC 1042).
fn snap(bytes: &[u8]) -> Inside<'_> {
    if bytes.starts_with(&[0xaa, 0xaa, 3]) { ether_at(bytes, 6, 8) } else { Inside::Nothing }
}

/// BSD loopback: the address family, in the byte order of the capturing host.
fn family(frame: &[u8]) -> Inside<'_> {
    const FAMILIES: [u32; 5] = [2, 10, 24, 28, 30];
    let Some(field) = frame.get(..4).and_then(|field| <[u8; 4]>::try_from(field).ok()) else {
        return Inside::Nothing;
    };
    let known = [u32::from_le_bytes(field), u32::from_be_bytes(field)].iter().any(|it| FAMILIES.contains(it));
    if known { skip(frame, 4) } else { Inside::Nothing }
}

fn ppp(frame: &[u8]) -> Inside<'_> {
    let frame = frame.strip_prefix(&[0xff, 3]).unwrap_or(frame);
    ppp_payload(frame).map_or(Inside::Nothing, Inside::Ip)
}

/// PPP protocol numbers of IPv4 and IPv6; the first byte may be left out (RFC 1661, section 6.5).
fn ppp_payload(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0, 0x21 | 0x57, rest @ ..] | [0x21 | 0x57, rest @ ..] => Some(rest),
        _ => None,
    }
}

fn pppoe(bytes: &[u8]) -> Option<&[u8]> {
    ppp_payload(bytes.get(6..)?)
}

/// Data frames of IEEE 802.11 that are not encrypted.
fn wireless(frame: &[u8]) -> Inside<'_> {
    const DATA: u8 = 0x08;
    let Some([control, flags, ..]) = frame.get(..2) else { return Inside::Nothing };
    let (is_data, encrypted, four_addresses) = (control & 0x0c == DATA, flags & 0x40 != 0, flags & 3 == 3);
    let quality = usize::from(control & 0x80 != 0) * 2;
    let length = 24 + usize::from(four_addresses) * 6 + quality;
    if !is_data || encrypted {
        return Inside::Nothing;
    }
    frame.get(length..).map_or(Inside::Nothing, snap)
}

/// Radiotap: its length is a little-endian number at the third byte.
fn length_prefixed(frame: &[u8], rest: fn(&[u8]) -> Inside<'_>) -> Inside<'_> {
    let length = number(frame, 2).map(|length| usize::from(length.swap_bytes()));
    length.and_then(|length| frame.get(length..)).map_or(Inside::Nothing, rest)
}

/// PPI: its length and the link type of what follows it, little-endian both.
fn per_packet_information(frame: &[u8]) -> Inside<'_> {
    const OWN: u32 = 192;
    let link = frame.get(4..8).and_then(|link| <[u8; 4]>::try_from(link).ok()).map(u32::from_le_bytes);
    let length = number(frame, 2).map(|length| usize::from(length.swap_bytes()));
    match (link, length.and_then(|length| frame.get(length..))) {
        (Some(link), Some(rest)) if link != OWN => open(link, rest),
        _ => Inside::Nothing,
    }
}

/// NFLOG: type-length-value fields, of which number 9 is the packet.
fn nflog(frame: &[u8]) -> Inside<'_> {
    const PACKET: u16 = 9;
    let mut rest = frame.get(4..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (number(rest, 0), number(rest, 2)) {
        let length = usize::from(length.swap_bytes());
        if kind.swap_bytes() == PACKET {
            return rest.get(4..).map_or(Inside::Nothing, Inside::Ip);
        }
        let Some(after) = rest.get(length.max(4).next_multiple_of(4)..) else { break };
        rest = after;
    }
    Inside::Nothing
}

/// The IP packet behind VLAN tags, MPLS labels and `PPPoE`.
fn untagged(mut protocol: u16, mut bytes: &[u8]) -> Option<&[u8]> {
    for _ in 0..MOST_TAGS {
        match protocol {
            0x0800 | 0x86dd => return Some(bytes),
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                (protocol, bytes) = (number(bytes, 2)?, bytes.get(4..)?);
            }
            // VN-Tag (IEEE 802.1BR) is four bytes long.
            0x8926 => (protocol, bytes) = (number(bytes, 4)?, bytes.get(6..)?),
            0x8847 | 0x8848 => return unlabelled(bytes),
            0x8864 => return pppoe(bytes),
            _ => return None,
        }
    }
    None
}

/// Skips MPLS labels up to the bottom of the stack; what follows is taken for IP if it looks so.
fn unlabelled(mut bytes: &[u8]) -> Option<&[u8]> {
    for _ in 0..MOST_TAGS {
        let bottom = bytes.get(2)? & 1 == 1;
        bytes = bytes.get(4..)?;
        if bottom {
            return matches!(bytes.first()? >> 4, 4 | 6).then_some(bytes);
        }
    }
    None
}

fn tunnel<'a>(ip: &LaxIpSlice<'a>) -> Option<Inside<'a>> {
    let payload = ip.payload();
    if payload.fragmented && !first_fragment(ip) {
        return None;
    }
    match payload.ip_number.0 {
        4 | 41 => Some(Inside::Ip(payload.payload)),
        47 => Some(generic(payload.payload)),
        17 => datagram(payload.payload),
        _ => None,
    }
}

/// VXLAN (RFC 7348, also on the port of older Linux), Geneve (RFC 8926) and GTP-U.
fn datagram(bytes: &[u8]) -> Option<Inside<'_>> {
    const VXLAN: [u16; 2] = [4789, 8472];
    const GENEVE: u16 = 6081;
    const GTP: u16 = 2152;
    let (port, body) = (number(bytes, 2)?, bytes.get(8..)?);
    if VXLAN.contains(&port) {
        return (body.first()? & 0x08 != 0).then(|| body.get(8..).map_or(Inside::Nothing, Inside::Frame));
    }
    if port == GTP {
        return tunnelled_user_data(body);
    }
    if port != GENEVE {
        return None;
    }
    let (options, protocol) = (usize::from(body.first()? & 0x3f) * 4, number(body, 2)?);
    let inner = body.get(8 + options..)?;
    Some(if protocol == 0x6558 { Inside::Frame(inner) } else { Inside::Ether(protocol, inner) })
}

/// A user's packet in GTP version 1 (3GPP TS 29.281), behind the optional fields and extension headers.
fn tunnelled_user_data(bytes: &[u8]) -> Option<Inside<'_>> {
    const USER_DATA: u8 = 255;
    const OPTIONAL: u8 = 7;
    const EXTENDED: u8 = 4;
    let [flags, kind, ..] = *bytes else { return None };
    if flags >> 4 != 3 || kind != USER_DATA {
        return None;
    }
    let mut at = if flags & OPTIONAL == 0 { 8 } else { 12 };
    let mut more = flags & EXTENDED != 0 && *bytes.get(11)? != 0;
    for _ in 0..MOST_TAGS {
        if !more {
            break;
        }
        at += usize::from(*bytes.get(at)?).max(1) * 4;
        more = *bytes.get(at - 1)? != 0;
    }
    let inner = bytes.get(at..)?;
    matches!(inner.first()? >> 4, 4 | 6).then_some(Inside::Ip(inner))
}

/// GRE (RFC 2784, 2890) and ERSPAN in it.
fn generic(bytes: &[u8]) -> Inside<'_> {
    let (Some(flags), Some(protocol)) = (number(bytes, 0), number(bytes, 2)) else { return Inside::Nothing };
    let optional = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count();
    let Some(inner) = bytes.get(4 + optional * 4..) else { return Inside::Nothing };
    let after = |length: usize| inner.get(length..).map_or(Inside::Nothing, Inside::Frame);
    match protocol {
        0x6558 => Inside::Frame(inner),
        // ERSPAN type I has no header of its own and no sequence number in GRE; type II has eight bytes.
        0x88be if flags & 0x1000 == 0 => Inside::Frame(inner),
        0x88be => after(8),
        0x22eb => after(12),
        _ => Inside::Ether(protocol, inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_put_a_frame_on_the_link_is_told_where_the_link_layer_says_so() {
        let address = [2, 0, 0, 0, 0, 7];
        let ethernet = [&[0xff; 6], &address[..], &[8, 0]].concat();
        let cooked = [&[0, 0, 0, 1, 0, 6], &address[..], &[0, 0, 8, 0]].concat();
        let cooked_2 = [&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6], &address[..], &[0, 0]].concat();
        for (link, frame) in [(1, &ethernet), (113, &cooked), (276, &cooked_2)] {
            assert_eq!(source_mac(link, frame), Some(Mac(address)), "{link}");
            assert_eq!(source_mac(link, &frame[..11]), None, "{link}, cut off");
        }
        let without = [&[0, 0, 0, 1, 0, 0], &[0; 8][..], &[8, 0]].concat();
        assert_eq!((source_mac(113, &without), source_mac(101, &ethernet)), (None, None));
    }
}
