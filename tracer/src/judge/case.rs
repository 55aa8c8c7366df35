//! Everything the judge may look at for one incident. Built by the engine, changed by nobody.

use std::net::SocketAddr;
use std::time::Duration;

use crate::join::Pair;
use crate::model::{
    AccessRecord, Clock, Event, EventKind, HostFacts, LogRecord, MessageClass, MessageKind, Mono, Overflow,
    Packet, ProcessFacts, Side, Socket, Task, TcpFlags, TcpState,
};
use crate::timeline::{Incident, Tuple, listens_on};

use super::processes::Processes;
use super::rules::{TLS_ALERT_BYTES, TLS_FAREWELL_BYTES};

/// `EADDRNOTAVAIL`.
const ADDRESS_NOT_AVAILABLE: i32 = 99;
/// `ECONNABORTED`: how a socket ends that `tcp_abort` destroys.
pub const ABORTED: i32 = 103;

/// A kernel tells of a RST when it has left, which on one host may be after it arrived (`tcp_send_active_reset`).
pub const TOLD_LATE: Duration = Duration::from_millis(20);

/// An overflow seen lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverflowNote {
    /// Listen address.
    pub listener: SocketAddr,
    /// Whose listener.
    pub side: Side,
    /// When.
    pub time: Mono,
    /// The client whose packet was dropped, the last one of several.
    pub client: Option<SocketAddr>,
    /// Packets dropped since the note before.
    pub dropped: u32,
}

impl OverflowNote {
    /// What is noted of an overflow.
    pub fn of(time: Mono, overflow: &Overflow) -> Self {
        let Overflow { listener, side, client, dropped, .. } = *overflow;
        Self { listener, side, time, client, dropped }
    }
}

/// The line of the log that speaks of the incident.
#[derive(Debug, Clone, Copy)]
pub struct Joined<'a> {
    /// The line.
    pub record: &'a LogRecord,
    /// How it was joined.
    pub pair: Pair,
}

/// Keep-alive races with one upstream so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Races {
    /// How many there were.
    pub incidents: u32,
    /// Shortest silence after which the upstream had closed, milliseconds: its idle timeout, or a little more.
    pub least_ms: u64,
    /// Longest one, milliseconds.
    pub most_ms: u64,
}

impl Races {
    /// With one more.
    #[must_use]
    pub fn with(earlier: Option<Self>, idle_ms: u64) -> Self {
        let Some(Self { incidents, least_ms, most_ms }) = earlier else {
            return Self { incidents: 1, least_ms: idle_ms, most_ms: idle_ms };
        };
        Self {
            incidents: incidents.saturating_add(1),
            least_ms: least_ms.min(idle_ms),
            most_ms: most_ms.max(idle_ms),
        }
    }
}

/// The client incident that made Nginx end this connection.
#[derive(Debug, Clone)]
pub struct CausedBy {
    /// Its id.
    pub id: String,
    /// The client connection.
    pub socket: Option<Socket>,
    /// From the client's event to this one, microseconds.
    pub after_us: u64,
    /// Client incidents it could have been.
    pub candidates: u32,
    /// The RST that ended the client's connection does not look like the client's own.
    pub doubtful: bool,
}

/// One incident and what stands around it.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The incident.
    pub incident: &'a Incident,
    /// The host and Nginx's configuration.
    pub host: &'a HostFacts,
    /// From kernel time to UTC.
    pub clock: Clock,
    /// Processes.
    pub processes: &'a Processes,
    /// The joined line.
    pub line: Option<Joined<'a>>,
    /// The client incident behind it.
    pub caused_by: Option<CausedBy>,
    /// Closes on upstream sockets that this incident caused.
    pub effects: Vec<&'a Event>,
    /// Events of the other end, on this host.
    pub peer: Vec<&'a Event>,
    /// How its request ended, by access.log.
    pub access: Option<&'a AccessRecord>,
    /// Overflows of the last minutes.
    pub overflows: &'a [OverflowNote],
    /// Earlier keep-alive races with the same upstream.
    pub races: Option<Races>,
    /// Nginx wrote in the last second that it had no connection left for clients.
    pub shortage: Option<&'a LogRecord>,
    /// Events lost inside the incident's window, in words.
    pub losses: Option<String>,
    /// It was judged before it had settled, because a table was full.
    pub evicted: bool,
}

impl<'a> Case<'a> {
    /// Nginx's socket.
    pub fn socket(&self) -> Option<&'a Socket> {
        self.incident.socket()
    }

    /// Which half of the request.
    pub fn side(&self) -> Option<Side> {
        self.incident.side()
    }

    /// The inputs come from a capture: nobody asked a kernel or a process.
    pub fn is_capture(&self) -> bool {
        self.host.capture.is_some()
    }

    /// On the client side.
    pub fn is_client(&self) -> bool {
        self.side() == Some(Side::Client)
    }

    /// The client's connection carries TLS to Nginx, as a capture or the configuration says; `None` where neither does.
    pub fn is_tls(&self) -> Option<bool> {
        let told = self.socket().and_then(|socket| socket.tls);
        let local = self.tuple().filter(|_| self.is_client())?.local;
        let listeners = self.host.nginx.http_listeners.iter();
        let here = listeners.filter(|(listener, _)| listens_on(*listener, local));
        told.or_else(|| here.map(|(_, tls)| *tls).reduce(|one, other| one || other))
    }

    /// Whether Nginx speaks HTTP on this connection's listener, as its configuration says; `None` where it is not known.
    /// What else Nginx listens on is a stream's or mail's.
    pub fn is_http(&self) -> Option<bool> {
        let local = self.tuple().filter(|_| self.is_client())?.local;
        let nginx = &self.host.nginx;
        let speaks_http = nginx.http_listeners.iter().any(|(listener, _)| listens_on(*listener, local));
        let is_known = nginx.listeners.iter().any(|(listener, _)| listens_on(*listener, local));
        (speaks_http || (is_known && !nginx.http_listeners.is_empty())).then_some(speaks_http)
    }

    /// State of Nginx's socket before.
    pub fn state(&self) -> TcpState {
        self.incident.state()
    }

    /// The connection was being opened.
    pub fn connecting(&self) -> bool {
        matches!(self.state(), TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv)
    }

    /// It was established, and waited to be accepted or was used: not a SYN that was answered with a RST.
    pub fn was_established(&self) -> bool {
        self.socket().is_some() && !self.connecting()
    }

    /// The tuple.
    pub fn tuple(&self) -> Option<Tuple> {
        self.incident.tuple()
    }

    /// The RST that arrived, as seen on the wire.
    pub fn reset_packet(&self) -> Option<&'a Packet> {
        self.incident.reset_received().and_then(|event| event.packet.as_ref())
    }

    /// A RST without a socket and without a FIN before it, and nothing of the other end that would say more.
    pub fn is_unannounced(&self) -> bool {
        self.peer.is_empty() && self.is_reset_without_socket()
    }

    /// A stateless RST for a connection that the peer had not closed: its host has no such connection (any more).
    pub fn is_reset_without_socket(&self) -> bool {
        let bare =
            self.reset_packet().is_some_and(|packet| !packet.flags.has(TcpFlags::ACK) && packet.window == 0);
        bare && self.state() == TcpState::Established
    }

    /// The event that is the failure, Nginx's own if there is one.
    pub fn principal(&self) -> Option<&'a Event> {
        self.incident.principal().or_else(|| self.peer.first().copied())
    }

    /// When the failure happened.
    pub fn time(&self) -> Mono {
        self.principal().map_or(self.incident.first, |event| event.time)
    }

    /// Reason of the reset Nginx's side sent; kernels without the name are read by the discriminators of
    /// `__tcp_close` (unread data, `SO_LINGER`) and by whether the reset answered a segment.
    pub fn sent_reason(&self) -> Option<&'a str> {
        let event = self.incident.reset_sent()?;
        let EventKind::ResetSent { reason, .. } = &event.kind else { return None };
        match reason.as_deref() {
            Some("NOT_SPECIFIED") | None => guessed_reason(event),
            named => named,
        }
    }

    /// The errno the connection ended with, 0 for none. A failed `connect()` may leave none in the socket:
    /// where no local port was free the call itself fails (`inet_hash_connect`), and an ICMP error that came
    /// while the socket was in use is kept aside until Nginx asks for it (`sk_err_soft`, `tcp_v4_err`).
    pub fn error(&self) -> i32 {
        let Some(socket) = self.socket() else { return 0 };
        if socket.error != 0 || self.state() != TcpState::SynSent || self.incident.closed().is_none() {
            return socket.error;
        }
        if socket.local.port() == 0 {
            return ADDRESS_NOT_AVAILABLE;
        }
        let rejected = |line: &Joined| {
            let class = line.record.class();
            line.record.kind == MessageKind::CONNECT_FAILED
                && matches!(class, MessageClass::Unreachable | MessageClass::Permission)
        };
        let told = || self.incident.icmp_errors().find_map(|(_, error)| error.errno());
        self.line.filter(rejected).and_then(|line| line.record.errno).or_else(told).unwrap_or(0)
    }

    /// Class of the joined line.
    pub fn line_class(&self) -> Option<MessageClass> {
        self.line.map(|line| line.record.class())
    }

    /// Milliseconds of silence before the last send, where that is the idle time of a reused connection.
    pub fn idle_before_ms(&self) -> Option<u64> {
        let socket = self.socket()?;
        let reused = !self.is_client() && self.awaits_answer();
        let idle = if reused { socket.idle_before_lost_data_ms() } else { socket.idle_ms() };
        idle.map(u64::from)
    }

    /// A request (or response) is out and nothing came back. Where the times do not tell, Nginx's own words do.
    pub fn awaits_answer(&self) -> bool {
        const WAITING: [&str; 2] = ["reading response header", "sending request"];
        let Some(socket) = self.socket() else { return false };
        let action = self.line.and_then(|line| line.record.action.as_deref()).unwrap_or("");
        let told = || !self.is_client() && WAITING.iter().any(|start| action.contains(start));
        socket.awaits_answer() || (socket.is_tied() && told())
    }

    /// Nginx closed of its own accord when nothing of the peer's end had come and what it had sent was not acknowledged.
    pub fn gave_up_unheard(&self) -> bool {
        let own = self.incident.closed().is_some() && self.incident.reset_received().is_none();
        own && self.state() == TcpState::Established
            && self.error() == 0
            && self.socket().is_some_and(|socket| socket.unacked > 0)
    }

    /// Nginx read an upstream's RST and had nothing to say, although its log is followed and such a line is an
    /// `error`: no request was on the connection (`ngx_http_upstream_keepalive_close_handler` is silent).
    pub fn went_unnoticed(&self) -> bool {
        let asked = self.socket().is_none() || self.is_held_up() || self.awaits_answer();
        !self.is_client() && !asked && self.line.is_none() && self.host.follows_error_log
    }

    /// An upstream's RST met so much unread that the worker did not leave it for a moment: it could not pass the response
    /// on as fast as it came, and has left the connection alone until the client takes more.
    pub fn is_held_up(&self) -> bool {
        const MUCH: u32 = 32 << 10;
        let much = self.socket().is_some_and(|socket| socket.unread > MUCH);
        !self.is_client() && much && self.incident.reset_received().is_some()
    }

    /// A WebSocket or a stream, as its line tells: silence between two messages is no pool, and a message no request.
    pub fn is_tunnel(&self) -> bool {
        let action = self.line.and_then(|line| line.record.action.as_deref());
        action.is_some_and(|action| action.starts_with("proxying"))
    }

    /// What is known of the process that acted in an event, on the host it happened on.
    pub fn process(&self, event: &'a Event) -> Option<&'a ProcessFacts> {
        match &event.elsewhere {
            Some(elsewhere) => elsewhere.process.as_ref(),
            None => self.processes.facts.get(&event.task.pid),
        }
    }

    /// The kernel's OOM killer had chosen the process of an event.
    pub fn was_chosen_by_oom(&self, event: &Event) -> bool {
        match &event.elsewhere {
            Some(elsewhere) => elsewhere.oom,
            None => self.processes.oom.contains_key(&event.task.pid),
        }
    }

    /// The other end's process, as an event of it shows.
    pub fn peer_exit(&self) -> Option<&'a Event> {
        self.peer_before().find(|event| event.task.exiting.is_some())
    }

    /// The reset the other end sent.
    pub fn peer_reset(&self) -> Option<&'a Event> {
        self.peer_before().find(|event| matches!(event.kind, EventKind::ResetSent { .. }))
    }

    /// What the other end did until Nginx's end received a RST: only that can have caused it.
    fn peer_before(&self) -> impl Iterator<Item = &'a Event> {
        self.peer.iter().copied().filter(|event| !self.is_after_reset(event) && self.may_have_sent(event))
    }

    /// The RST that Nginx's end received can be of this event: a socket that resets puts ACK into its RST
    /// (`tcp_send_active_reset`), so that a bare one is not told late but another's. What came first is not told by the
    /// clocks of two hosts; there it is that end's only if its kernel answered a segment, too.
    fn may_have_sent(&self, event: &Event) -> bool {
        let acts = matches!(event.kind, EventKind::ResetSent { .. }) && !event.answers_segment();
        let is_later = self.end().is_some_and(|end| event.time > end.time);
        let answers =
            |event: &Event| matches!(event.kind, EventKind::ResetSent { .. }) && event.answers_segment();
        let answered = || self.peer.iter().any(|event| answers(event));
        let other_clock = event.elsewhere.is_some() && event.task.exiting.is_none();
        let is_of_socket = acts && (is_later || (other_clock && !answered()));
        !(self.is_reset_without_socket() && (is_of_socket || (is_later && event.task.exiting.is_some())))
    }

    /// When the upstream's end received a RST while Nginx's end was open, one that Nginx's kernel did not send. What
    /// Nginx's end hears afterwards is a consequence.
    pub fn far_end_reset(&self) -> Option<Mono> {
        let ours = self.socket().filter(|_| !self.is_client() && self.host.has_hook("tcp_send_reset"))?;
        let here = |event: &&&Event| event.elsewhere.is_none() && event.packet.is_some();
        let theirs =
            self.peer.iter().filter(here).find(|event| matches!(event.kind, EventKind::ResetReceived));
        let end = self.end()?;
        let answered = self.far_end_answer(ours);
        let theirs = theirs.map(|event| event.time).or(answered)?;
        let told = theirs.after(TOLD_LATE + Duration::from_micros(u64::from(ours.srtt_us)));
        let sent = |event: &&Event| {
            matches!(event.kind, EventKind::ResetSent { local, .. } if local == ours.local)
                && event.time <= told
        };
        let sent = self.incident.own.iter().chain(&self.incident.aftermath).any(|event| sent(&event));
        ((end.time > told || answered.is_some()) && !sent).then_some(theirs)
    }

    /// The upstream's kernel answered Nginx's segment and knew that a RST had killed that end of this connection; when.
    fn far_end_answer(&self, ours: &Socket) -> Option<Mono> {
        self.incident.aftermath.iter().find_map(|event| match event.kind {
            EventKind::ResetSent { local, after_reset, .. } if local == ours.remote => {
                after_reset.filter(|killed| ours.opened.is_none_or(|opened| *killed >= opened))
            }
            _ => None,
        })
    }

    /// What the other end did came before the end of Nginx's for certain. A kernel tells some things late; only a RST
    /// that was read shows that it can be of a process all the same.
    pub fn came_first(&self, event: &Event) -> bool {
        self.reset_packet().is_some() || self.end().is_none_or(|end| event.time <= end.time)
    }

    /// The other end did this when Nginx's had received a RST, or closed, before.
    pub fn is_after_reset(&self, event: &Event) -> bool {
        let trip = self.socket().map_or(0, |socket| u64::from(socket.srtt_us));
        self.end().is_some_and(|end| event.time > end.time.after(TOLD_LATE + Duration::from_micros(trip)))
    }

    /// What ended Nginx's end of the connection: the RST it received, else its close.
    pub fn end(&self) -> Option<&'a Event> {
        self.incident.reset_received().or_else(|| self.incident.closed())
    }

    /// Nginx said that all connections of the worker were taken.
    pub fn lacks_connections(&self) -> bool {
        let told = self.line.map(|line| line.record).or(self.shortage);
        told.is_some_and(|record| record.kind == MessageKind::WORKER_CONNECTIONS)
    }

    /// A process of this host that is not Nginx and destroyed the socket (`tcp_abort`).
    pub fn destroyer(&self) -> Option<&'a Task> {
        let sent = self.incident.reset_sent().filter(|event| !event.answers_segment());
        let sent = sent.filter(|event| event.task.is_foreign());
        let aborted = || self.incident.closed().filter(|_| self.error() == ABORTED);
        sent.or_else(aborted).map(|event| &event.task)
    }

    /// An exiting worker closed the connection.
    pub fn worker_exit(&self) -> Option<&'a Event> {
        self.incident.own.iter().find(|event| event.task.exiting.is_some() && event.task.is_nginx)
    }

    /// The peer's host is this host, or its address is a loopback address. A capture sees no processes there, so
    /// for it every peer is another host.
    pub fn peer_is_local(&self) -> bool {
        !self.is_capture() && self.tuple().is_some_and(|tuple| self.is_local(tuple.remote))
    }

    /// An address of this host.
    pub fn is_local(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        ip.is_loopback() || self.host.local_addresses.iter().any(|local| local.to_canonical() == ip)
    }

    /// Nothing that came was lost on the way here, so that what is missing did not happen.
    pub fn is_complete(&self) -> bool {
        self.losses.is_none() && !self.evicted
    }

    /// Bytes of ours that the peer has not acknowledged or that wait to be sent.
    pub fn outstanding(&self) -> u64 {
        self.socket().map_or(0, |socket| u64::from(socket.unacked) + u64::from(socket.unsent))
    }

    /// Those of them that had not arrived: the RST of a living socket acknowledges once more all that had come
    /// (`tcp_send_active_reset`).
    pub fn lacking(&self) -> u64 {
        let Some(socket) = self.socket() else { return 0 };
        let packet = self.reset_packet().filter(|packet| packet.flags.has(TcpFlags::ACK));
        let left = packet.map(|packet| socket.snd_nxt.wrapping_sub(packet.ack));
        let unacked = left.filter(|left| *left <= socket.unacked).unwrap_or(socket.unacked);
        u64::from(unacked) + u64::from(socket.unsent)
    }

    /// Nginx had sent something just before, and the client's RST itself acknowledges all of it: a response may have been
    /// complete, or not. Nobody speaks of a request, and a capture does not show one that is encrypted.
    pub fn is_acknowledged_by_reset(&self) -> bool {
        let is_read = self.is_capture() && self.is_tls() != Some(true);
        let is_told = self.line.is_some() || self.access.is_some() || !self.effects.is_empty();
        self.is_client() && !is_read && !is_told && self.outstanding() > 0 && self.lacking() == 0
    }

    /// The peer has not got more of what Nginx sent than a farewell: Nginx's FIN, and a `close_notify` where there may
    /// be TLS.
    pub fn lacks_a_farewell_at_most(&self) -> bool {
        let fin = u64::from(self.state().we_closed());
        self.lacking() <= self.longest_farewell() + fin
    }

    /// The longest that Nginx says when it closes: nothing in plain HTTP, a `close_notify` in TLS, and a GOAWAY before it in
    /// HTTP/2.
    pub fn longest_farewell(&self) -> u64 {
        u64::from(match self.is_tls() {
            Some(false) => 0,
            Some(true) => TLS_FAREWELL_BYTES,
            None => TLS_ALERT_BYTES,
        })
    }
}

fn guessed_reason(event: &Event) -> Option<&'static str> {
    let socket = event.socket.as_ref()?;
    match (event.answers_segment(), socket.linger_zero, socket.unread > 0) {
        (true, ..) => Some("TCP_ABORT_ON_DATA"),
        (false, true, _) => Some("TCP_STATE"),
        (false, false, true) => Some("TCP_ABORT_ON_CLOSE"),
        (false, false, false) => None,
    }
}
