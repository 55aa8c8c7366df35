//! Addresses of one connection, always from Nginx's point of view.
//! Does not know sequence numbers or cookies; two connections may use one tuple after another.

use std::net::{IpAddr, SocketAddr};

use crate::model::Socket;

/// Local and remote address as Nginx sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Nginx's address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
}

impl Tuple {
    /// The tuple of two addresses, IPv4-mapped ones normalised.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local: canonical(local), remote: canonical(remote) }
    }

    /// The tuple of a socket: as it stands for Nginx's own, turned round for the other end's.
    pub fn of(socket: &Socket) -> Self {
        let own = Self::new(socket.local, socket.remote);
        if socket.side.is_nginx() { own } else { own.reversed() }
    }

    /// The same connection seen from the other end.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }
}

/// Writes `::ffff:192.0.2.1` as `192.0.2.1`.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Whether a listener at `listener` takes connections to `address`.
pub fn listens_on(listener: SocketAddr, address: SocketAddr) -> bool {
    let (listener, address) = (canonical(listener), canonical(address));
    listener.port() == address.port() && (listener.ip().is_unspecified() || listener.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_written_as_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:80".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "192.0.2.1:80");
    }

    #[test]
    fn a_wildcard_listener_takes_every_address_of_its_port() {
        let wildcard = "0.0.0.0:80".parse().unwrap();
        assert!(listens_on(wildcard, "192.0.2.1:80".parse().unwrap()));
        assert!(!listens_on(wildcard, "192.0.2.1:81".parse().unwrap()));
        assert!(!listens_on("192.0.2.2:80".parse().unwrap(), "192.0.2.1:80".parse().unwrap()));
    }
}
