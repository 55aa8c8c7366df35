//! Sockets that exist now, by `sock_diag`, in any network namespace: with the cookie that the hooks use.

use std::io;
use std::net::SocketAddr as InetAddr;
use std::path::Path;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use crate::model::TcpState;
use crate::probe::namespace::{NamespaceError, inside};

use super::decode;

/// Bytes asked for at once; the kernel fills at most 32 KiB for a dump.
const BUFFER: usize = 64 << 10;
/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: u8 = 10;
/// Sockets taken at most; a host with more is seeded in part, and the result says so.
const MOST: usize = 1 << 20;

/// One TCP socket.
#[derive(Debug, Clone)]
pub struct DiagSocket {
    /// Local address, IPv4-mapped addresses normalised.
    pub local: InetAddr,
    /// Remote address, likewise.
    pub remote: InetAddr,
    /// Socket cookie.
    pub cookie: u64,
    /// Inode of the socket file, zero for an orphan.
    pub inode: u32,
    /// It listens.
    pub listening: bool,
    /// State.
    pub state: TcpState,
    /// Counters, where they were asked for and the socket is a full one.
    pub counts: Option<TcpCounts>,
    /// Of a listener: connections waiting for `accept()`.
    pub queue: u32,
    /// Of a listener: the limit of that queue.
    pub limit: u32,
}

/// Members of `struct tcp_info` (`include/uapi/linux/tcp.h`), whose layout never changes; later kernels only add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpCounts {
    /// Consecutive unanswered retransmissions.
    pub retransmits: u8,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Milliseconds since data was sent.
    pub last_data_sent_ms: u32,
    /// Milliseconds since data was received.
    pub last_data_received_ms: u32,
    /// Bytes acknowledged by the peer; counts SYN and FIN.
    pub bytes_acked: u64,
    /// Bytes received; counts the FIN.
    pub bytes_received: u64,
    /// Bytes sent, repeated ones included.
    pub bytes_sent: u64,
}

/// Lists the connections of the namespace of this process that are not new to the application, with their counters.
pub fn connections() -> io::Result<Vec<DiagSocket>> {
    let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::SYN_SENT - StateFlags::TIME_WAIT;
    of_both_families(states, ExtensionFlags::INFO)
}

/// Lists the TCP sockets of the namespace at `path` (`/proc/PID/ns/net`).
pub fn list(path: &Path) -> Result<Vec<DiagSocket>, NamespaceError> {
    inside(path, "list TCP sockets", || of_both_families(StateFlags::all(), ExtensionFlags::empty()))
}

/// Lists the listeners of the namespace of this process: cheap however many connections there are.
pub fn listeners() -> io::Result<Vec<DiagSocket>> {
    of_both_families(StateFlags::LISTEN, ExtensionFlags::empty())
}

/// IPv4 first.
fn of_both_families(states: StateFlags, extensions: ExtensionFlags) -> io::Result<Vec<DiagSocket>> {
    let mut sockets = dump(AF_INET, states.clone(), extensions.clone())?;
    sockets.extend(dump(AF_INET6, states, extensions)?);
    Ok(sockets)
}

fn dump(family: u8, states: StateFlags, extensions: ExtensionFlags) -> io::Result<Vec<DiagSocket>> {
    let mut netlink = Socket::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    netlink.connect(&SocketAddr::new(0, 0))?;
    netlink.send(&request(family, states, extensions), 0)?;
    let mut sockets = Vec::new();
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        netlink.recv(&mut buffer, 0)?;
        if take(&buffer, &mut sockets)? || sockets.len() >= MOST {
            return Ok(sockets);
        }
    }
}

fn request(family: u8, states: StateFlags, extensions: ExtensionFlags) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let request = InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads the messages of one datagram; true after the last one of the dump.
fn take(mut bytes: &[u8], sockets: &mut Vec<DiagSocket>) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                sockets.push(socket(&response));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => {}
        }
        // Messages are aligned to four bytes (`NLMSG_ALIGN`).
        let length = (message.header.length as usize).next_multiple_of(4).max(16);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(false)
}

fn socket(response: &InetResponse) -> DiagSocket {
    let header = &response.header;
    let id = &header.socket_id;
    let listening = header.state == LISTEN;
    DiagSocket {
        local: InetAddr::new(id.source_address.to_canonical(), id.source_port),
        remote: InetAddr::new(id.destination_address.to_canonical(), id.destination_port),
        cookie: u64::from_ne_bytes(id.cookie),
        inode: header.inode,
        listening,
        state: decode::state(header.state),
        counts: response.nlas.iter().find_map(counts),
        queue: if listening { header.recv_queue } else { 0 },
        limit: if listening { header.send_queue } else { 0 },
    }
}

fn counts(attribute: &Nla) -> Option<TcpCounts> {
    let Nla::TcpInfo(info) = attribute else { return None };
    counts_of(info)
}

/// Kernels before 4.19 tell less, and then nothing is said.
fn counts_of(info: &[u8]) -> Option<TcpCounts> {
    let short = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
    Some(TcpCounts {
        retransmits: *info.get(2)?,
        unacked: short(24)?,
        last_data_sent_ms: short(44)?,
        last_data_received_ms: short(52)?,
        bytes_acked: long(120)?,
        bytes_received: long(128)?,
        bytes_sent: long(200)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_listed_with_cookie_and_limit() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sockets: Vec<DiagSocket> = dump(AF_INET, StateFlags::all(), ExtensionFlags::empty()).unwrap();
        let found = sockets.iter().find(|socket| socket.local == address).unwrap();
        assert!(found.listening && found.cookie != 0 && found.limit > 0);
    }

    #[test]
    fn a_connection_of_this_process_is_listed_with_what_it_has_received() {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        let sockets = connections().unwrap();
        let remote = client.local_addr().unwrap();
        let found = sockets.iter().find(|socket| socket.remote == remote).unwrap();
        let counts = found.counts.unwrap();
        assert_eq!((found.state, counts.bytes_received), (TcpState::Established, 5));
        assert_eq!(counts_of(&[0; 100]), None, "an old kernel tells less");
    }
}
