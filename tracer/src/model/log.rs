//! One line of Nginx's error.log, read.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Mono, Utc};

/// Severity of a line, most severe first (`src/core/ngx_log.h`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are Nginx's")]
pub enum Level {
    Emerg,
    Alert,
    Crit,
    Error,
    Warn,
    Notice,
    Info,
    Debug,
}

/// Whose socket a line speaks of. Level and message decide, not the `while …` phrase (`ngx_connection_error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogSide {
    /// The accepted connection.
    Client,
    /// The connection to an upstream.
    Upstream,
    /// No connection of a request.
    None,
}

/// What a line says, as a slug. The catalogue stands in `nginx::catalogue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct MessageKind(pub &'static str);

/// State of a unix socket that an upstream names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnixState {
    /// Somebody listens, and the workers may connect.
    Good,
    /// There is nothing at the path.
    Missing,
    /// There is something else.
    NotASocket,
    /// The worker's user may not write to it, or not reach it; the text names what and its mode.
    NotPermitted(String),
    /// No process listens on it.
    NobodyListens,
    /// It could not be looked at.
    Unknown(String),
}

/// One line of error.log. What could not be read is `None`, and `problems` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// File the line came from; empty for standard input.
    pub file: String,
    /// Byte offset of the line in that file.
    pub offset: u64,
    /// When the bytes appeared, for a followed file; `None` for a file read after the fact.
    pub arrival: Option<Mono>,
    /// The printed time, local time of the Nginx process, one-second resolution.
    pub time: Option<Utc>,
    /// Severity.
    pub level: Option<Level>,
    /// Process id of the worker, in its own pid namespace.
    pub pid: Option<u32>,
    /// Thread id.
    pub tid: Option<u32>,
    /// `*N`: the connection number of the client connection.
    pub connection: Option<u64>,
    /// What the line says.
    pub kind: MessageKind,
    /// Whose socket it speaks of.
    pub side: LogSide,
    /// The failing call, for example `recv`, `connect`.
    pub call: Option<String>,
    /// The errno, Linux numbering.
    pub errno: Option<i32>,
    /// The errno as printed, where that is the number of another system (BSD, Windows).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_printed: Option<u32>,
    /// Message without errno and tail.
    pub message: String,
    /// Text after ` while `.
    pub action: Option<String>,
    /// `client:` without a port.
    pub client: Option<String>,
    /// `server:`.
    pub server: Option<String>,
    /// The request line.
    pub request: Option<String>,
    /// `subrequest:`.
    pub subrequest: Option<String>,
    /// The upstream without scheme and URI: `addr:port`, a group name, or `unix:/path`.
    pub upstream: Option<String>,
    /// The upstream as printed.
    pub upstream_url: Option<String>,
    /// `host:`.
    pub host: Option<String>,
    /// `referrer:`.
    pub referrer: Option<String>,
    /// What was wrong with the line.
    pub problems: Vec<String>,
    /// The line as it stood, for whoever has to show it; bytes that are no UTF-8 are written as `\xNN`. `None` where
    /// nobody kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// The unix socket that the upstream of the line is, as it was found right after the line was written. `None` for
    /// another upstream, and where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<UnixState>,
}

impl LogRecord {
    /// Keeps the line as it stood, without its line feed.
    pub fn keep_line(&mut self, bytes: &[u8]) {
        let mut line = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            line.push_str(chunk.valid());
            line.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
        self.line = Some(line);
    }

    /// The path of the unix socket that the upstream is.
    pub fn unix_path(&self) -> Option<&str> {
        self.upstream.as_deref()?.strip_prefix("unix:")
    }

    /// The upstream as a socket address, when it is one.
    pub fn upstream_addr(&self) -> Option<SocketAddr> {
        self.upstream.as_deref()?.parse().ok()
    }
}
