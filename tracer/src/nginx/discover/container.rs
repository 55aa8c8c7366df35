//! Where a container runtime keeps what a process writes to its standard output and error: Docker's json-file, and
//! the files of CRI runtimes under Kubernetes. A pipe can't be read without taking the lines from its reader; the file
//! that the reader writes can.

use std::fs;
use std::path::{Path, PathBuf};

use crate::nginx::proc::Proc;
use crate::nginx::tail::Target;

/// Names looked at in a directory.
const NAMES_LIMIT: usize = 65_536;
/// Where Docker keeps a directory per container.
const DOCKER: &str = "/var/lib/docker/containers";
/// Where the kubelet links the logs of all containers.
const KUBERNETES: &str = "/var/log/containers";
/// Hexadecimal digits of a container id.
const ID_LENGTH: usize = 64;

/// The file that holds the standard error of a process in a container, on this host.
pub(super) fn log_of(proc: &Proc, pid: u32) -> Option<Target> {
    let cgroup = String::from_utf8_lossy(&proc.read(pid, "cgroup")?).into_owned();
    let id = id(&cgroup)?;
    find(Path::new(DOCKER), Path::new(KUBERNETES), id).map(Target::local)
}

/// The id of the innermost container in a cgroup path.
fn id(cgroup: &str) -> Option<&str> {
    let is_id = |part: &&str| part.len() == ID_LENGTH && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    cgroup.split(|character: char| !character.is_ascii_alphanumeric()).rfind(is_id)
}

fn find(docker: &Path, kubernetes: &Path, id: &str) -> Option<PathBuf> {
    let json = docker.join(id).join(format!("{id}-json.log"));
    if json.is_file() {
        return Some(json);
    }
    // `POD_NAMESPACE_CONTAINER-ID.log`, a link into `/var/log/pods`.
    let end = format!("-{id}.log");
    let entries = fs::read_dir(kubernetes).ok()?.take(NAMES_LIMIT).filter_map(Result::ok);
    let link = entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(&end))?;
    link.is_file().then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_container_counts() {
        let (outer, inner) = ("a".repeat(64), "0123456789abcdef".repeat(4));
        assert_eq!(id(&format!("0::/docker/{outer}/docker/{inner}\n")), Some(&*inner));
        let unit = format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{inner}.scope\n");
        assert_eq!(id(&unit), Some(&*inner));
        assert_eq!(id("0::/system.slice/nginx.service\n"), None);
    }

    #[test]
    fn docker_and_kubernetes_have_their_places() {
        let root = tempfile::tempdir().expect("directory");
        let (docker, kubernetes) = (root.path().join("docker"), root.path().join("kubernetes"));
        let id = "c".repeat(64);
        assert_eq!(find(&docker, &kubernetes, &id), None);
        fs::create_dir_all(&kubernetes).expect("directory");
        let link = kubernetes.join(format!("web-1_shop_nginx-{id}.log"));
        fs::write(&link, "").expect("write");
        assert_eq!(find(&docker, &kubernetes, &id), Some(link));
        fs::create_dir_all(docker.join(&id)).expect("directory");
        let json = docker.join(&id).join(format!("{id}-json.log"));
        fs::write(&json, "").expect("write");
        assert_eq!(find(&docker, &kubernetes, &id), Some(json));
    }
}
