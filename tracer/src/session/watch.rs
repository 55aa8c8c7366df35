//! Finds Nginx, keeps finding it (reloads, restarts, late starts), and tells probes and followers about it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, mem};

use jiff::tz::TimeZone;

use crate::collect::clock;
use crate::collect::sock_diag::{self, DiagSocket};
use crate::model::{LogRecord, LogSide, Side, UnixState};
use crate::nginx::discover::{Instance, Scout};
use crate::nginx::proc::Proc;
use crate::nginx::tail::{TailedLine, Target};
use crate::nginx::unix;
use crate::probe::filter::Seed;
use crate::probe::{Probe, ProbeError};

use super::Settings;
use super::lines::Lines;
use super::observe;
use super::pulse::Queue;
use super::sockets::UnixSockets;
use super::upstreams::{self, Change, Upstreams};
use super::vacated::{Listener, Listeners};

/// Where no process comes or goes, the accept queues are looked at every this many looks: scrapes are further apart.
const QUEUES_EVERY: u32 = 5;

/// What is watched.
#[derive(Debug, Default)]
pub struct Watch {
    scout: Scout,
    /// What is watched in place of an Nginx.
    observed: Vec<Instance>,
    /// Processes the kernel programs know of.
    pids: BTreeSet<u32>,
    /// Listen sockets the kernel programs know of.
    listening: Listeners,
    /// Namespaces whose existing connections were made known.
    seeded: BTreeSet<u32>,
    /// Connections that were there before.
    seeds: usize,
    /// How full the accept queues in our own namespace are.
    queues: Vec<Queue>,
    /// Looks since they were looked at.
    unseen: u32,
    /// What listens for the upstreams on this host.
    upstreams: Upstreams,
    /// What happened to them and was not told yet.
    changes: Vec<Change>,
    /// What was found of late at the paths of unix sockets.
    sockets: UnixSockets,
    /// What could not be found out.
    problems: BTreeSet<String>,
}

impl Watch {
    /// Looks for Nginx now. True if anything changed.
    pub fn look(&mut self, settings: &Settings, netns: u32) -> bool {
        if !settings.listen_ports.is_empty() {
            let new = self.observed.is_empty();
            self.observed = vec![observe::instance(&settings.listen_ports)];
            return new;
        }
        let changed = self.scout.look(settings.pid, (netns != 0).then_some(netns));
        changed || self.listening.is_overdue(clock::now())
    }

    /// Nginx processes that run.
    pub fn instances(&self) -> &[Instance] {
        watched(&self.scout, &self.observed)
    }

    /// Every process of the host at the last look.
    pub fn processes(&self) -> &BTreeSet<u32> {
        self.scout.processes()
    }

    /// Whether the last look had anything to see: a process was started or has ended.
    pub fn looked(&self) -> bool {
        self.scout.looked()
    }

    /// How full the accept queues in the namespace of this process were when they were last looked at.
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// What happened to upstreams on this host since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Change> {
        mem::take(&mut self.changes)
    }

    /// Whether the accept queues are to be looked at now.
    pub fn queues_are_due(&mut self) -> bool {
        self.unseen += 1;
        let due = self.looked() || self.unseen >= QUEUES_EVERY;
        self.unseen = if due { 0 } else { self.unseen };
        due
    }

    /// Looks at the accept queues, and at what listens for the upstreams. What cannot be listed is left out.
    pub fn look_at_queues(&mut self) {
        let ours: BTreeSet<SocketAddr> =
            self.instances().iter().flat_map(|instance| instance.listeners.iter().copied()).collect();
        let found = if ours.is_empty() { Vec::new() } else { sock_diag::listeners().unwrap_or_default() };
        let queue = |socket: &DiagSocket| {
            let DiagSocket { local: listener, queue: waiting, limit, .. } = *socket;
            ours.contains(&listener).then_some(Queue { listener, waiting, limit })
        };
        self.queues = found.iter().filter_map(queue).collect();
        let wanted: BTreeSet<SocketAddr> =
            self.instances().iter().flat_map(|instance| instance.config.upstreams.iter().copied()).collect();
        let owner = |inode| upstreams::owner(&Proc::default(), inode);
        self.changes.extend(self.upstreams.update(&wanted, &found, owner));
    }

    /// Connections that existed before the start.
    pub fn seeds(&self) -> usize {
        self.seeds
    }

    /// What could not be found out.
    pub fn problems(&self) -> Vec<String> {
        let of_instances = self.instances().iter().flat_map(|instance| instance.problems.iter().cloned());
        of_instances.chain(self.problems.iter().cloned()).collect()
    }

    /// Makes the kernel programs know what was found. Filters act here, in what they are told.
    pub fn apply(&mut self, probe: &mut Probe, settings: &Settings) -> Result<(), ProbeError> {
        let pids: BTreeSet<u32> = self.instances().iter().flat_map(Instance::processes).collect();
        let gone: Vec<u32> = self.pids.difference(&pids).copied().collect();
        probe.set_processes(&pids.iter().copied().collect::<Vec<_>>(), &gone)?;
        self.pids = pids;
        let listening = listening(self.instances(), settings);
        let inhabited: BTreeSet<u32> = self.instances().iter().map(|instance| instance.netns).collect();
        // First what is gone, then everything that is there: a port may lose one address and keep another.
        for (netns, listener) in self.listening.update(clock::now(), listening, &inhabited) {
            probe.remove_listener(netns, listener)?;
        }
        for instance in self.instances() {
            probe.add_listeners(instance.netns, &listeners(instance, settings))?;
            let upstreams = instance.config.upstreams.iter().copied();
            let wanted: Vec<SocketAddr> =
                upstreams.filter(|upstream| upstream_wanted(settings, *upstream)).collect();
            probe.add_upstreams(&wanted)?;
        }
        self.watch_icmp(probe, &inhabited)?;
        self.seed(probe, settings)
    }

    /// Lets ICMP errors be seen where an Nginx runs, and nowhere else.
    fn watch_icmp(&mut self, probe: &mut Probe, inhabited: &BTreeSet<u32>) -> Result<(), ProbeError> {
        probe.forget_icmp(inhabited)?;
        let homes: BTreeMap<u32, u32> =
            self.instances().iter().map(|instance| (instance.netns, instance.master)).collect();
        for (netns, pid) in homes {
            if let Err(error) = probe.watch_icmp(netns, Path::new(&format!("/proc/{pid}/ns/net"))) {
                self.problems.insert(format!("ICMP errors are not seen: {error}"));
            }
        }
        Ok(())
    }

    /// Makes connections known that are older than this session, once per namespace.
    fn seed(&mut self, probe: &mut Probe, settings: &Settings) -> Result<(), ProbeError> {
        let fresh: BTreeMap<u32, u32> = self
            .instances()
            .iter()
            .filter(|instance| !self.seeded.contains(&instance.netns))
            .map(|instance| (instance.netns, instance.master))
            .collect();
        for (netns, pid) in fresh {
            self.seeded.insert(netns);
            let seeds = self.existing(netns, pid, settings);
            self.seeds += seeds.len();
            probe.seed(&seeds)?;
        }
        Ok(())
    }

    fn existing(&mut self, netns: u32, pid: u32, settings: &Settings) -> Vec<Seed> {
        let sockets = match sock_diag::list(&PathBuf::from(format!("/proc/{pid}/ns/net"))) {
            Ok(sockets) => sockets,
            Err(error) => {
                self.problems.insert(format!("connections older than this session are not known: {error}"));
                return Vec::new();
            }
        };
        let here = || self.instances().iter().filter(move |instance| instance.netns == netns);
        let owners: HashMap<u32, u32> =
            here().flat_map(Instance::processes).flat_map(socket_inodes).collect();
        let ports: BTreeSet<u16> =
            here().flat_map(|instance| instance.listeners.iter()).map(SocketAddr::port).collect();
        let seed = |socket: &DiagSocket| {
            // Who owns what an observed port accepted is not looked for.
            let observed = settings.listen_ports.contains(&socket.local.port()).then_some(0);
            let owner_pid = owners.get(&socket.inode).copied().or(observed)?;
            let side = if ports.contains(&socket.local.port()) { Side::Client } else { Side::Upstream };
            let wanted = match side {
                Side::Client => port_wanted(settings, socket.local.port()),
                _ => upstream_wanted(settings, socket.remote),
            };
            let usable = wanted && !socket.listening && socket.inode != 0 && socket.cookie != 0;
            let comm = if observed.is_some() { "" } else { "nginx" }.to_owned();
            usable.then_some(Seed { cookie: socket.cookie, side, owner_pid, comm })
        };
        sockets.iter().filter_map(seed).collect()
    }

    /// Reads a line as the Nginx that wrote it meant it: its time zone, and its pids as the host numbers them.
    pub fn record(&self, line: &TailedLine) -> LogRecord {
        let wrote =
            |instance: &&Instance| instance.error_logs.iter().any(|log| log.target.path == *line.file);
        let instances = self.instances();
        // A line without a file, from syslog, tells its pid.
        let of_pid = || {
            let pid = line.record(&TimeZone::UTC).pid?;
            instances.iter().find(|instance| instance.host_pid(pid).is_some())
        };
        let found = instances.iter().find(wrote).or_else(of_pid).or_else(|| instances.first());
        let Some(instance) = found else { return line.record(&TimeZone::system()) };
        let mut record = line.record(&instance.zone);
        record.pid = record.pid.map(|pid| instance.host_pid(pid).unwrap_or(pid));
        record
    }

    /// A line that concerns what was selected, with what its unix socket is now.
    pub fn wanted(&mut self, settings: &Settings, line: &TailedLine) -> Option<LogRecord> {
        let mut record = self.record(line);
        if !line_wanted(settings, line.is_old, &record) {
            return None;
        }
        if !line.is_old && record.side == LogSide::Upstream {
            record.socket = self.unix_socket(&record);
        }
        Some(record)
    }

    /// The unix socket that a line names, as it is now.
    fn unix_socket(&mut self, record: &LogRecord) -> Option<UnixState> {
        let path = record.unix_path()?;
        let writer = writer(watched(&self.scout, &self.observed), record)?;
        Some(self.sockets.state(writer.master, path, || unix::now(writer, path)))
    }

    /// Follows the logs that the instances write, or those asked for instead.
    pub fn follow(&self, lines: &Lines, settings: &Settings) {
        for path in &settings.error_logs {
            lines.follow(Target::local(path));
        }
        if !settings.error_logs.is_empty() {
            return;
        }
        for instance in self.instances() {
            for log in &instance.error_logs {
                lines.follow(log.target.clone());
            }
        }
    }
}

/// What was found, or what is watched in place of an Nginx.
fn watched<'a>(scout: &'a Scout, observed: &'a [Instance]) -> &'a [Instance] {
    if observed.is_empty() { scout.instances() } else { observed }
}

/// The Nginx whose worker wrote a line, or the only one there is.
fn writer<'a>(instances: &'a [Instance], record: &LogRecord) -> Option<&'a Instance> {
    let wrote = |instance: &&Instance| record.pid.is_some_and(|pid| instance.workers.contains(&pid));
    instances.iter().find(wrote).or_else(|| instances.first().filter(|_| instances.len() == 1))
}

fn listening(instances: &[Instance], settings: &Settings) -> BTreeSet<Listener> {
    let of = |instance: &Instance| {
        listeners(instance, settings)
            .into_iter()
            .map(|listener| (instance.netns, listener))
            .collect::<Vec<_>>()
    };
    instances.iter().flat_map(of).collect()
}

/// Listen sockets of an instance that the port filter lets through.
pub fn listeners(instance: &Instance, settings: &Settings) -> Vec<SocketAddr> {
    instance.listeners.iter().copied().filter(|listener| port_wanted(settings, listener.port())).collect()
}

/// Does a line of the log concern what was selected, and is it not told already? A line that names no address may.
pub fn line_wanted(settings: &Settings, is_old: bool, record: &LogRecord) -> bool {
    if is_old && settings.told.has(record) {
        return false;
    }
    let Some(upstream) = record.upstream.as_deref() else { return true };
    let unix = !settings.upstreams.is_empty() && upstream.starts_with("unix:");
    !unix && record.upstream_addr().is_none_or(|address| upstream_wanted(settings, address))
}

fn port_wanted(settings: &Settings, port: u16) -> bool {
    settings.nginx_ports.is_empty() || settings.nginx_ports.contains(&port)
}

fn upstream_wanted(settings: &Settings, address: SocketAddr) -> bool {
    let matches =
        |wanted: &SocketAddr| wanted.ip() == address.ip() && [0, address.port()].contains(&wanted.port());
    settings.upstreams.is_empty() || settings.upstreams.iter().any(matches)
}

/// Socket inodes that a process holds, each with the process.
fn socket_inodes(pid: u32) -> Vec<(u32, u32)> {
    let Ok(folder) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let inode = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((inode, pid))
    };
    folder.filter_map(Result::ok).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_without_a_port_lets_every_port_of_the_address_through() {
        let settings = Settings { upstreams: vec!["10.0.0.1:0".parse().unwrap()], ..Settings::default() };
        assert!(upstream_wanted(&settings, "10.0.0.1:8080".parse().unwrap()));
        assert!(!upstream_wanted(&settings, "10.0.0.2:8080".parse().unwrap()));
    }

    #[test]
    fn a_line_about_another_upstream_is_not_wanted() {
        let settings = Settings { upstreams: vec!["10.0.0.1:80".parse().unwrap()], ..Settings::default() };
        let wanted = |settings: &Settings, upstream: &str| {
            let line = format!(
                "2026/11/21 10:00:00 [error] 7#7: *1 recv() failed (104: Connection reset by peer) while \
                 reading response header from upstream, client: 10.0.0.9, server: a, request: \
                 \"GET / HTTP/1.1\", upstream: \"http://{upstream}/\", host: \"a\""
            );
            line_wanted(settings, false, &crate::nginx::line::parse(line.as_bytes(), &TimeZone::UTC))
        };
        assert!(wanted(&settings, "10.0.0.1:80"));
        assert!(wanted(&settings, "group"), "its members may be selected");
        assert!(!wanted(&settings, "10.0.0.2:80"));
        assert!(!wanted(&settings, "unix:/run/app.sock:"));
        assert!(wanted(&Settings::default(), "unix:/run/app.sock:"));
    }

    #[test]
    fn sockets_of_this_process_are_found_by_inode() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held = socket_inodes(std::process::id());
        assert!(held.iter().all(|(_, pid)| *pid == std::process::id()));
        assert!(!held.is_empty());
        drop(listener);
    }
}
