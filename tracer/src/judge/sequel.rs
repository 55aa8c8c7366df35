//! What came last on a connection, where something else came before it.

use crate::model::{Packet, TcpFlags};
use crate::timeline::listens_on;

use super::case::Case;
use super::detect::continued_timestamps;

impl Case<'_> {
    /// The client spoke last, on a connection that may carry HTTP/2, and nothing tells of a request: these may be frames that
    /// want no answer (`WINDOW_UPDATE`, acknowledgments of SETTINGS and PING, `RST_STREAM`).
    pub fn may_be_frames(&self) -> bool {
        let listeners = &self.host.nginx.http2_listeners;
        let here = self.tuple().is_some_and(|tuple| listeners.iter().any(|it| listens_on(*it, tuple.local)));
        let told = self.line.is_some_and(|line| line.record.request.is_some()) || !self.effects.is_empty();
        let answered = self.socket().is_some_and(|socket| socket.owes_answer() && socket.bytes_sent > 0);
        self.is_client() && here && !told && answered && self.outstanding() == 0
    }

    /// The peer's own RST acknowledges nothing of what Nginx had sent again and again: none of it had arrived
    /// (`tcp_send_active_reset` acknowledges all that had). A peer that has no room answers each repetition.
    pub fn is_unheard(&self) -> bool {
        const REPEATED: u32 = 2;
        let Some((packet, socket)) = self.reset_packet().zip(self.socket()) else { return false };
        let repeated = socket.unacked > 0 && socket.retransmits_pending >= REPEATED;
        let no_room = socket.snd_wnd == 0
            || socket.last_ack_ms.zip(socket.last_sent_ms).is_some_and(|(answered, sent)| answered <= sent);
        let nothing = packet.flags.has(TcpFlags::RST | TcpFlags::ACK) && packet.ack == socket.snd_una;
        !self.connecting() && self.peer.is_empty() && repeated && nothing && !no_room
    }

    /// The peer reset by its socket, and what it had sent before was lost: its RST is ahead of what had come, so that the
    /// kernel asks (RFC 5961, section 3.2), and the peer's answers for a socket that is gone. The first shows the peer's own
    /// running clock and comes from where the peer is.
    pub fn is_reset_ahead(&self) -> bool {
        let Some((answer, socket)) = self.reset_packet().zip(self.socket()) else { return false };
        let Some(baseline) = socket.baseline else { return false };
        let ahead = |packet: &Packet| {
            let forward = packet.seq.wrapping_sub(answer.seq);
            forward > 0 && forward < u32::MAX / 2
        };
        let own = |packet: &Packet| {
            packet.ttl == baseline.ttl && ahead(packet) && continued_timestamps(packet, socket).is_some()
        };
        let mut refused = self.incident.refused().filter_map(|event| event.packet.as_ref()).peekable();
        refused.peek().is_some()
            && answer.is_stateless_reset()
            && answer.ttl == baseline.ttl
            && refused.all(own)
    }
}
