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
        let folder = config.store.path.parent().unwrap_or_else(|| Path::new("/")).join(FOLDER);
        let (said, confined, port) = (journal.clone(), journal.clone(), self.endpoint.port());
        let plan = Plan {
            endpoint: self.endpoint,
            metrics: otlp.metrics.then(|| seconds(otlp.interval_seconds)),
            folder: folder.clone(),
            most: otlp.queue.0,
            limit: seconds(otlp.timeout_seconds),
            pauses: PAUSES,
            say: Box::new(move |result| match result {
                Ok(()) => said.line(Level::Notice, "otlp: the collector takes everything again"),
                Err(why) => said.line(Level::Warning, &format!("otlp: the collector takes nothing: {why}")),
            }),
        };
        let begin = move || confined.confined("otlp", guard::worker(&[&folder], Some(port)));
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
