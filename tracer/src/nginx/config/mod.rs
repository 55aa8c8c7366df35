//! Nginx's configuration as far as resets are concerned: timeouts, keep-alive, listeners, upstreams, log files.
//! Read from the files as they are now, which may be newer than what runs; nothing is executed and no name is asked
//! on the network.

mod excerpt;
mod extract;
mod files;
mod token;
pub mod tree;
pub mod value;
mod variables;

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
    /// Files, includes and directives that could not be read: the configuration is known only in part.
    pub unread: Vec<String>,
}

impl Configuration {
    /// Whether a part of it could not be read, so that what is not in it may still be set.
    pub fn is_half_read(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The format of an access log: its name and text. `combined` is built in (`ngx_http_log_module`).
    pub fn format_of(&self, log: &AccessLog) -> Option<LogFormat> {
        let named = self.log_formats.iter().rev().find(|format| format.name == log.format);
        named.cloned().or_else(|| (log.format == "combined").then(LogFormat::combined))
    }
}

impl LogFormat {
    /// The format that Nginx uses where none is named.
    pub fn combined() -> Self {
        let format = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
            \"$http_referer\" \"$http_user_agent\"";
        Self { name: "combined".to_owned(), escape: "default".to_owned(), format: format.to_owned() }
    }
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

/// Reads the text of one file, without the files it includes and without `/etc/hosts`.
pub fn read_text(text: &[u8], location: &Location) -> Configuration {
    extract::read_text(text, location)
}

/// Reads a configuration inside the root of the process.
pub fn read(root: &Path, location: &Location) -> Configuration {
    extract::read(root, location)
}
