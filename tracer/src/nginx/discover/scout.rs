//! Looking for Nginx again and again. A whole discovery reads every configuration file, so a look first asks whether
//! anything can have changed: workers (a reload brings new ones), new processes, and now and then the rest. Where no
//! process was started and none has ended, even that is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Instance, LogFile, discover_among};
use crate::model::NginxConfig;
use crate::nginx::proc::Proc;
use crate::nginx::process::{self, Role};
use crate::nginx::tail::{self, Stamp};

/// Looks in which a new process is looked at: Nginx gives itself its title a moment after it started.
const YOUNG_LOOKS: u8 = 3;
/// Every this many looks all processes and the configuration files' times are looked at: a script that becomes an
/// Nginx keeps its pid, and without workers a reload shows nowhere else.
const THOROUGH_EVERY: u32 = 10;
/// Every this many looks everything is read anew, whatever did not change.
const WHOLE_EVERY: u32 = 60;
/// Files whose times are looked at, per instance.
const STAMPS_LIMIT: usize = 1024;

/// A configuration file as it was when it was read.
type Seen = (PathBuf, PathBuf, Option<Stamp>);

/// Finds every Nginx, and keeps finding it.
#[derive(Debug, Default)]
pub struct Scout {
    proc: Proc,
    instances: Vec<Instance>,
    /// Masters and single processes at the last discovery, those that were not asked for included.
    heads: BTreeSet<u32>,
    /// Every process at the last look.
    known: BTreeSet<u32>,
    /// Processes that appeared lately, and for how many looks they are still of interest.
    young: BTreeMap<u32, u8>,
    files: Vec<Seen>,
    /// Tasks and the last process id at the last look that looked at processes.
    population: Option<(u32, u32)>,
    /// The last look did.
    looked: bool,
    looks: u32,
}

impl Scout {
    #[cfg(test)]
    fn at(proc: Proc) -> Self {
        Self { proc, ..Self::default() }
    }

    /// The Nginx found.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Every process, Nginx's or not, at the last look.
    pub fn processes(&self) -> &BTreeSet<u32> {
        &self.known
    }

    /// Whether the last look looked at processes: there was something to see.
    pub fn looked(&self) -> bool {
        self.looked
    }

    /// Looks now. The filters are those of [`super::discover`]. True if anything changed.
    pub fn look(&mut self, pid: Option<u32>, netns: Option<u32>) -> bool {
        let is_whole = self.looks.is_multiple_of(WHOLE_EVERY);
        let is_thorough = self.looks.is_multiple_of(THOROUGH_EVERY);
        self.looks = self.looks.wrapping_add(1);
        self.looked = is_thorough || self.is_anything_new();
        if !self.looked {
            return false;
        }
        let newcomer = self.has_newcomer(is_thorough);
        let workers = self.workers_changed();
        let edited = is_thorough && self.files_changed();
        if !(is_whole || newcomer || workers || edited) {
            return false;
        }
        self.discover(pid, netns) || workers
    }

    /// A process was started or has ended, or one that was started lately may still get its title.
    fn is_anything_new(&mut self) -> bool {
        let now = self.proc.population();
        let same = now.is_some() && now == self.population;
        self.population = now;
        !(same && self.young.is_empty())
    }

    fn discover(&mut self, pid: Option<u32>, netns: Option<u32>) -> bool {
        let all = process::list(&self.proc);
        let mut found = discover_among(&self.proc, &all, pid, netns);
        for instance in &mut found {
            self.hand_down(instance);
        }
        let heads = all.iter().filter(|process| matches!(process.role, Role::Master | Role::Single));
        self.heads = heads.map(|process| process.pid).collect();
        self.files = found.iter().flat_map(seen).collect();
        let changed = !found.iter().map(face).eq(self.instances.iter().map(face));
        self.instances = found;
        changed
    }

    /// Lines of workers that are gone may still come: their pids stay known.
    fn hand_down(&self, to: &mut Instance) {
        let Some(before) = self.instances.iter().find(|instance| instance.master == to.master) else {
            return;
        };
        for (printed, pid) in &before.pids {
            to.pids.entry(*printed).or_insert(*pid);
        }
    }

    /// Whether an Nginx has started: among the processes that appeared lately, or among all of them.
    fn has_newcomer(&mut self, among_all: bool) -> bool {
        let pids: BTreeSet<u32> = self.proc.pids().into_iter().collect();
        self.young.retain(|pid, looks| {
            *looks = looks.saturating_sub(1);
            *looks > 0 && pids.contains(pid)
        });
        self.young.extend(pids.difference(&self.known).map(|pid| (*pid, YOUNG_LOOKS)));
        self.known = pids;
        let of_interest: Vec<u32> = if among_all {
            self.known.iter().copied().collect()
        } else {
            self.young.keys().copied().collect()
        };
        let is_head = |pid: &u32| {
            let role = process::role(&self.proc, *pid);
            matches!(role, Some(Role::Master | Role::Single)) && !self.heads.contains(pid)
        };
        of_interest.iter().any(is_head)
    }

    /// Every instance is refreshed, also after one that changed.
    fn workers_changed(&mut self) -> bool {
        let proc = &self.proc;
        let mut changed = false;
        for instance in &mut self.instances {
            if instance.refresh_workers_in(proc) != Some(false) {
                changed = true;
            }
        }
        changed
    }

    fn files_changed(&self) -> bool {
        self.files.iter().any(|(root, path, stamp)| tail::stamp(root, path) != *stamp)
    }
}

fn seen(instance: &Instance) -> Vec<Seen> {
    let files = instance.configuration.files.iter().take(STAMPS_LIMIT);
    files.map(|path| (instance.root.clone(), path.clone(), tail::stamp(&instance.root, path))).collect()
}

/// What a change of means that something must be told to the probes or the followers.
fn face(instance: &Instance) -> (u32, &[u32], &[SocketAddr], &[LogFile], &NginxConfig) {
    (instance.master, &instance.workers, &instance.listeners, &instance.error_logs, &instance.config)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{container, process};
    use super::*;

    fn configuration(base: &tempfile::TempDir) -> PathBuf {
        base.path().join("100/root/etc/nginx/nginx.conf")
    }

    fn idle(scout: &mut Scout, looks: u32) {
        for _ in 0..looks {
            assert!(!scout.look(None, None));
        }
    }

    #[test]
    fn a_quiet_nginx_is_not_read_again_until_something_changes() {
        let base = container();
        let mut scout = Scout::at(Proc::at(base.path()));
        assert!(scout.look(None, None));
        idle(&mut scout, THOROUGH_EVERY + 1);
        // The new configuration counts once workers show that it was loaded.
        fs::write(configuration(&base), "http { server { listen 9; } server { listen 10; } }")
            .expect("write");
        process(base.path(), 103, 100, "nginx: worker process\0", 9);
        assert!(scout.look(None, None));
        assert_eq!(scout.instances()[0].workers, [101, 102, 103]);
        assert_eq!(scout.instances()[0].config.listeners.len(), 2);
        fs::remove_dir_all(base.path().join("101")).expect("remove");
        assert!(scout.look(None, None));
        assert_eq!(scout.instances()[0].host_pid(7), Some(101), "the pid of a worker that is gone");
    }

    #[test]
    fn where_no_process_came_or_went_none_is_looked_at() {
        let base = container();
        let tell = |population: &str| fs::write(base.path().join("loadavg"), population).expect("write");
        tell("0.00 0.00 0.00 1/140 900\n");
        let mut scout = Scout::at(Proc::at(base.path()));
        assert!(scout.look(None, None) && scout.looked());
        idle(&mut scout, u32::from(YOUNG_LOOKS));
        // The names are as fresh as the population says.
        process(base.path(), 300, 1, "nginx: master process nginx\0", 300);
        idle(&mut scout, 1);
        assert!(!scout.looked());
        tell("0.00 0.00 0.00 1/141 901\n");
        assert!(scout.look(None, None) && scout.looked());
        assert_eq!(scout.instances().len(), 2);
        idle(&mut scout, 1);
        assert!(scout.looked(), "its title may come later");
    }

    #[test]
    fn an_edited_file_is_read_at_the_next_thorough_look() {
        let base = container();
        let mut scout = Scout::at(Proc::at(base.path()));
        assert!(scout.look(None, None));
        fs::write(configuration(&base), "http { server { listen 9; } server { listen 10; } }")
            .expect("write");
        let looks = (0..THOROUGH_EVERY).filter(|_| scout.look(None, None)).count();
        assert_eq!((looks, scout.instances()[0].config.listeners.len()), (1, 2));
    }

    #[test]
    fn starts_and_ends_are_seen_at_once() {
        let base = container();
        let mut scout = Scout::at(Proc::at(base.path()));
        assert!(scout.look(None, None));
        idle(&mut scout, 1);
        process(base.path(), 300, 1, "nginx: master process nginx\0", 300);
        assert!(scout.look(None, None));
        assert_eq!(scout.instances().len(), 2);
        fs::remove_dir_all(base.path().join("100")).expect("remove");
        assert!(scout.look(None, None));
        assert_eq!(scout.instances().len(), 1);
    }

    #[test]
    fn a_process_that_becomes_an_nginx_later_is_seen_too() {
        let base = container();
        process(base.path(), 300, 1, "sh\0entrypoint.sh\0", 300);
        let mut scout = Scout::at(Proc::at(base.path()));
        assert!(scout.look(None, None));
        idle(&mut scout, THOROUGH_EVERY);
        fs::write(base.path().join("300/cmdline"), "nginx: master process nginx\0").expect("write");
        assert!((0..THOROUGH_EVERY).any(|_| scout.look(None, None)));
        assert_eq!(scout.instances().len(), 2);
    }

    #[test]
    fn a_master_found_before_it_set_its_title_gets_its_workers() {
        let base = container();
        process(base.path(), 300, 1, "/usr/sbin/nginx\0", 300);
        std::os::unix::fs::symlink("/usr/sbin/nginx", base.path().join("300/exe")).expect("link");
        let mut scout = Scout::at(Proc::at(base.path()));
        assert!(scout.look(None, None));
        assert_eq!(scout.instances()[1].workers, [300], "it looks like one that runs alone");
        fs::write(base.path().join("300/cmdline"), "nginx: master process /usr/sbin/nginx\0").expect("write");
        process(base.path(), 301, 300, "nginx: worker process\0", 301);
        assert!(scout.look(None, None));
        assert_eq!(scout.instances()[1].processes(), [300, 301]);
        idle(&mut scout, 1);
    }

    #[test]
    fn one_that_was_not_asked_for_does_not_bring_a_discovery_each_time() {
        let base = container();
        let mut scout = Scout::at(Proc::at(base.path()));
        assert!(scout.look(Some(100), None));
        process(base.path(), 300, 1, "nginx: master process nginx\0", 300);
        assert!(!scout.look(Some(100), None));
        assert!(scout.heads.contains(&300));
        assert!(!scout.has_newcomer(true));
    }
}
