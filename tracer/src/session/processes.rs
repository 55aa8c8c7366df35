//! What is known of the processes of this host: executable, container, unit, control group. Looked at again and again,
//! because what acts by dying can no longer be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::model::{Event, Input, Mono, ProcessFacts};
use crate::nginx::proc::Proc;
use crate::recording::Recorder;

/// Processes remembered as described; beyond it the memory starts anew, which only means describing them again.
const MOST_PROCESSES: usize = 4096;

/// Processes of the host that are looked at; on a host with more, the later ones have no name when they die.
const MOST_KNOWN: usize = 16_384;
/// Known processes that are looked at again each second: they may run another program or belong elsewhere by now. Few,
/// because each costs some fifty microseconds on a host that may be idle otherwise.
const REFRESHED: usize = 2;
/// Looks at which a process that came lately is looked at again. It may have been found between `fork` and `execve`,
/// under its parent's name, and a container's runtime or a service manager may still have to move it to its group.
const YOUNG_LOOKS: u8 = 5;
/// Of those so many in one look, where a host starts more than that: those with the highest numbers, which are the
/// newest until numbers begin anew.
const MOST_YOUNG: usize = 128;

/// A process as it was at the last look.
#[derive(Debug, Clone)]
struct Known {
    /// What it was called then.
    comm: String,
    facts: ProcessFacts,
    /// Looks for which it still counts as one that came lately.
    young: u8,
}

/// Describes processes once. What acts by dying can no longer be asked, so everything that runs is looked at before.
#[derive(Debug, Default)]
pub struct Processes {
    described: BTreeSet<u32>,
    known: BTreeMap<u32, Known>,
    /// Where the last round of looking again ended.
    refreshed: u32,
}

impl Processes {
    /// Looks at processes that came lately and at some of the others, and forgets those that are gone.
    pub fn look(&mut self, running: &BTreeSet<u32>) {
        self.known.retain(|pid, _| running.contains(pid));
        self.described.retain(|pid| running.contains(pid));
        for pid in self.next() {
            self.look_at(pid, |young| young.saturating_sub(1));
        }
        let room = MOST_KNOWN.saturating_sub(self.known.len());
        let fresh = running.iter().copied().filter(|pid| !self.known.contains_key(pid));
        for pid in fresh.take(room).collect::<Vec<_>>() {
            self.look_at(pid, |_| YOUNG_LOOKS);
        }
    }

    /// Whether one that came lately may still become what it will be.
    pub fn awaits(&self) -> bool {
        self.known.values().any(|known| known.young > 0)
    }

    /// Known processes whose turn it is: the young ones, and the next few of all.
    fn next(&mut self) -> BTreeSet<u32> {
        let few: Vec<u32> = self.known.range(self.refreshed..).take(REFRESHED).map(|(pid, _)| *pid).collect();
        self.refreshed = if few.len() < REFRESHED { 0 } else { few.last().map_or(0, |pid| pid + 1) };
        let young = self.known.iter().filter(|(_, known)| known.young > 0).map(|(pid, _)| *pid);
        young.rev().take(MOST_YOUNG).chain(few).collect()
    }

    /// What ends between two looks, and was not waited for yet, stays known as it was.
    fn look_at(&mut self, pid: u32, age: impl Fn(u8) -> u8) {
        let now = Known { comm: comm(pid), facts: process(pid), young: 0 };
        let known = self.known.entry(pid).or_insert_with(|| now.clone());
        known.young = age(known.young);
        let is_gone = now.comm.is_empty();
        if now.facts.exe.is_some() || !(is_gone || known.comm == now.comm) {
            *known = Known { young: known.young, ..now };
        }
    }

    /// What was found of a process that has this name; under another name it has become another program.
    fn found(&self, pid: u32, name: &str) -> Option<ProcessFacts> {
        let known = self.known.get(&pid)?;
        (known.comm == name).then(|| known.facts.clone())
    }

    /// Hands an event to the engine, and before it what is known of a process that acted in it.
    pub fn event(&mut self, engine: &mut Recorder, now: Mono, event: Event) {
        if event.task.is_foreign() {
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

    #[test]
    fn a_young_process_is_looked_at_until_it_is_what_it_will_be() {
        let become_another = "read line; exec sleep 60";
        let mut child = std::process::Command::new("sh")
            .args(["-c", become_another])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        while comm(pid) != "sh" {
            std::thread::yield_now();
        }
        let mut running: BTreeSet<u32> = [pid].into();
        // Others of higher numbers take the few turns there are.
        running.extend(pid + 1..pid + 1 + 32);
        let mut processes = Processes::default();
        processes.look(&running);
        drop(child.stdin.take());
        while comm(pid) != "sleep" {
            std::thread::yield_now();
        }
        processes.refreshed = pid + 1;
        processes.look(&running);
        assert!(processes.found(pid, "sleep").is_some());
        child.kill().unwrap();
        while process(pid).exe.is_some() {
            std::thread::yield_now();
        }
        processes.look(&running);
        assert!(
            processes.found(pid, "sleep").is_some_and(|facts| facts.exe.is_some()),
            "a dead process stays known"
        );
        child.wait().unwrap();
        // It was among those that ran when they were listed, and is gone when it is looked at.
        processes.look(&running);
        assert!(
            processes.found(pid, "sleep").is_some_and(|facts| facts.exe.is_some()),
            "a gone one stays known"
        );
        for _ in 0..YOUNG_LOOKS {
            processes.look(&running);
        }
        assert_eq!(
            processes.known.values().filter(|known| known.young > 0).count(),
            0,
            "nothing stays young"
        );
    }
}
