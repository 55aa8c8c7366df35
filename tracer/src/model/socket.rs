//! A TCP socket as it stood at the moment of an event: a snapshot, never updated.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Mono, Packet};

/// Which end of which half of a proxied request a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Nginx's socket towards a client (accepted).
    Client,
    /// Nginx's socket towards an upstream (connected).
    Upstream,
    /// The upstream's own socket, when the upstream runs on this host.
    UpstreamPeer,
    /// The client's own socket, when the client runs on this host.
    ClientPeer,
}

impl Side {
    /// Whether the socket is Nginx's own.
    pub fn is_nginx(self) -> bool {
        matches!(self, Self::Client | Self::Upstream)
    }
}

/// TCP states by their kernel names (`include/net/tcp_states.h`, RFC 9293 section 3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are those of RFC 9293")]
pub enum TcpState {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
    Unknown,
}

impl TcpState {
    /// The kernel's name, as `ss` and the tracepoints print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::NewSynRecv => "NEW_SYN_RECV",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Nginx had already closed its end: a FIN was sent.
    pub fn we_closed(self) -> bool {
        matches!(self, Self::FinWait1 | Self::FinWait2 | Self::Closing | Self::LastAck | Self::TimeWait)
    }

    /// The peer had already closed its end: a FIN was received.
    pub fn peer_closed(self) -> bool {
        matches!(self, Self::CloseWait | Self::LastAck | Self::Closing | Self::TimeWait)
    }
}

/// Where a hop baseline comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineSource {
    /// TTL of the SYN-ACK of this very connection.
    SynAck,
    /// TTL of the packet that completed the handshake (`inet_sock.mc_ttl`, `ipv6_pinfo.mcast_hops`).
    Handshake,
    /// TTL of the SYN-ACK of the latest other connection to the same address.
    PeerHistory,
    /// TTL of the other packets of this very connection, all from one distance; only a capture has them.
    Data,
}

/// The TTL that packets of the peer are expected to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// TTL or hop limit as it arrived.
    pub ttl: u8,
    /// How it was obtained.
    pub source: BaselineSource,
}

/// What earlier connections to the same address taught, kept in the kernel per peer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHistory {
    /// TTL of the latest SYN-ACK from that address.
    pub ttl: u8,
    /// Completed handshakes counted.
    pub handshakes: u32,
    /// Shortest time from SYN to established, microseconds.
    pub min_handshake_us: u32,
    /// When the latest SYN-ACK arrived.
    pub last_syn_ack: Mono,
}

/// A process that owns, or last used, a socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Process id (tgid) in the host's pid namespace.
    pub pid: u32,
    /// `comm` of the thread group leader; not trusted, raw from the process.
    pub comm: String,
}

/// Packets that netfilter of this host dropped (`SKB_DROP_REASON_NETFILTER_DROP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filtered {
    /// How many; 255 means so many or more.
    pub packets: u32,
    /// Since the last of them, milliseconds.
    pub ago_ms: u32,
}

/// `TCP_RTO_MIN`, milliseconds: what Linux adds to the round-trip time at least.
const MIN_VARIANCE_MS: u32 = 200;

/// Snapshot of a TCP socket. Sequence numbers in host byte order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// Which socket of the proxied request it is.
    pub side: Side,
    /// Local address, IPv4-mapped addresses normalised.
    pub local: SocketAddr,
    /// Remote address, IPv4-mapped addresses normalised.
    pub remote: SocketAddr,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Socket cookie; zero if the kernel had not made one.
    pub cookie: u64,
    /// State before the event.
    pub state: TcpState,
    /// Process that connected the socket, or read from it first.
    pub owner: Option<Owner>,
    /// When the connection was opened (SYN sent, or handshake completed); `None` if before the start.
    pub opened: Option<Mono>,
    /// The connection is older than the tracer.
    pub preexisting: bool,
    /// `sk_err`, a positive errno, zero if none.
    pub error: i32,
    /// `RCV_SHUTDOWN` was set: this end had given up reading.
    pub receive_shutdown: bool,
    /// `SO_LINGER` with a time of zero: close means reset.
    pub linger_zero: bool,
    /// No process holds the socket any more (`SOCK_DEAD`).
    pub orphan: bool,
    /// The peer's FIN had come (`SOCK_DONE`), also where the state tells no more of it (`CLOSE`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fin_received: bool,
    /// What netfilter of this host dropped of the connection, if anything (kernels that name the reason, from 5.18).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filtered: Option<Filtered>,
    /// Bytes received and not read by the application (`rcv_nxt - copied_seq`), the FIN not among them.
    pub unread: u32,
    /// Bytes sent and not acknowledged (`snd_nxt - snd_una`).
    pub unacked: u32,
    /// Bytes written and not yet sent (`write_seq - snd_nxt`).
    pub unsent: u32,
    /// Payload bytes sent, without retransmissions as far as the kernel counts them so.
    pub bytes_sent: u64,
    /// Payload bytes acknowledged by the peer (`bytes_acked`; counts SYN and FIN).
    pub bytes_acked: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Segments with data received.
    pub data_segments_in: u32,
    /// Segments with data sent.
    pub data_segments_out: u32,
    /// Smoothed round-trip time, microseconds; zero if never measured.
    pub srtt_us: u32,
    /// Minimum round-trip time, microseconds; zero if never measured.
    pub min_rtt_us: u32,
    /// Segments retransmitted over the life of the connection (`total_retrans`).
    pub retransmits: u32,
    /// Consecutive unanswered retransmissions at this moment (`icsk_retransmits`).
    pub retransmits_pending: u32,
    /// Milliseconds since the last segment with data was sent; `None` if none was.
    pub last_sent_ms: Option<u32>,
    /// When the newest segment with data was sent last, if it is not acknowledged yet; `None` where only
    /// `last_sent_ms` is known, which counts ticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_sent: Option<Mono>,
    /// Milliseconds since the last segment with data was received; `None` if none was.
    pub last_received_ms: Option<u32>,
    /// Where both ages are the same: our data is newer than the peer's, as far as that is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spoke_last: bool,
    /// Milliseconds since the last acknowledgment was received.
    pub last_ack_ms: Option<u32>,
    /// Next sequence number expected from the peer.
    pub rcv_nxt: u32,
    /// First unacknowledged sequence number.
    pub snd_una: u32,
    /// Next sequence number to send.
    pub snd_nxt: u32,
    /// Send window offered by the peer, bytes.
    pub snd_wnd: u32,
    /// Maximum segment size in use.
    pub mss: u32,
    /// Segments sent and not acknowledged (`packets_out`). Not in recordings before 0.2.
    #[serde(default)]
    pub segments_unacked: u32,
    /// Those of them that the peer acknowledged selectively (`sacked_out`). Not in recordings before 0.2.
    #[serde(default)]
    pub segments_sacked: u32,
    /// Latest `TSval` of the peer; `None` if the connection uses no timestamps.
    pub ts_recent: Option<u32>,
    /// What TTL the peer's packets are expected to carry.
    pub baseline: Option<Baseline>,
    /// SYN-ACK of this connection, if it was seen.
    pub syn_ack: Option<Packet>,
    /// What other connections to the same address taught.
    pub peer_history: Option<PeerHistory>,
    /// Its first words were those of TLS; only a capture can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// Packets shortly before that must have been sent and were not seen; only a capture can tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unseen: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Socket {
    /// Our last data is newer than the peer's: a request (or response) is out and nothing came back.
    pub fn awaits_answer(&self) -> bool {
        match (self.last_sent_ms, self.last_received_ms) {
            (Some(_), None) => true,
            (Some(sent), Some(received)) => sent < received || (sent == received && self.spoke_last),
            (None, _) => false,
        }
    }

    /// Data went both ways in the same tick of the kernel's clock, so that the times do not tell which came last.
    pub fn is_tied(&self) -> bool {
        self.last_sent_ms.is_some() && self.last_sent_ms == self.last_received_ms
    }

    /// The peer's last data is newer than ours: it asked for something, and nothing went out since.
    /// Times are those of the kernel's tick, so an answer within the tick of the question counts as one.
    pub fn owes_answer(&self) -> bool {
        match (self.last_sent_ms, self.last_received_ms) {
            (None, Some(_)) => true,
            (Some(sent), Some(received)) => received < sent,
            (_, None) => false,
        }
    }

    /// The peer waits for an answer, or for the rest of one.
    pub fn is_owed(&self) -> bool {
        self.owes_answer() || self.unacked > 0 || self.unsent > 0
    }

    /// How long the connection had been silent before the last send, milliseconds.
    /// This is the idle time that decides a keep-alive race.
    pub fn idle_before_last_send_ms(&self) -> Option<u32> {
        self.last_received_ms?.checked_sub(self.last_sent_ms?)
    }

    /// How long the connection had been silent before the data that is repeated now was sent first, milliseconds.
    /// A retransmission counts as a send (`tcp_update_skb_after_send`), so the time they took is taken off.
    pub fn idle_before_lost_data_ms(&self) -> Option<u32> {
        Some(self.idle_before_last_send_ms()?.saturating_sub(self.retransmission_span_ms()))
    }

    /// From the first transmission to the latest of the pending retransmissions, milliseconds: the timeout doubles
    /// each time (RFC 6298, section 5), from the round-trip time and the least variance Linux assumes (200 ms).
    pub fn retransmission_span_ms(&self) -> u32 {
        let first = self.srtt_us / 1_000 + MIN_VARIANCE_MS;
        first.saturating_mul((1_u32 << self.retransmits_pending.min(20)) - 1)
    }

    /// Milliseconds since the last data either way.
    pub fn idle_ms(&self) -> Option<u32> {
        match (self.last_sent_ms, self.last_received_ms) {
            (Some(sent), Some(received)) => Some(sent.min(received)),
            (one, other) => one.or(other),
        }
    }
}
