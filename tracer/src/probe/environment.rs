//! What the kernel allows: version, lockdown, type information, the root of cgroup v2, capabilities.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::nginx::proc::Proc;

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

/// The first process, whose mounts are the host's.
const INIT: u32 = 1;
/// Ancestors that are asked for their mounts.
const GENERATIONS: usize = 16;
/// Where most systems mount cgroup v2.
const USUAL: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// The first of the usual places that holds `cgroup.controllers`, else where it is mounted, else where an ancestor sees
/// it: `ip netns exec` hides it from what it runs.
fn root_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    cgroup_places(&mounts, &ancestors()).into_iter().find(|place| place.join("cgroup.controllers").exists())
}

/// Where the root of cgroup v2 may be, best first.
fn cgroup_places(mounts: &str, ancestors: &[u32]) -> Vec<PathBuf> {
    let usual = USUAL.iter().map(PathBuf::from);
    let mounted = mounts.lines().filter_map(cgroup_mount);
    let seen_by = |pid: &u32| {
        USUAL.map(|place| Path::new(&format!("/proc/{pid}/root")).join(place.trim_start_matches('/')))
    };
    usual.chain(mounted).chain(ancestors.iter().flat_map(seen_by)).collect()
}

/// Parent, its parent, and so on. Hosts may keep the first process from being looked into.
fn ancestors() -> Vec<u32> {
    let proc = Proc::default();
    let parent = |pid: &u32| proc.status(*pid).map(|status| status.parent).filter(|parent| *parent >= INIT);
    std::iter::successors(parent(&std::process::id()), parent).take(GENERATIONS).collect()
}

/// The mount point of a line of `mountinfo`, if the whole of a cgroup v2 is mounted there.
fn cgroup_mount(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (kind.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
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
    fn cgroup_v2_is_looked_for_where_it_is_mounted_and_on_the_host() {
        let mounts = "31 24 0:27 / /run/cg2 rw - cgroup2 cgroup2 rw\n\
                      32 24 0:27 /user.slice /part rw - cgroup2 cgroup2 rw\n\
                      33 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let places = cgroup_places(mounts, &[7, INIT]);
        let places: Vec<&str> = places.iter().filter_map(|place| place.to_str()).collect();
        let seen = ["/proc/7/root/sys/fs/cgroup/unified", "/proc/7/root/sys/fs/cgroup"];
        let host = ["/proc/1/root/sys/fs/cgroup/unified", "/proc/1/root/sys/fs/cgroup"];
        assert_eq!(places, [&USUAL[..], &["/run/cg2"], &seen, &host].concat());
    }

    #[test]
    fn the_line_of_ancestors_begins_with_the_parent_and_ends() {
        let line = ancestors();
        assert_eq!(line.first().copied(), Some(std::os::unix::process::parent_id()));
        assert!(line.len() <= GENERATIONS && !line.contains(&0), "{line:?}");
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
