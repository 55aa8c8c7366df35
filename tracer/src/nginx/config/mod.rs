//! Nginx's configuration as far as resets are concerned: timeouts, keep-alive, listeners, upstreams, log files.
//! Read from the files as they are now, which may be newer than what runs; nothing is executed and no name is asked
//! on the network.

mod extract;
mod files;
mod token;
pub mod tree;
pub mod value;

use std::path::{Path, PathBuf};

use crate::model::{Level, NginxConfig};

/// What an `error_log` directive says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorLog {
    /// Absolute path inside the root of the process.
    pub path: PathBuf,
    /// Least severe level written.
    pub level: Level,
}

/// What an `access_log` directive says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Absolute path inside the root of the process.
    pub path: PathBuf,
    /// Name of the format.
    pub format: String,
}

/// A `log_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFormat {
    /// Its name.
    pub name: String,
    /// `escape=`: `default`, `json` or `none`.
    pub escape: String,
    /// The format string.
    pub format: String,
}

/// A configuration, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// What the judge wants to know.
    pub facts: NginxConfig,
    /// `error_log` directives that name a file, in order.
    pub error_logs: Vec<ErrorLog>,
    /// `error_log` targets that are not files: `stderr`, `syslog:…`, `memory:…`.
    pub other_error_logs: Vec<String>,
    /// Those of them that are syslog servers (`syslog:server=…`), with their level.
    pub syslog_error_logs: Vec<(String, Level)>,
    /// `access_log` directives that name a file without variables.
    pub access_logs: Vec<AccessLog>,
    /// `log_format` directives.
    pub log_formats: Vec<LogFormat>,
    /// The files that were read, inside the root of the process.
    pub files: Vec<PathBuf>,
}

/// Where a configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The main file, inside the root of the process.
    pub file: PathBuf,
    /// The prefix that relative log paths start from.
    pub prefix: PathBuf,
    /// `error_log` when the configuration names none.
    pub default_error_log: PathBuf,
}

/// Reads a configuration inside the root of the process.
pub fn read(root: &Path, location: &Location) -> Configuration {
    extract::read(root, location)
}
