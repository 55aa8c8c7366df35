//! What reaches the engine beside kernel events and log lines: process facts, losses, clocks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rstscope_ebpf::abi::Departed;

use super::kernel::KernelSide;
use crate::account::loss;
use crate::collect::departed;
use crate::model::{Event, Input, LogRecord, LogSide, Losses, MessageClass, Mono, ProcessFacts};
use crate::nginx::proc::Proc;
use crate::probe::ProbeError;
use crate::recording::Recorder;

/// Processes remembered as described; beyond it the memory starts anew, which only means describing them again.
const MOST_PROCESSES: usize = 4096;

/// Processes of the host that are looked at; on a host with more, the later ones have no name when they die.
const MOST_KNOWN: usize = 16_384;
/// Known processes that are looked at again each second: they may run another program or belong elsewhere by now. Few,
/// because each costs some ten microseconds on a host that may be idle otherwise.
const REFRESHED: usize = 8;

/// Describes processes once. What acts by dying can no longer be asked, so everything that runs is looked at before.
#[derive(Debug, Default)]
pub struct Processes {
    described: BTreeSet<u32>,
    /// Name at the last look, and what else was found.
    known: BTreeMap<u32, (String, ProcessFacts)>,
    /// Where the last round of looking again ended.
    refreshed: u32,
}

impl Processes {
    /// Looks at processes that came since the last look and at some of the others, and forgets those that are gone.
    pub fn look(&mut self, running: &BTreeSet<u32>) {
        self.known.retain(|pid, _| running.contains(pid));
        self.described.retain(|pid| running.contains(pid));
        let again: Vec<u32> =
            self.known.range(self.refreshed..).take(REFRESHED).map(|(pid, _)| *pid).collect();
        self.refreshed = if again.len() < REFRESHED { 0 } else { again.last().map_or(0, |pid| pid + 1) };
        let fresh = running.iter().copied().filter(|pid| !self.known.contains_key(pid));
        for pid in fresh.chain(again).take(MOST_KNOWN - self.known.len() + REFRESHED).collect::<Vec<_>>() {
            self.known.insert(pid, (comm(pid), process(pid)));
        }
    }

    /// What was found of a process that has this name; under another name it has become another program.
    fn found(&self, pid: u32, name: &str) -> Option<ProcessFacts> {
        let (known_as, facts) = self.known.get(&pid)?;
        (known_as == name).then(|| facts.clone())
    }

    /// Hands an event to the engine, and before it what is known of a process that acted in it.
    pub fn event(&mut self, engine: &mut Recorder, now: Mono, event: Event) {
        if event.task.is_actor && !event.task.is_nginx {
            self.describe(engine, now, event.task.pid, &event.task.comm);
        }
        engine.handle(now, Input::Event(Box::new(event)));
    }

    fn describe(&mut self, engine: &mut Recorder, now: Mono, pid: u32, name: &str) {
        if self.described.len() >= MOST_PROCESSES {
            self.described.clear();
        }
        if self.described.insert(pid) {
            let facts = self.found(pid, name).unwrap_or_else(|| process(pid));
            engine.handle(now, Input::Process(facts));
        }
    }
}

fn comm(pid: u32) -> String {
    let name = Proc::default().read(pid, "comm").unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned()
}

/// Facts of a process; what it took with it when it ended is `None`.
fn process(pid: u32) -> ProcessFacts {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.to_string_lossy().into_owned());
    let cgroup = Proc::default().read(pid, "cgroup").unwrap_or_default();
    let cgroup = String::from_utf8_lossy(&cgroup);
    ProcessFacts { pid, exe, container: container(&cgroup), unit: unit(&cgroup), cgroup: group(&cgroup) }
}

/// The path in the hierarchy of cgroup v2, or else in the first of the old ones where the process is not in the root.
fn group(cgroup: &str) -> Option<String> {
    let paths = || cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).filter(|path| *path != "/");
    let unified = cgroup.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| *path != "/");
    unified.or_else(|| paths().next()).map(str::to_owned)
}

/// A container runtime's id: 64 hexadecimal digits somewhere in the cgroup path.
fn container(cgroup: &str) -> Option<String> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    cgroup.split(|c: char| !c.is_ascii_alphanumeric()).find(is_id).map(str::to_owned)
}

/// The innermost systemd unit of the cgroup path.
fn unit(cgroup: &str) -> Option<String> {
    let is_unit = |part: &&str| [".service", ".scope"].iter().any(|suffix| part.ends_with(suffix));
    cgroup.lines().flat_map(|line| line.split('/')).rfind(is_unit).map(str::to_owned)
}

/// Nginx writes the line first and closes the connection right after; this long the close is waited for.
const CLOSE_FOLLOWS: Duration = Duration::from_millis(50);
/// How long before its line a connection that the upstream closed can have been closed by Nginx.
const PREMATURE: Duration = Duration::from_secs(1);
/// Lines that may wait for their close; beyond it the oldest goes without its connection.
const MOST_PREMATURE: usize = 4096;

/// Lines that call an upstream's close premature, until the close can be looked up: alone it would not have been
/// worth a word of the kernel side.
#[derive(Debug, Default)]
pub struct PrematureCloses {
    waiting: VecDeque<(Mono, u32, SocketAddr)>,
}

impl PrematureCloses {
    /// Notes a line, if it is one of those.
    pub fn note(&mut self, record: &LogRecord) {
        let ends_early = record.class() == MessageClass::ClosedEarly && record.side == LogSide::Upstream;
        if let (true, Some(pid), Some(upstream), Some(arrival)) =
            (ends_early, record.pid, record.upstream_addr(), record.arrival)
        {
            if self.waiting.len() >= MOST_PREMATURE {
                self.waiting.pop_front();
            }
            self.waiting.push_back((arrival, pid, upstream));
        }
    }

    /// When the next close can be looked up.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.front().map(|(arrival, ..)| arrival.after(CLOSE_FOLLOWS))
    }

    /// The closes that can be looked up at `now`, as events.
    /// A map that cannot be read only leaves the line without its connection.
    pub fn due(&mut self, kernel: &mut KernelSide, now: Mono) -> Vec<Event> {
        let mut events = Vec::new();
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            let Some((arrival, pid, upstream)) = self.waiting.pop_front() else { break };
            let departed = kernel.departed(pid, upstream).ok().flatten();
            let recent = |departed: &Departed| Mono(departed.time_ns).distance(arrival) <= PREMATURE;
            events.extend(departed.filter(recent).map(|departed| departed::event(&departed, pid, upstream)));
        }
        events
    }
}

/// Everything lost so far, over all hand-overs of the session.
pub fn losses(kernel: &mut KernelSide, view: &Losses, logs: &Losses) -> Result<Losses, ProbeError> {
    Ok(loss::merge(loss::merge(kernel.losses()?, logs), view))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_and_unit_come_from_the_cgroup() {
        let id = "0123456789abcdef".repeat(4);
        let docker = format!("0::/system.slice/docker-{id}.scope\n");
        assert_eq!(container(&docker), Some(id.clone()));
        assert_eq!(unit(&docker), Some(format!("docker-{id}.scope")));
        assert_eq!(unit("0::/system.slice/php8.2-fpm.service\n").as_deref(), Some("php8.2-fpm.service"));
        assert_eq!((container("0::/\n"), unit("0::/\n")), (None, None));
        let both = "4:memory:/system.slice/app.service\n0::/\n";
        assert_eq!(group(both).as_deref(), Some("/system.slice/app.service"));
        assert_eq!(group("4:memory:/old\n0::/new\n").as_deref(), Some("/new"));
        assert_eq!(group("0::/\n"), None);
    }

    #[test]
    fn what_ran_at_the_last_look_is_known_after_its_end() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // The parent goes on before the kernel has given the child its new name (`begin_new_exec`).
        while comm(child.id()) != "sleep" {
            std::thread::yield_now();
        }
        let mut processes = Processes::default();
        processes.look(&[child.id()].into());
        child.kill().unwrap();
        child.wait().unwrap();
        let found = processes.found(child.id(), "sleep").unwrap();
        assert!(found.exe.is_some_and(|exe| exe.contains('/')));
        assert_eq!(processes.found(child.id(), "another"), None);
        processes.look(&BTreeSet::new());
        assert!(!processes.known.contains_key(&child.id()));
    }
}
