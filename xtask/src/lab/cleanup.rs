//! Everything the lab has put on the machine, and its removal in reverse order on every way out.
//!
//! One list for the whole process: a guard takes its entry out when it is dropped, and the panic hook and
//! the signal path empty what is left. Signals only set a flag; whoever waits sees it and unwinds by errors.

use crate::shell;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU64 = AtomicU64::new(1);
static LEFT: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());

/// How long a panic waits for what other threads have just begun.
const GRACE: Duration = Duration::from_millis(500);

/// Prefix of every name the lab gives, followed by the process id.
pub const PREFIX: &str = "rsl-";

/// How one thing is removed.
#[derive(Debug, Clone)]
pub enum Action {
    /// Kill a process we started, if it is still our child's.
    Kill(u32),
    /// Remove a network namespace.
    Namespace(String),
    /// Remove a folder of ours.
    Folder(PathBuf),
}

impl Action {
    fn perform(&self) {
        match self {
            Self::Kill(pid) => kill(*pid),
            Self::Namespace(name) => remove_namespace(name),
            Self::Folder(path) => drop(std::fs::remove_dir_all(path)),
        }
    }
}

/// Removes its thing when dropped.
#[derive(Debug)]
#[must_use = "the thing is removed when the guard goes"]
pub struct Guard(u64);

/// Remembers that something has to be removed.
pub fn later(action: Action) -> Guard {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    list().push((number, action));
    Guard(number)
}

impl Guard {
    /// The thing is gone already: there is nothing left to remove.
    pub fn forget(self) {
        list().retain(|(number, _)| *number != self.0);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let taken = {
            let mut left = list();
            left.iter().position(|(number, _)| *number == self.0).map(|place| left.remove(place))
        };
        if let Some((_, action)) = taken {
            action.perform();
        }
    }
}

fn list() -> MutexGuard<'static, Vec<(u64, Action)>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes everything that is left, newest first.
fn everything() {
    loop {
        let last = list().pop();
        let Some((_, action)) = last else { return };
        action.perform();
    }
}

/// Installs the signal handlers and the panic hook; called once, before anything is laid.
pub fn prepare() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        INTERRUPTED.store(true, Ordering::Relaxed);
        everything();
        // Another bench may have been in the middle of laying something.
        std::thread::sleep(GRACE);
        sweep(|name| owner(name) == Some(std::process::id()));
    }));
    let handler: extern "C" fn(libc::c_int) = on_signal;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        let _previous = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

extern "C" fn on_signal(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Did someone press Ctrl-C or ask us to stop?
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

fn kill(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
    // A process that is gone already is what we wanted.
    let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_err();
}

/// A namespace goes with whatever still runs in it.
fn remove_namespace(name: &str) {
    let pids = shell::read(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    pids.lines().filter_map(|line| line.trim().parse().ok()).for_each(kill);
    drop(shell::read(Command::new("ip").args(["netns", "delete", name])));
}

/// Removes what earlier runs left when they were killed: our prefix, and a process id nobody has.
pub fn leftovers() {
    sweep(is_orphan);
}

fn sweep(chosen: impl Fn(&str) -> bool) {
    for name in entries("/run/netns").filter(|name| chosen(name)) {
        remove_namespace(&name);
    }
    let temporary = std::env::temp_dir();
    for name in entries(&temporary).filter(|name| chosen(name)) {
        drop(std::fs::remove_dir_all(temporary.join(name)));
    }
}

fn entries(folder: impl AsRef<std::path::Path>) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// The process that gave this name, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_orphan(name: &str) -> bool {
    owner(name).is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_runs_are_orphans() {
        assert!(!is_orphan(&format!("{PREFIX}{}-0-web", std::process::id())));
        assert!(is_orphan(&format!("{PREFIX}4294967295-0-web")));
        assert!(!is_orphan("somebody-else"));
        assert!(!is_orphan(&format!("{PREFIX}x-web")));
    }

    #[test]
    fn a_dropped_guard_removes_its_folder() {
        let folder = std::env::temp_dir().join(format!("{PREFIX}{}-guard", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let guard = later(Action::Folder(folder.clone()));
        assert!(folder.exists());
        drop(guard);
        assert!(!folder.exists());
    }
}
