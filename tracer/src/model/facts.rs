//! Facts about the host, its processes and Nginx's configuration, gathered at the edge and handed to the judge.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Mono;

/// Name among [`SystemFacts::counters`] of the connections of Nginx that a session saw.
pub const CONNECTIONS_SEEN: &str = "RstscopeConnections";

/// State of one kernel hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookState {
    /// Name of the hook, for example `tcp_receive_reset`.
    pub name: String,
    /// It is attached.
    pub running: bool,
    /// Why it is not running, or not in its best form, in the kernel's words as far as they help.
    pub problem: Option<String>,
    /// The evidence lost by that; of a hook that runs in its best form, what would be lost without it.
    pub lost_evidence: String,
}

impl HookState {
    /// Whether it sees less than it could.
    pub fn sees_less(&self) -> bool {
        !self.running || self.problem.is_some()
    }
}

/// Events lost so far, per hand-over. Counters only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Losses {
    /// Hand-over (a hook's name for a full ring, `channel`, `log`, …) to number lost.
    pub by_handover: BTreeMap<String, u64>,
}

/// Losses that a session was told of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LossReport {
    /// Everything so far.
    #[serde(flatten)]
    pub losses: Losses,
    /// When they were read, where a session may have been behind that: what it had not taken yet may be part of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Mono>,
}

impl From<Losses> for LossReport {
    fn from(losses: Losses) -> Self {
        Self { losses, read: None }
    }
}

impl Losses {
    /// Everything lost.
    pub fn total(&self) -> u64 {
        self.by_handover.values().sum()
    }
}

/// Facts about a process, read from `/proc` while it lived.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Process id.
    pub pid: u32,
    /// Executable path.
    pub exe: Option<String>,
    /// Container id, from the cgroup path.
    pub container: Option<String>,
    /// systemd unit, from the cgroup path.
    pub unit: Option<String>,
    /// Path of its control group, of cgroup v2 where the process is in one. Not in recordings before 0.3.
    #[serde(default)]
    pub cgroup: Option<String>,
}

/// What the judge wants to know of Nginx's configuration. `None` means: not found, the default holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NginxConfig {
    /// `proxy_connect_timeout` values seen, milliseconds.
    pub connect_timeouts_ms: Vec<u64>,
    /// `proxy_read_timeout` values seen, milliseconds.
    pub read_timeouts_ms: Vec<u64>,
    /// How long clients are waited for, milliseconds: `client_header_timeout`, `client_body_timeout`, `send_timeout` and
    /// their default. Empty where no configuration was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_timeouts_ms: Vec<u64>,
    /// `keepalive_timeout` of upstream groups, milliseconds.
    pub upstream_keepalive_timeouts_ms: Vec<u64>,
    /// `worker_shutdown_timeout` values seen, milliseconds; zero, which sets no limit, is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shutdown_timeouts_ms: Vec<u64>,
    /// `reset_timedout_connection on` stands somewhere.
    pub reset_timedout_connection: bool,
    /// `lingering_close off` stands somewhere.
    pub lingering_close_off: bool,
    /// `set_real_ip_from` or `proxy_protocol` stands somewhere: `client:` may not be the end of a connection.
    pub real_ip: bool,
    /// Upstream addresses named in the configuration.
    pub upstreams: Vec<SocketAddr>,
    /// Listen addresses, with the `backlog` where one is set.
    pub listeners: Vec<(SocketAddr, Option<u32>)>,
    /// Listen addresses of HTTP, each with whether a server speaks TLS there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_listeners: Vec<(SocketAddr, bool)>,
    /// Listen addresses where a server speaks HTTP/2, if the client wishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http2_listeners: Vec<SocketAddr>,
    /// Files or directives that could not be read.
    pub problems: Vec<String>,
    /// The directives that bear on resets, as they stand in the files. The judge does not look at them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excerpt: Vec<ConfigLine>,
}

/// A directive of Nginx's configuration and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigLine {
    /// File, inside the root of the process.
    pub file: String,
    /// Number of the line in it, from 1.
    pub line: u32,
    /// The blocks around, outermost first.
    pub place: String,
    /// The directive without its semicolon.
    pub text: String,
}

/// What is known of the observing host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Hooks and what is lost without those that do not run.
    pub hooks: Vec<HookState>,
    /// At least one error.log of level `error` or lower is followed, so that a missing line means something.
    pub follows_error_log: bool,
    /// Addresses of this host, of every namespace looked at.
    pub local_addresses: Vec<std::net::IpAddr>,
    /// Nginx's configuration.
    pub nginx: NginxConfig,
    /// The inputs were made of a capture, not by this host's kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureFacts>,
    /// Ports whose listeners are watched for `rstscope correlate`, where no Nginx is: what happens there is no
    /// incident of Nginx, and nothing is judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observes: Vec<u16>,
    /// What a reader of the proof wants to know of the system. The judge does not look at it.
    #[serde(default)]
    pub system: SystemFacts,
}

/// What the judge has to know of the capture it looks through.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CaptureFacts {
    /// Its files.
    pub files: Vec<String>,
    /// Packets that the capturing system says it lost.
    pub dropped: u64,
    /// The same packets were captured at several places of the path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub several_places: bool,
}

/// The system around Nginx, for the reader of a report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SystemFacts {
    /// Mode of kernel lockdown, where it can be read.
    pub lockdown: Option<String>,
    /// The clock and what steers it.
    pub clock: Option<ClockState>,
    /// Network interfaces of the watched namespaces.
    pub interfaces: Vec<Interface>,
    /// Settings below `/proc/sys/net` that decide about resets, by name and value.
    pub sysctls: BTreeMap<String, String>,
    /// The kernel's counters (`nstat` names), added up over the watched namespaces.
    pub counters: BTreeMap<String, u64>,
    /// Main configuration files of the Nginx found.
    pub configuration_files: Vec<String>,
}

/// State of the system clock, from `adjtimex(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// The kernel holds the clock for synchronised (`STA_UNSYNC` is not set).
    pub synchronised: bool,
    /// `esterror`: estimated error, microseconds.
    pub estimated_error_us: i64,
    /// `maxerror`: largest possible error, microseconds.
    pub maximum_error_us: i64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Index in that namespace.
    pub index: u32,
    /// Name.
    pub name: String,
}

impl HostFacts {
    /// Whether the named hook runs.
    pub fn has_hook(&self, name: &str) -> bool {
        self.hooks.iter().any(|hook| hook.name == name && hook.running)
    }

    /// Whether the named hook is known not to run.
    pub fn misses(&self, name: &str) -> bool {
        self.hooks.iter().any(|hook| hook.name == name && !hook.running)
    }

    /// Whether a RST is seen that a kernel of this host answers a segment with for which it has no socket: not where
    /// packets cannot be read, or drops come without a reason.
    pub fn sees_answers(&self) -> bool {
        !self.misses("kfree_skb")
    }
}
