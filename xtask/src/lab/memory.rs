//! A memory limit for one process, so that the kernel's OOM killer takes it and nothing else: a control group of
//! the old memory controller where it is mounted, else of cgroup v2.

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
pub struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// Puts a process under the limit.
    pub fn on(pid: u32) -> Result<Self> {
        let old = Path::new(OLD).join("memory.limit_in_bytes").exists();
        let (base, limit) = if old { (OLD, "memory.limit_in_bytes") } else { (NEW, "memory.max") };
        if !old {
            write(&Path::new(base).join("cgroup.subtree_control"), "+memory")?;
        }
        let group = Path::new(base).join(format!("{PREFIX}{}-memory-{pid}", std::process::id()));
        fs::create_dir(&group).with_context(|| format!("cannot make the group {}", group.display()))?;
        let group = Self(group);
        write(&group.0.join(limit), &LIMIT.to_string())?;
        write(&group.0.join("cgroup.procs"), &pid.to_string())?;
        Ok(group)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Empty by now: the process was killed.
        drop(fs::remove_dir(&self.0));
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {text} to {}", file.display()))
}
