//! What the kernel says about a namespace: sockets, counters, processes; read through `/proc`.
//!
//! Any process inside the namespace opens the view, so nothing has to be run there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// TCP states as `/proc/net/tcp` prints them.
pub const ESTABLISHED: u8 = 1;
/// A SYN was sent.
pub const SYN_SENT: u8 = 2;
/// Our FIN is acknowledged; `TIME_WAIT` sockets that still miss the peer's FIN are shown as this, too.
pub const FIN_WAIT2: u8 = 5;
/// The peer has closed, we have not.
pub const CLOSE_WAIT: u8 = 8;
/// A listener.
pub const LISTEN: u8 = 10;

/// One line of `/proc/net/tcp` or `tcp6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Our address.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// State, as a number.
    pub state: u8,
    /// Bytes written and not yet acknowledged (for a listener: its limit).
    pub unacknowledged: u32,
    /// Bytes received and not yet read (for a listener: connections not yet accepted).
    pub unread: u32,
    /// How often the oldest segment was sent again.
    pub repeated: u32,
}

impl Socket {
    /// Is it a listener that takes connections to this address? One of IPv6 on all addresses may take those of IPv4.
    pub fn listens_on(&self, address: SocketAddr) -> bool {
        let host = self.local.ip();
        let takes = host == address.ip() || (host.is_unspecified() && host.is_ipv6());
        takes && self.local.port() == address.port() && self.state == LISTEN
    }
}

/// The TCP sockets of the namespace this process lives in.
pub fn sockets(pid: u32) -> Vec<Socket> {
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(socket).collect::<Vec<_>>())
        .collect()
}

fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (unacknowledged, unread) = words.next()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let repeated = number(words.nth(1)?)?;
    let (unacknowledged, unread) = (number(unacknowledged)?, number(unread)?);
    Some(Socket { local, remote, state, unacknowledged, unread, repeated })
}

/// The kernel prints each 32-bit word of an address in the machine's byte order. The IPv4 address of an IPv6 socket
/// is given as what it is.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let words: Vec<u8> = host
        .as_bytes()
        .chunks(8)
        .filter_map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .flat_map(u32::to_ne_bytes)
        .collect();
    let port = u16::from_str_radix(port, 16).ok()?;
    if let Ok(four) = <[u8; 4]>::try_from(words.as_slice()) {
        return Some(SocketAddr::new(Ipv4Addr::from(four).into(), port));
    }
    let sixteen = <[u8; 16]>::try_from(words.as_slice()).ok()?;
    Some(SocketAddr::new(IpAddr::from(Ipv6Addr::from(sixteen)).to_canonical(), port))
}

/// A TCP counter of `/proc/net/netstat` or `/proc/net/snmp`, by its name there.
pub fn counter(pid: u32, name: &str) -> u64 {
    let in_table = |table: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let tcp: Vec<&str> = text.lines().filter(|line| line.starts_with("Tcp")).collect();
        named(&tcp.join("\n"), name)
    };
    in_table("netstat").or_else(|| in_table("snmp")).unwrap_or(0)
}

/// The file comes in pairs of lines: names, then numbers.
fn named(text: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks(2).find_map(|pair| {
        let [names, numbers] = pair else { return None };
        let place = names.split_whitespace().position(|other| other == name)?;
        numbers.split_whitespace().nth(place)?.parse().ok()
    })
}

/// Whether somebody in a process's network namespace listens on this unix socket (`__SO_ACCEPTCON` is set).
pub fn listens_unix(pid: u32, path: &Path) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let path = path.display().to_string();
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.nth(3) == Some("00010000") && words.last() == Some(&path)
    })
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The command name of a process.
pub fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The state letter of a process: `T` is stopped.
pub fn state(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

/// Inode number of a network namespace that has a name.
pub fn namespace_inode(name: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata(Path::new("/run/netns").join(name)).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_machine_is_read_back() {
        let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
        let bound = listener.local_addr().unwrap();
        let ours = sockets(std::process::id()).into_iter().find(|socket| socket.local == bound);
        assert_eq!(ours.map(|socket| socket.state), Some(LISTEN));
    }

    #[test]
    fn an_ipv6_socket_with_an_ipv4_peer_has_its_address() {
        let bound = std::net::TcpListener::bind("[::]:0").unwrap();
        let port = bound.local_addr().unwrap().port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (ours, theirs) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let seen = |socket: &Socket| socket.local == theirs && socket.remote == ours;
        assert!(sockets(std::process::id()).iter().any(seen));
    }

    #[test]
    fn a_line_with_queues() {
        let line = " 3: 0202034D:1F91 0A00034D:9C40 08 00000010:00000020 00:00000000 00000000 0 0 1 1 0 20";
        let socket = socket(line).unwrap();
        assert_eq!((socket.state, socket.unacknowledged, socket.unread), (CLOSE_WAIT, 16, 32));
        assert_eq!(socket.local.port(), 0x1f91);
    }

    #[test]
    fn counters_are_found_by_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 7 9\nIpExt: InOctets\nIpExt: 5\n";
        assert_eq!(named(text, "ListenOverflows"), Some(9));
        assert_eq!(named(text, "InOctets"), Some(5));
        assert_eq!(named(text, "Absent"), None);
    }
}
