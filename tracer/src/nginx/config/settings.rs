//! The directives that decide over connections, each with its value and where it stands: limits of workers, listen
//! sockets, upstream groups, time-outs, keep-alive, buffers, retries, logs, variables. Nothing is judged here and no
//! default is filled in: what is not listed was not set.

use serde::{Deserialize, Serialize};

/// Most directives kept; a configuration with more is reported as half read.
const MOST: usize = 50_000;
/// Longest argument kept, bytes; maps and formats may be longer and stand elsewhere.
const LONGEST: usize = 2048;

/// A directive where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its arguments, quotes removed, variables as written.
    pub arguments: Vec<String>,
    /// The blocks around it, outermost first. Empty at the top.
    pub scope: Vec<Block>,
    /// The block that it opens, for `server { … }`, `upstream back { … }`, `map $a $b { … }` and the like.
    pub opens: Option<usize>,
}

/// A block of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its opening as written: `http`, `server`, `location /api`.
    pub title: String,
    /// Its number in the order of the files.
    pub number: usize,
}

impl Setting {
    /// The first argument.
    pub fn value(&self) -> Option<&str> {
        self.arguments.first().map(String::as_str)
    }

    /// The value of an argument `name=value`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether an argument stands there as it is.
    pub fn has(&self, argument: &str) -> bool {
        self.arguments.iter().any(|other| other == argument)
    }

    /// Whether it stands right inside a block of this name.
    pub fn is_in(&self, name: &str) -> bool {
        self.scope.last().and_then(|block| block.title.split(' ').next()) == Some(name)
    }

    /// Where it stands, for people: `http, server, location /api`.
    pub fn place(&self) -> String {
        let titles: Vec<&str> = self.scope.iter().map(|block| block.title.as_str()).collect();
        if titles.is_empty() { "main".to_owned() } else { titles.join(", ") }
    }
}

/// What is kept, by the exact name.
const NAMES: &[&str] = &[
    // Workers and the host.
    "user",
    "daemon",
    "master_process",
    "worker_processes",
    "worker_connections",
    "worker_rlimit_nofile",
    "worker_shutdown_timeout",
    "worker_priority",
    "multi_accept",
    "accept_mutex",
    "timer_resolution",
    "thread_pool",
    "aio",
    // Sockets and servers.
    "listen",
    "server_name",
    "server",
    "upstream",
    "zone",
    "resolver",
    "resolver_timeout",
    "set_real_ip_from",
    "real_ip_header",
    "real_ip_recursive",
    "proxy_protocol",
    "proxy_protocol_timeout",
    "proxy_bind",
    "tcp_nodelay",
    "tcp_nopush",
    "sendfile",
    "http2",
    // Balancing.
    "keepalive",
    "keepalive_requests",
    "keepalive_time",
    "keepalive_timeout",
    "keepalive_disable",
    "least_conn",
    "ip_hash",
    "hash",
    "random",
    "queue",
    "max_conns",
    // Time-outs towards the client.
    "client_header_timeout",
    "client_body_timeout",
    "send_timeout",
    "lingering_close",
    "lingering_time",
    "lingering_timeout",
    "reset_timedout_connection",
    "ssl_handshake_timeout",
    "preread_timeout",
    // Limits and buffers.
    "client_max_body_size",
    "client_body_buffer_size",
    "client_header_buffer_size",
    "large_client_header_buffers",
    "preread_buffer_size",
    "limit_conn",
    "limit_req",
    "limit_rate",
    // What clients see of upstreams.
    "error_page",
    "auth_request",
    "mirror",
    // Logs.
    "error_log",
    "access_log",
    "log_format",
    "log_not_found",
    "log_subrequest",
    "open_log_file_cache",
    // Variables.
    "set",
    "map",
    "geo",
    "split_clients",
];

/// Modules that talk to upstreams; all of them have directives of the same endings.
const UPSTREAM_MODULES: [&str; 7] = ["proxy", "fastcgi", "uwsgi", "scgi", "grpc", "memcached", "http2"];
/// Endings that are kept for each of them.
const UPSTREAM_ENDINGS: [&str; 26] = [
    "pass",
    "connect_timeout",
    "read_timeout",
    "send_timeout",
    "timeout",
    "next_upstream",
    "next_upstream_tries",
    "next_upstream_timeout",
    "http_version",
    "set_header",
    "socket_keepalive",
    "buffering",
    "buffer_size",
    "buffers",
    "busy_buffers_size",
    "max_temp_file_size",
    "request_buffering",
    "ignore_client_abort",
    "intercept_errors",
    "keep_conn",
    "ssl_server_name",
    "ssl_name",
    "ssl_verify",
    "ssl_session_reuse",
    "half_close",
    "requests",
];

fn is_kept(name: &str) -> bool {
    let of_module = || {
        let (module, ending) = name.split_once('_')?;
        Some(UPSTREAM_MODULES.contains(&module) && UPSTREAM_ENDINGS.contains(&ending))
    };
    NAMES.contains(&name) || of_module().unwrap_or(false)
}

/// The directives of a configuration that are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    all: Vec<Setting>,
    /// Directives that found no room.
    dropped: usize,
}

impl Settings {
    /// Every directive, in the order of the files.
    pub fn all(&self) -> &[Setting] {
        &self.all
    }

    /// Directives of this name, in the order of the files.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Setting> {
        self.all.iter().filter(move |setting| setting.name == name)
    }

    /// Directives that stand right inside the block with this number.
    pub fn of_block(&self, number: usize) -> impl Iterator<Item = &Setting> {
        let is_there =
            move |setting: &&Setting| setting.scope.last().map(|block| block.number) == Some(number);
        self.all.iter().filter(is_there)
    }

    /// The directive that holds inside `scope`: the innermost of this name; of two in one block the first.
    pub fn in_force(&self, name: &str, scope: &[Block]) -> Option<&Setting> {
        let around = |other: &&Setting| other.name == name && scope.starts_with(&other.scope);
        self.all.iter().filter(around).rev().max_by_key(|other| other.scope.len())
    }

    /// Directives that found no room.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Keeps a directive if it is one of those that count. `opens` is the number of the block it opens.
    pub(super) fn note(&mut self, words: &[String], scope: &[Block], opens: Option<usize>) {
        let [name, arguments @ ..] = words else { return };
        if !is_kept(name) && opens.is_none() {
            return;
        }
        if self.all.len() >= MOST {
            self.dropped += 1;
            return;
        }
        let arguments = arguments.iter().map(|argument| cut(argument).to_owned()).collect();
        self.all.push(Setting { name: name.clone(), arguments, scope: scope.to_vec(), opens });
    }
}

/// Text up to the limit for one argument.
pub(super) fn cut(argument: &str) -> &str {
    &argument[..argument.floor_char_boundary(LONGEST)]
}
