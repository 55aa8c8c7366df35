//! What stays the same of a connection from one end to the other, whatever addresses were translated between: the two
//! initial sequence numbers, worked out from counters of the kernel.

use crate::model::{Socket, TcpState};

/// Initial sequence numbers of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Numbers {
    /// Of the end that opened it.
    pub opener: u32,
    /// Of the end that listened.
    pub listener: u32,
}

/// Numbers differ by this much where one end had counted a FIN and the other had not.
const FIN: u32 = 1;

impl Numbers {
    /// Of a socket that opened the connection. `bytes_acked` counts the SYN (`tcp_snd_una_update`), `bytes_received`
    /// does not.
    pub fn of_opener(socket: &Socket) -> Option<Self> {
        let (sent, received) = both(socket)?;
        Some(Self { opener: sent, listener: received })
    }

    /// Of a socket that was accepted: its `snd_una` begins behind the SYN (`tcp_create_openreq_child`).
    pub fn of_listener(socket: &Socket) -> Option<Self> {
        let (sent, received) = both(socket)?;
        Some(Self { opener: received, listener: sent.wrapping_sub(1) })
    }

    /// Both are numbers of one connection.
    pub fn agree(self, other: Self) -> bool {
        near(self.opener, other.opener) && near(self.listener, other.listener)
    }
}

/// First number sent, and number of the peer's SYN.
fn both(socket: &Socket) -> Option<(u32, u32)> {
    let unknown = socket.snd_nxt == 0 && socket.rcv_nxt == 0;
    if unknown || matches!(socket.state, TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv) {
        return None;
    }
    let fin = u32::from(socket.fin_received || socket.state.peer_closed());
    let sent = socket.snd_una.wrapping_sub(low(socket.bytes_acked));
    let received = socket.rcv_nxt.wrapping_sub(low(socket.bytes_received)).wrapping_sub(1 + fin);
    Some((sent, received))
}

/// Sequence numbers are counters modulo 2^32.
#[expect(clippy::cast_possible_truncation, reason = "the rest wraps as the sequence numbers do")]
fn low(bytes: u64) -> u32 {
    bytes as u32
}

fn near(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) <= FIN || other.wrapping_sub(one) <= FIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::upstream;

    #[test]
    fn both_ends_of_a_connection_have_the_same_numbers() {
        // Opened with 1000 by the one, with u32::MAX by the other; 120 bytes went, 300 came, none is on its way.
        let opener = Socket {
            snd_una: 1_121,
            snd_nxt: 1_121,
            bytes_acked: 121,
            rcv_nxt: 300,
            bytes_received: 300,
            ..upstream()
        };
        let listener = Socket {
            snd_una: 300,
            snd_nxt: 300,
            bytes_acked: 300,
            rcv_nxt: 1_121,
            bytes_received: 120,
            ..upstream()
        };
        let numbers = Numbers::of_opener(&opener).unwrap();
        assert_eq!(numbers, Numbers { opener: 1_000, listener: u32::MAX });
        assert_eq!(Numbers::of_listener(&listener).unwrap(), numbers);
        let closed = Socket { state: TcpState::CloseWait, rcv_nxt: 301, ..opener };
        assert!(Numbers::of_opener(&closed).unwrap().agree(numbers));
        let other = Numbers { opener: 1_000, listener: 5 };
        assert!(!other.agree(numbers));
    }

    #[test]
    fn a_socket_without_numbers_has_none() {
        assert_eq!(Numbers::of_opener(&Socket { state: TcpState::SynSent, ..upstream() }), None);
        assert_eq!(Numbers::of_opener(&Socket { snd_nxt: 0, rcv_nxt: 0, ..upstream() }), None);
    }
}
