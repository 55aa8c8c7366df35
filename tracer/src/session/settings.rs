//! What a session is asked to do, after the command line has been understood.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::SessionError;
use crate::model::LogRecord;
use crate::nginx::syslog::Address;

/// Settings of a session.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Only client connections on these ports; empty: all.
    pub nginx_ports: Vec<u16>,
    /// Only these upstreams, port zero for every port; empty: all.
    pub upstreams: Vec<SocketAddr>,
    /// These logs instead of those Nginx writes; empty: those Nginx writes.
    pub error_logs: Vec<PathBuf>,
    /// Only the Nginx with this master.
    pub pid: Option<u32>,
    /// Only this network namespace.
    pub netns: Option<PathBuf>,
    /// End after this time.
    pub duration: Option<Duration>,
    /// End at once when no Nginx runs.
    pub no_wait: bool,
    /// Type information other than the running kernel's.
    pub btf: Option<PathBuf>,
    /// Hooks that must not run.
    pub disabled_hooks: Vec<String>,
    /// Say once a second what the session is like.
    pub pulse: bool,
    /// Nobody is there to choose another place for what is kept: what cannot be kept is done without, and said.
    pub unattended: bool,
    /// Give outputs what stands behind each verdict, too.
    pub witnessing: bool,
    /// Sizes other than those for this host, see `probe::Sizes::overridden`.
    pub sizes: String,
    /// Record what reaches the engine.
    pub record: Option<Record>,
    /// Keep the positions in the logs in this file, and go on from there.
    pub positions: Option<PathBuf>,
    /// Lines that were there before, and are told already.
    pub told: Told,
    /// Watch what listens on these ports instead of an Nginx, for `rstscope correlate`.
    pub listen_ports: Vec<u16>,
    /// Receive what Nginx sends to a syslog server.
    pub syslog: Vec<Address>,
}

/// Lines of the log that are told already: file, offset, and Nginx's number of the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told(pub Arc<HashSet<(String, u64, u64)>>);

impl Told {
    /// Whether this one is.
    pub fn has(&self, record: &LogRecord) -> bool {
        let line = |connection| (record.file.clone(), record.offset, connection);
        !self.0.is_empty() && record.connection.is_some_and(|connection| self.0.contains(&line(connection)))
    }
}

/// Where to record, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The file, or the folder.
    pub path: PathBuf,
    /// Longest recording, bytes.
    pub limit: u64,
    /// In a folder, whose oldest files make room for the newest.
    pub without_end: bool,
}

impl Settings {
    /// Inode number of the namespace asked for; zero for all.
    pub fn netns_inode(&self) -> Result<u32, SessionError> {
        let Some(path) = &self.netns else { return Ok(0) };
        let metadata = fs::metadata(path);
        let metadata = metadata.map_err(|source| SessionError::Namespace { path: path.clone(), source })?;
        Ok(u32::try_from(metadata.ino()).unwrap_or(0))
    }

    /// The filters in force, as the user would type them.
    pub fn filters(&self) -> Vec<String> {
        let mut filters = Vec::new();
        filters.extend(self.listen_ports.iter().map(|port| format!("--listen-port {port}")));
        filters.extend(self.nginx_ports.iter().map(|port| format!("--nginx-port {port}")));
        filters.extend(self.upstreams.iter().map(|upstream| format!("--upstream {}", typed(*upstream))));
        filters.extend(self.pid.iter().map(|pid| format!("--pid {pid}")));
        filters.extend(self.netns.iter().map(|path| format!("--netns {}", path.display())));
        filters
    }
}

fn typed(upstream: SocketAddr) -> String {
    if upstream.port() == 0 { upstream.ip().to_string() } else { upstream.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_shown_as_typed() {
        let settings = Settings {
            nginx_ports: vec![80],
            upstreams: vec!["10.0.0.1:0".parse().unwrap(), "[fd00::1]:80".parse().unwrap()],
            ..Settings::default()
        };
        assert_eq!(settings.filters(), ["--nginx-port 80", "--upstream 10.0.0.1", "--upstream [fd00::1]:80"]);
    }

    #[test]
    fn a_namespace_that_is_not_there_is_named() {
        let settings = Settings { netns: Some("/nonexistent/ns".into()), ..Settings::default() };
        assert!(settings.netns_inode().unwrap_err().to_string().contains("/nonexistent/ns"));
    }
}
