//! What the kernel allows: version, lockdown, type information, the root of cgroup v2, capabilities.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where most kernels keep their type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Facts about the running kernel, none of them required.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Release, as `uname -r` prints it.
    pub kernel: String,
    /// Lockdown mode, `None` if securityfs is not mounted.
    pub lockdown: Option<String>,
    /// Mount point of cgroup v2.
    pub cgroup: Option<PathBuf>,
}

impl Environment {
    /// Looks around.
    pub fn look() -> Self {
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            lockdown: lockdown(),
            cgroup: root_cgroup(),
        }
    }
}

/// The oldest kernel that has what no hook can do without: the ring buffer (5.8). Hooks themselves are never chosen
/// by a version.
pub const FLOOR: (u32, u32) = (5, 8);

/// Whether a release, as `uname -r` prints it, is older than the floor; one that cannot be read is not.
pub fn below_floor(release: &str) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) < FLOOR
}

fn lockdown() -> Option<String> {
    active_mode(&fs::read_to_string("/sys/kernel/security/lockdown").ok()?)
}

/// The word in brackets: `none [integrity] confidentiality`.
fn active_mode(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// The first of the usual places that holds `cgroup.controllers`.
fn root_cgroup() -> Option<PathBuf> {
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    places
        .iter()
        .map(Path::new)
        .find(|place| place.join("cgroup.controllers").exists())
        .map(Path::to_path_buf)
}

/// Capabilities that the probes need, as bit and name (`include/uapi/linux/capability.h`).
const NEEDED: &[(u32, &str)] = &[(39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN")];
/// `CAP_SYS_ADMIN` includes `CAP_BPF` and `CAP_PERFMON`.
const CAP_SYS_ADMIN: u32 = 21;

/// Names of the capabilities that this process lacks for the probes.
pub fn missing_capabilities() -> io::Result<Vec<&'static str>> {
    Ok(missing(effective(&fs::read_to_string("/proc/self/status")?)))
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    let implied = |bit: u32| bit >= 38 && has(CAP_SYS_ADMIN);
    NEEDED.iter().filter(|(bit, _)| !has(*bit) && !implied(*bit)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bracketed_mode_is_the_active_one() {
        assert_eq!(active_mode("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(active_mode("").as_deref(), None);
    }

    #[test]
    fn only_kernels_before_the_ring_buffer_are_too_old() {
        assert!(below_floor("4.19.0-27-amd64") && below_floor("5.4.0") && below_floor("5.7"));
        assert!(
            !below_floor("5.8.0")
                && !below_floor("5.10.0-46-amd64")
                && !below_floor("6.1")
                && !below_floor("odd")
        );
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << 39 | 1 << 38 | 1 << 12), Vec::<&str>::new());
        assert_eq!(missing(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000001000\n"), 1 << 12);
    }
}
