//! SIGHUP: reads the configuration again and applies what can change while everything runs on. A file that cannot be
//! used changes nothing, and the log says why.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Sender;

use super::{Journal, Level, settings};
use crate::config::{self, Config};
use crate::session::Settings;
use crate::store::Writer;

/// What a reload reaches.
pub(super) struct Reload {
    pub path: PathBuf,
    pub running: Config,
    pub writer: Arc<Writer>,
    pub per_minute: Arc<AtomicU32>,
    pub settings: Sender<Settings>,
    pub journal: Journal,
}

impl Reload {
    /// Waits for signals until the session ends.
    pub(super) async fn run(mut self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            self.journal.line(Level::Warning, "SIGHUP cannot be received: a restart is needed for changes");
            return;
        };
        while hangup.recv().await.is_some() {
            self.again().await;
        }
    }

    async fn again(&mut self) {
        let config = match config::load_again(&self.path) {
            Ok(config) => config,
            Err(error) => {
                self.journal.line(Level::Error, &format!("the configuration stays as it was: {error}"));
                return;
            }
        };
        self.apply_limits(&config);
        let followed = Config { watch: config.watch.clone(), ..self.running.clone() };
        if config.watch != self.running.watch && self.settings.send(settings(&followed)).await.is_err() {
            return;
        }
        for key in needs_restart(&self.running, &config) {
            self.journal.line(Level::Warning, &format!("{key} has changed and takes effect after a restart"));
        }
        self.journal.line(Level::Notice, "the configuration was read again");
        self.running = config;
    }

    /// Retention, and what is told to the journal.
    pub(super) fn apply_limits(&self, config: &Config) {
        self.writer.set_retention(config.store.retention());
        let per_minute = if config.log.incidents { config.log.per_minute } else { 0 };
        self.per_minute.store(per_minute, Ordering::Relaxed);
    }
}

/// Keys that differ and cannot be applied to a running daemon.
fn needs_restart(was: &Config, is: &Config) -> Vec<&'static str> {
    let differs = [
        ("watch.upstreams", was.watch.upstreams != is.watch.upstreams),
        ("watch.syslog", was.watch.syslog != is.watch.syslog),
        ("watch.netns", was.watch.netns != is.watch.netns),
        ("watch.listen_ports", was.watch.listen_ports != is.watch.listen_ports),
        ("recording", was.recording != is.recording),
        ("store.path", was.store.path != is.store.path),
        ("metrics", was.metrics != is.metrics),
        ("live", was.live != is.live),
        ("webhook", was.webhook != is.webhook),
        ("command", was.command != is.command),
        ("otlp", was.otlp != is.otlp),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_is_named() {
        let was = Config::default();
        let mut is = was.clone();
        is.store.keep = config::Span::from_days(1);
        is.watch.nginx_ports = vec![80];
        assert_eq!(needs_restart(&was, &is), Vec::<&str>::new());
        is.metrics.upstreams = 1;
        is.store.path = "/x".into();
        assert_eq!(needs_restart(&was, &is), ["store.path", "metrics"]);
    }
}
