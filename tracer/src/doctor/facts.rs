//! What the checks judge: plain facts, gathered at the edge, so that every check can be tried without a host.
//! `None` and empty lists mean: not known; what should have been known and is not stands in `unseen`.

use std::net::SocketAddr;

use serde::Serialize;

pub use crate::model::UnixState;
use crate::model::{HookState, Level};
use crate::nginx::config::tree::Tree;
use crate::output::layout::count;

/// Something that could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why, and what would help.
    pub why: String,
    /// Slugs of the checks that it concerns.
    pub checks: Vec<&'static str>,
}

/// Everything that was gathered.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The kernel as far as the tool needs it.
    pub kernel: KernelFacts,
    /// The host.
    pub host: HostFacts,
    /// Every Nginx that runs.
    pub nginx: Vec<NginxFacts>,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

/// The kernel as far as the tool needs it.
#[derive(Debug, Clone, Default)]
pub struct KernelFacts {
    /// Release.
    pub release: String,
    /// It is older than the oldest that can carry the hooks.
    pub too_old: bool,
    /// Lockdown mode.
    pub lockdown: Option<String>,
    /// It describes its own types.
    pub btf: bool,
    /// Mount point of cgroup v2.
    pub cgroup: Option<String>,
    /// Capabilities this process lacks for the hooks.
    pub missing_capabilities: Vec<String>,
    /// Every hook after a trial; empty when it was not tried.
    pub hooks: Vec<HookState>,
    /// Why no hook could be tried at all.
    pub trial_problem: Option<String>,
}

impl KernelFacts {
    /// One line.
    pub fn summary(&self) -> String {
        let running = self.hooks.iter().filter(|hook| hook.running).count();
        let hooks = match self.hooks.len() {
            0 => "hooks not tried".to_owned(),
            all => format!("{running} of {all} hooks can run"),
        };
        let cgroup = self
            .cgroup
            .as_deref()
            .map_or_else(|| "no cgroup v2".to_owned(), |at| format!("cgroup v2 at {at}"));
        let lockdown = self.lockdown.as_deref().unwrap_or("unknown");
        let btf = if self.btf { "BTF" } else { "no BTF" };
        format!("{}, {hooks}, {btf}, {cgroup}, lockdown {lockdown}", self.release)
    }
}

/// A process that the OOM killer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomKill {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// How long ago, seconds.
    pub ago_s: u64,
}

/// An access that a security module refused to Nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// `SELinux` or `AppArmor`.
    pub module: &'static str,
    /// The record.
    pub record: String,
    /// How often it was seen.
    pub times: u64,
}

/// Facts about the host as a whole.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// Host name.
    pub name: String,
    /// Whether the kernel's clock is kept in step (`adjtimex(2)`, `STA_UNSYNC`).
    pub clock_synchronised: Option<bool>,
    /// Recent victims of the OOM killer, from the kernel's log.
    pub oom_kills: Vec<OomKill>,
    /// OOM kills since boot (`/proc/vmstat`).
    pub oom_total: Option<u64>,
    /// Refused accesses.
    pub denials: Vec<Denial>,
}

/// The connection tracking of a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conntrack {
    /// Entries now.
    pub count: u64,
    /// Entries at most.
    pub max: u64,
    /// Seconds that an established connection without traffic is remembered.
    pub established_s: Option<u64>,
}

/// Settings and counters of a network namespace.
#[derive(Debug, Clone, Default)]
pub struct NetworkFacts {
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_syncookies`.
    pub syncookies: Option<u64>,
    /// `net.ipv4.tcp_abort_on_overflow`.
    pub abort_on_overflow: Option<u64>,
    /// `net.ipv4.ip_local_port_range`.
    pub ports: Option<(u16, u16)>,
    /// Connection tracking, if it is loaded.
    pub conntrack: Option<Conntrack>,
    /// `TcpExtListenOverflows` since the namespace began.
    pub listen_overflows: Option<u64>,
}

/// A listener as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerFacts {
    /// Its address.
    pub address: SocketAddr,
    /// Connections that wait for `accept()`.
    pub queue: u64,
    /// Limit of that queue.
    pub limit: u64,
}

/// A worker as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerFacts {
    /// Its process id.
    pub pid: u32,
    /// Open files.
    pub files: Option<u64>,
    /// Open sockets, which is about what counts against `worker_connections`.
    pub sockets: Option<u64>,
    /// Soft limit of open files.
    pub file_limit: Option<u64>,
}

/// The process behind a local upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUpstream {
    /// The upstream's address.
    pub address: SocketAddr,
    /// Name of the process that listens there.
    pub program: String,
}

/// An idle time after which an upstream was seen to close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredIdle {
    /// The upstream.
    pub address: SocketAddr,
    /// Shortest idle time of a connection it closed while Nginx used it, milliseconds.
    pub idle_ms: u64,
    /// How many such incidents.
    pub times: usize,
}

/// An error.log as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFacts {
    /// Its path, or `syslog:…`, `stderr`.
    pub target: String,
    /// Its level.
    pub level: Option<Level>,
    /// Why it cannot be followed.
    pub problem: Option<String>,
}

/// One running Nginx.
#[derive(Debug, Clone, Default)]
pub struct NginxFacts {
    /// Process id of the master.
    pub master: u32,
    /// Version, if the binary tells.
    pub version: Option<(u32, u32, u32)>,
    /// Its configuration file.
    pub file: Option<String>,
    /// Its configuration.
    pub tree: Tree,
    /// Its workers.
    pub workers: Vec<WorkerFacts>,
    /// Its listeners.
    pub listeners: Vec<ListenerFacts>,
    /// Its network namespace.
    pub network: NetworkFacts,
    /// Connections to each upstream address, those in TIME-WAIT included.
    pub upstream_connections: Vec<(SocketAddr, u64)>,
    /// Unix sockets that upstreams name, by path.
    pub unix_sockets: Vec<(String, UnixState)>,
    /// Upstreams that a process of this host answers for.
    pub local_upstreams: Vec<LocalUpstream>,
    /// Idle times measured by earlier traces.
    pub measured_idle: Vec<MeasuredIdle>,
    /// Its error logs.
    pub error_logs: Vec<LogFacts>,
    /// What could not be read of it.
    pub problems: Vec<String>,
}

impl NginxFacts {
    /// One line.
    pub fn summary(&self) -> String {
        let version = self.version.map_or_else(String::new, |(a, b, c)| format!(", version {a}.{b}.{c}"));
        let file = self.file.as_deref().unwrap_or("configuration not found");
        let workers = count(self.workers.len() as u64, "worker");
        format!("{file}, master {}, {workers}{version}", self.master)
    }

    /// Whether its version is this or a later one; `None` when it is not known.
    pub fn is_at_least(&self, version: (u32, u32, u32)) -> Option<bool> {
        self.version.map(|own| own >= version)
    }
}
