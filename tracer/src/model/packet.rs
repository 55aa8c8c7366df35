//! A TCP/IP header as a hook saw it on the wire, decoded.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Mac, Mono};

/// TCP flags, the low byte of the flags field (RFC 9293, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;

    /// Whether every bit of `mask` is set.
    pub fn has(self, mask: u8) -> bool {
        self.0 & mask == mask
    }

    /// Neither SYN nor FIN nor RST.
    pub fn is_plain(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST) == 0
    }

    /// Names joined by `|`, for example `RST|ACK`.
    pub fn names(self) -> String {
        const NAMES: [(u8, &str); 6] =
            [(0x02, "SYN"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x10, "ACK"), (0x20, "URG")];
        let set: Vec<&str> = NAMES.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, name)| *name).collect();
        set.join("|")
    }
}

/// The TCP timestamp option (RFC 7323, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamps {
    /// `TSval`: the sender's clock.
    pub value: u32,
    /// `TSecr`: the echoed clock of the receiver.
    pub echo: u32,
}

/// One packet. Numbers are in host byte order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// When the hook captured it; `None` in recordings made before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Mono>,
    /// Who it says it is from.
    pub source: SocketAddr,
    /// Who it is for.
    pub destination: SocketAddr,
    /// IPv4 TTL or IPv6 hop limit as it arrived.
    pub ttl: u8,
    /// IPv4 identification; `None` for IPv6.
    pub ip_id: Option<u16>,
    /// IPv4 don't-fragment bit; `None` for IPv6.
    pub dont_fragment: Option<bool>,
    /// IPv4 TOS or IPv6 traffic class.
    pub tos: u8,
    /// TCP flags.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number as it stands in the header, also without the ACK flag.
    pub ack: u32,
    /// Window field, unscaled.
    pub window: u16,
    /// Timestamp option, if there is one.
    pub timestamps: Option<Timestamps>,
    /// Names of the TCP options in order, for example `mss`, `sack_permitted`, `timestamps`.
    pub options: Vec<String>,
    /// TCP payload bytes by the IP length field.
    pub payload_len: u32,
    /// Index of the interface it came in on; zero if unknown.
    pub ifindex: u32,
    /// The interface was the loopback interface.
    pub on_loopback: bool,
    /// Who put it on the link it came in by, where the hook saw that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_mac: Option<Mac>,
    /// IP and TCP header bytes as captured; hexadecimal digits where it is written.
    #[serde(with = "hexadecimal")]
    pub raw: Vec<u8>,
}

impl Packet {
    /// A stateless reset: `RST` without `ACK`, window or options.
    /// Linux sends it where no socket knows the segment (`tcp_v4_send_reset`), and so does netfilter's REJECT.
    pub fn is_stateless_reset(&self) -> bool {
        self.flags.has(TcpFlags::RST)
            && !self.flags.has(TcpFlags::ACK)
            && self.window == 0
            && self.options.is_empty()
    }
}

/// Bytes as hexadecimal digits: a third of what a list of numbers takes.
pub(super) mod hexadecimal {
    use std::fmt::Write as _;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::model) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing into a string does not fail.
            let _written = write!(digits, "{byte:02x}");
        }
        serializer.serialize_str(&digits)
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let digits = String::deserialize(deserializer)?;
        bytes(&digits).ok_or_else(|| D::Error::custom("packet bytes are pairs of hexadecimal digits"))
    }

    fn bytes(digits: &str) -> Option<Vec<u8>> {
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        let pair = |pair: &[u8]| {
            let [high, low] = pair else { return None };
            u8::try_from(digit(high)? << 4 | digit(low)?).ok()
        };
        digits.as_bytes().chunks(2).map(pair).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::bytes;

        #[test]
        fn only_whole_pairs_of_digits_are_bytes() {
            assert_eq!(bytes("00ff4A"), Some(vec![0, 255, 0x4a]));
            assert_eq!(bytes(""), Some(Vec::new()));
            for wrong in ["0", "0g", "é", "+1"] {
                assert_eq!(bytes(wrong), None, "{wrong}");
            }
        }
    }
}
