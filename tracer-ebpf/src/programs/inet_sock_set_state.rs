//! Life of connections: which ones are Nginx's, who owns them, and ends that healthy traffic does not have.
//!
//! match-proto: `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`, 4.16 to 7.2.
//! `sk` is never null. `tp_btf` in both forms, because only there the kernel makes a cookie on request (5.12;
//! `sock_ops` helps out before); the cookie is what joins a socket to its packets.
//!
//! Every connection of the host passes here several times: what is not Nginx's, and what is healthy, must be told
//! with as few loads and look-ups as possible.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_jiffies64};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use rstscope_ebpf::abi::{
    Conn, Departed, DepartedKey, Endpoint, Forgetful, GivenUp, Header, Hook, Kind, Peer, PeerKey, side,
    stalled_us,
};

use crate::kernel::conns::{self, Opened};
use crate::kernel::globals::{config, offset};
use crate::kernel::maps::{DEPARTED, FOLLOW, PEERS, keep, netns_counts};
use crate::kernel::read::{Checked, Memory, Typed, copy};
use crate::kernel::sock::{
    TCP, cookie, identity, local_address, netns, netns_wanted, owned, remote_address, snapshot, state,
};
use crate::kernel::{emit, side as sides, task};

const ECONNRESET: u32 = 104;
const EPIPE: u32 = 32;
const ECONNREFUSED: u32 = 111;
const ETIMEDOUT: u32 = 110;

/// Ticks since our last data from which an unanswered request counts as one. A TLS `close_notify`
/// leaves in the tick of the close, and must not look like a request.
const UNANSWERED_TICKS: u32 = 2;

/// Retransmission timeouts in a row from which data counts as lost. On a lossy path one happens to healthy traffic.
const LOSSES: u8 = 2;

/// A client connection closed by the same thread within this time, without sleeping in between, belongs to the
/// upstream connection it has just closed. On a busy host the thread may have to wait for its CPU.
const FOLLOW_NS: u64 = 10_000_000;

static NOT_DEPARTED: Departed = Departed::EMPTY;

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state_typed(ctx: BtfTracePointContext) -> i32 {
    changed(Typed::at(ctx.arg(0)), ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    changed(Checked::at(ctx.arg(0)), ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    0
}

#[inline(always)]
fn changed<M: Memory>(sk: M, old: u8, new: u8) {
    if sk.get::<u16>(offset!(protocol)) != TCP {
        return;
    }
    match (old, new) {
        (state::CLOSE, state::SYN_SENT) => connect(sk),
        (state::SYN_RECV, state::ESTABLISHED) => accepted(sk),
        (state::SYN_SENT, state::ESTABLISHED) => connected(sk),
        (_, state::FIN_WAIT1 | state::LAST_ACK | state::CLOSE) => closing(sk, old, new),
        _ => {}
    }
}

/// The cookie, made if there is none. Where the kernel cannot make it here, `sock_ops` has done so.
#[inline(always)]
fn make_cookie<M: Memory>(sk: M) -> u64 {
    if config!(tracing_makes_cookies) == 0 {
        return cookie(sk);
    }
    // SAFETY: `sk` is the tracepoint's own argument, a valid socket.
    unsafe { bpf_get_socket_cookie(sk.address().cast_mut().cast()) }
}

#[inline(always)]
fn connect<M: Memory>(sk: M) {
    let pid = task::current_pid();
    if config!(tracing_makes_cookies) == 1 && task::is_nginx(pid) {
        connecting(sk, make_cookie(sk), pid);
    }
}

/// One of Nginx's processes connects.
#[inline(always)]
pub fn connecting<M: Memory>(sk: M, cookie: u64, pid: u32) {
    let (remote, port) = (remote_address(sk), u16::from_be(sk.get(offset!(dport))));
    if !netns_wanted(netns(sk)) || !sides::upstream_wanted(&remote, port) {
        return;
    }
    sides::learn_endpoint(&remote, port);
    conns::add(cookie, Opened::ByNginx, |conn| {
        begin(conn, side::UPSTREAM);
        conn.owner_pid = pid;
        task::leader_comm(M::current_task(), &mut conn.comm);
    });
}

#[inline(always)]
fn accepted<M: Memory>(sk: M) {
    let netns = netns(sk);
    if netns_wanted(netns) && sides::is_listener(netns, sk.get(offset!(num)), || local_address(sk)) {
        conns::add(make_cookie(sk), Opened::ByPeer, |conn| begin(conn, side::CLIENT));
    }
}

#[inline(always)]
fn begin(conn: &mut Conn, side: u8) {
    conn.side = side;
    // SAFETY: a helper without arguments.
    conn.opened_ns = unsafe { bpf_ktime_get_ns() };
}

/// The peer has answered: what its SYN-ACK tells of it is kept for other connections.
#[inline(always)]
fn connected<M: Memory>(sk: M) {
    let Some(conn) = conns::find(cookie(sk)) else { return };
    let Some(ttl) = ttl(&conn.syn_ack) else { return };
    let handshake_us = (conn.syn_ack.time_ns.wrapping_sub(conn.opened_ns) / 1_000) as u32;
    let key = PeerKey { netns: netns(sk), addr: remote_address(sk) };
    if let Some(peer) = PEERS.get_ptr_mut(key) {
        // SAFETY: a map value; a race between CPUs mixes two SYN-ACKs of one peer.
        let peer: &mut Peer = unsafe { &mut *peer };
        peer.last_syn_ack_ns = conn.syn_ack.time_ns;
        peer.ttl = ttl;
        peer.handshakes = peer.handshakes.wrapping_add(1);
        if handshake_us < peer.min_handshake_us {
            peer.min_handshake_us = handshake_us;
        }
        return;
    }
    let last_syn_ack_ns = conn.syn_ack.time_ns;
    let first = Peer { last_syn_ack_ns, handshakes: 1, min_handshake_us: handshake_us, ttl, pad: 0 };
    keep(Forgetful::Peers, &PEERS, &key, &first);
}

/// TTL or hop limit of a kept header.
#[inline(always)]
fn ttl(header: &Header) -> Option<u32> {
    match header.bytes[0] >> 4 {
        _ if header.len == 0 => None,
        4 => Some(header.bytes[8].into()),
        6 => Some(header.bytes[7].into()),
        _ => None,
    }
}

/// Counts as `tcp_set_state` and `tcp_write_err` do.
#[inline(always)]
fn count_end<M: Memory>(sk: M, open: bool, error: u32) {
    if let Some(counts) = netns_counts(netns(sk)) {
        counts.established_resets += u64::from(open);
        counts.aborted_on_timeout += u64::from(error == ETIMEDOUT);
    }
}

/// The local end was not closed yet.
#[inline(always)]
fn is_open(state: u8) -> bool {
    state == state::ESTABLISHED || state == state::CLOSE_WAIT
}

/// How a connection ends, as far as its socket tells.
#[derive(Clone, Copy)]
struct End {
    old: u8,
    new: u8,
    error: u32,
    /// A process that is itself ending closes it.
    killed: bool,
}

#[inline(always)]
fn closing<M: Memory>(sk: M, old: u8, new: u8) {
    let error = sk.get::<u32>(offset!(err));
    let open = is_open(old);
    if new == state::CLOSE && !open && old != state::SYN_SENT && error == 0 {
        return; // The ordinary end of a connection that was closed before.
    }
    if new == state::CLOSE && (open || error == ETIMEDOUT) {
        count_end(sk, open, error);
    }
    // A process closes while it holds the socket, and leaves no error behind.
    let actor = error == 0 && owned(sk);
    let killed = open && actor && task::is_exiting(M::current_task());
    let conn = conns::find(cookie(sk));
    let end = End { old, new, error, killed };
    let tell = conn.as_deref().map_or(killed, |conn| suspicious(sk, end, conn));
    if tell {
        report(sk, end, actor, conn.as_deref());
    } else if let Some(conn) = conn
        && conn.side == side::UPSTREAM
    {
        match new {
            state::LAST_ACK => departed(sk, conn, 0),
            state::FIN_WAIT1 if sk.tcp().is_some_and(|tcp| is_tied(tcp)) => departed(sk, conn, 1),
            _ => {}
        }
    }
}

#[inline(always)]
fn report<M: Memory>(sk: M, end: End, actor: bool, conn: Option<&Conn>) {
    let Some(id) = identity(sk) else { return };
    let side = sides::of(&id, conn);
    if side == side::NONE || id.state == state::LISTEN {
        return;
    }
    emit::record(Kind::Closed, Hook::InetSockSetState, |record| {
        snapshot(sk, &id, side, conn, &mut record.sock);
        // The tracepoint fires before the new state is stored.
        record.sock.state = end.old;
        record.old_state = end.old;
        record.new_state = end.new;
        task::describe(M::current_task(), actor, &mut record.task);
        if let Some(conn) = conn {
            copy(&raw mut record.syn_ack, &raw const conn.syn_ack);
        }
    });
}

/// Keeps the latest connection that was closed in order, for a line of the log that calls it premature, or timed out.
/// The entry of a worker and upstream is written over in place: a new one costs ten times as much.
#[inline(always)]
fn departed<M: Memory>(sk: M, conn: &Conn, by_nginx: u32) {
    let (Some(id), Some(tcp)) = (identity(sk), sk.tcp()) else { return };
    let upstream = Endpoint { addr: id.remote, port: id.remote_port, pad: 0 };
    let key = DepartedKey { pid: conn.owner_pid, upstream, by_nginx };
    let Some(latest) = latest_departed(key) else { return };
    // SAFETY: helpers without arguments.
    (latest.time_ns, latest.jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
    latest.cookie = id.cookie;
    latest.opened_ns = conn.opened_ns;
    latest.local = id.local;
    latest.netns = id.netns;
    latest.local_port = id.local_port;
    latest.preexisting = u16::from(conn.preexisting);
    tcp.get_into(&mut latest.bytes_sent, offset!(bytes_sent));
    tcp.get_into(&mut latest.bytes_received, offset!(bytes_received));
    tcp.get_into(&mut latest.srtt_us_8, offset!(srtt_us));
    tcp.get_into(&mut latest.lsndtime, offset!(lsndtime));
    tcp.get_into(&mut latest.lrcvtime, offset!(lrcvtime));
    tcp.get_into(&mut latest.data_segs_out, offset!(data_segs_out));
    tcp.get_into(&mut latest.data_segs_in, offset!(data_segs_in));
}

/// The entry of a worker and upstream, an empty one if there was none.
#[inline(always)]
fn latest_departed(key: DepartedKey) -> Option<&'static mut Departed> {
    if let Some(entry) = DEPARTED.get_ptr_mut(key) {
        // SAFETY: a map value that only this worker writes; user space reads until it reads the same twice.
        return Some(unsafe { &mut *entry });
    }
    let none: &Departed = &NOT_DEPARTED;
    keep(Forgetful::Departed, &DEPARTED, &key, none);
    // SAFETY: as above.
    DEPARTED.get_ptr_mut(key).map(|entry| unsafe { &mut *entry })
}

/// Whether healthy traffic never ends like this.
#[inline(always)]
fn suspicious<M: Memory>(sk: M, end: End, conn: &Conn) -> bool {
    let End { old, new, error, killed } = end;
    if killed {
        return true;
    }
    if new == state::CLOSE && is_reset_error(error) && conn.reset_seen == 1 {
        return false; // Reported when the RST arrived.
    }
    if new == state::CLOSE && (error != 0 || old == state::SYN_SENT) {
        return true;
    }
    let Some(tcp) = sk.tcp() else { return false };
    if tcp.get::<u8>(offset!(retransmits)) >= LOSSES {
        return true;
    }
    match conn.side {
        side::UPSTREAM => unanswered(tcp) && remember_thread::<M>(),
        side::CLIENT => new == state::LAST_ACK && follows_upstream(tcp),
        _ => false,
    }
}

#[inline(always)]
fn is_reset_error(error: u32) -> bool {
    error == ECONNRESET || error == EPIPE || error == ECONNREFUSED
}

/// The peer never sent data, or our last data is newer than the peer's and not from this very moment.
#[inline(always)]
fn unanswered<M: Memory>(tcp: M) -> bool {
    if tcp.get::<u32>(offset!(data_segs_out)) == 0 {
        return false;
    }
    if tcp.get::<u32>(offset!(data_segs_in)) == 0 {
        return true;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_jiffies64() } as u32;
    let sent = tcp.get::<u32>(offset!(lsndtime));
    let received = tcp.get::<u32>(offset!(lrcvtime));
    let silent = now.wrapping_sub(sent);
    match sent.wrapping_sub(received) as i32 {
        _ if silent < UNANSWERED_TICKS => false,
        0 => acknowledged_since(tcp, silent),
        newer => newer > 0,
    }
}

/// The latest data went both ways in one tick, and then none for a while.
#[inline(always)]
fn is_tied<M: Memory>(tcp: M) -> bool {
    let sent = tcp.get::<u32>(offset!(lsndtime));
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_jiffies64() } as u32;
    tcp.get::<u32>(offset!(data_segs_in)) != 0
        && sent == tcp.get::<u32>(offset!(lrcvtime))
        && now.wrapping_sub(sent) >= UNANSWERED_TICKS
}

/// Of an answer and the next request in the same tick, this many ticks ago, the request came last: it is not
/// acknowledged, or was so later, where an answer acknowledges its own request.
#[inline(always)]
fn acknowledged_since<M: Memory>(tcp: M, ticks: u32) -> bool {
    if tcp.get::<u32>(offset!(snd_nxt)) != tcp.get::<u32>(offset!(snd_una)) {
        return true;
    }
    let tick_us = config!(tick_us);
    let delivered_us = tcp.get::<u64>(offset!(delivered_mstamp));
    // SAFETY: a helper without arguments.
    let now_us = unsafe { bpf_ktime_get_ns() } / 1_000;
    let since_us = now_us.saturating_sub(delivered_us);
    delivered_us != 0 && since_us + stalled_us(tick_us) < u64::from(ticks) * u64::from(tick_us)
}

/// Remembers that this thread has just given up an upstream connection.
#[inline(always)]
fn remember_thread<M: Memory>() -> bool {
    // SAFETY: helpers without arguments.
    let (time_ns, jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
    let now = GivenUp { time_ns, jiffies, sleeps: task::sleeps(M::current_task()) };
    let _lru_makes_room = FOLLOW.insert(task::current_tid(), now, 0);
    true
}

/// This thread has just given up an upstream connection, and closes a client connection whose last request it has
/// not answered, neither before nor since (a 504 would be such an answer): the client had gone away.
#[inline(always)]
fn follows_upstream<M: Memory>(tcp: M) -> bool {
    let thread = task::current_tid();
    // SAFETY: the value is copied at once; the helper takes no arguments.
    let (given_up, now) = unsafe { (FOLLOW.get(thread).copied(), bpf_ktime_get_ns()) };
    let Some(given_up) = given_up else { return false };
    let handling =
        task::sleeps(M::current_task()) == given_up.sleeps && now.wrapping_sub(given_up.time_ns) <= FOLLOW_NS;
    let follows = handling && unanswered_until(tcp, given_up.jiffies as u32);
    if follows {
        let _gone_already = FOLLOW.remove(thread); // One upstream connection is given up for one client.
    }
    follows
}

/// Nothing was sent to the peer since its last data, nor since this tick.
#[inline(always)]
fn unanswered_until<M: Memory>(tcp: M, tick: u32) -> bool {
    // Without data, `lsndtime` is the time of the handshake (`tcp_create_openreq_child`).
    if tcp.get::<u32>(offset!(data_segs_out)) == 0 {
        return true;
    }
    let (sent, received) = (tcp.get::<u32>(offset!(lsndtime)), tcp.get::<u32>(offset!(lrcvtime)));
    (received.wrapping_sub(sent) as i32) >= 0 && (sent.wrapping_sub(tick) as i32) < 0
}
