//! The processes behind upstreams on this host: which socket listens on an upstream's address, and whether it is
//! still the same one. A new socket is a new process (a start, a deployment), none is an end.
//!
//! Only listeners in the network namespace of this process are seen; a server that hands its socket on to a new
//! process (a graceful restart) stays the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::collect::sock_diag::DiagSocket;
use crate::nginx::proc::Proc;

/// Upstreams looked after at most.
const MOST: usize = 1024;
/// Processes searched for the owner of a socket at most.
const MOST_PROCESSES: usize = 20_000;

/// What happened to the process behind an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// It listens no more.
    Ended,
    /// Another socket listens there.
    Started {
        /// The executable is not the one from before, if both are known.
        is_other_program: bool,
    },
}

/// A change behind an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Address of the upstream.
    pub upstream: SocketAddr,
    /// What happened.
    pub happened: Happened,
    /// The process that listens now, or did.
    pub process: Option<Process>,
}

/// A process that listens for an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Executable.
    pub executable: PathBuf,
}

#[derive(Debug, Clone)]
struct Known {
    inode: u32,
    process: Option<Process>,
    listens: bool,
}

/// What listens for the upstreams.
#[derive(Debug, Default)]
pub struct Upstreams {
    known: BTreeMap<SocketAddr, Known>,
}

impl Upstreams {
    /// Takes the listeners of now; `owner` finds the process of a socket by its inode, and is asked only when a
    /// socket is new.
    pub fn update(
        &mut self,
        wanted: &BTreeSet<SocketAddr>,
        listeners: &[DiagSocket],
        owner: impl Fn(u32) -> Option<Process>,
    ) -> Vec<Change> {
        self.known.retain(|upstream, _| wanted.contains(upstream));
        let mut changes = Vec::new();
        for upstream in wanted.iter().take(MOST) {
            match (listeners.iter().find(|socket| serves(socket, *upstream)), self.known.get_mut(upstream)) {
                (Some(socket), None) => {
                    let known = Known { inode: socket.inode, process: owner(socket.inode), listens: true };
                    self.known.insert(*upstream, known);
                }
                (Some(socket), Some(known)) if known.inode != socket.inode => {
                    changes.push(started(*upstream, known, socket.inode, owner(socket.inode)));
                }
                (None, Some(known)) if known.listens => {
                    known.listens = false;
                    let process = known.process.clone();
                    changes.push(Change { upstream: *upstream, happened: Happened::Ended, process });
                }
                _ => {}
            }
        }
        changes
    }
}

fn started(upstream: SocketAddr, known: &mut Known, inode: u32, process: Option<Process>) -> Change {
    let was = known.process.as_ref().map(|process| &process.executable);
    let is = process.as_ref().map(|process| &process.executable);
    let is_other_program = was.zip(is).is_some_and(|(was, is)| was != is);
    *known = Known { inode, process: process.clone(), listens: true };
    Change { upstream, happened: Happened::Started { is_other_program }, process }
}

/// A listener on every address serves those of this host; of them only loopback is sure to be one.
fn serves(socket: &DiagSocket, upstream: SocketAddr) -> bool {
    let any = socket.local.ip().is_unspecified() && upstream.ip().is_loopback();
    socket.local.port() == upstream.port() && (any || socket.local.ip() == upstream.ip())
}

/// The process that holds the socket with this inode; where several share it, the one with the lowest number.
pub fn owner(proc: &Proc, inode: u32) -> Option<Process> {
    let target = PathBuf::from(format!("socket:[{inode}]"));
    let holds = |pid: &u32| proc.descriptors(*pid).values().any(|held| *held == target);
    let mut pids = proc.pids();
    pids.sort_unstable();
    let pid = pids.into_iter().take(MOST_PROCESSES).find(holds)?;
    Some(Process { pid, executable: proc.executable(pid).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, inode: u32) -> DiagSocket {
        let local = address.parse().unwrap();
        DiagSocket {
            local,
            remote: local,
            cookie: 0,
            inode,
            listening: true,
            state: crate::model::TcpState::Listen,
            counts: None,
            queue: 0,
            limit: 0,
        }
    }

    fn wanted() -> BTreeSet<SocketAddr> {
        ["127.0.0.1:8081".parse().unwrap()].into()
    }

    fn process(inode: u32) -> Process {
        let executable = if inode < 3 { "/usr/bin/app" } else { "/usr/bin/app2" };
        Process { pid: inode, executable: executable.into() }
    }

    fn step(upstreams: &mut Upstreams, listeners: &[DiagSocket]) -> Vec<Happened> {
        let changes = upstreams.update(&wanted(), listeners, |inode| Some(process(inode)));
        changes.into_iter().map(|change| change.happened).collect()
    }

    #[test]
    fn starts_and_ends_are_told_once_and_the_first_sight_is_none() {
        let mut upstreams = Upstreams::default();
        assert_eq!(step(&mut upstreams, &[listener("0.0.0.0:8081", 1)]), []);
        assert_eq!(step(&mut upstreams, &[listener("0.0.0.0:8081", 1)]), []);
        assert_eq!(step(&mut upstreams, &[]), [Happened::Ended]);
        assert_eq!(step(&mut upstreams, &[]), []);
        let again = Happened::Started { is_other_program: false };
        assert_eq!(step(&mut upstreams, &[listener("127.0.0.1:8081", 2)]), [again]);
        let other = Happened::Started { is_other_program: true };
        assert_eq!(step(&mut upstreams, &[listener("127.0.0.1:8081", 3)]), [other]);
    }

    #[test]
    fn only_what_serves_the_upstream_counts() {
        let mut upstreams = Upstreams::default();
        assert_eq!(step(&mut upstreams, &[listener("127.0.0.2:8081", 1), listener("0.0.0.0:8082", 2)]), []);
        assert!(upstreams.known.is_empty());
        assert!(!serves(&listener("0.0.0.0:80", 1), "10.0.0.9:80".parse().unwrap()));
        assert!(serves(&listener("10.0.0.9:80", 1), "10.0.0.9:80".parse().unwrap()));
    }

    #[test]
    fn the_owner_of_a_socket_is_found() {
        use std::os::unix::fs::MetadataExt as _;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(socket));
        let inode = u32::try_from(file.metadata().unwrap().ino()).unwrap();
        let process = owner(&Proc::default(), inode).unwrap();
        assert_eq!(process.pid, std::process::id());
        assert!(process.executable.is_absolute());
    }
}
