//! Verdicts and metrics by OTLP: starts the exporter if the configuration asks for one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::{Journal, Level};
use crate::config::Config;
use crate::guard;
use crate::metrics::Shared;
use crate::model::Verdict;
use crate::outbound::http::Endpoint;
use crate::outbound::otlp::{self, Account, Plan, Verdicts};

/// Shortest and longest pause after the collector did not take something.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// Folder of what waits, beside the store.
const FOLDER: &str = "otlp";

/// An exporter that is about to be started.
pub(super) struct Export {
    endpoint: Endpoint,
    /// Where verdicts are handed over; none if only metrics are sent.
    pub(super) verdicts: Option<Verdicts>,
    receiver: Receiver<Arc<Verdict>>,
    /// Keeps the exporter going while there are no verdicts to send.
    open: Verdicts,
}

impl Export {
    /// Makes the queue of verdicts, if a collector is configured.
    pub(super) fn prepare(config: &Config, account: &Arc<Account>) -> Option<Self> {
        // The configuration was checked.
        let endpoint = Endpoint::parse(config.otlp.endpoint.as_deref()?).ok()?;
        let (open, receiver) = Verdicts::channel(account);
        let verdicts = config.otlp.logs.then(|| open.clone());
        Some(Self { endpoint, verdicts, receiver, open })
    }

    /// Starts the thread. What keeps it going is dropped with the handle.
    pub(super) fn start(
        self,
        config: &Config,
        shared: &Arc<Shared>,
        journal: &Journal,
    ) -> io::Result<Running> {
        let otlp = &config.otlp;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let beside = config.store.path.parent().unwrap_or_else(|| Path::new("/")).to_owned();
        let folder = beside.join(FOLDER);
        let (said, confined, port) = (journal.clone(), journal.clone(), self.endpoint.port());
        let plan = Plan {
            endpoint: self.endpoint,
            metrics: otlp.metrics.then(|| seconds(otlp.interval_seconds)),
            folder,
            most: otlp.queue.0,
            limit: seconds(otlp.timeout_seconds),
            pauses: PAUSES,
            say: Box::new(move |result| match result {
                Ok(()) => said.line(Level::Notice, "otlp: the collector takes everything again"),
                Err(why) => said.line(Level::Warning, &format!("otlp: the collector takes nothing: {why}")),
            }),
        };
        // Not the queue's folder alone: one that somebody removes is made again, and would be another.
        let begin = move || confined.confined("otlp", guard::worker(&[&beside], Some(port)));
        let thread = otlp::start(plan, self.receiver, Arc::clone(shared), begin)?;
        Ok(Running { open: Some(self.open), thread: Some(thread) })
    }
}

/// A running exporter; what it has waits on disk once this is dropped.
pub(super) struct Running {
    open: Option<Verdicts>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.open = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use super::*;
    use crate::metrics::Notices;
    use crate::output::samples;

    #[test]
    fn a_queue_that_somebody_removes_is_made_again_by_the_confined_thread() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.store.path = folder.path().join("verdicts.db");
        config.otlp.endpoint = Some("http://127.0.0.1:1".to_owned());
        config.otlp.metrics = false;
        let account = Arc::new(Account::default());
        let mut shared = Shared::new(Arc::default(), Notices::default(), 8);
        shared.otlp = Arc::clone(&account);
        let export = Export::prepare(&config, &account).unwrap();
        let verdicts = export.verdicts.clone().unwrap();
        let running = export.start(&config, &Arc::new(shared), &Journal::start().unwrap()).unwrap();
        // Dropped before the thread is waited for, also where something is asserted in vain.
        let verdicts = verdicts;
        let queue = folder.path().join(FOLDER);
        let is_whole = |entry: std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == "logs");
        let waits =
            || std::fs::read_dir(&queue).is_ok_and(|files| files.filter_map(Result::ok).any(is_whole));
        for _ in 0..2 {
            verdicts.hand_over(&Arc::new(samples::keepalive_race()));
            let end = Instant::now() + Duration::from_secs(20);
            while !waits() {
                assert!(Instant::now() < end, "{:?}", account.problem());
                std::thread::sleep(Duration::from_millis(5));
            }
            std::fs::remove_dir_all(&queue).unwrap();
        }
        assert_eq!(account.queue_full.load(Ordering::Relaxed), 0);
        drop(verdicts);
        drop(running);
    }
}
