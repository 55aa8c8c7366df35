//! A scenario's place on a bench: its addresses and ports, and the texts of the scenario filled in with them.

use super::net::Family;
use super::nginx::{Level, Servers};
use super::scenario::{Expect, Place, Scenario};
use std::net::{IpAddr, SocketAddr};

/// Port of a second server of an upstream.
pub const BACKUP: u16 = 8081;

/// A scenario in one family and log level, with the addresses it has on its bench.
#[derive(Clone)]
pub struct Seat {
    /// Its number on the bench; addresses and ports follow from it.
    pub number: u8,
    /// What is played.
    pub scenario: &'static Scenario,
    /// In which family.
    pub family: Family,
    /// At which level of the error log.
    pub level: Level,
    /// Inode of the Nginx host's network namespace, once it is laid.
    pub namespace: Option<u64>,
}

impl Seat {
    /// Where Nginx listens for this scenario.
    pub fn listener(&self) -> SocketAddr {
        SocketAddr::new(self.family.web(), 8000 + u16::from(self.number))
    }

    /// The upstream of this scenario.
    pub fn upstream(&self) -> SocketAddr {
        match self.scenario.place {
            Place::Remote => SocketAddr::new(self.family.upstream(self.number), 8080),
            Place::Local => SocketAddr::new(self.family.loopback(), 9000 + u16::from(self.number)),
        }
    }

    /// The client of this scenario.
    pub fn client(&self) -> IpAddr {
        self.family.client(self.number)
    }

    /// What must be reported of it.
    pub fn expected(&self) -> &'static [Expect] {
        self.scenario.expected_at(self.level)
    }

    /// Its server blocks.
    pub fn servers(&self, root: &str) -> Servers {
        let placed = |text| self.placed(text, root);
        Servers { http: placed(self.scenario.servers), streams: placed(self.scenario.streams) }
    }

    fn placed(&self, text: &str, root: &str) -> String {
        self.fill(text).replace("@NAME@", &format!("seat{}", self.number)).replace("@ROOT@", root)
    }

    /// Arguments of the tracer beside the ordinary ones.
    pub fn arguments(&self) -> Vec<String> {
        self.scenario.arguments.iter().map(|argument| self.fill(argument)).collect()
    }

    fn fill(&self, text: &str) -> String {
        let (listener, upstream) = (self.listener(), self.upstream());
        text.replace("@LISTEN@", &listener.to_string())
            .replace("@FIXTURES@", &super::program::fixtures().display().to_string())
            .replace("@LISTEN_PORT@", &listener.port().to_string())
            .replace("@UPSTREAM@", &upstream.to_string())
            .replace("@BACKUP@", &SocketAddr::new(upstream.ip(), BACKUP).to_string())
            .replace("@MAPPED_UPSTREAM@", &mapped(upstream).to_string())
    }
}

/// The IPv6 address that stands for an IPv4 address.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(host) => SocketAddr::new(host.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
