//! Verdicts as logs, and the metrics, to a collector that speaks OTLP over HTTP with JSON.
//!
//! A thread of its own gathers verdicts into requests, which wait on disk until the collector has taken them: a
//! collector that is away, and a restart of the daemon, lose nothing until the queue is full. What is lost is counted.

mod logs;
mod metrics;
mod queue;
mod record;
mod send;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::metrics::request as metrics_request;
use super::http::Endpoint;
use crate::metrics::{Shared, families};
use crate::model::Verdict;
use crate::output::ndjson;
use queue::{Queue, Signal};
use send::Delivery;

/// Verdicts that may wait for the thread.
const WAITING: usize = 4096;
/// Verdicts in one request.
const BATCH: usize = 256;
/// How long a verdict may wait for others.
const GATHER: Duration = Duration::from_secs(1);

/// What became of what was to be sent. The numbers only grow, except `bytes`.
#[derive(Debug, Default)]
pub struct Account {
    /// Verdicts and metrics that the collector has taken.
    pub sent: AtomicU64,
    /// Those that it refused for good.
    pub rejected: AtomicU64,
    /// Verdicts that found the thread behind.
    pub channel_full: AtomicU64,
    /// Those that had to go from a full queue, or that the disk did not take.
    pub queue_full: AtomicU64,
    /// Requests that failed and were tried again.
    pub retries: AtomicU64,
    /// Bytes that wait on disk now.
    pub bytes: AtomicU64,
    problem: Mutex<Option<String>>,
}

impl Account {
    /// Why the disk takes nothing that is to be sent now.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What did not arrive, for whatever reason.
    pub fn lost(&self) -> u64 {
        let lost = [&self.rejected, &self.channel_full, &self.queue_full];
        lost.iter().map(|number| number.load(Ordering::Relaxed)).sum()
    }
}

/// Told when requests begin to fail, with the reason, and when they work again.
pub type Say = Box<dyn Fn(Result<(), &str>) + Send>;

/// What is sent where.
pub struct Plan {
    /// The collector; `/v1/logs` and `/v1/metrics` are put behind its path.
    pub endpoint: Endpoint,
    /// How often the metrics are sent; never without it.
    pub metrics: Option<Duration>,
    /// Folder of the queue.
    pub folder: PathBuf,
    /// Largest size of the queue, bytes.
    pub most: u64,
    /// Longest time for one request.
    pub limit: Duration,
    /// Shortest and longest pause after a failure.
    pub pauses: (Duration, Duration),
    /// Told when requests begin to fail, and when they work again.
    pub say: Say,
}

/// Where verdicts are handed over.
#[derive(Clone)]
pub struct Verdicts {
    sender: Sender<Arc<Verdict>>,
    account: Arc<Account>,
}

impl Verdicts {
    /// A queue to a thread that is started later.
    pub fn channel(account: &Arc<Account>) -> (Self, Receiver<Arc<Verdict>>) {
        let (sender, receiver) = channel(WAITING);
        (Self { sender, account: Arc::clone(account) }, receiver)
    }

    /// Hands one over. Never waits.
    pub fn hand_over(&self, verdict: &Arc<Verdict>) {
        if self.sender.try_send(Arc::clone(verdict)).is_err() {
            self.account.channel_full.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts the thread; `begin` runs in it first. It ends when nobody hands verdicts over any more, and what it has
/// waits on disk then.
pub fn start(
    plan: Plan,
    verdicts: Receiver<Arc<Verdict>>,
    shared: Arc<Shared>,
    begin: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let queue = Queue::open(&plan.folder, plan.most)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exporter = Exporter {
        host: crate::session::host::name(),
        started: now(),
        account: Arc::clone(&shared.otlp),
        shared,
        queue: RefCell::new(queue),
        delivery: Delivery::default(),
        plan,
    };
    thread::Builder::new().name("rstscope-otlp".to_owned()).spawn(move || {
        begin();
        exporter.note_size();
        runtime.block_on(async {
            tokio::select! {
                () = exporter.gather(verdicts) => {}
                () = exporter.deliver() => {}
            }
        });
    })
}

struct Exporter {
    plan: Plan,
    host: String,
    /// Nanoseconds since 1970.
    started: u64,
    account: Arc<Account>,
    shared: Arc<Shared>,
    queue: RefCell<Queue>,
    delivery: Delivery,
}

impl Exporter {
    /// Makes requests of what comes, until nothing more can come.
    async fn gather(&self, mut verdicts: Receiver<Arc<Verdict>>) {
        let mut next = self.plan.metrics.map(|interval| Instant::now() + interval);
        loop {
            let first = tokio::select! {
                first = verdicts.recv() => first,
                () = at(next) => {
                    self.queue_metrics();
                    next = self.plan.metrics.map(|interval| Instant::now() + interval);
                    continue;
                }
            };
            let Some(first) = first else { return };
            let mut batch = vec![first];
            let end = Instant::now() + GATHER;
            while batch.len() < BATCH {
                // Late, or none will come: either way this is the batch.
                let Ok(Some(verdict)) = timeout_at(end, verdicts.recv()).await else { break };
                batch.push(verdict);
            }
            self.queue_logs(&batch);
        }
    }

    fn queue_logs(&self, batch: &[Arc<Verdict>]) {
        let now = now();
        let records = batch.iter().map(|verdict| logs::record(verdict, now)).collect();
        let body = ndjson::line(&logs::request(&self.host, records)).unwrap_or_default();
        self.queue(Signal::Logs, batch.len(), &body);
    }

    fn queue_metrics(&self) {
        let families = families(&self.shared);
        let request = metrics_request(&self.host, &families, self.started, now());
        self.queue(Signal::Metrics, families.len(), &ndjson::line(&request).unwrap_or_default());
    }

    fn queue(&self, signal: Signal, records: usize, body: &[u8]) {
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let lost = self.queue.borrow_mut().push(signal, records, body);
        let problem = self.queue.borrow().problem();
        *self.account.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        let lost = lost.iter().map(|item| item.records).sum();
        self.account.queue_full.fetch_add(lost, Ordering::Relaxed);
        self.note_size();
        self.delivery.news.notify_one();
    }

    fn note_size(&self) {
        self.account.bytes.store(self.queue.borrow().bytes(), Ordering::Relaxed);
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
