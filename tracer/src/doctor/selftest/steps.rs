//! What is provoked, one function per event: the near end plays Nginx, the far end its clients and its upstream.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use etherparse::checksum::Sum16BitWords;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};

use super::stage::{CLOSED_PORT, FAR, FULL_PORT, NEAR, OPEN_PORT, Stage, UPSTREAM_PORT};
use super::{Outcome, Provoked, link};
use crate::model::{Event, EventKind, QueueKind, Side, Socket};
use crate::output::layout::count;

/// The longest that a socket call may block.
const BLOCK: Duration = Duration::from_secs(3);
/// The longest that an answer is waited for before the connection is given up.
const UNANSWERED: Duration = Duration::from_millis(300);
/// Connections started against a listener with one place.
const FLOOD: usize = 8;

/// What was seen, `None` when it was missed.
type Step = fn(&mut Stage) -> io::Result<Option<String>>;

const STEPS: [(&str, Step); 10] = [
    ("upstream sends a RST", upstream_resets),
    ("client sends a RST", client_resets),
    ("Nginx sends a RST", nginx_resets),
    ("RST without a socket", closed_port),
    ("closed without an answer", unanswered),
    ("full listen queue", full_listener),
    ("SYN-ACK sent again", synack_again),
    ("a process ends", process_ends),
    ("retransmission", retransmits),
    ("ICMP error", icmp_error),
];

/// Plays every step. One that fails does not end the test.
pub(super) fn play(stage: &mut Stage) -> Vec<Provoked> {
    STEPS.iter().map(|(name, step)| provoke(stage, name, *step)).collect()
}

fn provoke(stage: &mut Stage, name: &str, step: Step) -> Provoked {
    let (outcome, seen) = match step(stage) {
        Ok(Some(seen)) => (Outcome::Seen, seen),
        Ok(None) => (Outcome::Missed, "it happened, and no hook told of it".to_owned()),
        Err(error) => (Outcome::Missed, format!("it could not be provoked: {error}")),
    };
    Provoked { event: name.to_owned(), outcome, seen }
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

fn bounded(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(BLOCK))?;
    stream.set_write_timeout(Some(BLOCK))?;
    Ok(stream)
}

/// A connection of the near end to the far one: both ends.
fn to_upstream(stage: &Stage) -> io::Result<(TcpStream, TcpStream)> {
    let listener = stage.far.run(|| TcpListener::bind(at(FAR, UPSTREAM_PORT)))?;
    let near = stage.near.run(|| bounded(TcpStream::connect_timeout(&at(FAR, UPSTREAM_PORT), BLOCK)?))?;
    let far = bounded(listener.accept()?.0)?;
    Ok((near, far))
}

/// Closing such a socket sends a RST.
fn reset(stream: TcpStream) -> io::Result<()> {
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

fn on(event: &Event, side: Side, port: u16) -> bool {
    let is_it =
        |socket: &Socket| socket.side == side && [socket.local.port(), socket.remote.port()].contains(&port);
    event.socket.as_ref().is_some_and(is_it)
}

fn owner(event: &Event) -> String {
    let owner = event.socket.as_ref().and_then(|socket| socket.owner.as_ref());
    owner
        .map_or_else(|| "owner not known".to_owned(), |owner| format!("owner {} ({})", owner.comm, owner.pid))
}

fn header(event: &Event) -> String {
    event
        .packet
        .as_ref()
        .map_or_else(|| "without its header".to_owned(), |packet| format!("TTL {}", packet.ttl))
}

fn upstream_resets(stage: &mut Stage) -> io::Result<Option<String>> {
    let (mut near, mut far) = to_upstream(stage)?;
    near.write_all(b"GET")?;
    far.read_exact(&mut [0; 3])?;
    reset(far)?;
    let is_it =
        |event: &Event| event.kind == EventKind::ResetReceived && on(event, Side::Upstream, UPSTREAM_PORT);
    let event = stage.await_event(is_it);
    Ok(event.map(|event| {
        format!("RST received on an upstream connection, {}, {}", header(&event), owner(&event))
    }))
}

fn client_resets(stage: &mut Stage) -> io::Result<Option<String>> {
    let listener = stage.near.run(|| TcpListener::bind(at(NEAR, OPEN_PORT)))?;
    let mut far = stage.far.run(|| bounded(TcpStream::connect_timeout(&at(NEAR, OPEN_PORT), BLOCK)?))?;
    far.write_all(b"GET")?;
    let mut near = bounded(listener.accept()?.0)?;
    near.read_exact(&mut [0; 3])?;
    reset(far)?;
    let is_it = |event: &Event| event.kind == EventKind::ResetReceived && on(event, Side::Client, OPEN_PORT);
    let event = stage.await_event(is_it);
    Ok(event
        .map(|event| format!("RST received on a client connection, {}, {}", header(&event), owner(&event))))
}

fn nginx_resets(stage: &mut Stage) -> io::Result<Option<String>> {
    let (near, mut far) = to_upstream(stage)?;
    far.write_all(b"nobody reads this")?;
    near.peek(&mut [0; 1])?;
    drop(near);
    let is_it = |event: &Event| {
        matches!(event.kind, EventKind::ResetSent { .. }) && on(event, Side::Upstream, UPSTREAM_PORT)
    };
    Ok(stage.await_event(is_it).map(|event| match &event.kind {
        EventKind::ResetSent { reason: Some(reason), .. } => format!("RST sent, {reason}, {}", owner(&event)),
        _ => format!("RST sent, this kernel names no reason, {}", owner(&event)),
    }))
}

fn closed_port(stage: &mut Stage) -> io::Result<Option<String>> {
    let refused = stage.far.run(|| Ok(TcpStream::connect_timeout(&at(NEAR, CLOSED_PORT), BLOCK).is_err()))?;
    if !refused {
        return Err(io::Error::other("a port on which nobody listens took a connection"));
    }
    let is_it = |event: &Event| matches!(event.kind, EventKind::ResetSent { local, .. } if local.port() == CLOSED_PORT);
    Ok(stage.await_event(is_it).map(|event| match event.kind {
        EventKind::ResetSent { reason: Some(reason), .. } => {
            format!("RST sent for port {CLOSED_PORT}, {reason}")
        }
        _ => format!("RST sent for port {CLOSED_PORT}"),
    }))
}

fn unanswered(stage: &mut Stage) -> io::Result<Option<String>> {
    let (mut near, mut far) = to_upstream(stage)?;
    near.write_all(b"GET")?;
    far.read_exact(&mut [0; 3])?;
    let port = near.local_addr()?.port();
    // What is closed at once was not waited for; time itself is the event here.
    std::thread::sleep(UNANSWERED);
    drop(near);
    let is_it =
        |event: &Event| matches!(event.kind, EventKind::Closed { .. }) && on(event, Side::Upstream, port);
    Ok(stage.await_event(is_it).map(|event| match event.kind {
        EventKind::Closed { old, new } => format!("state {} to {} without an answer", old.name(), new.name()),
        _ => String::new(),
    }))
}

fn full_listener(stage: &mut Stage) -> io::Result<Option<String>> {
    let _listener = stage.near.run(|| {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &at(NEAR, FULL_PORT))?;
        rustix::net::listen(&socket, 1)?;
        Ok(socket)
    })?;
    let _flood: Vec<OwnedFd> = stage.far.run(|| (0..FLOOD).map(|_| begin_connection()).collect())?;
    let is_it = |event: &Event| matches!(&event.kind, EventKind::ListenOverflow(overflow) if overflow.listener.port() == FULL_PORT);
    let event = stage.await_event(is_it);
    let counted = stage.await_overflows();
    Ok(event.and_then(|event| match event.kind {
        EventKind::ListenOverflow(overflow) => Some(format!(
            "{} queue {} of {}, {} drops counted",
            if overflow.queue_kind == QueueKind::Accept { "accept" } else { "SYN" },
            overflow.queue,
            overflow.limit,
            counted.unwrap_or(0)
        )),
        _ => None,
    }))
}

fn begin_connection() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &at(NEAR, FULL_PORT)) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn process_ends(stage: &mut Stage) -> io::Result<Option<String>> {
    let mut command = Command::new("/proc/self/exe");
    let mut child = command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let pid = child.id();
    child.wait()?;
    let is_it = |event: &Event| event.kind == EventKind::ProcessExit && event.task.pid == pid;
    Ok(stage.await_event(is_it).map(|event| format!("end of a child process, {}", event.task.comm)))
}

/// A listener that wants data first lets the handshake's last ACK count for nothing, and asks again (`TCP_DEFER_ACCEPT`).
fn synack_again(stage: &mut Stage) -> io::Result<Option<String>> {
    let _listener = stage.near.run(|| {
        let listener = TcpListener::bind(at(NEAR, OPEN_PORT))?;
        let seconds: libc::c_int = 1;
        let length = u32::try_from(size_of_val(&seconds)).unwrap_or_default();
        // SAFETY: the descriptor is open, and the option is a `c_int` that lives during the call.
        let result = unsafe {
            let (fd, value) = (listener.as_raw_fd(), (&raw const seconds).cast());
            libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, value, length)
        };
        if result == 0 { Ok(listener) } else { Err(io::Error::last_os_error()) }
    })?;
    let before = stage.runs("tcp_retransmit_synack").unwrap_or(0);
    let _silent = stage.far.run(|| TcpStream::connect_timeout(&at(NEAR, OPEN_PORT), BLOCK))?;
    let runs = stage.await_runs("tcp_retransmit_synack", before);
    Ok(runs.map(|runs| format!("its hook ran {}", count(runs, "time"))))
}

/// The far end loses its address: its kernel drops what comes, and nothing is acknowledged.
fn retransmits(stage: &mut Stage) -> io::Result<Option<String>> {
    let (mut near, far) = to_upstream(stage)?;
    stage.far.run(|| link::remove(FAR))?;
    let before = stage.retransmits().unwrap_or(0);
    near.write_all(b"GET")?;
    let counted = stage.await_retransmits(before);
    stage.far.run(|| link::add(FAR))?;
    drop(far);
    Ok(counted.map(|segments| format!("{} counted in this namespace", count(segments, "segment"))))
}

/// The far end says by ICMP that it does not take a segment of an upstream connection. The segment is made up: TCP
/// would look for its connection, the hook does not.
fn icmp_error(stage: &mut Stage) -> io::Result<Option<String>> {
    stage.far.run(|| {
        let socket =
            socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMP))?;
        Ok(sendto(&socket, &prohibited(), SendFlags::empty(), &at(NEAR, 0))?)
    })?;
    let is_it = |event: &Event| matches!(event.kind, EventKind::IcmpError(_));
    let event = stage.await_event(is_it);
    Ok(event.and_then(|event| match event.kind {
        EventKind::IcmpError(error) => Some(format!("{} from {}", error.name(), error.sender)),
        _ => None,
    }))
}

/// `communication administratively prohibited` (RFC 1812, section 5.2.7.1), quoting a SYN from the near end.
fn prohibited() -> Vec<u8> {
    let mut quoted = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    quoted.extend(NEAR.octets().iter().chain(&FAR.octets()));
    quoted.extend(40_000_u16.to_be_bytes().iter().chain(&UPSTREAM_PORT.to_be_bytes()));
    quoted.extend([0; 4]);
    let header = |sum: [u8; 2]| [3, 13, sum[0], sum[1], 0, 0, 0, 0];
    let sum = Sum16BitWords::new().add_slice(&header([0; 2])).add_slice(&quoted).ones_complement();
    [header(sum.to_ne_bytes()).as_slice(), &quoted].concat()
}
