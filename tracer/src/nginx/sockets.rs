//! The TCP sockets of a set of processes: descriptors that are sockets, matched by inode with `/proc/PID/net/tcp`
//! and `tcp6`, which show the network namespace of that process. No namespace is entered.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::proc::Proc;
use crate::model::Side;

/// Most bytes read of one table; about a million connections.
const TABLE_LIMIT: u64 = 256 * 1024 * 1024;

/// Bytes read at once.
const BUFFER: usize = 64 * 1024;

/// `TCP_LISTEN` (`include/net/tcp_states.h`).
const LISTEN: u8 = 0x0A;

/// A TCP socket of Nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpSocket {
    /// Local address, IPv4-mapped addresses normalised.
    pub local: SocketAddr,
    /// Remote address, IPv4-mapped addresses normalised.
    pub remote: SocketAddr,
    /// State number (`include/net/tcp_states.h`).
    pub state: u8,
    /// Inode of the socket.
    pub inode: u64,
}

/// The sockets of one Nginx.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sockets {
    /// Addresses it listens on.
    pub listeners: Vec<SocketAddr>,
    /// Its connections, with the side each belongs to.
    pub connections: Vec<(Side, TcpSocket)>,
}

/// Listening sockets by network namespace. Reading a table costs milliseconds on a large host (the kernel walks its
/// whole hash table), so each namespace is read once for all its processes.
#[derive(Debug, Default)]
pub struct Listening {
    by_namespace: HashMap<u32, Vec<TcpSocket>>,
}

impl Listening {
    /// The addresses that processes of one network namespace listen on.
    pub fn of_processes(&mut self, proc: &Proc, netns: u32, pids: &[u32]) -> Vec<SocketAddr> {
        let Some(first) = pids.first() else { return Vec::new() };
        let inodes: HashSet<u64> = pids.iter().flat_map(|pid| socket_inodes(proc, *pid)).collect();
        let rows = self
            .by_namespace
            .entry(netns)
            .or_insert_with(|| read_tables(proc, *first, |row| row.state == LISTEN));
        sort(rows.iter().filter(|row| inodes.contains(&row.inode))).listeners
    }
}

/// Reads the sockets of processes that share a network namespace.
pub fn of_processes(proc: &Proc, pids: &[u32]) -> Sockets {
    let Some(first) = pids.first() else { return Sockets::default() };
    let inodes: HashSet<u64> = pids.iter().flat_map(|pid| socket_inodes(proc, *pid)).collect();
    let all = read_tables(proc, *first, |row| inodes.contains(&row.inode));
    sort(all.iter())
}

fn read_tables(proc: &Proc, pid: u32, is_wanted: impl Fn(&TcpSocket) -> bool) -> Vec<TcpSocket> {
    let mut rows = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        rows.extend(read_table(&proc.path(pid, table)).filter(&is_wanted));
    }
    rows
}

/// Inode numbers of the sockets a process holds.
fn socket_inodes(proc: &Proc, pid: u32) -> Vec<u64> {
    let descriptors = proc.descriptors(pid);
    descriptors.values().filter_map(|target| socket_inode(target)).collect()
}

fn socket_inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn read_table(path: &Path) -> impl Iterator<Item = TcpSocket> {
    let lines =
        File::open(path).ok().map(|file| BufReader::with_capacity(BUFFER, file.take(TABLE_LIMIT)).lines());
    lines.into_iter().flatten().skip(1).map_while(Result::ok).filter_map(|line| row(&line))
}

/// Columns: number, local, remote, state, queues, timer, retransmits, uid, timeout, inode.
fn row(line: &str) -> Option<TcpSocket> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let local = address(columns.next()?)?;
    let remote = address(columns.next()?)?;
    let state = u8::from_str_radix(columns.next()?, 16).ok()?;
    let inode = columns.nth(5)?.parse().ok()?;
    Some(TcpSocket { local, remote, state, inode })
}

/// The kernel prints each 32-bit word of an address in host byte order, and the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = host.as_bytes().chunks(8).map(word).collect();
    let ip = match words?.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(*word)),
        words => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
    };
    Some(SocketAddr::new(ip, port))
}

fn word(digits: &[u8]) -> Option<[u8; 4]> {
    let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some(value.to_ne_bytes())
}

/// A connection whose local port is listened on came from a client; Nginx opened the others.
fn sort<'a>(all: impl Iterator<Item = &'a TcpSocket>) -> Sockets {
    let (listening, connected): (Vec<&TcpSocket>, Vec<_>) = all.partition(|socket| socket.state == LISTEN);
    let mut listeners: Vec<SocketAddr> = listening.iter().map(|socket| socket.local).collect();
    listeners.sort_unstable();
    listeners.dedup();
    let connections = connected.into_iter().map(|socket| (side(socket.local, &listeners), *socket)).collect();
    Sockets { listeners, connections }
}

/// Which side a connection of Nginx is on.
pub fn side(local: SocketAddr, listeners: &[SocketAddr]) -> Side {
    let accepts = |listener: &SocketAddr| {
        listener.port() == local.port() && (listener.ip().is_unspecified() || listener.ip() == local.ip())
    };
    if listeners.iter().any(accepts) { Side::Client } else { Side::Upstream }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn rows_are_read_and_mapped_addresses_normalised() {
        let ipv4 = "   0: 0100007F:6DB0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 216714 1 0 100";
        let found = row(ipv4).expect("a row");
        assert_eq!(
            (found.local.to_string().as_str(), found.state, found.inode),
            ("127.0.0.1:28080", LISTEN, 216_714)
        );
        let mapped = "0000000000000000FFFF00000100007F:0050";
        assert_eq!(address(mapped).map(|address| address.to_string()).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(address("00000000000000000000000001000000:0050"), "[::1]:80".parse().ok());
        assert_eq!(row("garbage"), None);
    }

    #[test]
    fn the_listen_set_decides_the_side() {
        let listeners = ["0.0.0.0:80".parse().expect("address"), "10.0.0.1:81".parse().expect("address")];
        let side_of = |text: &str| side(text.parse().expect("address"), &listeners);
        assert_eq!(side_of("10.0.0.9:80"), Side::Client);
        assert_eq!(side_of("10.0.0.1:81"), Side::Client);
        assert_eq!(side_of("10.0.0.2:81"), Side::Upstream);
        assert_eq!(side_of("10.0.0.1:40000"), Side::Upstream);
    }

    #[test]
    fn this_process_is_found_listening() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let sockets = of_processes(&Proc::default(), &[std::process::id()]);
        let address = listener.local_addr().expect("address");
        assert!(sockets.listeners.contains(&address));
        let proc = Proc::default();
        let netns = proc.net_namespace(std::process::id()).expect("namespace");
        let listening = Listening::default().of_processes(&proc, netns, &[std::process::id()]);
        assert!(listening.contains(&address));
        assert_eq!(Listening::default().of_processes(&proc, netns, &[]), []);
    }
}
