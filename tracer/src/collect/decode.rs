//! Kernel record to `model::Event`. Pure, but for the names and the tick rate of the running kernel that it is given.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rstscope_ebpf::abi::record::{Sock, task_flag};
use rstscope_ebpf::abi::{self, Hook, Kind, MISSING, Record};

use super::{headers, icmp, jiffies};
use crate::model::{
    Backlog, Baseline, BaselineSource, Event, EventKind, ExitStatus, Filtered, Mono, Overflow, Packet,
    PeerHistory, QueueKind, Side, Socket, Task, TcpState, socket::Owner,
};
use crate::probe::Names;

/// `RCV_SHUTDOWN` of `include/net/sock.h`.
const RCV_SHUTDOWN: u8 = 1;
/// Bit of `SOCK_DEAD` in `sk_flags`.
const SOCK_DEAD: u32 = 1;

/// Bit of `SOCK_DONE` in `sk_flags`, which `tcp_fin` sets.
const SOCK_DONE: u32 = 1 << 1;

/// Turns records into events.
#[derive(Debug)]
pub struct Decoder {
    names: Names,
    /// Ticks per second, known after the first record.
    hz: Option<u32>,
}

impl Decoder {
    /// A decoder for the kernel that has these names.
    pub fn new(names: Names) -> Self {
        Self { names, hz: None }
    }

    /// Decodes one record; `None` if it is damaged or of an unknown kind.
    pub fn decode(&mut self, bytes: &[u8]) -> Option<Event> {
        let record = Record::from_bytes(bytes)?;
        let hz = *self.hz.get_or_insert_with(|| jiffies::rate(record.jiffies, record.time_ns));
        let packet = headers::decode(&record.packet);
        let side = side(record.sock.side);
        let kind = self.kind(&record, side, packet.as_ref())?;
        let socket = (record.sock.full == 1).then_some(side).flatten().map(|side| socket(&record, side, hz));
        let task = task(&record);
        let time = Mono(record.time_ns);
        Some(Event { time, kind, socket, packet, task, netns: record.sock.netns, elsewhere: None })
    }

    fn kind(&self, record: &Record, side: Option<Side>, packet: Option<&Packet>) -> Option<EventKind> {
        let sock = &record.sock;
        let (local, remote) = (address(sock.local, sock.local_port), address(sock.remote, sock.remote_port));
        Some(match record.kind {
            kind if kind == Kind::ResetReceived as u8 => EventKind::ResetReceived,
            kind if kind == Kind::ResetSent as u8 => EventKind::ResetSent {
                reason: self.reset_reason(record),
                after_reset: (record.after_reset_ns > 0).then_some(Mono(record.after_reset_ns)),
                local,
                remote,
                backlog: backlog(sock),
            },
            kind if kind == Kind::ResetRefused as u8 => EventKind::ResetRefused {
                reason: self.names.drop(record.reason).unwrap_or_else(|| record.reason.to_string()),
                local,
                remote,
            },
            kind if kind == Kind::IcmpError as u8 => EventKind::IcmpError(icmp::decode(captured(record))?),
            kind if kind == Kind::Closed as u8 => {
                EventKind::Closed { old: state(record.old_state), new: state(record.new_state) }
            }
            kind if kind == Kind::ListenOverflow as u8 => {
                EventKind::ListenOverflow(overflow(record, side?, local, packet))
            }
            kind if kind == Kind::ProcessExit as u8 => EventKind::ProcessExit,
            kind if kind == Kind::OomVictim as u8 => EventKind::OomVictim,
            _ => return None,
        })
    }

    /// On kernels whose `tcp_send_reset` is silent without a socket, `kfree_skb` reports such RSTs, with its own reason.
    fn reset_reason(&self, record: &Record) -> Option<String> {
        let reason = record.reason;
        let dropped = record.hook == Hook::KfreeSkb as u8;
        let name = if dropped { self.names.drop(reason) } else { self.names.reset(reason) };
        (reason != MISSING).then(|| name.unwrap_or_else(|| reason.to_string()))
    }
}

fn captured(record: &Record) -> &[u8] {
    record.packet.bytes.get(..usize::from(record.packet.len)).unwrap_or_default()
}

/// Of records without a socket, only those of a listener have a limit.
fn backlog(sock: &Sock) -> Option<Backlog> {
    (sock.full == 0 && sock.max_ack_backlog > 0)
        .then_some(Backlog { queue: sock.ack_backlog, limit: sock.max_ack_backlog })
}

fn overflow(record: &Record, side: Side, listener: SocketAddr, packet: Option<&Packet>) -> Overflow {
    Overflow {
        listener,
        netns: record.sock.netns,
        queue: record.sock.ack_backlog,
        limit: record.sock.max_ack_backlog,
        queue_kind: if record.queue == 0 { QueueKind::Accept } else { QueueKind::Syn },
        dropped: u32::try_from(record.dropped).unwrap_or(u32::MAX),
        client: packet.map(|packet| packet.source),
        side,
    }
}

fn side(value: u8) -> Option<Side> {
    match value {
        abi::side::CLIENT => Some(Side::Client),
        abi::side::UPSTREAM => Some(Side::Upstream),
        abi::side::UPSTREAM_PEER => Some(Side::UpstreamPeer),
        abi::side::CLIENT_PEER => Some(Side::ClientPeer),
        _ => None,
    }
}

/// Numbers of `include/net/tcp_states.h`.
pub(super) fn state(value: u8) -> TcpState {
    match value {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        12 => TcpState::NewSynRecv,
        _ => TcpState::Unknown,
    }
}

/// IPv4-mapped addresses become IPv4 addresses.
pub(super) fn address(bytes: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(), port)
}

/// A process name, up to its NUL; bytes that are not UTF-8 are replaced.
fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// A process that ends has left the kernel side's list of Nginx's processes (`sched_process_exit`) before its
/// sockets are closed; it is known by being their owner.
fn task(record: &Record) -> Task {
    let (task, sock) = (&record.task, &record.sock);
    let has = |flag: u32| task.flags & flag != 0;
    let side = side(sock.side).is_some_and(Side::is_nginx);
    let ending_owner = side && has(task_flag::EXITING) && task.pid > 0 && sock.owner_pid == task.pid;
    Task {
        pid: task.pid,
        tid: task.tid,
        comm: comm(&task.comm),
        is_actor: has(task_flag::ACTOR),
        exiting: (has(task_flag::EXITING) && may_have_acted(record)).then(|| exit_status(task.exit_code)),
        is_nginx: has(task_flag::NGINX) || ending_owner,
    }
}

/// Whether the task can be whose doing this was, and is not one that a packet or a timer has interrupted: it acted, or
/// it closed a listener, whose waiting connections, never shut down, are reset without being held
/// (`inet_csk_listen_stop`).
fn may_have_acted(record: &Record) -> bool {
    let waited = record.kind == Kind::ResetSent as u8
        && record.sock.full == 1
        && state(record.sock.state) == TcpState::Close
        && record.sock.shutdown == 0;
    record.task.flags & task_flag::ACTOR != 0 || waited
}

/// The encoding of `wait(2)`: signal in the low seven bits, core dump in the eighth, status above.
fn exit_status(code: u32) -> ExitStatus {
    ExitStatus {
        signal: (code & 0x7f) as u8,
        status: (code >> 8 & 0xff) as u8,
        core_dumped: code & 0x80 != 0,
    }
}

fn socket(record: &Record, side: Side, hz: u32) -> Socket {
    let sock = &record.sock;
    let syn_ack = headers::decode(&record.syn_ack);
    let age = |stamp: u32| jiffies::age_ms(record.jiffies, stamp, hz);
    let fin_received = sock.sk_flags & SOCK_DONE != 0 || state(sock.state).peer_closed();
    Socket {
        side,
        local: address(sock.local, sock.local_port),
        remote: address(sock.remote, sock.remote_port),
        netns: sock.netns,
        cookie: sock.cookie,
        state: state(sock.state),
        owner: owner(sock),
        opened: (sock.opened_ns > 0).then_some(Mono(sock.opened_ns)),
        preexisting: sock.preexisting == 1,
        error: i32::try_from(sock.error).unwrap_or(0),
        receive_shutdown: sock.shutdown & RCV_SHUTDOWN != 0,
        linger_zero: sock.linger_zero == 1,
        orphan: sock.sk_flags & SOCK_DEAD != 0,
        fin_received,
        filtered: filtered(sock),
        unread: distance(sock.rcv_nxt, sock.copied_seq).saturating_sub(u32::from(fin_received)),
        unacked: distance(sock.snd_nxt, sock.snd_una),
        unsent: distance(sock.write_seq, sock.snd_nxt),
        bytes_sent: sock.bytes_sent.saturating_sub(sock.bytes_retrans),
        bytes_acked: sock.bytes_acked,
        bytes_received: payload(sock.bytes_received, fin_received),
        data_segments_in: sock.data_segs_in,
        data_segments_out: sock.data_segs_out,
        srtt_us: sock.srtt_us_8 >> 3,
        // `minmax_reset(…, ~0U)`: not measured yet.
        min_rtt_us: if sock.min_rtt_us == u32::MAX { 0 } else { sock.min_rtt_us },
        retransmits: sock.total_retrans,
        retransmits_pending: u32::from(sock.retransmits),
        last_sent_ms: (sock.data_segs_out > 0).then(|| age(sock.lsndtime)),
        newest_sent: (sock.newest_sent_ns > 0).then_some(Mono(sock.newest_sent_ns)),
        last_received_ms: (sock.data_segs_in > 0).then(|| age(sock.lrcvtime)),
        spoke_last: spoke_last(record, hz),
        last_ack_ms: (sock.rcv_tstamp > 0).then(|| age(sock.rcv_tstamp)),
        rcv_nxt: sock.rcv_nxt,
        snd_una: sock.snd_una,
        snd_nxt: sock.snd_nxt,
        snd_wnd: sock.snd_wnd,
        mss: sock.mss,
        segments_unacked: sock.packets_out,
        segments_sacked: sock.sacked_out,
        ts_recent: (sock.tstamp_ok == 1).then_some(sock.ts_recent),
        baseline: baseline(sock, syn_ack.as_ref()),
        syn_ack,
        peer_history: history(sock),
        tls: None,
        unseen: 0,
    }
}

fn filtered(sock: &Sock) -> Option<Filtered> {
    (sock.filtered > 0).then(|| Filtered { packets: u32::from(sock.filtered), ago_ms: sock.filtered_ms })
}

/// Of data that went both ways in one tick, ours was the newer: it is not acknowledged, or was so later, where an answer
/// acknowledges its own request. The tick may have stood still meanwhile, the clock does not.
fn spoke_last(record: &Record, hz: u32) -> bool {
    let sock = &record.sock;
    let closing = matches!(state(sock.state), TcpState::FinWait1 | TcpState::LastAck | TcpState::Closing);
    let unacked = distance(sock.snd_nxt, sock.snd_una) > u32::from(closing);
    let since_us = (record.time_ns / 1_000).saturating_sub(sock.delivered_us);
    let ticks_us = u64::from(jiffies::age_ms(record.jiffies, sock.lrcvtime, hz)) * 1_000;
    let acknowledged_later =
        sock.delivered_us > 0 && since_us + abi::stalled_us(1_000_000 / hz.max(1)) < ticks_us;
    sock.lsndtime == sock.lrcvtime && (unacked || acknowledged_later)
}

/// Payload bytes out of `bytes_received`, in which the kernel counts the peer's FIN as one (`tcp_rcv_nxt_update`).
pub fn payload(bytes_received: u64, fin_received: bool) -> u64 {
    bytes_received.saturating_sub(u64::from(fin_received))
}

/// An upstream connection of which nothing but the addresses is known.
pub fn baseless(local: SocketAddr, remote: SocketAddr) -> Socket {
    Socket {
        side: Side::Upstream,
        local,
        remote,
        netns: 0,
        cookie: 0,
        state: TcpState::Unknown,
        owner: None,
        opened: None,
        preexisting: false,
        error: 0,
        receive_shutdown: true,
        linger_zero: false,
        orphan: false,
        fin_received: false,
        filtered: None,
        unread: 0,
        unacked: 0,
        unsent: 0,
        bytes_sent: 0,
        bytes_acked: 0,
        bytes_received: 0,
        data_segments_in: 0,
        data_segments_out: 0,
        srtt_us: 0,
        min_rtt_us: 0,
        retransmits: 0,
        retransmits_pending: 0,
        last_sent_ms: None,
        newest_sent: None,
        last_received_ms: None,
        spoke_last: false,
        last_ack_ms: None,
        rcv_nxt: 0,
        snd_una: 0,
        snd_nxt: 0,
        snd_wnd: 0,
        mss: 0,
        segments_unacked: 0,
        segments_sacked: 0,
        ts_recent: None,
        baseline: None,
        syn_ack: None,
        peer_history: None,
        tls: None,
        unseen: 0,
    }
}

/// Sequence numbers wrap; a distance of more than half the space is a negative one.
fn distance(later: u32, earlier: u32) -> u32 {
    let distance = later.wrapping_sub(earlier);
    if distance > u32::MAX / 2 { 0 } else { distance }
}

fn owner(sock: &Sock) -> Option<Owner> {
    (sock.owner_pid > 0).then(|| Owner { pid: sock.owner_pid, comm: comm(&sock.owner_comm) })
}

fn baseline(sock: &Sock, syn_ack: Option<&Packet>) -> Option<Baseline> {
    let of = |ttl: u8, source| (ttl > 0).then_some(Baseline { ttl, source });
    syn_ack
        .and_then(|packet| of(packet.ttl, BaselineSource::SynAck))
        .or_else(|| of(sock.handshake_ttl, BaselineSource::Handshake))
        .or_else(|| of(sock.peer_ttl, BaselineSource::PeerHistory))
}

fn history(sock: &Sock) -> Option<PeerHistory> {
    (sock.peer_last_syn_ack_ns > 0).then_some(PeerHistory {
        ttl: sock.peer_ttl,
        handshakes: sock.peer_handshakes,
        min_handshake_us: sock.peer_min_handshake_us,
        last_syn_ack: Mono(sock.peer_last_syn_ack_ns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Record {
        Record::from_bytes(&[0; size_of::<Record>()]).unwrap()
    }

    #[test]
    fn a_kill_is_told_from_an_exit() {
        assert_eq!(exit_status(9), ExitStatus { signal: 9, status: 0, core_dumped: false });
        assert_eq!(exit_status(0x8b), ExitStatus { signal: 11, status: 0, core_dumped: true });
        assert_eq!(exit_status(3 << 8), ExitStatus { signal: 0, status: 3, core_dumped: false });
    }

    #[test]
    fn a_request_is_the_latest_only_if_it_was_acknowledged_later_than_the_tick_may_stand_still() {
        const HZ: u32 = 250;
        // Both ways in tick 1000, judged a second later; acknowledged so many milliseconds behind the tick.
        let awaits = |later_ms: u64| {
            let mut record = empty();
            (record.jiffies, record.time_ns) = (1_250, 5_000_000_000);
            (record.sock.lsndtime, record.sock.lrcvtime) = (1_000, 1_000);
            record.sock.delivered_us = 4_000_000 + later_ms * 1_000;
            spoke_last(&record, HZ)
        };
        assert!(!awaits(0) && !awaits(24), "an answer, and the tick was five behind");
        assert!(awaits(40), "TCP_DELACK_MIN");
    }

    #[test]
    fn an_ending_owner_of_an_nginx_socket_is_nginx() {
        let nginx = |flags, side, owner_pid| {
            let mut record = empty();
            (record.task.pid, record.task.flags) = (7, flags);
            (record.sock.side, record.sock.owner_pid) = (side, owner_pid);
            task(&record).is_nginx
        };
        let ending = task_flag::ACTOR | task_flag::EXITING;
        assert!(nginx(ending, abi::side::UPSTREAM, 7));
        assert!(!nginx(ending, abi::side::UPSTREAM, 8));
        assert!(!nginx(ending, abi::side::UPSTREAM_PEER, 7));
        assert!(!nginx(task_flag::ACTOR, abi::side::UPSTREAM, 7));
    }

    #[test]
    fn a_task_that_was_only_interrupted_is_not_told_to_end() {
        let ends = |flags, state, shutdown| {
            let mut record = empty();
            (record.kind, record.task.flags) = (Kind::ResetSent as u8, flags | task_flag::EXITING);
            (record.sock.full, record.sock.state, record.sock.shutdown) = (1, state, shutdown);
            task(&record).exiting.is_some()
        };
        let (established, close) = (1, 7);
        assert!(ends(task_flag::ACTOR, close, 3), "it closed with data unread");
        assert!(ends(0, close, 0), "it closed a listener");
        assert!(!ends(0, close, 3), "data arrived behind a close");
        assert!(!ends(0, established, 0), "a timer ran out");
        let mut overflow = empty();
        (overflow.kind, overflow.task.flags) = (Kind::ResetSent as u8, task_flag::EXITING);
        assert!(task(&overflow).exiting.is_none(), "a full listener answered");
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mut bytes = [0; 16];
        bytes[10] = 0xff;
        bytes[11] = 0xff;
        bytes[12..].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(address(bytes, 80), "10.0.0.1:80".parse().unwrap());
        assert_eq!(address([0; 16], 80), "[::]:80".parse().unwrap());
    }

    #[test]
    fn distances_survive_the_wrap() {
        assert_eq!(distance(5, u32::MAX - 4), 10);
        assert_eq!(distance(5, 10), 0);
    }

    #[test]
    fn short_records_are_refused() {
        assert!(Decoder::new(Names::default()).decode(&[0; 10]).is_none());
    }
}
