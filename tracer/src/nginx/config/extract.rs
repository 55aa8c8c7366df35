//! Picks from the directives what [`Configuration`] holds.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use super::excerpt::Excerpt;
use super::files::Reader;
use super::token::{Step, Tokens};
use super::value::{self, Address, Hosts};
use super::variables::Variables;
use super::{AccessLog, Configuration, ErrorLog, Location, LogFormat};
use crate::model::Level;
use crate::nginx::tail;

/// `client_header_timeout`, `client_body_timeout` and `send_timeout` where nothing is configured, milliseconds.
const CLIENT_TIMEOUT_MS: u64 = 60_000;
/// Longest `/etc/hosts` read, bytes.
const HOSTS_LIMIT: u64 = 4 * 1024 * 1024;

pub(super) fn read(root: &Path, location: &Location) -> Configuration {
    let mut reader = Reader::new(root, &location.file);
    let mut extractor = Extractor::new(location, hosts(root));
    let mut excerpt = Excerpt::default();
    reader.walk(&location.file, &mut |step, place| {
        excerpt.step(&step, place);
        extractor.step(&step);
    });
    let mut found = extractor.finish();
    found.facts.excerpt = excerpt.lines;
    found.files = reader.read;
    found.unread = reader.problems;
    if found.is_half_read() {
        found.facts.problems.push(half_read(&found));
    }
    found.facts.problems.extend(found.unread.iter().cloned());
    found
}

pub(super) fn read_text(text: &[u8], location: &Location) -> Configuration {
    let mut extractor = Extractor::new(location, Hosts::default());
    let mut unread = Vec::new();
    for step in Tokens::new(text) {
        match step {
            Step::Problem(what) => unread.push(what),
            step => extractor.step(&step),
        }
    }
    Configuration { unread, ..extractor.finish() }
}

/// Says that what is not listed may still be set.
fn half_read(found: &Configuration) -> String {
    let places = found.unread.len();
    format!(
        "the configuration is read only in part ({places} places could not be read): settings in the rest are not known"
    )
}

fn hosts(root: &Path) -> Hosts {
    let mut text = Vec::new();
    if let Ok((file, _)) = tail::open_in_root(root, Path::new("/etc/hosts"))
        && file.take(HOSTS_LIMIT).read_to_end(&mut text).is_err()
    {
        text.clear();
    }
    Hosts::read(&String::from_utf8_lossy(&text))
}

/// A block that is open.
#[derive(Default)]
struct Open {
    name: String,
    /// The variable that the lines of a `map` or the like give values to.
    variable: Option<String>,
    /// A `listen` stood in it.
    listens: bool,
    /// `ssl on` stands in it (until Nginx 1.25).
    tls: bool,
    /// `http2 on` stands in it (since Nginx 1.25).
    http2: bool,
    /// Where it listens, and whether with `ssl`.
    addresses: Vec<(SocketAddr, bool)>,
}

struct Extractor<'a> {
    location: &'a Location,
    hosts: Hosts,
    blocks: Vec<Open>,
    variables: Variables,
    /// Names of upstream groups.
    groups: Vec<String>,
    /// Targets of `proxy_pass` and its kin as written.
    passes: Vec<String>,
    found: Configuration,
}

impl<'a> Extractor<'a> {
    fn new(location: &'a Location, hosts: Hosts) -> Self {
        Self {
            location,
            hosts,
            blocks: Vec::new(),
            variables: Variables::default(),
            groups: Vec::new(),
            passes: Vec::new(),
            found: Configuration::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Open(words) => self.open(words),
            Step::Close => self.close(),
            Step::Directive(words) => self.directive(words),
            Step::Problem(_) => {}
        }
    }

    fn open(&mut self, words: &[String]) {
        let name = words.first().cloned().unwrap_or_default();
        if name == "upstream" {
            self.groups.extend(words.get(1).cloned());
        }
        let variable = Variables::of_block(words).map(str::to_owned);
        self.blocks.push(Open { name, variable, ..Open::default() });
    }

    /// A server of HTTP without `listen` listens on port 80 (`ngx_http_add_listen`, running as root).
    fn close(&mut self) {
        let Some(block) = self.blocks.pop() else { return };
        let is_http = self.blocks.last().is_some_and(|outer| outer.name == "http");
        if block.name == "server" && is_http && !block.listens {
            self.blocks.push(block);
            self.listen("80", &[]);
            return self.close();
        }
        if is_http {
            if block.http2 || self.blocks.iter().any(|outer| outer.http2) {
                let all = block.addresses.iter().map(|(address, _)| *address);
                self.found.facts.http2_listeners.extend(all);
            }
            let speech = block.addresses.into_iter().map(|(address, tls)| (address, tls || block.tls));
            self.found.facts.http_listeners.extend(speech);
        }
    }

    fn inside(&self, name: &str) -> bool {
        self.blocks.last().is_some_and(|block| block.name == name)
    }

    fn directive(&mut self, words: &[String]) {
        if let Some(variable) = self.blocks.last().and_then(|block| block.variable.as_deref()) {
            self.variables.entry(variable, words);
            return;
        }
        let [name, arguments @ ..] = words else { return };
        let Some(first) = arguments.first() else { return };
        match name.as_str() {
            "set" => self.variables.set(arguments),
            "listen" if self.inside("server") => self.listen(first, &arguments[1..]),
            "ssl" if first == "on" => {
                if let Some(block) = self.blocks.last_mut() {
                    block.tls = true;
                }
            }
            "http2" if first == "on" => {
                if let Some(block) = self.blocks.last_mut() {
                    block.http2 = true;
                }
            }
            "server" if self.inside("upstream") => self.server(first),
            "keepalive_timeout" if self.inside("upstream") => {
                self.found.facts.upstream_keepalive_timeouts_ms.extend(value::milliseconds(first));
            }
            "client_header_timeout" | "client_body_timeout" | "send_timeout" => {
                self.found.facts.client_timeouts_ms.extend(value::milliseconds(first));
            }
            "worker_shutdown_timeout" => {
                let limit = value::milliseconds(first).filter(|limit| *limit > 0);
                self.found.facts.shutdown_timeouts_ms.extend(limit);
            }
            "reset_timedout_connection" => self.found.facts.reset_timedout_connection |= first == "on",
            "set_real_ip_from" => self.found.facts.real_ip = true,
            "lingering_close" => self.found.facts.lingering_close_off |= first == "off",
            "error_log" => self.error_log(first, arguments.get(1)),
            "access_log" => self.access_log(first, arguments.get(1)),
            "log_format" => self.log_format(arguments),
            name if name.ends_with("_connect_timeout") => {
                self.found.facts.connect_timeouts_ms.extend(value::milliseconds(first));
            }
            name if name.ends_with("_read_timeout") => {
                self.found.facts.read_timeouts_ms.extend(value::milliseconds(first));
            }
            name if name.ends_with("_pass") => self.pass(name, first),
            _ => {}
        }
    }

    fn listen(&mut self, address: &str, options: &[String]) {
        let tls = options.iter().any(|option| option == "ssl");
        if let Some(block) = self.blocks.last_mut() {
            block.listens = true;
        }
        let backlog = options.iter().find_map(|option| option.strip_prefix("backlog=")?.parse().ok());
        match value::listen(address, &self.hosts) {
            Address::Known(addresses) => {
                if options.iter().any(|option| option == "http2") {
                    self.found.facts.http2_listeners.extend(&addresses);
                }
                if let Some(block) = self.blocks.last_mut() {
                    block.addresses.extend(addresses.iter().map(|address| (*address, tls)));
                }
                self.found.facts.listeners.extend(addresses.into_iter().map(|address| (address, backlog)));
            }
            Address::Unix => {}
            Address::Unknown => self.problem(format!("listen {address}: not an address")),
        }
    }

    fn server(&mut self, address: &str) {
        let found = value::upstream(address, 80, &self.hosts);
        self.add_upstream(address, found);
    }

    fn add_upstream(&mut self, text: &str, address: Address) {
        match address {
            Address::Known(addresses) => self.found.facts.upstreams.extend(addresses),
            Address::Unix => {}
            Address::Unknown => {
                self.problem(format!(
                    "upstream {text}: the name is not in /etc/hosts, its addresses are not known"
                ));
            }
        }
    }

    fn problem(&mut self, text: String) {
        self.found.facts.problems.push(text);
    }

    /// `proxy_pass http://host:port/uri`, `fastcgi_pass host:port`.
    fn pass(&mut self, name: &str, target: &str) {
        const KNOWN: [&str; 6] =
            ["proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"];
        if KNOWN.contains(&name) {
            self.passes.push(target.to_owned());
        }
    }

    /// Addresses of the targets of `proxy_pass` and its kin. They may be groups that were defined later, and
    /// variables whose values stand elsewhere.
    fn resolve_passes(&mut self) {
        for target in std::mem::take(&mut self.passes) {
            match self.variables.expand(&target) {
                Some(targets) => targets.iter().for_each(|target| self.add_pass(target)),
                None => self.problem(format!(
                    "{target}: the target depends on the request, its addresses are not known"
                )),
            }
        }
    }

    fn add_pass(&mut self, target: &str) {
        let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        if rest.starts_with("unix:") || self.groups.iter().any(|group| group == authority) {
            return;
        }
        let default_port = if matches!(scheme, "https" | "grpcs") { 443 } else { 80 };
        let found = value::upstream(authority, default_port, &self.hosts);
        self.add_upstream(authority, found);
    }

    fn error_log(&mut self, target: &str, level: Option<&String>) {
        if target == "stderr" || target.starts_with("syslog:") || target.starts_with("memory:") {
            self.found.other_error_logs.push(target.to_owned());
            if target.starts_with("syslog:") {
                let level = level.and_then(|level| level_of(level)).unwrap_or(Level::Error);
                self.found.syslog_error_logs.push((target.to_owned(), level));
            }
            return;
        }
        let level = level.and_then(|level| level_of(level)).unwrap_or(Level::Error);
        self.found.error_logs.push(ErrorLog { path: self.location.prefix.join(target), level });
    }

    fn access_log(&mut self, target: &str, format: Option<&String>) {
        if target == "off" || target.starts_with("syslog:") || target.contains('$') {
            return;
        }
        let format = format.filter(|format| !format.contains('=')).map_or("combined", String::as_str);
        let path = self.location.prefix.join(target);
        self.found.access_logs.push(AccessLog { path, format: format.to_owned() });
    }

    fn log_format(&mut self, arguments: &[String]) {
        let [name, rest @ ..] = arguments else { return };
        let (escape, rest) = match rest.split_first() {
            Some((first, rest)) if first.starts_with("escape=") => (&first["escape=".len()..], rest),
            _ => ("default", rest),
        };
        self.found.log_formats.push(LogFormat {
            name: name.clone(),
            escape: escape.to_owned(),
            format: rest.concat(),
        });
    }

    fn finish(mut self) -> Configuration {
        self.resolve_passes();
        if self.found.error_logs.is_empty() && self.found.other_error_logs.is_empty() {
            let path = self.location.default_error_log.clone();
            self.found.error_logs.push(ErrorLog { path, level: Level::Error });
        }
        let facts = &mut self.found.facts;
        facts.upstreams.sort_unstable();
        facts.upstreams.dedup();
        facts.listeners.sort_unstable();
        facts.listeners.dedup();
        facts.http_listeners.sort_unstable();
        facts.http_listeners.dedup();
        facts.http2_listeners.sort_unstable();
        facts.http2_listeners.dedup();
        facts.client_timeouts_ms.push(CLIENT_TIMEOUT_MS);
        for times in [
            &mut facts.client_timeouts_ms,
            &mut facts.connect_timeouts_ms,
            &mut facts.read_timeouts_ms,
            &mut facts.upstream_keepalive_timeouts_ms,
        ] {
            times.sort_unstable();
            times.dedup();
        }
        facts.problems.sort_unstable();
        facts.problems.dedup();
        self.found.error_logs.dedup();
        self.found
    }
}

fn level_of(text: &str) -> Option<Level> {
    const LEVELS: [(&str, Level); 8] = [
        ("emerg", Level::Emerg),
        ("alert", Level::Alert),
        ("crit", Level::Crit),
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("notice", Level::Notice),
        ("info", Level::Info),
        ("debug", Level::Debug),
    ];
    if text.starts_with("debug_") {
        return Some(Level::Debug);
    }
    LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn location() -> Location {
        Location {
            file: PathBuf::from("/etc/nginx/nginx.conf"),
            prefix: PathBuf::from("/usr/share/nginx"),
            default_error_log: PathBuf::from("/var/log/nginx/error.log"),
        }
    }

    fn read_files(files: &[(&str, &str)]) -> Configuration {
        let root = tempfile::tempdir().expect("directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("write");
        }
        read(root.path(), &location())
    }

    #[test]
    fn a_configuration_with_includes() {
        let found = read_files(&[
            ("etc/hosts", "10.5.0.1 app\n"),
            (
                "etc/nginx/nginx.conf",
                "error_log logs/e.log warn;\nhttp { proxy_connect_timeout 2s; include sites/*.conf; include /etc/nginx/missing; }",
            ),
            (
                "etc/nginx/sites/a.conf",
                "upstream back { server app:8080; server 10.0.0.9 backup; server other:1; keepalive_timeout 15s; }\n\
                 server { listen 127.0.0.1:8080 ssl http2 backlog=77 reuseport; lingering_close off;\n\
                 location / { proxy_pass http://back; proxy_read_timeout 1m; }\n\
                 location /d { proxy_pass https://10.0.0.7/x; error_log /var/log/d.log debug; }\n\
                 location /v { proxy_pass http://$target; }\n\
                 location /m { set $one 10.0.0.21; proxy_pass http://$one:81$request_uri; proxy_pass https://$pool; } }\n\
                 map $host $pool { hostnames; default 10.0.0.22; *.a 10.0.0.23:8443; }",
            ),
            (
                "etc/nginx/sites/b.conf",
                "server { http2 on; reset_timedout_connection on; access_log /var/log/a.log main; }",
            ),
            ("etc/nginx/sites/ignored", "server { listen 1; }"),
        ]);
        let addresses: Vec<String> = found.facts.upstreams.iter().map(ToString::to_string).collect();
        let from_variables = ["10.0.0.21:81", "10.0.0.22:443", "10.0.0.23:8443"];
        assert_eq!(addresses[..2], ["10.0.0.7:443", "10.0.0.9:80"]);
        assert_eq!(addresses[2..5], from_variables);
        assert_eq!(addresses[5..], ["10.5.0.1:8080"]);
        let listeners: Vec<_> =
            found.facts.listeners.iter().map(|(address, log)| (address.to_string(), *log)).collect();
        assert_eq!(listeners, [("0.0.0.0:80".to_owned(), None), ("127.0.0.1:8080".to_owned(), Some(77))]);
        let speech: Vec<_> =
            found.facts.http_listeners.iter().map(|(address, tls)| (address.to_string(), *tls)).collect();
        assert_eq!(speech, [("0.0.0.0:80".to_owned(), false), ("127.0.0.1:8080".to_owned(), true)]);
        let http2: Vec<String> = found.facts.http2_listeners.iter().map(ToString::to_string).collect();
        assert_eq!(http2, ["0.0.0.0:80", "127.0.0.1:8080"]);
        assert_eq!(found.facts.connect_timeouts_ms, [2000]);
        assert_eq!(found.facts.read_timeouts_ms, [60_000]);
        assert_eq!(found.facts.client_timeouts_ms, [60_000], "the default");
        assert_eq!(found.facts.upstream_keepalive_timeouts_ms, [15_000]);
        assert!(found.facts.reset_timedout_connection && found.facts.lingering_close_off);
        let logs: Vec<_> =
            found.error_logs.iter().map(|log| (log.path.to_str().expect("path"), log.level)).collect();
        assert_eq!(logs, [("/usr/share/nginx/logs/e.log", Level::Warn), ("/var/log/d.log", Level::Debug)]);
        assert_eq!(found.access_logs[0].format, "main");
        let problems = &found.facts.problems;
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].starts_with("http://$target") && problems[1].contains("other:1"), "{problems:?}");
        assert!(problems[2].contains("only in part") && problems[3].contains("missing"), "{problems:?}");
        assert!(found.is_half_read());
    }

    #[test]
    fn defaults_hold_where_nothing_is_said() {
        let found =
            read_files(&[("etc/nginx/nginx.conf", "events {} http { log_format j escape=json '{' '}'; }")]);
        assert_eq!(found.error_logs[0].path, PathBuf::from("/var/log/nginx/error.log"));
        assert_eq!(
            (found.log_formats[0].escape.as_str(), found.log_formats[0].format.as_str()),
            ("json", "{}")
        );
        assert_eq!(found.facts.listeners, []);
    }

    #[test]
    fn a_missing_configuration_is_a_problem() {
        let found = read_files(&[]);
        assert_eq!(
            found.facts.problems.last().map(String::as_str),
            Some("/etc/nginx/nginx.conf: does not exist")
        );
        assert!(found.is_half_read());
    }

    #[test]
    fn includes_that_include_themselves_come_to_an_end() {
        let found = read_files(&[("etc/nginx/nginx.conf", "include nginx.conf; include *.conf;")]);
        assert!(found.facts.problems.iter().any(|problem| problem.contains("too many includes")));
    }
}
