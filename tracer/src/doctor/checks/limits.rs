//! Limits of the workers: connections and open files, as configured and as used now.

use super::{percent, seen};
use crate::doctor::Facts;
use crate::doctor::facts::{NginxFacts, WorkerFacts};
use crate::doctor::report::{Seen, Severity};

/// `worker_connections` without a directive (`src/event/ngx_event.c`).
const DEFAULT_CONNECTIONS: u64 = 512;

/// From these parts of a limit on its use is worth a word, percent.
const NEAR: u64 = 60;
const VERY_NEAR: u64 = 85;

fn connections(nginx: &NginxFacts) -> u64 {
    let told =
        nginx.tree.named("worker_connections").find_map(|(_, one)| one.arguments.first()?.parse().ok());
    told.unwrap_or(DEFAULT_CONNECTIONS)
}

/// Workers are alike, so the first one speaks for all.
pub(super) fn files(facts: &Facts) -> Vec<Seen> {
    let short = |nginx: &NginxFacts| {
        let limit = nginx.workers.iter().find_map(|worker| worker.file_limit)?;
        let connections = connections(nginx);
        if limit >= connections.saturating_mul(2) {
            return None;
        }
        let severity = if limit < connections { Severity::Critical } else { Severity::Warning };
        let wanted = connections.saturating_mul(2).next_power_of_two();
        Some(seen(
            severity,
            format!("workers of Nginx {}", nginx.master),
            format!("{limit} open files for worker_connections {connections}"),
            "A proxied request takes two descriptors, a cached or logged one more: at the limit accept4() and socket() \
             fail with (24: Too many open files), and clients wait in the queue",
            format!("worker_rlimit_nofile {wanted}; (main), or LimitNOFILE={wanted} in the unit"),
        ))
    };
    facts.nginx.iter().filter_map(short).collect()
}

pub(super) fn usage(facts: &Facts) -> Vec<Seen> {
    facts.nginx.iter().flat_map(|nginx| nginx.workers.iter().flat_map(|worker| near(nginx, worker))).collect()
}

fn near(nginx: &NginxFacts, worker: &WorkerFacts) -> Vec<Seen> {
    let limits = [
        (
            worker.sockets,
            Some(connections(nginx)),
            "sockets",
            "worker_connections",
            "worker_connections (events)",
        ),
        (worker.files, worker.file_limit, "files", "the limit of open files", "worker_rlimit_nofile (main)"),
    ];
    let finding = |(used, limit, what, name, directive): (Option<u64>, Option<u64>, &str, &str, &str)| {
        let (used, limit) = (used?, limit?);
        let part = percent(used, limit);
        let severity = match part {
            ..NEAR => return None,
            NEAR..VERY_NEAR => Severity::Warning,
            _ => Severity::Critical,
        };
        Some(seen(
            severity,
            format!("worker {}", worker.pid),
            format!("{used} {what} open of {limit} ({part} %): {name}"),
            "At the limit new connections are refused or answered with 500, idle ones are closed early",
            format!("Raise {directive}, or find what holds them (slow upstreams, long keep-alive)"),
        ))
    };
    limits.into_iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{only, with};
    use super::*;

    fn facts(connections: u64, worker: WorkerFacts) -> Facts {
        with(&format!("events {{ worker_connections {connections}; }}"), |nginx| nginx.workers.push(worker))
    }

    fn worker(files: u64, sockets: u64, limit: u64) -> WorkerFacts {
        WorkerFacts { pid: 9, files: Some(files), sockets: Some(sockets), file_limit: Some(limit) }
    }

    #[test]
    fn two_files_for_each_connection() {
        let found = files(&facts(1024, worker(0, 0, 1024)));
        assert!(only(&found, Severity::Warning).change.contains("worker_rlimit_nofile 2048;"));
        only(&files(&facts(2000, worker(0, 0, 1024))), Severity::Critical);
        assert_eq!(files(&facts(512, worker(0, 0, 1024))), []);
    }

    #[test]
    fn use_near_a_limit() {
        assert_eq!(usage(&facts(1000, worker(500, 500, 2000))), []);
        assert!(
            only(&usage(&facts(1000, worker(700, 700, 2000))), Severity::Warning)
                .seen
                .contains("700 sockets")
        );
        assert!(
            only(&usage(&facts(9000, worker(1900, 900, 2000))), Severity::Critical)
                .seen
                .contains("1900 files")
        );
    }
}
