//! Picks from the directives what [`Configuration`] holds.

use std::io::Read;
use std::path::Path;

use super::files::Reader;
use super::token::Step;
use super::value::{self, Address, Hosts};
use super::{AccessLog, Configuration, ErrorLog, Location, LogFormat};
use crate::model::Level;
use crate::nginx::tail;

/// Longest `/etc/hosts` read, bytes.
const HOSTS_LIMIT: u64 = 4 * 1024 * 1024;

pub(super) fn read(root: &Path, location: &Location) -> Configuration {
    let mut reader = Reader::new(root, &location.file);
    let mut extractor = Extractor {
        location,
        hosts: hosts(root),
        blocks: Vec::new(),
        groups: Vec::new(),
        passes: Vec::new(),
        found: Configuration::default(),
    };
    reader.walk(&location.file, &mut |step| extractor.step(&step));
    let mut found = extractor.finish();
    found.facts.problems.extend(reader.problems);
    found.files = reader.read;
    found
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
struct Block {
    name: String,
    /// A `listen` stood in it.
    listens: bool,
}

struct Extractor<'a> {
    location: &'a Location,
    hosts: Hosts,
    blocks: Vec<Block>,
    /// Names of upstream groups.
    groups: Vec<String>,
    /// Targets of `proxy_pass` and its kin with their default port; they may be groups defined later.
    passes: Vec<(String, u16)>,
    found: Configuration,
}

impl Extractor<'_> {
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
        self.blocks.push(Block { name, listens: false });
    }

    /// A server of HTTP without `listen` listens on port 80 (`ngx_http_add_listen`, running as root).
    fn close(&mut self) {
        let Some(block) = self.blocks.pop() else { return };
        let is_http = self.blocks.last().is_some_and(|outer| outer.name == "http");
        if block.name == "server" && is_http && !block.listens {
            self.listen("80", &[]);
        }
    }

    fn inside(&self, name: &str) -> bool {
        self.blocks.last().is_some_and(|block| block.name == name)
    }

    fn directive(&mut self, words: &[String]) {
        let [name, arguments @ ..] = words else { return };
        let Some(first) = arguments.first() else { return };
        match name.as_str() {
            "listen" if self.inside("server") => self.listen(first, &arguments[1..]),
            "server" if self.inside("upstream") => self.server(first),
            "keepalive_timeout" if self.inside("upstream") => {
                self.found.facts.upstream_keepalive_timeouts_ms.extend(value::milliseconds(first));
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
        if let Some(block) = self.blocks.last_mut() {
            block.listens = true;
        }
        let backlog = options.iter().find_map(|option| option.strip_prefix("backlog=")?.parse().ok());
        match value::listen(address, &self.hosts) {
            Address::Known(addresses) => {
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

    /// `proxy_pass http://host:port/uri`, `fastcgi_pass host:port`. What stands in a variable is not known.
    fn pass(&mut self, name: &str, target: &str) {
        const KNOWN: [&str; 6] =
            ["proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"];
        if !KNOWN.contains(&name) || target.contains('$') {
            return;
        }
        let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
        if rest.starts_with("unix:") {
            return;
        }
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let default_port = if matches!(scheme, "https" | "grpcs") { 443 } else { 80 };
        self.passes.push((authority.to_owned(), default_port));
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
        for (target, port) in std::mem::take(&mut self.passes) {
            if self.groups.contains(&target) {
                continue;
            }
            let found = value::upstream(&target, port, &self.hosts);
            self.add_upstream(&target, found);
        }
        if self.found.error_logs.is_empty() && self.found.other_error_logs.is_empty() {
            let path = self.location.default_error_log.clone();
            self.found.error_logs.push(ErrorLog { path, level: Level::Error });
        }
        let facts = &mut self.found.facts;
        facts.upstreams.sort_unstable();
        facts.upstreams.dedup();
        facts.listeners.sort_unstable();
        facts.listeners.dedup();
        for times in [
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
                 server { listen 127.0.0.1:8080 backlog=77 reuseport; lingering_close off;\n\
                 location / { proxy_pass http://back; proxy_read_timeout 1m; }\n\
                 location /d { proxy_pass https://10.0.0.7/x; error_log /var/log/d.log debug; }\n\
                 location /v { proxy_pass http://$target; } }",
            ),
            (
                "etc/nginx/sites/b.conf",
                "server { reset_timedout_connection on; access_log /var/log/a.log main; }",
            ),
            ("etc/nginx/sites/ignored", "server { listen 1; }"),
        ]);
        let addresses: Vec<String> = found.facts.upstreams.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.7:443", "10.0.0.9:80", "10.5.0.1:8080"]);
        let listeners: Vec<_> =
            found.facts.listeners.iter().map(|(address, log)| (address.to_string(), *log)).collect();
        assert_eq!(listeners, [("0.0.0.0:80".to_owned(), None), ("127.0.0.1:8080".to_owned(), Some(77))]);
        assert_eq!(found.facts.connect_timeouts_ms, [2000]);
        assert_eq!(found.facts.read_timeouts_ms, [60_000]);
        assert_eq!(found.facts.upstream_keepalive_timeouts_ms, [15_000]);
        assert!(found.facts.reset_timedout_connection && found.facts.lingering_close_off);
        let logs: Vec<_> =
            found.error_logs.iter().map(|log| (log.path.to_str().expect("path"), log.level)).collect();
        assert_eq!(logs, [("/usr/share/nginx/logs/e.log", Level::Warn), ("/var/log/d.log", Level::Debug)]);
        assert_eq!(found.access_logs[0].format, "main");
        let problems = &found.facts.problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("other:1") && problems[1].contains("missing"), "{problems:?}");
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
        assert_eq!(found.facts.problems, ["/etc/nginx/nginx.conf: does not exist"]);
    }

    #[test]
    fn includes_that_include_themselves_come_to_an_end() {
        let found = read_files(&[("etc/nginx/nginx.conf", "include nginx.conf; include *.conf;")]);
        assert!(found.facts.problems.iter().any(|problem| problem.contains("too many includes")));
    }
}
