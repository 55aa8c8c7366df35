//! Reads the configuration file. Errors name the line and, for a key that does not exist, the one that was meant.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Config;
use super::suggest::nearest;

/// Where the file lies unless another is named.
pub const DEFAULT_PATH: &str = "/etc/rstscope/rstscope.toml";
/// The file that the packages install: every key, documented, with its default.
pub const DEFAULTS: &str = include_str!("defaults.toml");
/// Longest file, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// What stands in it cannot be used.
    #[error("{path}: {why}")]
    Wrong {
        /// The file, with the line where it is known.
        path: String,
        /// What is wrong, and what was meant.
        why: String,
    },
}

/// Reads a file. Without one at the usual place, the defaults hold.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    match read(path) {
        Ok(text) => parse(&path.display().to_string(), &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) => {
            Ok(Config::default())
        }
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

/// As [`load`], for a program that must not wait: what is no file may be a pipe that nobody writes to.
pub fn load_again(path: &Path) -> Result<Config, ConfigError> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a file");
        return Err(ConfigError::Read { path: path.to_owned(), source });
    }
    load(path)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Understands the text of a file; `name` stands in errors.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    let config: Config = toml::from_str(text).map_err(|error| wrong(name, text, &error))?;
    check(&config).map_err(|why| ConfigError::Wrong { path: name.to_owned(), why })?;
    Ok(config)
}

fn wrong(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let path = line.map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"));
    let message = error.message();
    ConfigError::Wrong { path, why: format!("{message}{}", suggestion(message)) }
}

/// serde says: unknown field `a`, expected one of `b`, `c`.
fn suggestion(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else { return String::new() };
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next() else { return String::new() };
    let known: Vec<&str> = quoted.collect();
    nearest(unknown, &known).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

/// What the types alone do not say.
fn check(config: &Config) -> Result<(), String> {
    for upstream in &config.watch.upstreams {
        crate::cli::value::upstream(upstream)
            .map_err(|why| format!("watch.upstreams: {upstream:?}: {why}"))?;
    }
    for address in &config.watch.syslog {
        crate::cli::value::syslog(address).map_err(|why| format!("watch.syslog: {address:?}: {why}"))?;
    }
    let absolute = [("store.path", &config.store.path), ("live.socket", &config.live.socket)];
    for (key, path) in absolute {
        if !path.is_absolute() {
            return Err(format!("{key}: {} is not an absolute path", path.display()));
        }
    }
    let ports = [
        ("watch.nginx_ports", &config.watch.nginx_ports),
        ("watch.listen_ports", &config.watch.listen_ports),
    ];
    for (key, ports) in ports {
        if ports.contains(&0) {
            return Err(format!("{key}: a port is a number from 1 to 65535"));
        }
    }
    config.webhook.check()?;
    config.command.check()?;
    config.otlp.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, words: &[&str]) {
        let message = parse("x.toml", text).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rstscope.toml");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = load_again(&path).unwrap_err().to_string();
        assert!(error.ends_with("it is not a file"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "[store]\nkeep = \"1d\"\n").unwrap();
        assert_eq!(load_again(&path).unwrap(), load(&path).unwrap());
    }

    #[test]
    fn the_shipped_file_is_the_defaults_and_documents_every_key() {
        assert_eq!(parse("defaults", DEFAULTS).unwrap(), Config::default());
        let all = toml::to_string(&with_everything()).unwrap();
        for key in all.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
            let documented = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
            assert_eq!(DEFAULTS.lines().filter(|line| documented(line)).count(), count(&all, key), "{key}");
        }
    }

    /// With the keys that have no default.
    fn with_everything() -> Config {
        let mut config = Config::default();
        config.watch.netns = Some("/run/netns/edge".into());
        config.webhook.url = Some("http://127.0.0.1:9000/".to_owned());
        config.otlp.endpoint = Some("http://127.0.0.1:4318".to_owned());
        config
    }

    fn count(all: &str, key: &str) -> usize {
        all.lines().filter(|line| line.starts_with(&format!("{key} = "))).count()
    }

    #[test]
    fn unknown_keys_are_refused_with_the_line_and_what_was_meant() {
        refused("[store]\npaht = \"/x\"\n", &["x.toml:2", "`paht`", "did you mean `path`?"]);
        refused("[stroe]\n", &["x.toml:1", "did you mean `store`?"]);
        refused("[store]\nretention = 3\n", &["unknown field `retention`", "`keep`"]);
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        refused("[store]\nkeep = \"soon\"\n", &["x.toml:2", "soon", "90d"]);
        refused("[store]\nsize = \"1K\"\n", &["1K", "500M"]);
        refused("[store]\npath = \"verdicts.db\"\n", &["store.path", "absolute"]);
        refused(
            "[watch]\nupstreams = [\"backend:80\"]\n",
            &["watch.upstreams", "backend:80", "not resolved"],
        );
        refused("[watch]\nnginx_ports = [0]\n", &["watch.nginx_ports"]);
        refused("[watch]\nlisten_ports = [8080, 0]\n", &["watch.listen_ports"]);
        refused("[watch]\nsyslog = [\"tcp:1\"]\n", &["watch.syslog", "tcp:1"]);
        refused("[metrics]\nlisten = \"everywhere\"\n", &["x.toml:2"]);
        refused("[store\n", &["x.toml:1"]);
        refused("[webhook]\nurl = \"https://hooks.example/\"\n", &["webhook.url", "https", "command"]);
        refused("[webhook]\nurl = \"http://a/\"\nabout = [\"pattern\"]\n", &["x.toml:3", "patterns"]);
        refused("[command]\nrun = [\"mail\", \"root\"]\n", &["command.run", "mail", "whole path"]);
        refused("[command]\ntimeout_seconds = 0\n", &["command.timeout_seconds"]);
        refused("[otlp]\nendpoint = \"127.0.0.1:4317\"\n", &["otlp.endpoint", "4317"]);
    }

    #[test]
    fn a_file_that_is_named_must_be_there_the_usual_one_need_not() {
        assert!(
            load(Path::new("/nonexistent/x.toml")).unwrap_err().to_string().contains("/nonexistent/x.toml")
        );
        assert_eq!(parse("empty", "").unwrap(), Config::default());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_understood_or_refused(text in "(?s).{0,200}") {
            let _either = parse("any", &text);
        }
    }
}
