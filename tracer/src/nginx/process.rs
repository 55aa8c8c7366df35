//! Which processes are Nginx's: masters by the title they give themselves, workers by their parent, and a single
//! process (`master_process off`) by its executable. Looks at `/proc` only.

use super::proc::Proc;

/// What a process of Nginx is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `nginx: master process …`.
    Master,
    /// `nginx: worker process`, also while it shuts down.
    Worker,
    /// Cache manager, cache loader and the like: children that own no connections.
    Helper,
    /// Runs without a master.
    Single,
}

/// A process of Nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id on the host.
    pub pid: u32,
    /// The pid the process prints into its log.
    pub own_pid: u32,
    /// Parent process.
    pub parent: u32,
    /// What it is there for.
    pub role: Role,
    /// The arguments Nginx was started with, the program first; empty for workers.
    pub arguments: Vec<String>,
}

/// Names of executables that are Nginx under `master_process off`.
const EXECUTABLES: [&str; 6] = ["nginx", "openresty", "angie", "tengine", "freenginx", "nginx-debug"];

/// Options that make a short-lived process which serves nothing.
const NO_SERVICE: [&str; 7] = ["-s", "-t", "-T", "-v", "-V", "-h", "-?"];

/// Every process of Nginx.
pub fn list(proc: &Proc) -> Vec<Process> {
    let mut found: Vec<Process> = proc.pids().into_iter().filter_map(|pid| look_at(proc, pid)).collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The children of a master that own connections, as of now. Cheap: reads two small files per child.
pub fn workers(proc: &Proc, master: u32) -> Vec<Process> {
    let children = children(proc, master).unwrap_or_else(|| proc.pids());
    let found = children.into_iter().filter_map(|pid| look_at(proc, pid));
    found.filter(|process| process.parent == master && process.role == Role::Worker).collect()
}

/// What a process is there for, if it is one of Nginx's. Cheap: reads one small file of any other process.
pub fn role(proc: &Proc, pid: u32) -> Option<Role> {
    look_at(proc, pid).map(|process| process.role)
}

/// `/proc/PID/task/PID/children`; `None` on kernels without it.
fn children(proc: &Proc, pid: u32) -> Option<Vec<u32>> {
    let bytes = proc.read(pid, &format!("task/{pid}/children"))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect())
}

fn look_at(proc: &Proc, pid: u32) -> Option<Process> {
    let arguments = proc.arguments(pid);
    let title = arguments.first()?;
    let (role, arguments) = match title.strip_prefix("nginx: ").or_else(|| title.strip_prefix("angie: ")) {
        Some(title) => role_of_title(title, &arguments[1..]),
        None => (single(proc, pid, &arguments)?, arguments),
    };
    let status = proc.status(pid)?;
    Some(Process { pid, own_pid: status.own_pid, parent: status.parent, role, arguments })
}

/// The title of a master repeats its arguments, separated by spaces.
fn role_of_title(title: &str, rest: &[String]) -> (Role, Vec<String>) {
    if let Some(arguments) = title.strip_prefix("master process") {
        let words = arguments.split_ascii_whitespace().map(str::to_owned);
        return (Role::Master, words.chain(rest.iter().cloned()).collect());
    }
    let role = if title.starts_with("worker process") { Role::Worker } else { Role::Helper };
    (role, Vec::new())
}

fn single(proc: &Proc, pid: u32, arguments: &[String]) -> Option<Role> {
    let program = arguments.first()?.rsplit('/').next()?;
    if !EXECUTABLES.contains(&program)
        || arguments.iter().any(|argument| NO_SERVICE.contains(&argument.as_str()))
    {
        return None;
    }
    let executable = proc.executable(pid)?;
    let name = executable.file_name()?.to_str()?;
    EXECUTABLES.contains(&name).then_some(Role::Single)
}

/// The value of an option such as `-c`, written apart or together.
pub fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        if word == name {
            return words.next().map(String::as_str);
        }
        if let Some(value) = word.strip_prefix(name).filter(|value| !value.is_empty()) {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn add(root: &Path, pid: u32, parent: u32, cmdline: &str, own_pid: &str) {
        let directory = root.join(pid.to_string());
        fs::create_dir_all(&directory).expect("directory");
        fs::write(directory.join("cmdline"), cmdline).expect("cmdline");
        let status = format!("Name:\tnginx\nPPid:\t{parent}\nNSpid:\t{own_pid}\n");
        fs::write(directory.join("status"), status).expect("status");
    }

    #[test]
    fn masters_and_workers_with_their_own_pids() {
        let root = tempfile::tempdir().expect("directory");
        add(root.path(), 100, 1, "nginx: master process nginx -p /srv/ -c a.conf\0\0\0", "100\t1");
        add(root.path(), 101, 100, "nginx: worker process\0\0\0", "101\t7");
        add(root.path(), 102, 100, "nginx: cache manager process\0", "102\t8");
        add(root.path(), 103, 100, "nginx: worker process is shutting down\0", "103\t9");
        add(root.path(), 200, 1, "bash\0-c\0nginx: worker process\0", "200");
        let proc = Proc::at(root.path());
        let found = list(&proc);
        let roles: Vec<_> =
            found.iter().map(|process| (process.pid, process.own_pid, process.role)).collect();
        assert_eq!(
            roles,
            [(100, 1, Role::Master), (101, 7, Role::Worker), (102, 8, Role::Helper), (103, 9, Role::Worker)]
        );
        assert_eq!(option(&found[0].arguments, "-c"), Some("a.conf"));
        assert_eq!(option(&found[0].arguments, "-p"), Some("/srv/"));
        let pids: Vec<u32> = workers(&proc, 100).iter().map(|worker| worker.pid).collect();
        assert_eq!(pids.len(), 2);
        assert!(pids.contains(&101) && pids.contains(&103));
    }

    #[test]
    fn a_single_process_is_known_by_its_executable() {
        let root = tempfile::tempdir().expect("directory");
        add(root.path(), 10, 1, "/usr/sbin/nginx\0-g\0master_process off;\0", "10");
        add(root.path(), 11, 1, "/usr/sbin/nginx\0-s\0reload\0", "11");
        add(root.path(), 12, 1, "/usr/sbin/nginx\0", "12");
        for (pid, executable) in
            [(10, "/usr/sbin/nginx"), (11, "/usr/sbin/nginx"), (12, "/usr/bin/vim (deleted)")]
        {
            std::os::unix::fs::symlink(executable, root.path().join(pid.to_string()).join("exe"))
                .expect("link");
        }
        let found = list(&Proc::at(root.path()));
        assert_eq!(
            found.iter().map(|process| (process.pid, process.role)).collect::<Vec<_>>(),
            [(10, Role::Single)]
        );
    }
}
