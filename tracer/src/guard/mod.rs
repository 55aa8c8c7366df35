//! What the daemon may do, made smaller once it no longer needs more. Capabilities and Landlock belong to a thread,
//! not to a process: every thread confines itself when it starts, and the one that attached the probes does so right
//! afterwards. A thread started later inherits what its parent has left.
//!
//! Landlock also forbids to look into processes outside of its domain (`/proc/PID/root`, `/proc/PID/fd`). The thread
//! that finds Nginx lives on that, so it keeps to what capabilities, `no_new_privs` and the service manager's
//! sandbox allow, and only the threads that others talk to get a domain.

use std::io;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
};
use thiserror::Error;

/// What the thread that finds Nginx keeps, and why; `docs/daemon.md` has the same table.
const KEPT: [(Capability, &str); 2] = [
    (
        Capability::CAP_SYS_PTRACE,
        "to see the sockets, files and namespaces of Nginx, which runs as other users",
    ),
    (Capability::CAP_DAC_READ_SEARCH, "to read logs and configurations that only root or adm may read"),
];
/// The newest Landlock that is made use of; an older kernel enforces what it knows of it.
const LANDLOCK: ABI = ABI::V5;

/// Why a thread could not be confined.
#[derive(Debug, Error)]
pub enum GuardError {
    /// Capabilities could not be given up.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// `no_new_privs` could not be set.
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(#[from] io::Error),
    /// Landlock refused.
    #[error("cannot set up Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
}

/// What a thread is left with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confined {
    /// Names of the capabilities it keeps.
    pub capabilities: Vec<String>,
    /// Whether Landlock holds it: `fully`, `partially`, `not` (a kernel without it), or `not asked for`.
    pub landlock: &'static str,
}

/// Confines the thread that watches: it attached the probes and has to find Nginx again and again.
/// `keeps_bpf` where this kernel wants `CAP_BPF` even for maps that are open already.
pub fn watcher(keeps_bpf: bool) -> Result<Confined, GuardError> {
    rustix::thread::set_no_new_privs(true).map_err(io::Error::from)?;
    let bpf = keeps_bpf.then_some(Capability::CAP_BPF);
    let wanted: CapsHashSet = KEPT.iter().map(|(capability, _)| *capability).chain(bpf).collect();
    let kept = keep_only(&wanted)?;
    Ok(Confined { capabilities: kept, landlock: "not asked for" })
}

/// Confines the process that starts a command: no privilege, and none to be gained. What it may write and reach is
/// left to the service manager's sandbox.
pub fn helper() -> Result<(), GuardError> {
    rustix::thread::set_no_new_privs(true).map_err(io::Error::from)?;
    keep_only(&CapsHashSet::new())?;
    Ok(())
}

/// Confines a thread that needs no privilege: it may write below `folders` and nowhere else, start nothing, listen
/// nowhere, and connect by TCP to this port or none.
pub fn worker(folders: &[&Path], port: Option<u16>) -> Result<Confined, GuardError> {
    rustix::thread::set_no_new_privs(true).map_err(io::Error::from)?;
    let kept = keep_only(&CapsHashSet::new())?;
    Ok(Confined { capabilities: kept, landlock: landlock(folders, port)? })
}

/// Gives up everything but the intersection of what there is and `wanted`.
fn keep_only(wanted: &CapsHashSet) -> Result<Vec<String>, caps::errors::CapsError> {
    caps::clear(None, CapSet::Ambient)?;
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = permitted.intersection(wanted).copied().collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::clear(None, CapSet::Inheritable)?;
    let mut names: Vec<String> = kept.iter().map(ToString::to_string).collect();
    names.sort();
    Ok(names)
}

fn landlock(folders: &[&Path], port: Option<u16>) -> Result<&'static str, landlock::RulesetError> {
    // Reading stays as it is: that is what file modes are for. `/proc/self` must stay readable for the metrics.
    let writes: BitFlags<AccessFs> = AccessFs::from_write(LANDLOCK) | AccessFs::Execute;
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes)?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .create()?;
    let opened = folders.iter().filter_map(|folder| PathFd::new(folder).ok());
    let beneath = opened.map(|folder| Ok(PathBeneath::new(folder, writes & !AccessFs::Execute)));
    let mut rules = rules.add_rules(beneath.collect::<Vec<Result<_, landlock::RulesetError>>>())?;
    if let Some(port) = port {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => "fully",
        RulesetStatus::PartiallyEnforced => "partially",
        RulesetStatus::NotEnforced => "not",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a thread of its own: what is given up there is not given up for the other tests.
    fn in_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(run).join().unwrap()
    }

    #[test]
    fn a_worker_keeps_no_capability_and_writes_only_where_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (mine, theirs) = (folder.path().to_owned(), other.path().to_owned());
        in_thread(move || {
            let confined = worker(&[&mine], None).unwrap();
            assert_eq!(confined.capabilities, Vec::<String>::new());
            assert!(caps::read(None, CapSet::Permitted).unwrap().is_empty());
            std::fs::write(mine.join("mine"), "x").unwrap();
            assert!(std::fs::read("/proc/self/status").is_ok());
            if confined.landlock != "not" {
                assert!(std::fs::write(theirs.join("theirs"), "x").is_err());
                assert!(std::process::Command::new("/bin/true").status().is_err());
            }
            if confined.landlock == "fully" {
                assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
            }
        });
    }

    #[test]
    fn the_watcher_keeps_at_most_what_is_named() {
        let confined = in_thread(|| watcher(false)).unwrap();
        let named: Vec<String> = KEPT.iter().map(|(capability, _)| capability.to_string()).collect();
        assert!(confined.capabilities.iter().all(|kept| named.contains(kept)), "{confined:?}");
        assert!(in_thread(|| watcher(false).is_ok() && rustix::thread::no_new_privs().unwrap()));
    }
}
