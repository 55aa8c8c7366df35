//! The daemon's configuration: one TOML file, every key with a default, unknown keys refused with a suggestion.
//!
//! Understands and checks; opens nothing but the file itself. What a key means to a running daemon when it changes
//! is decided in `daemon::reload`.

mod file;
mod outbound;
mod suggest;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use file::{ConfigError, DEFAULT_PATH, DEFAULTS, load, load_again, parse};
pub use outbound::{Command, Otlp, Webhook};
pub use value::{Size, Span};

use crate::store::Retention;

/// The whole file. `defaults.toml` beside this module documents every key and is what the packages install.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is watched.
    pub watch: Watch,
    /// Where verdicts are kept, and how long.
    pub store: Store,
    /// What the verdicts were made of.
    pub recording: Recording,
    /// The endpoint for Prometheus.
    pub metrics: Metrics,
    /// Verdicts for local programs.
    pub live: Live,
    /// What the journal is told.
    pub log: Log,
    /// Notices by HTTP.
    pub webhook: Webhook,
    /// Notices for a command.
    pub command: Command,
    /// Verdicts and metrics by OTLP.
    pub otlp: Otlp,
}

/// What is watched; empty lists watch everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Only client connections on these listen ports.
    pub nginx_ports: Vec<u16>,
    /// Only these upstreams, with or without port.
    pub upstreams: Vec<String>,
    /// Follow these logs instead of those that Nginx writes.
    pub error_logs: Vec<PathBuf>,
    /// Receive the lines of `error_log syslog:server=…` here.
    pub syslog: Vec<String>,
    /// See and use only what happens in this network namespace.
    pub netns: Option<PathBuf>,
    /// Watch what listens on these ports instead of an Nginx, for `rstscope correlate`.
    pub listen_ports: Vec<u16>,
}

/// Where verdicts are kept, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The database file.
    pub path: PathBuf,
    /// Longest age of a verdict.
    pub keep: Span,
    /// Largest size of the file.
    pub size: Size,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: PathBuf::from(crate::store::DEFAULT_PATH),
            keep: Span::from_days(90),
            size: Size(1 << 30),
        }
    }
}

impl Store {
    /// What is kept.
    pub fn retention(&self) -> Retention {
        Retention { age: Some(self.keep.0), bytes: Some(self.size.0) }
    }
}

/// What the verdicts were made of, beside the store, for `rstscope replay` and `rstscope correlate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recording {
    /// Whether it is kept.
    pub enabled: bool,
    /// Largest size of all its files.
    pub size: Size,
}

impl Default for Recording {
    fn default() -> Self {
        Self { enabled: true, size: Size(64 << 20) }
    }
}

/// The endpoint for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Upstreams that get a label of their own; further ones are `other`.
    pub upstreams: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true, listen: SocketAddr::from(([127, 0, 0, 1], 9911)), upstreams: 64 }
    }
}

/// Verdicts for local programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Live {
    /// Whether there is a socket.
    pub enabled: bool,
    /// The socket.
    pub socket: PathBuf,
    /// Readers at the same time.
    pub readers: usize,
}

impl Default for Live {
    fn default() -> Self {
        Self { enabled: true, socket: PathBuf::from("/run/rstscope/live.sock"), readers: 16 }
    }
}

/// What the journal is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// One line per incident that is not harmless.
    pub incidents: bool,
    /// Most such lines in a minute; further ones are counted.
    pub per_minute: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { incidents: true, per_minute: 60 }
    }
}
