//! An ICMP error about a segment of Nginx's: somebody on the path, or the peer's host, says that it did not take it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::packet::hexadecimal;
use super::{Mono, Packet, TcpFlags};

/// What an error says of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpReason {
    /// Forbidden by the sender's rules.
    Prohibited,
    /// Nobody takes the port, says the host that has the address or a rule in its place.
    NoPort,
    /// The sender knows no way, or got no answer from the next hop.
    Unreachable,
    /// It was on the way for too long: a routing loop.
    Expired,
    /// Anything else.
    Other,
}

/// An ICMP error. Numbers are in host byte order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcmpError {
    /// Who sent it.
    pub sender: IpAddr,
    /// Type (RFC 792, RFC 4443).
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// IPv4 TTL or IPv6 hop limit as it arrived.
    pub ttl: u8,
    /// Source of the segment it quotes: Nginx's end.
    pub local: SocketAddr,
    /// Destination of the segment it quotes.
    pub remote: SocketAddr,
    /// Sequence number of the segment it quotes.
    pub seq: u32,
    /// The message from its IP header to the quoted sequence number; hexadecimal digits where it is written.
    #[serde(with = "hexadecimal")]
    pub raw: Vec<u8>,
}

/// Version, type, code, what that says, and its name in the RFC.
type Row = (u8, u8, u8, IcmpReason, &'static str);

/// RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1, RFC 4443 section 3. Other codes go by their type.
const MEANINGS: &[Row] = &[
    (4, 3, 0, IcmpReason::Unreachable, "net unreachable"),
    (4, 3, 1, IcmpReason::Unreachable, "host unreachable"),
    (4, 3, 2, IcmpReason::NoPort, "protocol unreachable"),
    (4, 3, 3, IcmpReason::NoPort, "port unreachable"),
    (4, 3, 6, IcmpReason::Unreachable, "destination network unknown"),
    (4, 3, 7, IcmpReason::Unreachable, "destination host unknown"),
    (4, 3, 9, IcmpReason::Prohibited, "network administratively prohibited"),
    (4, 3, 10, IcmpReason::Prohibited, "host administratively prohibited"),
    (4, 3, 13, IcmpReason::Prohibited, "communication administratively prohibited"),
    (4, 11, 0, IcmpReason::Expired, "time to live exceeded in transit"),
    (6, 1, 0, IcmpReason::Unreachable, "no route to destination"),
    (6, 1, 1, IcmpReason::Prohibited, "communication with destination administratively prohibited"),
    (6, 1, 3, IcmpReason::Unreachable, "address unreachable"),
    (6, 1, 4, IcmpReason::NoPort, "port unreachable"),
    (6, 1, 5, IcmpReason::Prohibited, "source address failed ingress/egress policy"),
    (6, 1, 6, IcmpReason::Prohibited, "reject route to destination"),
    (6, 3, 0, IcmpReason::Expired, "hop limit exceeded in transit"),
];

impl IcmpError {
    /// What it says of the segment.
    pub fn reason(&self) -> IcmpReason {
        self.meaning().map_or(IcmpReason::Other, |row| row.3)
    }

    /// Its name with type and code, for example `host unreachable (ICMP 3/1)`.
    pub fn name(&self) -> String {
        let protocol = if self.version() == 4 { "ICMP" } else { "ICMPv6" };
        let name = self.meaning().map_or("error", |row| row.4);
        format!("{name} ({protocol} {}/{})", self.kind, self.code)
    }

    /// The errno that Linux ends a connection attempt with (`icmp_err_convert`, `icmpv6_err_convert`).
    pub fn errno(&self) -> Option<i32> {
        match (self.version(), self.kind, self.code) {
            (4, 3, 0 | 6 | 9 | 11) | (6, 1, 0) => Some(101),
            (4, 3, 3) | (6, 1, 4) => Some(111),
            (6, 1, 1 | 5 | 6) => Some(13),
            (4, 3, _) | (6, 1, _) => Some(113),
            _ => None,
        }
    }

    /// The message as a packet of the evidence capture; what it has no field for is zero.
    pub fn packet(&self, time: Mono) -> Packet {
        Packet {
            time: Some(time),
            source: SocketAddr::new(self.sender, 0),
            destination: SocketAddr::new(self.local.ip(), 0),
            ttl: self.ttl,
            ip_id: None,
            dont_fragment: None,
            tos: 0,
            flags: TcpFlags::default(),
            seq: self.seq,
            ack: 0,
            window: 0,
            timestamps: None,
            options: Vec::new(),
            payload_len: 0,
            ifindex: 0,
            on_loopback: self.sender == self.local.ip(),
            raw: self.raw.clone(),
        }
    }

    fn version(&self) -> u8 {
        if self.sender.is_ipv4() { 4 } else { 6 }
    }

    fn meaning(&self) -> Option<&'static Row> {
        let key = (self.version(), self.kind, self.code);
        MEANINGS.iter().find(|(version, kind, code, ..)| (*version, *kind, *code) == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_of_the_sender_decides_what_numbers_mean() {
        let v4 = IcmpError {
            sender: "10.0.0.1".parse().unwrap(),
            kind: 3,
            code: 1,
            ttl: 63,
            local: "10.0.1.1:40000".parse().unwrap(),
            remote: "10.0.2.1:80".parse().unwrap(),
            seq: 1,
            raw: Vec::new(),
        };
        assert_eq!(
            (v4.name().as_str(), v4.reason()),
            ("host unreachable (ICMP 3/1)", IcmpReason::Unreachable)
        );
        let v6 = IcmpError { sender: "fd00::1".parse().unwrap(), kind: 1, ..v4.clone() };
        assert_eq!(v6.reason(), IcmpReason::Prohibited);
        assert_eq!((v4.errno(), v6.errno()), (Some(113), Some(13)));
        assert_eq!(IcmpError { kind: 12, ..v4 }.name(), "error (ICMP 12/1)");
    }
}
