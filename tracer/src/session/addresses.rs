//! Addresses of a network namespace, from `/proc/PID/net`: a RST from one of them comes from this host.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of the namespace that process `pid` lives in. What cannot be read is left out.
pub fn of_process(pid: u32) -> BTreeSet<IpAddr> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    let mut addresses = ipv4(&read("fib_trie"));
    addresses.extend(ipv6(&read("if_inet6")));
    addresses
}

/// Local addresses are the leaves of the trie that are followed by `/32 host LOCAL`.
fn ipv4(trie: &str) -> BTreeSet<IpAddr> {
    let mut leaf = None;
    let mut addresses = BTreeSet::new();
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            addresses.extend(leaf.map(IpAddr::V4));
        }
    }
    addresses
}

/// Each line begins with the address as 32 hexadecimal digits.
fn ipv6(table: &str) -> BTreeSet<IpAddr> {
    let address = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    table.lines().filter_map(address).map(|bits| IpAddr::V6(Ipv6Addr::from(bits))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_addresses_are_local() {
        let trie = "Main:\n  +-- 10.1.0.0/24 2 0 2\n     |-- 10.1.0.0\n        /24 link UNICAST\n     |-- 10.1.0.7\n        /32 host LOCAL\n     |-- 10.1.0.255\n        /32 link BROADCAST\n";
        assert_eq!(ipv4(trie).into_iter().collect::<Vec<_>>(), ["10.1.0.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn ipv6_addresses_are_hexadecimal_digits() {
        let table = "fd000000000000000000000000000001 02 40 00 80     eth0\nrubbish\n";
        assert_eq!(ipv6(table).into_iter().collect::<Vec<_>>(), ["fd00::1".parse::<IpAddr>().unwrap()]);
    }
}
