//! Where syslog messages are received, and whether an `error_log syslog:server=…` sends there. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Port of `server=` without one (`src/core/ngx_syslog.c`).
const DEFAULT_PORT: u16 = 514;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `udp:ADDR:PORT`.
    Udp(SocketAddr),
    /// `unix:PATH`, a datagram socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads `udp:ADDR:PORT` or `unix:PATH`.
    pub fn read(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Path::new(path).is_absolute().then(|| Self::Unix(PathBuf::from(path)));
        }
        text.strip_prefix("udp:")?.parse().ok().map(Self::Udp)
    }

    /// Whether the target of an `error_log` (`syslog:server=…,tag=…`) sends to this address.
    pub fn receives(&self, target: &str) -> bool {
        let Some(server) = server_of(target) else { return false };
        match self {
            Self::Unix(path) => server.strip_prefix("unix:").is_some_and(|sent| Path::new(sent) == path),
            Self::Udp(address) => with_port(server).is_some_and(|sent| {
                sent.port() == address.port() && (address.ip().is_unspecified() || sent.ip() == address.ip())
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn server_of(target: &str) -> Option<&str> {
    target.strip_prefix("syslog:")?.split(',').find_map(|option| option.strip_prefix("server="))
}

fn with_port(server: &str) -> Option<SocketAddr> {
    let bare = || server.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let local = || server.strip_prefix("localhost").map(|port| format!("127.0.0.1{port}"));
    let named = local().and_then(|text| text.parse().ok());
    let address: Option<SocketAddr> = server.parse().ok().or(named);
    address.or_else(|| bare().map(|ip| SocketAddr::new(ip, DEFAULT_PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_forms_are_read_and_nothing_else() {
        assert_eq!(Address::read("udp:127.0.0.1:5514").unwrap().to_string(), "udp:127.0.0.1:5514");
        assert_eq!(Address::read("unix:/run/a.sock").unwrap().to_string(), "unix:/run/a.sock");
        for wrong in ["udp:127.0.0.1", "unix:a.sock", "tcp:127.0.0.1:1", "127.0.0.1:1", "udp:host:1", ""] {
            assert_eq!(Address::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_target_of_an_error_log_is_recognised() {
        let udp = Address::read("udp:127.0.0.1:514").unwrap();
        assert!(udp.receives("syslog:server=127.0.0.1,tag=nginx"));
        assert!(udp.receives("syslog:facility=local6,server=localhost:514"));
        assert!(!udp.receives("syslog:server=127.0.0.1:515") && !udp.receives("syslog:server=10.0.0.1"));
        assert!(Address::read("udp:[::]:5514").unwrap().receives("syslog:server=[fd00::1]:5514"));
        let unix = Address::read("unix:/dev/log").unwrap();
        assert!(unix.receives("syslog:server=unix:/dev/log,nohostname") && !unix.receives("stderr"));
    }
}
