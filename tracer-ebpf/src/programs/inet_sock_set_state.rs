//! Life of connections: which ones are Nginx's, who owns them, and ends that healthy traffic does not have.
//!
//! match-proto: `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`, 4.16 to 7.2.
//! `sk` is never null. `tp_btf`, because only there the kernel makes a cookie on request (5.12; `sock_ops` helps
//! out before); the cookie is what joins a socket to its packets.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_jiffies64};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use rstscope_ebpf::abi::{
    Conn, Counter, Departed, DepartedKey, Endpoint, GivenUp, Hook, Kind, Peer, PeerKey, side,
};

use crate::kernel::globals::{config, offset};
use crate::kernel::maps::{CONNS, DEPARTED, FOLLOW, NEW_CONNS, PEERS, count, netns_counts};
use crate::kernel::read::{Kernel, clear, copy, read};
use crate::kernel::sock::{Identity, TCP, cookie, identity, netns, netns_wanted, owned, snapshot, state};
use crate::kernel::{emit, side as sides, task};

const ECONNRESET: u32 = 104;
const EPIPE: u32 = 32;
const ECONNREFUSED: u32 = 111;

/// Ticks since our last data from which an unanswered request counts as one. A TLS `close_notify`
/// leaves in the tick of the close, and must not look like a request.
const UNANSWERED_TICKS: u32 = 2;

/// A client connection closed by the same thread within this time, without sleeping in between, belongs to the
/// upstream connection it has just closed. On a busy host the thread may have to wait for its CPU.
const FOLLOW_NS: u64 = 10_000_000;

/// Slots of `NEW_CONNS`.
const OPENED: u32 = 0;
const ACCEPTED: u32 = 1;

#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    if read::<u16>(sk, offset!(protocol)) == TCP {
        changed(sk, ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    }
    0
}

#[inline(always)]
fn changed(sk: Kernel, old: u8, new: u8) {
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
fn make_cookie(sk: Kernel) -> u64 {
    if config!(tracing_makes_cookies) == 0 {
        return cookie(sk);
    }
    // SAFETY: `sk` is the tracepoint's own argument, a valid socket.
    unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) }
}

#[inline(always)]
fn connect(sk: Kernel) {
    let pid = task::current_pid();
    if config!(tracing_makes_cookies) == 1 && task::is_nginx(pid) {
        connecting(sk, make_cookie(sk), pid);
    }
}

/// One of Nginx's processes connects.
#[inline(always)]
pub fn connecting(sk: Kernel, cookie: u64, pid: u32) {
    let Some(id) = identity(sk) else { return };
    if !netns_wanted(id.netns) || !sides::upstream_wanted(&id.remote, id.remote_port) {
        return;
    }
    sides::learn_endpoint(&id.remote, id.remote_port);
    let Some(conn) = open(OPENED, side::UPSTREAM) else { return };
    conn.owner_pid = pid;
    task::leader_comm(task::current(), &mut conn.comm);
    follow(cookie, conn);
}

#[inline(always)]
fn accepted(sk: Kernel) {
    let netns = netns(sk);
    if !netns_wanted(netns) {
        return;
    }
    let Some(id) = identity(sk) else { return };
    if sides::is_listener(netns, id.local_port, &id.local) {
        let Some(conn) = open(ACCEPTED, side::CLIENT) else { return };
        follow(make_cookie(sk), conn);
    }
}

/// A new connection in a slot of `NEW_CONNS`.
#[inline(always)]
fn open(slot: u32, side: u8) -> Option<&'static mut Conn> {
    let conn = NEW_CONNS.get_ptr_mut(slot)?;
    clear(conn);
    // SAFETY: a per-CPU value of this slot's only user; the helper takes no arguments.
    let conn = unsafe { &mut *conn };
    conn.side = side;
    // SAFETY: a helper without arguments.
    conn.opened_ns = unsafe { bpf_ktime_get_ns() };
    Some(conn)
}

#[inline(always)]
fn follow(cookie: u64, conn: &Conn) {
    if cookie == 0 {
        return;
    }
    let _lru_makes_room = CONNS.insert(cookie, conn, 0);
    count(Counter::Connections, 1);
}

#[inline(always)]
fn connected(sk: Kernel) {
    let Some(conn) = sides::conn(cookie(sk)) else { return };
    let Some(id) = identity(sk) else { return };
    // SAFETY: a helper without arguments.
    let elapsed = unsafe { bpf_ktime_get_ns() }.wrapping_sub(conn.opened_ns);
    let handshake_us = (elapsed / 1_000) as u32;
    if let Some(peer) = PEERS.get_ptr_mut(PeerKey { netns: id.netns, addr: id.remote }) {
        // SAFETY: a map value; a race between CPUs costs one count of a statistic.
        let peer: &mut Peer = unsafe { &mut *peer };
        peer.handshakes = peer.handshakes.wrapping_add(1);
        if peer.min_handshake_us == 0 || handshake_us < peer.min_handshake_us {
            peer.min_handshake_us = handshake_us;
        }
    }
}

/// `tcp_set_state` counts the same way.
#[inline(always)]
fn count_established_reset(sk: Kernel, old: u8, new: u8) {
    if new == state::CLOSE
        && is_open(old)
        && let Some(counts) = netns_counts(netns(sk))
    {
        counts.established_resets += 1;
    }
}

/// The local end was not closed yet.
#[inline(always)]
fn is_open(state: u8) -> bool {
    state == state::ESTABLISHED || state == state::CLOSE_WAIT
}

#[inline(always)]
fn closing(sk: Kernel, old: u8, new: u8) {
    count_established_reset(sk, old, new);
    let conn = sides::conn(cookie(sk));
    let exiting = task::current_is_exiting();
    if conn.is_none() && !exiting {
        return;
    }
    let Some(id) = identity(sk) else { return };
    let side = sides::of(&id, conn.as_deref());
    if side == side::NONE || id.state == state::LISTEN {
        return;
    }
    let error = read::<u32>(sk, offset!(err));
    // A process closes while it holds the socket, and leaves no error behind.
    let actor = owned(sk) && error == 0;
    if !suspicious(sk, side, old, new, error, actor && exiting, conn.as_deref()) {
        if let Some(conn) = conn.as_deref() {
            departed(sk, &id, new, conn);
        }
        return;
    }
    report(sk, &id, side, (old, new), actor, conn.as_deref());
}

#[inline(always)]
fn report(sk: Kernel, id: &Identity, side: u8, (old, new): (u8, u8), actor: bool, conn: Option<&Conn>) {
    emit::record(Kind::Closed, Hook::InetSockSetState, |record| {
        snapshot(sk, id, side, conn, &mut record.sock);
        // The tracepoint fires before the new state is stored.
        record.sock.state = old;
        record.old_state = old;
        record.new_state = new;
        task::describe(task::current(), actor, &mut record.task);
        if let Some(conn) = conn {
            copy(&raw mut record.syn_ack, &raw const conn.syn_ack);
        }
    });
}

/// Keeps the latest connection that an upstream closed first, for a line of the log that calls it premature.
#[inline(always)]
fn departed(sk: Kernel, id: &Identity, new: u8, conn: &Conn) {
    if conn.side != side::UPSTREAM || new != state::LAST_ACK {
        return;
    }
    let upstream = Endpoint { addr: id.remote, port: id.remote_port, pad: 0 };
    // SAFETY: helpers without arguments.
    let (time_ns, jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
    let latest = Departed {
        time_ns,
        jiffies,
        cookie: id.cookie,
        opened_ns: conn.opened_ns,
        bytes_sent: read(sk, offset!(bytes_sent)),
        bytes_received: read(sk, offset!(bytes_received)),
        local: id.local,
        netns: id.netns,
        srtt_us_8: read(sk, offset!(srtt_us)),
        lsndtime: read(sk, offset!(lsndtime)),
        lrcvtime: read(sk, offset!(lrcvtime)),
        data_segs_out: read(sk, offset!(data_segs_out)),
        data_segs_in: read(sk, offset!(data_segs_in)),
        local_port: id.local_port,
        preexisting: u16::from(conn.preexisting),
        pad: 0,
    };
    let _lru_makes_room = DEPARTED.insert(DepartedKey { pid: conn.owner_pid, upstream }, latest, 0);
}

/// Whether healthy traffic never ends like this.
#[inline(always)]
fn suspicious(sk: Kernel, side: u8, old: u8, new: u8, error: u32, killed: bool, conn: Option<&Conn>) -> bool {
    if killed && is_open(old) {
        return true;
    }
    let Some(conn) = conn else { return false };
    if new == state::CLOSE && is_reset_error(error) && conn.reset_seen == 1 {
        return false; // Reported when the RST arrived.
    }
    if new == state::CLOSE && (error != 0 || old == state::SYN_SENT) {
        return true;
    }
    if new == state::CLOSE && !is_open(old) {
        return false; // The ordinary end of a connection that was closed before.
    }
    if read::<u8>(sk, offset!(retransmits)) > 0 {
        return true;
    }
    match side {
        side::UPSTREAM => unanswered(sk) && remember_thread(),
        side::CLIENT => new == state::LAST_ACK && follows_upstream(sk),
        _ => false,
    }
}

#[inline(always)]
fn is_reset_error(error: u32) -> bool {
    error == ECONNRESET || error == EPIPE || error == ECONNREFUSED
}

/// The peer never sent data, or our last data is newer than the peer's and not from this very moment.
#[inline(always)]
fn unanswered(sk: Kernel) -> bool {
    if read::<u32>(sk, offset!(data_segs_out)) == 0 {
        return false;
    }
    if read::<u32>(sk, offset!(data_segs_in)) == 0 {
        return true;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_jiffies64() } as u32;
    let sent = read::<u32>(sk, offset!(lsndtime));
    let received = read::<u32>(sk, offset!(lrcvtime));
    (sent.wrapping_sub(received) as i32) > 0 && now.wrapping_sub(sent) >= UNANSWERED_TICKS
}

/// Remembers that this thread has just given up an upstream connection.
#[inline(always)]
fn remember_thread() -> bool {
    // SAFETY: helpers without arguments.
    let (time_ns, jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
    let now = GivenUp { time_ns, jiffies, sleeps: task::current_sleeps() };
    let _lru_makes_room = FOLLOW.insert(task::current_tid(), now, 0);
    true
}

/// This thread has just given up an upstream connection, and closes a client connection whose last request it has
/// not answered, neither before nor since (a 504 would be such an answer): the client had gone away.
#[inline(always)]
fn follows_upstream(sk: Kernel) -> bool {
    let thread = task::current_tid();
    // SAFETY: the value is copied at once; the helper takes no arguments.
    let (given_up, now) = unsafe { (FOLLOW.get(thread).copied(), bpf_ktime_get_ns()) };
    let Some(given_up) = given_up else { return false };
    let handling =
        task::current_sleeps() == given_up.sleeps && now.wrapping_sub(given_up.time_ns) <= FOLLOW_NS;
    let follows = handling && unanswered_until(sk, given_up.jiffies as u32);
    if follows {
        let _gone_already = FOLLOW.remove(thread); // One upstream connection is given up for one client.
    }
    follows
}

/// Nothing was sent to the peer since its last data, nor since this tick.
#[inline(always)]
fn unanswered_until(sk: Kernel, tick: u32) -> bool {
    // Without data, `lsndtime` is the time of the handshake (`tcp_create_openreq_child`).
    if read::<u32>(sk, offset!(data_segs_out)) == 0 {
        return true;
    }
    let (sent, received) = (read::<u32>(sk, offset!(lsndtime)), read::<u32>(sk, offset!(lrcvtime)));
    (received.wrapping_sub(sent) as i32) >= 0 && (sent.wrapping_sub(tick) as i32) < 0
}
