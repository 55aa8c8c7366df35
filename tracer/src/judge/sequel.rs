//! What came last on a connection, where something else came before it.

use crate::model::{BaselineSource, Event, EventKind, Packet, TcpFlags};
use crate::timeline::listens_on;

use super::case::Case;
use super::detect::continued_timestamps;
use super::rules::TLS_FAREWELL_BYTES;

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

    /// The client had closed (FIN), and Nginx's close that follows resets because of its last words: a `close_notify` is never
    /// read while Nginx waits for an upstream or passes a response on (`ngx_http_upstream_check_broken_connection`), nor is
    /// another request.
    pub fn is_left_by_client(&self) -> bool {
        let Some((event, socket)) = self.incident.reset_sent().zip(self.socket()) else { return false };
        let closes = event.is_own_reset() && !event.answers_segment() && !socket.linger_zero;
        let last_words = !self.effects.is_empty() || socket.unread <= TLS_FAREWELL_BYTES;
        self.is_client() && closes && socket.fin_received && last_words
    }

    /// The RST that the upstream's end on this host received came from as far away as Nginx's own packets.
    pub fn is_far_end_reset_from_here(&self) -> bool {
        let here = |event: &&&Event| {
            let (packet, socket) = (event.packet.as_ref(), event.socket.as_ref());
            let far =
                socket.and_then(|socket| socket.baseline).filter(|it| it.source == BaselineSource::Handshake);
            let same = packet.zip(far).is_some_and(|(packet, far)| packet.ttl == far.ttl);
            matches!(event.kind, EventKind::ResetReceived) && event.elsewhere.is_none() && same
        };
        self.far_end_reset().is_some() && self.peer.iter().any(|event| here(&event))
    }

    /// Netfilter of this host dropped packets of the connection, and no RST came.
    pub fn is_dropped_here(&self) -> bool {
        let dropped = self.socket().is_some_and(|socket| socket.filtered.is_some());
        dropped && self.incident.reset_received().is_none()
    }

    /// A client's next request met the close of a connection on which nothing had moved for a while, or whose worker ended in
    /// order just then (a reload closes the connections that are between two requests).
    pub fn meets_idle_close(&self) -> bool {
        const A_WHILE_MS: u32 = 200;
        const FIN: u64 = 1;
        let Some((event, socket)) = self.incident.reset_sent().zip(self.socket()) else { return false };
        let bytes = event.packet.as_ref().map_or(0, |packet| u64::from(packet.payload_len));
        let asked = event.answers_segment() && bytes > self.longest_farewell();
        let done =
            !socket.owes_answer() && self.lacking() <= self.longest_farewell() + FIN && socket.bytes_sent > 0;
        let at_rest = socket.idle_ms() >= Some(A_WHILE_MS) || self.is_of_ending_worker(event, socket);
        self.is_client() && self.line.is_none() && asked && done && at_rest
    }

    /// A segment of a client met no connection: a late copy of one that is done, or the client does not know that its
    /// connection has ended.
    pub fn is_of_no_connection(&self) -> bool {
        let answers =
            |event: &Event| event.socket.is_none() && event.answers_segment() && !event.answers_syn();
        self.is_client() && self.line.is_none() && self.incident.reset_sent().is_some_and(answers)
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
