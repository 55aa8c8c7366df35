//! Watching what listens on a port, for `rstscope correlate`: on the host of an upstream there is no Nginx to find.
//! Stands in for one where the session asks for it, and keeps an eye on connections that stand still, because healthy
//! traffic makes no event and what never arrived makes none either. Judges nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use jiff::tz::TimeZone;

use crate::collect::sock_diag::{self, DiagSocket, TcpCounts};
use crate::collect::socket_at;
use crate::model::{Event, EventKind, Mono, NginxConfig, Side, Socket, Task, TcpState};
use crate::nginx::config::Configuration;
use crate::nginx::discover::Instance;
use crate::probe::namespace;

/// Silence from which a connection stands still, milliseconds: a look is a second after the one before.
const STILL_MS: u32 = 900;
/// Connections remembered; more are not looked at, and counted.
const MOST: usize = 50_000;

/// What listens on these ports, in the form in which the session knows an Nginx.
pub fn instance(ports: &[u16]) -> Instance {
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let listeners: Vec<SocketAddr> =
        ports.iter().flat_map(|port| any.map(|address| SocketAddr::new(address, *port))).collect();
    let config = NginxConfig {
        listeners: listeners.iter().map(|listener| (*listener, None)).collect(),
        ..NginxConfig::default()
    };
    Instance {
        master: std::process::id(),
        workers: Vec::new(),
        netns: namespace::own(),
        root: PathBuf::from("/"),
        error_logs: Vec::new(),
        access_logs: Vec::new(),
        listeners,
        config,
        configuration_file: None,
        configuration: Configuration::default(),
        zone: TimeZone::UTC,
        pids: BTreeMap::new(),
        problems: Vec::new(),
    }
}

/// Connections of the watched ports as they were when they were last told of.
#[derive(Debug, Default)]
pub struct Standing {
    known: HashMap<u64, Seen>,
    /// Connections that were not looked at because there were too many.
    beyond: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    state: TcpState,
    received: u64,
    acked: u64,
    sent: u64,
    told: bool,
}

impl Standing {
    /// Connections that stand still and were not told of as they are now. What cannot be listed is left out.
    pub fn look(&mut self, ports: &[u16], now: Mono) -> Vec<Event> {
        if ports.is_empty() {
            return Vec::new();
        }
        self.take(&sock_diag::connections().unwrap_or_default(), ports, now)
    }

    /// Looks at connections that were left out, as a loss of the session.
    pub fn lost(&self) -> Option<(String, u64)> {
        (self.beyond > 0).then(|| ("standing".to_owned(), self.beyond))
    }

    fn take(&mut self, sockets: &[DiagSocket], ports: &[u16], now: Mono) -> Vec<Event> {
        let watched = |socket: &&DiagSocket| {
            // What is left of a closed connection has no counters either, and tells nothing.
            let tells = socket.counts.is_some() || socket.state == TcpState::SynRecv;
            ports.contains(&socket.local.port()) && socket.cookie != 0 && tells
        };
        let before = std::mem::take(&mut self.known);
        let mut events = Vec::new();
        for socket in sockets.iter().filter(watched) {
            if self.known.len() >= MOST {
                self.beyond += 1;
                continue;
            }
            let mut seen = seen(socket);
            let last = before.get(&socket.cookie);
            let same = last.is_some_and(|last| Seen { told: false, ..*last } == seen);
            let told = same && last.is_some_and(|last| last.told);
            // A request for a connection has no counters: it stands still when it is still there at the next look.
            let still = socket.counts.map_or(same, |counts| is_still(&counts));
            if still && !told {
                events.push(event(socket, now));
            }
            seen.told = still;
            self.known.insert(socket.cookie, seen);
        }
        events
    }
}

fn is_still(counts: &TcpCounts) -> bool {
    counts.last_data_sent_ms.min(counts.last_data_received_ms) >= STILL_MS
}

fn seen(socket: &DiagSocket) -> Seen {
    let counts = socket.counts.unwrap_or_default();
    let (received, acked, sent) = (counts.bytes_received, counts.bytes_acked, counts.bytes_sent);
    Seen { state: socket.state, received, acked, sent, told: false }
}

fn event(diag: &DiagSocket, now: Mono) -> Event {
    let counts = diag.counts.unwrap_or_default();
    let socket = Socket {
        side: Side::Client,
        netns: namespace::own(),
        cookie: diag.cookie,
        state: diag.state,
        bytes_sent: counts.bytes_sent,
        bytes_acked: counts.bytes_acked,
        bytes_received: counts.bytes_received,
        segments_unacked: counts.unacked,
        retransmits_pending: u32::from(counts.retransmits),
        last_sent_ms: diag.counts.map(|counts| counts.last_data_sent_ms),
        last_received_ms: diag.counts.map(|counts| counts.last_data_received_ms),
        ..socket_at(diag.local, diag.remote)
    };
    let task = Task::nobody();
    let netns = socket.netns;
    Event {
        time: now,
        kind: EventKind::Standing,
        socket: Some(socket),
        packet: None,
        task,
        netns,
        elsewhere: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(received: u64, silent: u32) -> DiagSocket {
        let counts = TcpCounts {
            bytes_received: received,
            last_data_sent_ms: silent,
            last_data_received_ms: silent,
            ..TcpCounts::default()
        };
        DiagSocket {
            local: "10.0.0.2:8080".parse().unwrap(),
            remote: "10.0.0.1:40000".parse().unwrap(),
            cookie: 7,
            inode: 1,
            listening: false,
            state: TcpState::Established,
            counts: Some(counts),
            queue: 0,
            limit: 0,
        }
    }

    fn told(standing: &mut Standing, socket: DiagSocket) -> usize {
        standing.take(&[socket], &[8080], Mono(1)).len()
    }

    #[test]
    fn a_connection_is_told_of_once_in_each_silence() {
        let mut standing = Standing::default();
        assert_eq!(told(&mut standing, socket(10, 100)), 0);
        assert_eq!(told(&mut standing, socket(10, 1_100)), 1);
        assert_eq!(told(&mut standing, socket(10, 2_100)), 0);
        assert_eq!(told(&mut standing, socket(20, 50)), 0);
        assert_eq!(told(&mut standing, socket(20, 1_050)), 1);
        assert_eq!(standing.take(&[socket(30, 5_000)], &[80], Mono(1)), [], "another port");
    }

    #[test]
    fn a_half_open_connection_stands_still_when_it_is_seen_twice() {
        let half = DiagSocket { state: TcpState::SynRecv, counts: None, ..socket(0, 0) };
        let mut standing = Standing::default();
        assert_eq!(told(&mut standing, half.clone()), 0);
        assert_eq!(told(&mut standing, half.clone()), 1);
        assert_eq!(told(&mut standing, half), 0);
    }

    #[test]
    fn what_listens_on_a_port_stands_in_for_an_nginx() {
        let instance = instance(&[8080]);
        assert_eq!(instance.listeners.len(), 2);
        assert_eq!(instance.netns, namespace::own());
    }
}
