//! Settings and sockets of a network namespace. `/proc/sys/net` shows the namespace of the thread that reads it, so a
//! thread of its own enters that of Nginx.

use std::fs;
use std::path::PathBuf;

use super::Notes;
use crate::account::mib::{Counter, Snapshot};
use crate::doctor::facts::{Conntrack, NetworkFacts};
use crate::probe::namespace::inside;

/// Checks that need the settings of the namespace.
const CHECKS: [&str; 7] = [
    "listen_backlog",
    "listen_syn_queue",
    "listen_abort",
    "listen_overflows",
    "ephemeral_ports",
    "conntrack_table",
    "conntrack_timeout",
];

/// Reads the settings of the namespace that a process is in.
pub(super) fn facts(pid: u32, notes: &mut Notes) -> NetworkFacts {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let mut facts = match inside(&path, "read its settings", || Ok(settings())) {
        Ok(facts) => facts,
        Err(error) => {
            let why = format!("{error}; run it as root");
            notes.add("network settings", why, &CHECKS);
            return NetworkFacts::default();
        }
    };
    facts.listen_overflows =
        Snapshot::of_process(pid).ok().and_then(|snapshot| snapshot.get(Counter::ListenOverflows));
    facts
}

fn settings() -> NetworkFacts {
    NetworkFacts {
        somaxconn: number("net/core/somaxconn"),
        max_syn_backlog: number("net/ipv4/tcp_max_syn_backlog"),
        syncookies: number("net/ipv4/tcp_syncookies"),
        abort_on_overflow: number("net/ipv4/tcp_abort_on_overflow"),
        ports: ports(),
        conntrack: conntrack(),
        listen_overflows: None,
    }
}

fn text(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()
}

fn number(name: &str) -> Option<u64> {
    text(name)?.trim().parse().ok()
}

fn ports() -> Option<(u16, u16)> {
    let text = text("net/ipv4/ip_local_port_range")?;
    let mut words = text.split_ascii_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn conntrack() -> Option<Conntrack> {
    Some(Conntrack {
        count: number("net/netfilter/nf_conntrack_count")?,
        max: number("net/netfilter/nf_conntrack_max")?,
        established_s: number("net/netfilter/nf_conntrack_tcp_timeout_established"),
    })
}
