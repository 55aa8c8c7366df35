//! What reaches the engine beside kernel events and log lines: process facts, losses, clocks.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::account::loss;
use crate::collect::{Drain, departed};
use crate::model::{Event, Input, LogRecord, LogSide, Losses, MessageClass, Mono, ProcessFacts};
use crate::probe::{Probe, ProbeError};
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

/// How long before its line a connection that the upstream closed can have been closed by Nginx.
const PREMATURE: Duration = Duration::from_secs(1);

/// For a line that calls an upstream's close premature: the close, which alone would not have been worth a word.
/// A map that cannot be read only leaves the line without its connection.
pub fn premature(probe: &mut Probe, record: &LogRecord) -> Option<Event> {
    if record.class() != MessageClass::ClosedEarly || record.side != LogSide::Upstream {
        return None;
    }
    let (pid, upstream, arrival) = (record.pid?, record.upstream_addr()?, record.arrival?);
    let departed = probe.departed(pid, upstream).ok()??;
    let recent = Mono(departed.time_ns).distance(arrival) <= PREMATURE;
    recent.then(|| departed::event(&departed, pid, upstream))
}

/// Everything lost so far, over all hand-overs of the session.
pub fn losses(
    probe: &Probe,
    drain: &Drain,
    view: &Losses,
    abandoned_logs: u64,
) -> Result<Losses, ProbeError> {
    let counters = drain.counters();
    let mut own = Losses::default();
    let parts = [
        ("channel", counters.channel_full.load(Ordering::Relaxed)),
        ("undecodable records", counters.undecodable.load(Ordering::Relaxed)),
        ("log files given up", abandoned_logs),
    ];
    for (name, lost) in parts.into_iter().filter(|(_, lost)| *lost > 0) {
        own.by_handover.insert(name.to_owned(), lost);
    }
    Ok(loss::merge(loss::merge(probe.losses()?, &own), view))
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
