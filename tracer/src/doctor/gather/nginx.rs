//! Every Nginx that runs, with its configuration, limits, sockets and upstreams as they are now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Notes, network};
use crate::collect::sock_diag::{self, DiagSocket};
use crate::doctor::facts::{
    ListenerFacts, LocalUpstream, LogFacts, MeasuredIdle, NginxFacts, UnixState, WorkerFacts,
};
use crate::nginx::config::tree::Tree;
use crate::nginx::discover::{self, Instance, LogFile};
use crate::nginx::proc::{Proc, read_bounded};
use crate::nginx::tail::open_in_root;
use crate::nginx::unix;

/// Most bytes read of a binary, to find its version.
const BINARY_LIMIT: u64 = 128 << 20;
/// Words of a command line in which the name of a server is looked for.
const WORDS: usize = 4;
/// Servers that run under the name of an interpreter.
const INTERPRETED: [&str; 4] = ["gunicorn", "uvicorn", "hypercorn", "node"];

/// Facts of every Nginx, or of the one with this master.
pub(super) fn facts(pid: Option<u32>, measured: &[MeasuredIdle], notes: &mut Notes) -> Vec<NginxFacts> {
    let proc = Proc::default();
    let instances = discover::discover(pid, None);
    instances.iter().map(|instance| one(&proc, instance, measured, notes)).collect()
}

fn one(proc: &Proc, instance: &Instance, measured: &[MeasuredIdle], notes: &mut Notes) -> NginxFacts {
    let tree = tree(instance, notes);
    let sockets = sockets(instance, notes);
    let upstreams: BTreeSet<SocketAddr> = instance.config.upstreams.iter().copied().collect();
    NginxFacts {
        master: instance.master,
        version: version(proc, instance.master),
        file: instance.configuration_file.as_ref().map(|path| path.display().to_string()),
        workers: instance.workers.iter().map(|pid| worker(proc, *pid, notes)).collect(),
        listeners: listeners(instance, &sockets),
        network: network::facts(instance.master, notes),
        upstream_connections: connections(&sockets, &upstreams),
        unix_sockets: unix_sockets(proc, instance, &tree),
        local_upstreams: local_upstreams(proc, &sockets, &upstreams, notes),
        measured_idle: measured.to_vec(),
        error_logs: error_logs(instance),
        problems: instance.problems.iter().chain(&instance.config.problems).cloned().collect(),
        tree,
    }
}

fn tree(instance: &Instance, notes: &mut Notes) -> Tree {
    let Some(file) = &instance.configuration_file else {
        let why = "its configuration file was not found; run it as root";
        let checks = [
            "keepalive_idle",
            "keepalive_unused",
            "retry_non_idempotent",
            "access_log_fields",
            "unix_sockets",
        ];
        notes.add(format!("the configuration of Nginx {}", instance.master), why, &checks);
        return Tree::default();
    };
    Tree::read(&instance.root, file)
}

fn sockets(instance: &Instance, notes: &mut Notes) -> Vec<DiagSocket> {
    let path = PathBuf::from(format!("/proc/{}/ns/net", instance.master));
    sock_diag::list(&path).unwrap_or_else(|error| {
        let checks = ["listen_backlog", "listen_queue_now", "ephemeral_ports", "keepalive_idle"];
        notes.add("sockets", format!("{error}; run it as root"), &checks);
        Vec::new()
    })
}

fn worker(proc: &Proc, pid: u32, notes: &mut Notes) -> WorkerFacts {
    let descriptors = proc.descriptors(pid);
    let is_seen = !descriptors.is_empty();
    if !is_seen {
        let why = format!("the descriptors of process {pid} cannot be read; run it as root");
        notes.add("open files of workers", why, &["worker_use"]);
    }
    let sockets = descriptors.values().filter(|target| target.to_string_lossy().starts_with("socket:"));
    WorkerFacts {
        pid,
        sockets: is_seen.then(|| sockets.count() as u64),
        files: is_seen.then_some(descriptors.len() as u64),
        file_limit: file_limit(proc, pid),
    }
}

/// The soft limit in `/proc/PID/limits`.
fn file_limit(proc: &Proc, pid: u32) -> Option<u64> {
    let text = String::from_utf8_lossy(&proc.read(pid, "limits")?).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `nginx/1.22.1` in the binary (`NGINX_VER` in `src/core/nginx.h`).
fn version(proc: &Proc, pid: u32) -> Option<(u32, u32, u32)> {
    let bytes = read_bounded(&proc.path(pid, "exe"), BINARY_LIMIT).ok()?;
    memchr::memmem::find_iter(&bytes, b"nginx/").find_map(|at| number(bytes.get(at + 6..at + 22)?))
}

fn number(text: &[u8]) -> Option<(u32, u32, u32)> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
    let mut parts = std::str::from_utf8(&text[..end]).ok()?.split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}

fn listeners(instance: &Instance, sockets: &[DiagSocket]) -> Vec<ListenerFacts> {
    let ours = sockets.iter().filter(|one| one.listening && instance.listeners.contains(&one.local));
    ours.map(|one| ListenerFacts {
        address: one.local,
        queue: u64::from(one.queue),
        limit: u64::from(one.limit),
    })
    .collect()
}

fn connections(sockets: &[DiagSocket], upstreams: &BTreeSet<SocketAddr>) -> Vec<(SocketAddr, u64)> {
    let mut counts = BTreeMap::new();
    for socket in sockets.iter().filter(|one| !one.listening && upstreams.contains(&one.remote)) {
        *counts.entry(socket.remote).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

fn unix_sockets(proc: &Proc, instance: &Instance, tree: &Tree) -> Vec<(String, UnixState)> {
    let user = instance.workers.first().and_then(|pid| unix::User::of(proc, *pid));
    let table = unix::table(proc, instance.master);
    let look = |path: String| {
        let state = unix::state(&instance.root, &path, user.as_ref(), table.as_deref());
        (path, state)
    };
    unix::named(tree).into_iter().map(look).collect()
}

/// Upstreams on which a process of this network namespace listens.
fn local_upstreams(
    proc: &Proc,
    sockets: &[DiagSocket],
    upstreams: &BTreeSet<SocketAddr>,
    notes: &mut Notes,
) -> Vec<LocalUpstream> {
    let answers = |socket: &DiagSocket, upstream: &SocketAddr| {
        let is_here = socket.local.ip().is_unspecified() && upstream.ip().is_loopback();
        socket.listening
            && socket.local.port() == upstream.port()
            && (is_here || socket.local.ip() == upstream.ip())
    };
    let found = upstreams.iter().filter_map(|upstream| {
        Some((*upstream, sockets.iter().find(|socket| answers(socket, upstream))?.inode))
    });
    let wanted: HashMap<SocketAddr, u32> = found.collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let programs = programs(proc, &wanted.values().copied().collect());
    let mut local = Vec::new();
    for (address, inode) in wanted {
        match programs.get(&inode) {
            Some(program) => local.push(LocalUpstream { address, program: program.clone() }),
            None => notes.add(
                format!("the process behind {address}"),
                "its descriptors cannot be read; run it as root",
                &["keepalive_idle", "oom_kills"],
            ),
        }
    }
    local.sort_by_key(|one| one.address);
    local
}

/// Names of the processes that hold sockets.
fn programs(proc: &Proc, inodes: &BTreeSet<u32>) -> HashMap<u32, String> {
    let mut found = HashMap::new();
    for pid in proc.pids() {
        for target in proc.descriptors(pid).values() {
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                found.entry(inode).or_insert_with(|| program(proc, pid));
            }
        }
    }
    found
}

/// The server's name: that of its process, or the one an interpreter runs.
fn program(proc: &Proc, pid: u32) -> String {
    let arguments = proc.arguments(pid);
    let words = arguments.iter().take(WORDS).filter_map(|word| Path::new(word).file_name()?.to_str());
    if let Some(known) = words.into_iter().find_map(|word| INTERPRETED.iter().find(|known| **known == word)) {
        return (*known).to_owned();
    }
    let comm = proc.read(pid, "comm").unwrap_or_default();
    String::from_utf8_lossy(comm.trim_ascii()).into_owned()
}

fn error_logs(instance: &Instance) -> Vec<LogFacts> {
    let problem =
        |log: &LogFile| open_in_root(&log.target.root, &log.target.path).err().map(|error| error.to_string());
    let files = instance.error_logs.iter().map(|log| LogFacts {
        target: log.target.path.display().to_string(),
        level: log.level,
        problem: problem(log),
    });
    let syslog = instance.configuration.syslog_error_logs.iter().map(|(target, level)| LogFacts {
        target: target.clone(),
        level: Some(*level),
        problem: None,
    });
    files.chain(syslog).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers() {
        assert_eq!(number(b"1.22.1\0built by"), Some((1, 22, 1)));
        assert_eq!(number(b"1.31.5 (Debian)."), Some((1, 31, 5)));
        for other in [&b"html\0"[..], b"1.2\0", b"1.2.3.4\0", b"..\0", b"1.22.1"] {
            assert_eq!(number(other), None);
        }
    }

    #[test]
    fn servers_behind_interpreters_are_known_by_their_arguments() {
        let root = tempfile::tempdir().unwrap();
        let process = |pid: u32, cmdline: &str, comm: &str| {
            let directory = root.path().join(pid.to_string());
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("cmdline"), cmdline).unwrap();
            std::fs::write(directory.join("comm"), comm).unwrap();
            program(&Proc::at(root.path()), pid)
        };
        assert_eq!(process(1, "/usr/bin/python3\0/usr/bin/gunicorn\0app:app\0", "python3\n"), "gunicorn");
        assert_eq!(process(2, "/usr/bin/node\0server.js\0", "MainThread\n"), "node");
        assert_eq!(process(3, "/usr/sbin/apache2\0-k\0start\0", "apache2\n"), "apache2");
    }
}
