//! Finds every Nginx that runs: processes, namespaces, sockets, log files, configuration, time zone, in one value.
//! Reads `/proc` and files; changes, executes and resolves nothing.

mod build;
mod container;
mod location;
mod logs;
mod scout;
mod zone;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::config::{self, Configuration};
use super::proc::Proc;
use super::process::{self, Process, Role};
use super::sockets::{self, Listening, Sockets};
use crate::model::NginxConfig;

pub use logs::{LogFile, LogKind};
pub use scout::Scout;

/// One running Nginx: a master and its workers, or a single process.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Host pid of the master, or of the single process.
    pub master: u32,
    /// Host pids of the processes that own connections; the master itself when it is the only process.
    pub workers: Vec<u32>,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Root of its mount namespace, as this process can open it.
    pub root: PathBuf,
    /// Error logs that can be followed.
    pub error_logs: Vec<LogFile>,
    /// Access logs.
    pub access_logs: Vec<LogFile>,
    /// Addresses listened on, from the sockets.
    pub listeners: Vec<SocketAddr>,
    /// What the judge wants to know of the configuration.
    pub config: NginxConfig,
    /// Its main file, inside `root`.
    pub configuration_file: Option<PathBuf>,
    /// The configuration with its log formats.
    pub configuration: Configuration,
    /// Time zone of the log's time stamps.
    pub zone: TimeZone,
    /// Pid as printed in the log to host pid, workers that are gone included.
    pub pids: BTreeMap<u32, u32>,
    /// What could not be found out.
    pub problems: Vec<String>,
}

/// Pids remembered per instance: reloads bring new workers, and lines of old ones may still come.
const PIDS_LIMIT: usize = 65_536;

impl Instance {
    /// The host pid of a pid that stands in the log.
    pub fn host_pid(&self, printed: u32) -> Option<u32> {
        self.pids.get(&printed).copied()
    }

    /// Every process that may write to the log or own a connection.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = vec![self.master];
        pids.extend(self.workers.iter().filter(|pid| **pid != self.master));
        pids
    }

    /// Looks which workers there are now; cheap enough for every second. True if they changed.
    /// `None` when the master is gone.
    fn refresh_workers_in(&mut self, proc: &Proc) -> Option<bool> {
        proc.status(self.master)?;
        let was_alone = self.workers == [self.master];
        // A master that has not set its title yet was taken for one that runs alone.
        if was_alone && process::role(proc, self.master) != Some(Role::Master) {
            return Some(false);
        }
        let found = process::workers(proc, self.master);
        let mut workers: Vec<u32> = found.iter().map(|worker| worker.pid).collect();
        workers.sort_unstable();
        self.remember(&found);
        let changed = workers != self.workers;
        self.workers = workers;
        Some(changed)
    }

    /// The sockets its processes hold now.
    pub fn sockets(&self) -> Sockets {
        sockets::of_processes(&Proc::default(), &self.processes())
    }

    /// Those that run now always find room, also where their numbers have begun anew.
    fn remember(&mut self, processes: &[Process]) {
        while self.pids.len() + processes.len() > PIDS_LIMIT && self.pids.pop_first().is_some() {}
        self.pids.extend(processes.iter().map(|process| (process.own_pid, process.pid)));
    }
}

/// Every Nginx, or the one that `pid` belongs to, or those of one network namespace.
pub fn discover(pid: Option<u32>, netns: Option<u32>) -> Vec<Instance> {
    discover_in(&Proc::default(), pid, netns)
}

fn discover_in(proc: &Proc, pid: Option<u32>, netns: Option<u32>) -> Vec<Instance> {
    discover_among(proc, &process::list(proc), pid, netns)
}

fn discover_among(proc: &Proc, all: &[Process], pid: Option<u32>, netns: Option<u32>) -> Vec<Instance> {
    let heads = all.iter().filter(|process| is_head(proc, process, all));
    let groups = heads.map(|head| (head, family(head, all)));
    let wanted = groups.filter(|(head, family)| {
        let is_pid = pid.is_none_or(|pid| head.pid == pid || family.iter().any(|child| child.pid == pid));
        let is_netns = netns.is_none_or(|netns| proc.net_namespace(head.pid) == Some(netns));
        is_pid && is_netns
    });
    let mut listening = Listening::default();
    let inspected = wanted.map(|(head, family)| inspect(proc, head, &family, &mut listening));
    // A process that ends loses its title before its files; what was read of one that lost it may be half of it.
    inspected.filter(|instance| process::role(proc, instance.master).is_some()).collect()
}

/// A master, or a process that runs alone. A master that has not set its title yet looks like one that runs alone, a
/// worker that was forked a moment ago like its master; the next master of an upgrade is a child, too, and a program
/// of its own.
fn is_head(proc: &Proc, process: &Process, all: &[Process]) -> bool {
    match process.role {
        Role::Master => {
            let is_parent = |other: &Process| other.role == Role::Master && other.pid == process.parent;
            !(all.iter().any(is_parent) && proc.is_fork(process.pid))
        }
        Role::Single => !all.iter().any(|other| other.pid == process.parent || other.parent == process.pid),
        Role::Worker | Role::Helper => false,
    }
}

fn family(head: &Process, all: &[Process]) -> Vec<Process> {
    all.iter().filter(|process| process.parent == head.pid).cloned().collect()
}

fn inspect(proc: &Proc, head: &Process, family: &[Process], listening: &mut Listening) -> Instance {
    let root = root_of(proc, head.pid);
    let mut problems = Vec::new();
    let location = location::find(proc, head, &root);
    let configuration = location.as_ref().map(|location| config::read(&root, location));
    if configuration.is_none() {
        problems.push(format!("process {}: its configuration file is not known", head.pid));
    }
    let configuration = configuration.unwrap_or_default();
    let logs = logs::find(proc, head.pid, &root, &configuration);
    let (zone, note) = zone::find(proc, head.pid, &root, &logs.error);
    problems.extend(logs.problems);
    problems.extend(note);
    let netns = proc.net_namespace(head.pid).unwrap_or_else(|| {
        problems.push(format!("process {}: its network namespace cannot be read", head.pid));
        0
    });
    let workers = owners(head, family);
    // The master first: its view of the network is read, and a worker may be about to die.
    let holders: Vec<u32> = std::iter::once(head.pid).chain(workers.iter().copied()).collect();
    let mut instance = Instance {
        master: head.pid,
        workers,
        netns,
        root,
        error_logs: logs.error,
        access_logs: logs.access,
        listeners: listening.of_processes(proc, netns, &holders),
        config: configuration.facts.clone(),
        configuration_file: location.map(|location| location.file),
        configuration,
        zone,
        pids: BTreeMap::new(),
        problems,
    };
    instance.remember(std::slice::from_ref(head));
    instance.remember(family);
    instance
}

fn owners(head: &Process, family: &[Process]) -> Vec<u32> {
    if head.role == Role::Single {
        return vec![head.pid];
    }
    family.iter().filter(|process| process.role == Role::Worker).map(|process| process.pid).collect()
}

/// A path to the root of the process that stays good when the process ends, where there is one.
fn root_of(proc: &Proc, pid: u32) -> PathBuf {
    let link = proc.path(pid, "root");
    let namespace = |path: PathBuf| fs::read_link(path).ok();
    let own = namespace(PathBuf::from("/proc/self/ns/mnt"));
    if own.is_some() && own == namespace(proc.path(pid, "ns/mnt")) {
        return fs::read_link(&link).unwrap_or(link);
    }
    link
}
