//! What reaches the engine beside kernel events and log lines: process facts, losses, clocks.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rstscope_ebpf::abi::Departed;

use super::kernel::KernelSide;
use crate::account::loss;
use crate::collect::departed;
use crate::model::{Event, Input, LogRecord, LogSide, Losses, MessageClass, Mono, ProcessFacts};
use crate::probe::ProbeError;
use crate::recording::Recorder;

/// Processes remembered as described; beyond it the memory starts anew, which only means describing them again.
const MOST_PROCESSES: usize = 4096;

/// Describes processes once, while they live.
#[derive(Debug, Default)]
pub struct Processes {
    described: BTreeSet<u32>,
}

impl Processes {
    /// Hands an event to the engine, and before it what is known of a process that acted in it.
    pub fn event(&mut self, engine: &mut Recorder, now: Mono, event: Event) {
        if event.task.is_actor && !event.task.is_nginx {
            self.describe(engine, now, event.task.pid);
        }
        engine.handle(now, Input::Event(Box::new(event)));
    }

    fn describe(&mut self, engine: &mut Recorder, now: Mono, pid: u32) {
        if self.described.len() >= MOST_PROCESSES {
            self.described.clear();
        }
        if self.described.insert(pid) {
            engine.handle(now, Input::Process(process(pid)));
        }
    }
}

/// Facts of a process; what it took with it when it ended is `None`.
fn process(pid: u32) -> ProcessFacts {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.to_string_lossy().into_owned());
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    ProcessFacts { pid, exe, container: container(&cgroup), unit: unit(&cgroup) }
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
pub fn losses(kernel: &KernelSide, view: &Losses, logs: &Losses) -> Result<Losses, ProbeError> {
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
    }
}
