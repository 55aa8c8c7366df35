//! Facts about the system that a reader of a report asks for: clock, interfaces, settings, counters.
//! Reads `/proc` and asks the kernel once for the state of its clock; changes nothing, judges nothing.

use std::collections::BTreeMap;
use std::fs;

use crate::account::mib::{Counter, Snapshot};
use crate::model::{ClockState, Interface, SystemFacts};
use crate::nginx::discover::Instance;
use crate::probe::namespace;

/// Settings that decide about resets, below `/proc/sys/net`.
const SYSCTLS: [&str; 14] = [
    "core/somaxconn",
    "ipv4/ip_default_ttl",
    "ipv4/ip_local_port_range",
    "ipv4/tcp_abort_on_overflow",
    "ipv4/tcp_fin_timeout",
    "ipv4/tcp_keepalive_time",
    "ipv4/tcp_max_orphans",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_retries2",
    "ipv4/tcp_rfc1337",
    "ipv4/tcp_syn_retries",
    "ipv4/tcp_synack_retries",
    "ipv4/tcp_syncookies",
    "ipv4/tcp_timestamps",
];
/// Longest value that is kept, characters.
const MAX_VALUE: usize = 200;
/// Interfaces that are kept.
const MAX_INTERFACES: usize = 256;

/// The system around these instances of Nginx.
pub fn facts(instances: &[Instance], lockdown: Option<&str>) -> SystemFacts {
    // One process stands for each namespace.
    let namespaces: BTreeMap<u32, u32> = instances.iter().map(|one| (one.netns, one.master)).collect();
    let files = instances.iter().filter_map(|one| one.configuration_file.as_ref());
    SystemFacts {
        lockdown: lockdown.map(str::to_owned),
        clock: clock(),
        interfaces: namespaces.iter().flat_map(|(netns, pid)| interfaces(*netns, *pid)).collect(),
        sysctls: sysctls(&namespaces),
        counters: counters(&namespaces),
        configuration_files: files.map(|path| path.display().to_string()).collect(),
    }
}

/// The state of the clock; `None` where the kernel does not tell.
fn clock() -> Option<ClockState> {
    // SAFETY: `timex` is plain data, for which zero bytes are a value; with `modes` zero the call only reads.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    (state >= 0).then_some(ClockState {
        synchronised: timex.status & libc::STA_UNSYNC == 0,
        estimated_error_us: timex.esterror,
        maximum_error_us: timex.maxerror,
    })
}

fn interfaces(netns: u32, pid: u32) -> Vec<Interface> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    let mut names = of_igmp(&read("igmp"));
    names.extend(of_if_inet6(&read("if_inet6")));
    let one = |(index, name)| Interface { netns, index, name };
    names.into_iter().take(MAX_INTERFACES).map(one).collect()
}

/// `net/ipv4/igmp.c`: a line per interface that begins with its index and name.
fn of_igmp(table: &str) -> BTreeMap<u32, String> {
    let heads = table.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let head = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.trim_end_matches(':').to_owned()))
    };
    heads.filter_map(head).collect()
}

/// `net/ipv6/addrconf.c`: address, index in hexadecimal digits, prefix length, scope, flags, name.
fn of_if_inet6(table: &str) -> BTreeMap<u32, String> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let index = u32::from_str_radix(words.nth(1)?, 16).ok()?;
        Some((index, words.nth(3)?.to_owned()))
    };
    table.lines().filter_map(row).collect()
}

/// `/proc/sys/net` is that of the reader's own namespace, so another one's settings cannot be read here.
fn sysctls(namespaces: &BTreeMap<u32, u32>) -> BTreeMap<String, String> {
    if !namespaces.contains_key(&namespace::own()) {
        return BTreeMap::new();
    }
    let value = |name: &&str| {
        let text = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let value: String = words.join(" ").chars().take(MAX_VALUE).collect();
        Some((format!("net.{}", name.replace('/', ".")), value))
    };
    SYSCTLS.iter().filter_map(value).collect()
}

fn counters(namespaces: &BTreeMap<u32, u32>) -> BTreeMap<String, u64> {
    let snapshots = namespaces.values().filter_map(|pid| Snapshot::of_process(*pid).ok());
    let sum = snapshots.fold(Snapshot::default(), |sum, one| one.plus(&sum));
    Counter::ALL.iter().filter_map(|counter| Some((counter.name(), sum.get(*counter)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_from_both_tables() {
        let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n2\teth0      :     1      V3\n";
        assert_eq!(of_igmp(igmp), BTreeMap::from([(1, "lo".to_owned()), (2, "eth0".to_owned())]));
        let inet6 = "fd000000000000000000000000000001 0c 40 00 80     wan0\nrubbish\n";
        assert_eq!(of_if_inet6(inet6), BTreeMap::from([(12, "wan0".to_owned())]));
    }

    #[test]
    fn this_host_has_a_clock_and_a_loopback_interface() {
        assert!(clock().is_some_and(|state| state.maximum_error_us >= 0));
        let names = interfaces(1, std::process::id());
        assert!(names.iter().any(|one| one.name == "lo" && one.index == 1), "{names:?}");
    }
}
