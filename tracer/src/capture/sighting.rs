//! What the packets of a connection show that healthy traffic does not. Says which end did it, not yet which
//! end is Nginx. Every packet in it stands in the capture.

use std::net::SocketAddr;

use crate::model::{IcmpError, Packet, Socket, TcpState};

/// One thing seen.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// What it is.
    pub what: What,
    /// Both ends as far as the packets show them: the one that opened the connection first.
    /// `side` means nothing yet.
    pub ends: Box<[Socket; 2]>,
    /// Initial sequence numbers of the ends, where their SYNs are in the capture.
    pub isns: [Option<u32>; 2],
}

/// What was seen. Ends are counted as in [`Sighting::ends`].
#[derive(Debug, Clone)]
pub enum What {
    /// A RST that ended the connection.
    Reset {
        /// In whose name it was sent.
        from: usize,
        /// The RST.
        packet: Packet,
        /// The segment of the other end that it answers, if it quotes one.
        answers: Option<Packet>,
    },
    /// A RST after which the connection went on, or which no stack accepts.
    Refused {
        /// In whose name it was sent.
        from: usize,
        /// The RST.
        packet: Packet,
    },
    /// The end in whose name a RST was sent went on speaking.
    Afterwards {
        /// What it said.
        packet: Packet,
        /// When the RST was.
        reset: u64,
    },
    /// An end closed although something was outstanding.
    Closed {
        /// That end.
        by: usize,
        /// Its state before.
        old: TcpState,
        /// The protocol is one in which nobody knows what is an answer.
        foreign: bool,
    },
    /// An end repeated what it had sent and was never answered.
    Unanswered {
        /// That end.
        by: usize,
    },
    /// The ICMP error by which a router or host refused a SYN.
    Icmp(Box<IcmpError>),
    /// What became of that SYN.
    Unreachable {
        /// Whose SYN.
        by: usize,
        /// What Linux makes of the message.
        errno: i32,
    },
}

impl Sighting {
    /// Address of the end that opened the connection.
    pub fn opener(&self) -> SocketAddr {
        self.ends[0].local
    }

    /// Address that was connected to.
    pub fn listener(&self) -> SocketAddr {
        self.ends[1].local
    }
}
