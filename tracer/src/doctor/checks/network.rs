//! Ports and connection tracking of Nginx's network namespace.

use super::{percent, seen};
use crate::doctor::Facts;
use crate::doctor::facts::{Conntrack, NginxFacts};
use crate::doctor::report::{Seen, Severity};
use crate::nginx::config::value::milliseconds;
use crate::output::layout::span;

/// From these parts of a limit on its use is worth a word, percent.
const NEAR: u64 = 60;
const VERY_NEAR: u64 = 85;

/// A range with fewer ports is narrower than the kernel's default by far.
const FEW_PORTS: u64 = 10_000;

fn range(nginx: &NginxFacts) -> Option<(u16, u16, u64)> {
    let (low, high) = nginx.network.ports?;
    Some((low, high, u64::from(high.saturating_sub(low)) + 1))
}

pub(super) fn ports(facts: &Facts) -> Vec<Seen> {
    facts
        .nginx
        .iter()
        .flat_map(|nginx| range(nginx).map(|range| scarce(nginx, range)).unwrap_or_default())
        .collect()
}

fn scarce(nginx: &NginxFacts, (low, high, number): (u16, u16, u64)) -> Vec<Seen> {
    let why = "Each connection to one upstream address takes a port, also for a minute after it was closed; without one \
               connect() fails with (99: Cannot assign requested address)";
    let change = "Keep connections (keepalive in the upstream group), sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\", \
                  or several addresses of the upstream";
    let mut found = Vec::new();
    for (address, used) in &nginx.upstream_connections {
        let part = percent(*used, number);
        if part < NEAR {
            continue;
        }
        let severity = if part >= VERY_NEAR { Severity::Critical } else { Severity::Warning };
        let value = format!("{used} of {number} ports in use ({part} %), TIME-WAIT included");
        found.push(seen(severity, format!("upstream {address}"), value, why, change));
    }
    if found.is_empty() && number < FEW_PORTS {
        let value = format!("net.ipv4.ip_local_port_range {low} {high}: {number} ports");
        found.push(seen(Severity::Warning, format!("Nginx {}", nginx.master), value, why, change));
    }
    found
}

pub(super) fn conntrack_table(facts: &Facts) -> Vec<Seen> {
    let filling = |nginx: &NginxFacts| {
        let Conntrack { count, max, .. } = nginx.network.conntrack?;
        let part = percent(count, max);
        if max == 0 || part < NEAR {
            return None;
        }
        let severity = if part >= VERY_NEAR { Severity::Critical } else { Severity::Warning };
        Some(seen(
            severity,
            format!("network namespace of Nginx {}", nginx.master),
            format!("{count} of {max} entries ({part} %)"),
            "A full table drops the packets of new connections (nf_conntrack: table full): clients and upstreams time out",
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}, or no tracking for Nginx's ports (raw table, NOTRACK)",
                max.saturating_mul(2)
            ),
        ))
    };
    facts.nginx.iter().filter_map(filling).collect()
}

/// The longest time that a connection may be silent by Nginx's own settings.
fn longest_silence(nginx: &NginxFacts) -> Option<(u64, &'static str)> {
    const TIMEOUTS: [&str; 5] = [
        "keepalive_timeout",
        "proxy_read_timeout",
        "grpc_read_timeout",
        "fastcgi_read_timeout",
        "proxy_timeout",
    ];
    let times = TIMEOUTS.iter().flat_map(|name| {
        nginx.tree.named(name).filter_map(|(_, one)| Some((milliseconds(one.arguments.first()?)?, *name)))
    });
    times.max()
}

pub(super) fn conntrack_timeout(facts: &Facts) -> Vec<Seen> {
    let early = |nginx: &NginxFacts| {
        let established = nginx.network.conntrack?.established_s?;
        let (silence, name) = longest_silence(nginx).unwrap_or((75_000, "keepalive_timeout"));
        if established.saturating_mul(1000) >= silence {
            return None;
        }
        Some(seen(
            Severity::Warning,
            format!("network namespace of Nginx {}", nginx.master),
            format!("nf_conntrack_tcp_timeout_established {established} s, {name} {}", span(silence)),
            "A connection that is silent for longer is forgotten by this host's own firewall; what comes later is dropped \
             or answered with a RST",
            format!(
                "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established={}, or so_keepalive / proxy_socket_keepalive on",
                silence / 1000 + 60
            ),
        ))
    };
    facts.nginx.iter().filter_map(early).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{only, with};
    use super::*;

    #[test]
    fn ports_by_upstream_and_by_range() {
        let facts = |range, used| {
            with("", |nginx| {
                nginx.network.ports = Some(range);
                nginx.upstream_connections = vec![("10.0.0.1:80".parse().unwrap(), used)];
            })
        };
        assert_eq!(ports(&facts((32_768, 60_999), 100)), []);
        only(&ports(&facts((32_768, 60_999), 20_000)), Severity::Warning);
        only(&ports(&facts((32_768, 60_999), 27_000)), Severity::Critical);
        assert!(only(&ports(&facts((40_000, 40_999), 10)), Severity::Warning).seen.contains("1000 ports"));
    }

    #[test]
    fn tracking_tables_fill_up() {
        let facts = |count| {
            with("", |nginx| {
                nginx.network.conntrack = Some(Conntrack { count, max: 1000, established_s: None });
            })
        };
        assert_eq!(conntrack_table(&facts(500)), []);
        only(&conntrack_table(&facts(700)), Severity::Warning);
        assert!(
            only(&conntrack_table(&facts(1000)), Severity::Critical).change.contains("nf_conntrack_max=2000")
        );
        assert_eq!(conntrack_table(&with("", |_| {})), []);
    }

    #[test]
    fn tracking_must_outlast_the_longest_silence() {
        let facts = |established| {
            with("http { keepalive_timeout 75s; location /ws { proxy_read_timeout 1h; } }", |nginx| {
                nginx.network.conntrack =
                    Some(Conntrack { count: 0, max: 1, established_s: Some(established) });
            })
        };
        assert_eq!(conntrack_timeout(&facts(432_000)), []);
        assert!(
            only(&conntrack_timeout(&facts(900)), Severity::Warning).seen.contains("proxy_read_timeout 1 h")
        );
    }
}
