//! Reads the kernel's TCP counters (RFC 4022 and Linux's own) of one network namespace.
//!
//! The namespace is chosen by a process in it: `/proc/PID/net` shows the counters of that process's
//! namespace. Reads and subtracts; what a difference means is said in [`super::reconcile`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Bytes of a counter file that are read at most. They have about 4 KiB today.
const MAX_FILE: u64 = 64 * 1024;

/// A counter that resets, retransmissions and full listeners can be checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Counter {
    /// `Tcp: OutRsts`: RSTs that the namespace's TCP sent.
    #[serde(rename = "TcpOutRsts")]
    OutRsts,
    /// `Tcp: EstabResets`: connections that went from ESTABLISHED or CLOSE-WAIT straight to CLOSED.
    #[serde(rename = "TcpEstabResets")]
    EstabResets,
    /// `Tcp: AttemptFails`: connections that went from SYN-SENT or SYN-RECEIVED to CLOSED.
    #[serde(rename = "TcpAttemptFails")]
    AttemptFails,
    /// `Tcp: RetransSegs`: segments sent again, SYN and SYN-ACK included.
    #[serde(rename = "TcpRetransSegs")]
    RetransSegs,
    /// `TcpExt: ListenOverflows`: times an accept queue was full.
    #[serde(rename = "TcpExtListenOverflows")]
    ListenOverflows,
    /// `TcpExt: ListenDrops`: packets a listener dropped for any reason.
    #[serde(rename = "TcpExtListenDrops")]
    ListenDrops,
    /// `TcpExt: TCPReqQFullDrop`: SYNs dropped because the SYN queue was full.
    #[serde(rename = "TcpExtTCPReqQFullDrop")]
    ReqQFullDrop,
    /// `TcpExt: TCPAbortOnData`: closed with zero linger, or data came after the close.
    #[serde(rename = "TcpExtTCPAbortOnData")]
    AbortOnData,
    /// `TcpExt: TCPAbortOnClose`: closed with unread data.
    #[serde(rename = "TcpExtTCPAbortOnClose")]
    AbortOnClose,
    /// `TcpExt: TCPAbortOnMemory`: aborted for lack of memory or too many orphans.
    #[serde(rename = "TcpExtTCPAbortOnMemory")]
    AbortOnMemory,
    /// `TcpExt: TCPAbortOnTimeout`: given up after unanswered probes or retransmissions.
    #[serde(rename = "TcpExtTCPAbortOnTimeout")]
    AbortOnTimeout,
    /// `TcpExt: TCPAbortOnLinger`: aborted in FIN-WAIT-2 by `TCP_LINGER2`.
    #[serde(rename = "TcpExtTCPAbortOnLinger")]
    AbortOnLinger,
    /// `TcpExt: TCPAbortFailed`: a RST could not be sent.
    #[serde(rename = "TcpExtTCPAbortFailed")]
    AbortFailed,
    /// `TcpExt: TCPChallengeACK`: challenge ACKs (RFC 5961), among them those for refused RSTs.
    #[serde(rename = "TcpExtTCPChallengeACK")]
    ChallengeAck,
    /// `TcpExt: TCPSYNChallenge`: those of them for a SYN on a live connection.
    #[serde(rename = "TcpExtTCPSYNChallenge")]
    SynChallenge,
    /// `TcpExt: TCPACKSkippedChallenge`: challenge ACKs that the limit per connection held back.
    #[serde(rename = "TcpExtTCPACKSkippedChallenge")]
    SkippedChallenge,
    /// `TcpExt: TCPRetransFail`: retransmissions that did not leave this host, though counted as retransmitted.
    #[serde(rename = "TcpExtTCPRetransFail")]
    RetransFail,
}

impl Counter {
    /// Every counter, in the order it is shown.
    pub const ALL: [Self; 17] = [
        Self::OutRsts,
        Self::EstabResets,
        Self::AttemptFails,
        Self::RetransSegs,
        Self::ListenOverflows,
        Self::ListenDrops,
        Self::ReqQFullDrop,
        Self::AbortOnData,
        Self::AbortOnClose,
        Self::AbortOnMemory,
        Self::AbortOnTimeout,
        Self::AbortOnLinger,
        Self::AbortFailed,
        Self::ChallengeAck,
        Self::SynChallenge,
        Self::SkippedChallenge,
        Self::RetransFail,
    ];

    /// Line of the file (`Tcp` or `TcpExt`) and name in it (`net/ipv4/proc.c`).
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::OutRsts => ("Tcp", "OutRsts"),
            Self::EstabResets => ("Tcp", "EstabResets"),
            Self::AttemptFails => ("Tcp", "AttemptFails"),
            Self::RetransSegs => ("Tcp", "RetransSegs"),
            Self::ListenOverflows => ("TcpExt", "ListenOverflows"),
            Self::ListenDrops => ("TcpExt", "ListenDrops"),
            Self::ReqQFullDrop => ("TcpExt", "TCPReqQFullDrop"),
            Self::AbortOnData => ("TcpExt", "TCPAbortOnData"),
            Self::AbortOnClose => ("TcpExt", "TCPAbortOnClose"),
            Self::AbortOnMemory => ("TcpExt", "TCPAbortOnMemory"),
            Self::AbortOnTimeout => ("TcpExt", "TCPAbortOnTimeout"),
            Self::AbortOnLinger => ("TcpExt", "TCPAbortOnLinger"),
            Self::AbortFailed => ("TcpExt", "TCPAbortFailed"),
            Self::ChallengeAck => ("TcpExt", "TCPChallengeACK"),
            Self::SynChallenge => ("TcpExt", "TCPSYNChallenge"),
            Self::SkippedChallenge => ("TcpExt", "TCPACKSkippedChallenge"),
            Self::RetransFail => ("TcpExt", "TCPRetransFail"),
        }
    }

    /// The name `nstat` uses, for example `TcpOutRsts`.
    pub fn name(self) -> String {
        let (group, name) = self.place();
        format!("{group}{name}")
    }
}

/// A counter file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the kernel's TCP counters from {}: {source}", path.display())]
pub struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// The counters of one namespace at one moment. A counter the kernel does not have is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    values: BTreeMap<Counter, u64>,
}

impl Snapshot {
    /// Reads the counters of the network namespace that process `pid` is in.
    pub fn of_process(pid: u32) -> Result<Self, ReadError> {
        Self::of_directory(&PathBuf::from(format!("/proc/{pid}/net")))
    }

    /// Reads `snmp` and `netstat` in `directory`.
    pub fn of_directory(directory: &Path) -> Result<Self, ReadError> {
        let snmp = read(&directory.join("snmp"))?;
        let netstat = read(&directory.join("netstat"))?;
        Ok(Self::parse(&snmp, &netstat))
    }

    /// Understands the text of `/proc/net/snmp` and `/proc/net/netstat`: a line of names followed by a
    /// line of values, both beginning with the group. What does not fit is left out.
    pub fn parse(snmp: &str, netstat: &str) -> Self {
        let mut table = pairs(snmp);
        table.append(&mut pairs(netstat));
        let values =
            Counter::ALL.into_iter().filter_map(|counter| Some((counter, *table.get(&counter.place())?)));
        Self { values: values.collect() }
    }

    /// The value of a counter.
    pub fn get(&self, counter: Counter) -> Option<u64> {
        self.values.get(&counter).copied()
    }

    /// What was counted since `earlier`. A counter that shrank (another namespace, a wrap) is absent.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let difference =
            |(counter, now): (&Counter, &u64)| Some((*counter, now.checked_sub(earlier.get(*counter)?)?));
        Self { values: self.values.iter().filter_map(difference).collect() }
    }

    /// The differences of several namespaces added up.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (counter, value) in &other.values {
            let sum = self.values.entry(*counter).or_default();
            *sum = sum.saturating_add(*value);
        }
        self
    }
}

fn read(path: &Path) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|source| ReadError { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn pairs(text: &str) -> BTreeMap<(&str, &str), u64> {
    let mut found = BTreeMap::new();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    while let (Some((group, names)), Some((values_group, values))) = (lines.next(), lines.next()) {
        if group != values_group {
            continue;
        }
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // Some values are signed (`MaxConn` is -1); none of ours is.
            if let Ok(value) = value.parse() {
                found.insert((group, name), value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "\
Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn AttemptFails EstabResets RetransSegs OutRsts
Tcp: 1 200 120000 -1 7 46 12 50
";
    const NETSTAT: &str = "\
TcpExt: ListenOverflows ListenDrops TCPAbortOnClose TCPChallengeACK
TcpExt: 3 4 5 6
";

    #[test]
    fn counters_are_found_by_name_whatever_their_place() {
        let snapshot = Snapshot::parse(SNMP, NETSTAT);
        assert_eq!(snapshot.get(Counter::OutRsts), Some(50));
        assert_eq!(snapshot.get(Counter::EstabResets), Some(46));
        assert_eq!(snapshot.get(Counter::ListenDrops), Some(4));
        assert_eq!(snapshot.get(Counter::ChallengeAck), Some(6));
        assert_eq!(snapshot.get(Counter::AbortOnLinger), None);
    }

    #[test]
    fn broken_text_gives_what_can_be_read() {
        assert_eq!(Snapshot::parse("", "\0\nTcp\n:::"), Snapshot::default());
        let short = Snapshot::parse("Tcp: OutRsts RetransSegs\nTcp: 9\n", "TcpExt: ListenDrops\nIpExt: 3\n");
        assert_eq!(short.get(Counter::OutRsts), Some(9));
        assert_eq!(short.get(Counter::RetransSegs), None);
        assert_eq!(short.get(Counter::ListenDrops), None);
    }

    #[test]
    fn a_difference_leaves_out_what_shrank() {
        let earlier = Snapshot::parse("Tcp: OutRsts RetransSegs\nTcp: 40 20\n", NETSTAT);
        let difference = Snapshot::parse(SNMP, NETSTAT).since(&earlier);
        assert_eq!(difference.get(Counter::OutRsts), Some(10));
        assert_eq!(difference.get(Counter::RetransSegs), None, "12 is less than 20");
        assert_eq!(difference.get(Counter::ListenDrops), Some(0));
    }

    #[test]
    fn namespaces_add_up() {
        let one = Snapshot::parse(SNMP, "");
        assert_eq!(one.clone().plus(&one).get(Counter::OutRsts), Some(100));
    }

    #[test]
    fn names_are_those_of_nstat() {
        assert_eq!(Counter::OutRsts.name(), "TcpOutRsts");
        for counter in Counter::ALL {
            assert_eq!(serde_json::to_value(counter).unwrap(), counter.name());
        }
    }

    #[test]
    fn this_kernel_has_every_counter() {
        let snapshot = Snapshot::of_process(std::process::id()).unwrap();
        let absent: Vec<_> =
            Counter::ALL.into_iter().filter(|counter| snapshot.get(*counter).is_none()).collect();
        assert_eq!(absent, []);
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let error = Snapshot::of_directory(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/snmp: No such file"), "{error}");
    }
}
