//! Bounded reading of `/proc`. Processes come and go while it is read, so everything is an `Option`: a process that
//! is gone is not an error. The root can be another directory, for tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Most bytes read of a small file.
const SMALL_FILE: u64 = 64 * 1024;

/// Room for what is read, at first, bytes.
const ROOM: usize = 1024;

/// Most descriptors looked at per process.
const DESCRIPTOR_LIMIT: usize = 1 << 20;

/// Numbers from `/proc/PID/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Parent process.
    pub parent: u32,
    /// The process id in the innermost pid namespace: what the process itself prints.
    pub own_pid: u32,
}

/// `/proc`, or a directory that looks like it.
#[derive(Debug, Clone)]
pub struct Proc {
    root: PathBuf,
}

impl Default for Proc {
    fn default() -> Self {
        Self { root: PathBuf::from("/proc") }
    }
}

impl Proc {
    /// A directory with the layout of `/proc`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A file of a process.
    pub fn path(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(name)
    }

    /// Every process there is.
    pub fn pids(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        entries.filter_map(|entry| number_of(&entry.ok()?.file_name())).collect()
    }

    /// Tasks there are, and the last process id that was given away: as long as both are the same, no process has been
    /// started and none has ended. `loadavg` of `proc(5)`.
    pub fn population(&self) -> Option<(u32, u32)> {
        let bytes = read_bounded(&self.root.join("loadavg"), SMALL_FILE).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let (_running, tasks_and_last) = text.split_once('/')?;
        let (tasks, last) = tasks_and_last.trim().split_once(' ')?;
        Some((tasks.parse().ok()?, last.parse().ok()?))
    }

    /// The arguments, or the title Nginx wrote over them.
    pub fn arguments(&self, pid: u32) -> Vec<String> {
        let Some(bytes) = self.read(pid, "cmdline") else { return Vec::new() };
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Parent and own pid.
    pub fn status(&self, pid: u32) -> Option<Status> {
        let text = String::from_utf8_lossy(&self.read(pid, "status")?).into_owned();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().last()?.parse().ok()
        };
        Some(Status { parent: field("PPid:")?, own_pid: field("NSpid:").unwrap_or(pid) })
    }

    /// Whether it was forked and has not executed a program since (`PF_FORKNOEXEC` among the flags of `proc(5)`).
    pub fn is_fork(&self, pid: u32) -> bool {
        const FORK_WITHOUT_EXEC: u32 = 0x40;
        let flags = || {
            let text = String::from_utf8_lossy(&self.read(pid, "stat")?).into_owned();
            // The name before may hold anything, parentheses too.
            let (_, fields) = text.rsplit_once(')')?;
            fields.split_ascii_whitespace().nth(6)?.parse::<u32>().ok()
        };
        flags().is_some_and(|flags| flags & FORK_WITHOUT_EXEC != 0)
    }

    /// The executable; ` (deleted)` is cut.
    pub fn executable(&self, pid: u32) -> Option<PathBuf> {
        let link = fs::read_link(self.path(pid, "exe")).ok()?;
        let bytes = link.as_os_str().as_bytes();
        let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
    }

    /// Inode number of the network namespace.
    pub fn net_namespace(&self, pid: u32) -> Option<u32> {
        let link = fs::read_link(self.path(pid, "ns/net")).ok()?;
        link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
    }

    /// The value of an environment variable as of the start of the process.
    /// Nginx writes its title over its environment, so this is empty for a master that changed its title.
    pub fn environment(&self, pid: u32, name: &str) -> Option<String> {
        let bytes = self.read(pid, "environ")?;
        let prefix = format!("{name}=");
        let value = bytes.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_bytes()))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Open descriptors and what they refer to.
    pub fn descriptors(&self, pid: u32) -> BTreeMap<u32, PathBuf> {
        let Ok(entries) = fs::read_dir(self.path(pid, "fd")) else { return BTreeMap::new() };
        let targets = entries.take(DESCRIPTOR_LIMIT).filter_map(|entry| {
            let entry = entry.ok()?;
            Some((number_of(&entry.file_name())?, fs::read_link(entry.path()).ok()?))
        });
        targets.collect()
    }

    /// The flags a descriptor was opened with (`open(2)`).
    pub fn descriptor_flags(&self, pid: u32, descriptor: u32) -> Option<u32> {
        let text = self.read(pid, &format!("fdinfo/{descriptor}"))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    }

    /// A small file of a process.
    pub fn read(&self, pid: u32, name: &str) -> Option<Vec<u8>> {
        read_bounded(&self.path(pid, name), SMALL_FILE).ok()
    }
}

/// Reads at most `limit` bytes of a file.
pub fn read_bounded(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    // Files of procfs have no size: with room at hand most are read at once.
    let mut bytes = Vec::with_capacity(ROOM);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn number_of(name: &std::ffi::OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}
