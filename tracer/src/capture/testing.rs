//! Captures made by hand for tests: a conversation of TCP packets as a pcap file in memory.

use std::io::Cursor;
use std::net::SocketAddrV4;
use std::path::Path;

use etherparse::PacketBuilder;

use crate::model::Verdict;

use super::container::Container;
use super::roles::{Named, Roles};
use super::session::{Account, Packets, Session, Settings};

/// Client, Nginx and upstream of the conversations.
pub const CLIENT: &str = "198.51.100.7:40000";
pub const NGINX: &str = "192.0.2.1:80";
pub const UPSTREAM: &str = "10.0.0.2:8080";
pub const NGINX_OUT: &str = "192.0.2.1:50000";

/// One packet.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Milliseconds since the beginning.
    pub at: u64,
    /// Source and destination.
    pub between: (&'static str, &'static str),
    /// Letters as tcpdump prints them: `S`, `F`, `R`, `P`, `.` for ACK.
    pub flags: &'static str,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Payload.
    pub data: &'static [u8],
    /// TTL.
    pub ttl: u8,
    /// Window.
    pub window: u16,
}

/// A packet with the ordinary TTL of its sender: clients are 8 hops away, Nginx none, upstreams 2.
pub fn wire(at: u64, between: (&'static str, &'static str), flags: &'static str, seq: u32, ack: u32) -> Wire {
    let ttl = match between.0 {
        CLIENT => 56,
        UPSTREAM => 62,
        _ => 64,
    };
    Wire { at, between, flags, seq, ack, data: b"", ttl, window: 500 }
}

impl Wire {
    /// With payload.
    pub fn data(self, data: &'static [u8]) -> Self {
        Self { data, ..self }
    }

    /// From another distance.
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// With this window.
    pub fn window(self, window: u16) -> Self {
        Self { window, ..self }
    }

    /// The bytes from the Ethernet header on.
    pub fn bytes(&self) -> Vec<u8> {
        let address = |text: &str| text.parse::<SocketAddrV4>().unwrap();
        let (source, destination) = (address(self.between.0), address(self.between.1));
        let mut builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(source.ip().octets(), destination.ip().octets(), self.ttl)
            .tcp(source.port(), destination.port(), self.seq, self.window);
        for flag in self.flags.chars() {
            builder = match flag {
                'S' => builder.syn(),
                'F' => builder.fin(),
                'R' => builder.rst(),
                'P' => builder.psh(),
                _ => builder.ack(self.ack),
            };
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes, self.data).unwrap();
        // Identifications differ, as they do on real hosts.
        let id = u16::try_from(self.at % 60_000).unwrap() + u16::from(self.flags != "R");
        bytes[18..20].copy_from_slice(&id.to_be_bytes());
        bytes
    }
}

/// A pcap file with Ethernet.
pub fn pcap(packets: &[Wire]) -> Vec<u8> {
    let frames: Vec<(u64, Vec<u8>)> = packets.iter().map(|packet| (packet.at, packet.bytes())).collect();
    pcap_of(1, &frames)
}

/// A pcap file of frames of this link type.
pub fn pcap_of(link: u32, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let words =
        |file: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    words(&mut file, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link]);
    for (at, frame) in frames {
        let length = u32::try_from(frame.len()).unwrap();
        let (seconds, rest) = (u32::try_from(at / 1_000).unwrap(), u32::try_from(at % 1_000).unwrap());
        words(&mut file, &[1_790_000_000 + seconds, rest * 1_000, length, length]);
        file.extend(frame);
    }
    file
}

/// What is said of a capture whose roles are named.
pub fn judged(file: Vec<u8>) -> Vec<Verdict> {
    let named = Named { nginx: vec![NGINX.parse().unwrap()], upstreams: vec![UPSTREAM.parse().unwrap()] };
    session(file, named).0
}

/// Verdicts, account and roles.
pub fn session(file: Vec<u8>, named: Named) -> (Vec<Verdict>, Account, Roles) {
    let container = Container::of(Box::new(Cursor::new(file)), Path::new("test.pcap")).unwrap();
    let packets = Packets::of(vec![container], 1_000);
    let mut session = Session::new(packets, Settings { named, lines: None });
    let (mut verdicts, mut roles) = (Vec::new(), Roles::default());
    while session.step(&mut |found, _| roles = found.clone(), &mut |told| {
        verdicts.extend(told);
        true
    }) {}
    (verdicts, session.account(), roles)
}

/// A handshake between these two, and a request that was answered by nothing yet: the opener's numbers start
/// at 1000, the other's at 5000.
pub fn asked(between: (&'static str, &'static str)) -> Vec<Wire> {
    let back = (between.1, between.0);
    vec![
        wire(0, between, "S", 1_000, 0),
        wire(2, back, "S.", 5_000, 1_001),
        wire(4, between, ".", 1_001, 5_001),
        wire(5, between, "P.", 1_001, 5_001).data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        wire(7, back, ".", 5_001, 1_028),
    ]
}
