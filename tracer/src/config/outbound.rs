//! What is sent away: to a webhook, to a command, to a collector.

use serde::{Deserialize, Serialize};

use crate::outbound::http::Endpoint;
use crate::outbound::notice::About;

use super::Size;

/// Longest time that a receiver may be given, seconds.
const LONGEST: u32 = 300;

/// Notices by HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Where they are sent by POST; nowhere without it.
    pub url: Option<String>,
    /// What it is told of.
    pub about: Vec<About>,
    /// Longest time for one, seconds.
    pub timeout_seconds: u32,
    /// Most notices in a minute.
    pub per_minute: u32,
}

impl Default for Webhook {
    fn default() -> Self {
        Self { url: None, about: vec![About::Patterns], timeout_seconds: 10, per_minute: 30 }
    }
}

/// Notices on the standard input of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// The program by its whole path, and its arguments; nothing is started when empty.
    pub run: Vec<String>,
    /// What it is told of.
    pub about: Vec<About>,
    /// Longest time for one, seconds.
    pub timeout_seconds: u32,
    /// Most notices in a minute.
    pub per_minute: u32,
}

impl Default for Command {
    fn default() -> Self {
        Self { run: Vec::new(), about: vec![About::Patterns], timeout_seconds: 10, per_minute: 30 }
    }
}

impl Webhook {
    /// What the types alone do not say.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.url {
            Endpoint::parse(url).map_err(|why| format!("webhook.url: {why}"))?;
        }
        check_seconds("webhook.timeout_seconds", self.timeout_seconds)
    }
}

impl Command {
    /// What the types alone do not say.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(program) = self.run.first().filter(|program| !program.starts_with('/')) {
            return Err(format!("command.run: {program:?} is not the whole path of a program"));
        }
        if self.run.iter().any(|argument| argument.contains('\0')) {
            return Err("command.run: an argument has a NUL in it".to_owned());
        }
        check_seconds("command.timeout_seconds", self.timeout_seconds)
    }
}

/// Verdicts and metrics by OTLP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// The collector; nothing is sent without it.
    pub endpoint: Option<String>,
    /// Whether verdicts are sent, as logs.
    pub logs: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// How often they are, seconds.
    pub interval_seconds: u32,
    /// Longest time for one request, seconds.
    pub timeout_seconds: u32,
    /// Largest size of what waits on disk.
    pub queue: Size,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            logs: true,
            metrics: true,
            interval_seconds: 60,
            timeout_seconds: 10,
            queue: Size(64 << 20),
        }
    }
}

impl Otlp {
    /// What the types alone do not say.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(endpoint) = &self.endpoint {
            Endpoint::parse(endpoint).map_err(|why| format!("otlp.endpoint: {why}"))?;
        }
        check_seconds("otlp.interval_seconds", self.interval_seconds)?;
        check_seconds("otlp.timeout_seconds", self.timeout_seconds)
    }
}

fn check_seconds(key: &str, seconds: u32) -> Result<(), String> {
    if (1..=LONGEST).contains(&seconds) { Ok(()) } else { Err(format!("{key}: 1 to {LONGEST} seconds")) }
}
