//! Host facts for the judge and the session header for people.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::model::{HostFacts, Level, NginxConfig};
use crate::nginx::discover::{Instance, LogFile};
use crate::nginx::syslog::Address;
use crate::nginx::tail::{Target, open_in_root};
use crate::output::{HookTier, SessionHeader, WatchedLog, WatchedNginx};
use crate::probe::Environment;

use super::kernel::KernelSide;
use super::watch::{Watch, listeners};
use super::{Settings, addresses, system};

/// Facts about the host, its hooks and the Nginx found on it.
pub fn facts(
    kernel: &KernelSide,
    environment: &Environment,
    watch: &Watch,
    settings: &Settings,
) -> HostFacts {
    let pids = watch.instances().iter().map(|instance| instance.master);
    let local: BTreeSet<_> = pids.flat_map(addresses::of_process).collect();
    HostFacts {
        host: name(),
        kernel: environment.kernel.clone(),
        hooks: kernel.hooks.clone(),
        follows_error_log: follows_error_log(watch.instances(), settings),
        local_addresses: local.into_iter().collect(),
        nginx: merged(watch.instances()),
        capture: None,
        observes: settings.listen_ports.clone(),
        system: system::facts(watch.instances(), environment.lockdown.as_deref()),
    }
}

/// `error` is the level Nginx logs at when nothing else is configured.
fn follows_error_log(instances: &[Instance], settings: &Settings) -> bool {
    let wide_enough = |log: &LogFile| {
        log.level.is_none_or(|level| level >= Level::Error) && unreadable(&log.target).is_none()
    };
    let received = |(target, level): &(String, Level)| {
        *level >= Level::Error && settings.syslog.iter().any(|address| address.receives(target))
    };
    let sent = instances.iter().flat_map(|instance| &instance.configuration.syslog_error_logs);
    instances.iter().flat_map(|instance| &instance.error_logs).any(wide_enough) || sent.clone().any(received)
}

/// Why a log cannot be followed now.
fn unreadable(target: &Target) -> Option<String> {
    open_in_root(&target.root, &target.path).err().map(|error| error.to_string())
}

/// Host name.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Several instances as one configuration.
fn merged(instances: &[Instance]) -> NginxConfig {
    let mut all = NginxConfig::default();
    for config in instances.iter().map(|instance| &instance.config) {
        all.connect_timeouts_ms.extend(&config.connect_timeouts_ms);
        all.read_timeouts_ms.extend(&config.read_timeouts_ms);
        all.client_timeouts_ms.extend(&config.client_timeouts_ms);
        all.upstream_keepalive_timeouts_ms.extend(&config.upstream_keepalive_timeouts_ms);
        all.shutdown_timeouts_ms.extend(&config.shutdown_timeouts_ms);
        all.reset_timedout_connection |= config.reset_timedout_connection;
        all.lingering_close_off |= config.lingering_close_off;
        all.real_ip |= config.real_ip;
        all.upstreams.extend(&config.upstreams);
        all.listeners.extend(&config.listeners);
        all.http_listeners.extend(&config.http_listeners);
        all.http2_listeners.extend(&config.http2_listeners);
        all.problems.extend(config.problems.iter().cloned());
        all.excerpt.extend(config.excerpt.iter().cloned());
    }
    all
}

/// The header of the session.
pub fn header(
    kernel: &KernelSide,
    environment: &Environment,
    watch: &Watch,
    settings: &Settings,
    shown: Vec<String>,
) -> SessionHeader {
    let instances = watch.instances();
    let listen: BTreeSet<SocketAddr> =
        instances.iter().flat_map(|instance| listeners(instance, settings)).collect();
    let upstreams: BTreeSet<SocketAddr> =
        instances.iter().flat_map(|instance| instance.config.upstreams.iter().copied()).collect();
    let mut filters = settings.filters();
    filters.extend(shown);
    SessionHeader {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: name(),
        kernel: environment.kernel.clone(),
        lockdown: environment
            .lockdown
            .clone()
            .unwrap_or_else(|| "unknown (securityfs is not mounted)".to_owned()),
        tier: if kernel.reads_memory() { HookTier::RawTracepoint } else { HookTier::TypedTracepoint },
        hooks: kernel.hooks.clone(),
        nginx: instances.iter().map(nginx).collect(),
        listeners: listen.iter().map(ToString::to_string).collect(),
        upstreams: upstreams.iter().map(ToString::to_string).collect(),
        logs: logs(instances, settings).into_iter().chain(received(instances, settings)).collect(),
        filters,
        notes: notes(kernel, watch, settings),
    }
}

fn nginx(instance: &Instance) -> WatchedNginx {
    WatchedNginx {
        master: instance.master,
        workers: instance.workers.clone(),
        configuration: instance.configuration_file.as_ref().map(|path| path.display().to_string()),
        netns: instance.netns,
    }
}

fn logs(instances: &[Instance], settings: &Settings) -> Vec<WatchedLog> {
    if !settings.error_logs.is_empty() {
        let log = |path: &std::path::PathBuf| WatchedLog {
            path: path.display().to_string(),
            level: None,
            problem: unreadable(&Target::local(path)),
        };
        return settings.error_logs.iter().map(log).collect();
    }
    let of = |instance: &Instance| {
        let log = |log: &LogFile| WatchedLog {
            path: log.target.path.display().to_string(),
            level: log.level,
            problem: unreadable(&log.target),
        };
        instance.error_logs.iter().map(log).collect::<Vec<_>>()
    };
    instances.iter().flat_map(of).collect()
}

/// What goes to a syslog server that is not this session, and how it could come here, too.
fn unreceived(instances: &[Instance], settings: &Settings) -> Vec<String> {
    let sent = instances.iter().flat_map(|instance| &instance.configuration.syslog_error_logs);
    let elsewhere =
        sent.filter(|(target, _)| !settings.syslog.iter().any(|address| address.receives(target)));
    let note = |(target, _): &(String, Level)| {
        // What may be long comes last: long notes are cut.
        format!(
            "an error_log goes to a syslog server and is not seen here; add `error_log \
             syslog:server=127.0.0.1:5514 info;` and start with --syslog udp:127.0.0.1:5514 ({target})"
        )
    };
    elsewhere.map(note).collect()
}

/// Syslog listeners as logs, each with the level that is sent to it.
fn received(instances: &[Instance], settings: &Settings) -> Vec<WatchedLog> {
    let sent = || instances.iter().flat_map(|instance| &instance.configuration.syslog_error_logs);
    let level = |address: &Address| {
        sent().filter(|(target, _)| address.receives(target)).map(|(_, level)| *level).max()
    };
    let log = |address: &Address| WatchedLog {
        path: format!("syslog {address}"),
        level: level(address),
        problem: None,
    };
    settings.syslog.iter().map(log).collect()
}

fn notes(kernel: &KernelSide, watch: &Watch, settings: &Settings) -> Vec<String> {
    let mut notes = watch.problems();
    notes.extend(unreceived(watch.instances(), settings));
    notes.extend(kernel.problem.iter().map(|problem| {
        format!(
            "no kernel hook runs, only the log speaks and nothing can be more than undetermined: {problem}"
        )
    }));
    if !kernel.missing_members().is_empty() {
        notes.push(format!("this kernel has no {}; they read as zero", kernel.missing_members().join(", ")));
    }
    if watch.seeds() > 0 {
        notes.push(format!(
            "{} connections are older than this session; how they began is not known",
            watch.seeds()
        ));
    }
    notes
}
