//! A control group for one process, of the old memory controller where it is mounted, else of cgroup v2: with a memory
//! limit, so that the kernel's OOM killer takes it and nothing else, or with a name as a container runtime gives it.

use super::cleanup::PREFIX;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes the process may use.
const LIMIT: u64 = 24 << 20;
/// Where the old controller is mounted.
const OLD: &str = "/sys/fs/cgroup/memory";
/// Where cgroup v2 is mounted.
const NEW: &str = "/sys/fs/cgroup";

/// A control group; removed when dropped.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// Puts a process under a memory limit.
    pub fn limited(pid: u32) -> Result<Self> {
        let group = Self::make(&format!("{PREFIX}{}-memory-{pid}", std::process::id()))?;
        let limit = if is_old() { "memory.limit_in_bytes" } else { "memory.max" };
        write(&group.0.join(limit), &LIMIT.to_string())?;
        group.take(pid)?;
        Ok(group)
    }

    /// Puts a process where a container runtime or systemd would have put it, below a group of its own: the same name
    /// may be in use beside it.
    pub fn named(name: &str, pid: u32) -> Result<Vec<Self>> {
        let parent = format!("{PREFIX}{}-named-{pid}", std::process::id());
        let above = Self::make(&parent)?;
        let group = Self::make(&format!("{parent}/{name}"))?;
        group.take(pid)?;
        Ok(vec![group, above])
    }

    fn make(name: &str) -> Result<Self> {
        let base = if is_old() { OLD } else { NEW };
        if !is_old() {
            write(&Path::new(base).join("cgroup.subtree_control"), "+memory")?;
        }
        let group = Path::new(base).join(name);
        fs::create_dir(&group).with_context(|| format!("cannot make the group {}", group.display()))?;
        Ok(Self(group))
    }

    fn take(&self, pid: u32) -> Result<()> {
        write(&self.0.join("cgroup.procs"), &pid.to_string())
    }
}

fn is_old() -> bool {
    Path::new(OLD).join("memory.limit_in_bytes").exists()
}

impl Drop for Group {
    fn drop(&mut self) {
        // Empty by now: the process was killed.
        drop(fs::remove_dir(&self.0));
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {text} to {}", file.display()))
}
