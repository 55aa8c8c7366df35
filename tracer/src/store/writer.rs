//! The one thread that writes. Verdicts come over a bounded channel that is never waited for; what does not fit is
//! counted. What the disk does not take is kept, up to a bound, and tried again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use jiff::Timestamp;

use super::ageing::Ageing;
use super::{Place, Retention, Row, Run, StoreError, Stretch, pack};
use crate::engine::Dossier;
use crate::model::Verdict;

/// Verdicts that may wait for the thread, some four kilobytes each.
const WAITING: usize = 2048;
/// Verdicts among them, and among those that wait for the disk, that have what stands behind them: it is ten times as
/// long, and must not fill the memory when resets come by the thousand.
const WITH_DOSSIER: u64 = 256;
/// Stretches of watching that may wait for the disk; beyond it the oldest count as not watched.
const STRETCHES: usize = 64;
/// Verdicts stored at once.
const BATCH: usize = 256;
/// Verdicts kept while the disk takes none; beyond it the oldest are lost, and counted.
const PENDING: usize = 4096;
/// How often the disk is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the age and size of the store are looked at, when nothing is stored.
const TIDY: Duration = Duration::from_mins(10);
/// Batches after which they are looked at, too.
const TIDY_BATCHES: u32 = 16;
/// How far beyond the permitted size the file may grow before it takes no more: a quarter of it, and at least what
/// some batches take, because retention only deletes what is beyond the permitted size.
const MARGIN: (u64, u64) = (4, 16 << 20);

/// What became of the verdicts handed over. The numbers only grow, except where stated.
#[derive(Debug, Default)]
pub struct Account {
    /// Verdicts on disk.
    pub stored: AtomicU64,
    /// Verdicts that found the channel full.
    pub channel_full: AtomicU64,
    /// Verdicts given up because the disk took none for too long.
    pub given_up: AtomicU64,
    /// Batches that could not be written.
    pub failures: AtomicU64,
    /// Verdicts stored, or still waiting, without what stands behind them, because too many came at once.
    pub without_dossier: AtomicU64,
    /// Verdicts that wait for the thread now and have a dossier.
    waiting_dossiers: AtomicU64,
    /// Verdicts deleted by age or size.
    pub expired: AtomicU64,
    /// Verdicts that wait for the disk now.
    pub pending: AtomicU64,
    /// Bytes the database takes now.
    pub bytes: AtomicU64,
    /// Time of the oldest verdict now, nanoseconds since 1970; zero when there is none.
    pub oldest: AtomicU64,
    /// The disk takes nothing now.
    pub failing: AtomicBool,
    problem: Mutex<Option<String>>,
    news: Mutex<Vec<String>>,
}

impl Account {
    /// Why the disk takes nothing now.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happened to the file since the last time this was asked.
    pub fn take_news(&self) -> Vec<String> {
        mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Verdicts that were lost, for whatever reason.
    pub fn lost(&self) -> u64 {
        self.channel_full.load(Ordering::Relaxed) + self.given_up.load(Ordering::Relaxed)
    }

    /// Makes room for one more dossier that waits; counts one that finds none.
    fn takes_dossier(&self) -> bool {
        let takes = self.waiting_dossiers.load(Ordering::Relaxed) < WITH_DOSSIER;
        let counter = if takes { &self.waiting_dossiers } else { &self.without_dossier };
        counter.fetch_add(1, Ordering::Relaxed);
        takes
    }

    fn set_problem(&self, problem: Option<String>) {
        self.failing.store(problem.is_some(), Ordering::Relaxed);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// Called with every verdict once it is on disk, or once it is clear that it will not be for now.
pub type Stored = Box<dyn FnMut(&Arc<Verdict>, bool) + Send>;

/// What the thread is given.
enum Handed {
    Verdict(Arc<Verdict>, Option<Arc<Dossier>>),
    Stretch(Box<Stretch>),
    Run(Box<Run>),
}

/// The running thread.
pub struct Writer {
    sender: Option<SyncSender<Handed>>,
    account: Arc<Account>,
    retention: Arc<Mutex<Retention>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `begin` runs in it first, `stored` with every verdict.
    pub fn start(
        place: impl Into<Place>,
        retention: Retention,
        stored: Stored,
        begin: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let account = Arc::new(Account::default());
        let shared = Arc::new(Mutex::new(retention));
        let (sender, receiver) = sync_channel(WAITING);
        let mut work = Work {
            place: place.into(),
            retention: Arc::clone(&shared),
            limited: None,
            ageing: Ageing::default(),
            account: Arc::clone(&account),
            stored,
            pending: VecDeque::new(),
            run: None,
            is_run_stored: true,
            stretches: VecDeque::new(),
            tried: Instant::now(),
            batches: 0,
        };
        let thread = thread::Builder::new().name("rstscope-store".to_owned()).spawn(move || {
            begin();
            work.run(&receiver);
        })?;
        Ok(Self { sender: Some(sender), account, retention: shared, thread: Some(thread) })
    }

    /// Hands a verdict over, and what stands behind it where there is room for that, too; false, and counted, when it
    /// was not taken.
    pub fn hand_over(&self, verdict: Arc<Verdict>, dossier: Option<&Arc<Dossier>>) -> bool {
        let dossier = dossier.filter(|_| self.account.takes_dossier()).cloned();
        let sent = self.send(Handed::Verdict(verdict, dossier));
        if !sent {
            self.account.channel_full.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Hands a stretch of watching over; one that finds no room counts as not watched.
    pub fn watched(&self, stretch: Stretch) -> bool {
        self.send(Handed::Stretch(Box::new(stretch)))
    }

    /// Says who watches, or what is newly known of its host.
    pub fn watches(&self, run: Run) -> bool {
        self.send(Handed::Run(Box::new(run)))
    }

    fn send(&self, handed: Handed) -> bool {
        let Some(sender) = &self.sender else { return false };
        match sender.try_send(handed) {
            Ok(()) => true,
            Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) => {
                if let Handed::Verdict(_, Some(_)) = refused {
                    self.account.waiting_dossiers.fetch_sub(1, Ordering::Relaxed);
                }
                false
            }
        }
    }

    /// What became of the verdicts.
    pub fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account)
    }

    /// Keeps verdicts by other rules from now on.
    pub fn set_retention(&self, retention: Retention) {
        *self.retention.lock().unwrap_or_else(PoisonError::into_inner) = retention;
    }

    /// Stores what is on the way and ends the thread.
    pub fn stop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Work {
    place: Place,
    retention: Arc<Mutex<Retention>>,
    limited: Option<u64>,
    ageing: Ageing,
    account: Arc<Account>,
    stored: Stored,
    /// Rows the disk did not take yet.
    pending: VecDeque<Row>,
    /// Who watches, and the stretches that the disk did not take yet.
    run: Option<Box<Run>>,
    is_run_stored: bool,
    stretches: VecDeque<Stretch>,
    /// When the disk was last found to take nothing.
    tried: Instant,
    batches: u32,
}

impl Work {
    fn run(&mut self, receiver: &Receiver<Handed>) {
        self.tidy();
        self.tell_news();
        loop {
            let wait = if self.pending.is_empty() { TIDY } else { AGAIN };
            match receiver.recv_timeout(wait) {
                Ok(first) => self.batch(std::iter::once(first).chain(receiver.try_iter().take(BATCH - 1))),
                Err(RecvTimeoutError::Timeout) => {
                    self.retry();
                    self.tidy();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.retry();
    }

    fn batch(&mut self, batch: impl Iterator<Item = Handed>) {
        let (mut verdicts, mut rows) = (Vec::new(), Vec::new());
        for handed in batch {
            match handed {
                Handed::Verdict(verdict, dossier) => {
                    rows.extend(self.row(&verdict, dossier.as_deref()));
                    verdicts.push(verdict);
                }
                Handed::Stretch(stretch) => self.stretches.push_back(*stretch),
                Handed::Run(run) => (self.run, self.is_run_stored) = (Some(run), false),
            }
        }
        let stored = rows.is_empty() || self.store(rows);
        for verdict in &verdicts {
            (self.stored)(verdict, stored);
        }
        self.cover();
        self.batches += 1;
        if self.batches.is_multiple_of(TIDY_BATCHES) {
            self.tidy();
        }
    }

    /// Stores how the time was watched, and keeps what the disk does not take.
    fn cover(&mut self) {
        if let Ok(store) = self.place.store() {
            if let (false, Some(run)) = (self.is_run_stored, &self.run) {
                self.is_run_stored = store.insert_run(run).is_ok();
            }
            while let Some(stretch) = self.stretches.front()
                && store.insert_stretch(stretch).is_ok()
            {
                self.stretches.pop_front();
            }
        }
        let surplus = self.stretches.len().saturating_sub(STRETCHES);
        self.stretches.drain(..surplus);
    }

    fn row(&self, verdict: &Verdict, dossier: Option<&Dossier>) -> Option<Row> {
        let packed = dossier.map(|dossier| {
            self.account.waiting_dossiers.fetch_sub(1, Ordering::Relaxed);
            pack(dossier)
        });
        if let Some(None) = packed {
            self.account.without_dossier.fetch_add(1, Ordering::Relaxed);
        }
        let row = Row::of(verdict).map(|row| row.with(packed.flatten()));
        if let Err(error) = &row {
            self.account.given_up.fetch_add(1, Ordering::Relaxed);
            self.account.set_problem(Some(error.to_string()));
        }
        row.ok()
    }

    /// Stores rows, behind those that still wait; keeps them when the disk takes none.
    fn store(&mut self, rows: Vec<Row>) -> bool {
        if !self.pending.is_empty() {
            self.keep(rows);
            if self.tried.elapsed() >= AGAIN {
                self.retry();
            }
            return self.pending.is_empty();
        }
        match self.insert(&rows) {
            Ok(()) => self.succeeded(rows.len()),
            Err(error) => {
                self.keep(rows);
                self.failed(&error);
            }
        }
        self.pending.is_empty()
    }

    fn retry(&mut self) {
        self.tried = Instant::now();
        while !self.pending.is_empty() {
            let rows: Vec<Row> = self.pending.drain(..self.pending.len().min(BATCH)).collect();
            if let Err(error) = self.insert(&rows) {
                for row in rows.into_iter().rev() {
                    self.pending.push_front(row);
                }
                self.failed(&error);
                return;
            }
            self.succeeded(rows.len());
        }
    }

    /// Stores rows; where nothing fits, what is too old makes room first.
    fn insert(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let result = self.place.store().and_then(|store| store.insert(rows));
        self.tell_news();
        if result.is_err() && self.tidy() > 0 {
            return self.place.store()?.insert(rows);
        }
        result
    }

    /// Another store, or none, is in its place: what holds for the store holds for that one, too.
    fn tell_news(&mut self) {
        let news = self.place.take_news();
        if !news.is_empty() {
            (self.limited, self.is_run_stored) = (None, false);
            self.account.failures.fetch_add(1, Ordering::Relaxed);
            self.account.news.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
        }
    }

    fn succeeded(&mut self, rows: usize) {
        self.account.stored.fetch_add(u64::try_from(rows).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.note_pending();
        self.note_size();
        self.account.set_problem(None);
    }

    fn failed(&mut self, error: &StoreError) {
        self.tried = Instant::now();
        self.place.failed(error);
        self.account.failures.fetch_add(1, Ordering::Relaxed);
        self.account.set_problem(Some(error.to_string()));
    }

    fn keep(&mut self, rows: Vec<Row>) {
        for mut row in rows {
            let room = (self.pending.len() as u64) < WITH_DOSSIER;
            if !room && row.dossier.take().is_some() {
                self.account.without_dossier.fetch_add(1, Ordering::Relaxed);
            }
            self.pending.push_back(row);
        }
        let surplus = self.pending.len().saturating_sub(PENDING);
        self.pending.drain(..surplus);
        self.account.given_up.fetch_add(u64::try_from(surplus).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.note_pending();
    }

    fn note_pending(&self) {
        self.account.pending.store(u64::try_from(self.pending.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Deletes what is not to be kept, and notes how large the store is. Gives the number of verdicts deleted.
    fn tidy(&mut self) -> u64 {
        let retention = *self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(store) = self.place.store() else { return 0 };
        if mem::replace(&mut self.limited, retention.bytes) != retention.bytes {
            let margin = |bytes: u64| (bytes / MARGIN.0).max(MARGIN.1);
            let most = retention.bytes.map_or(u64::MAX, |bytes| bytes.saturating_add(margin(bytes)));
            // Without it the bound is kept a little later, by retention alone.
            let _unlimited = store.limit(most);
        }
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let may_age = self.ageing.may_take(now, Instant::now(), || store.latest().ok().flatten());
        let retention = Retention { age: retention.age.filter(|_| may_age), ..retention };
        let expired = store.retain(retention, now).unwrap_or_else(|error| {
            self.account.set_problem(Some(error.to_string()));
            0
        });
        self.account.expired.fetch_add(expired, Ordering::Relaxed);
        self.note_size();
        expired
    }

    fn note_size(&mut self) {
        let Ok(store) = self.place.store() else { return };
        let bytes = store.bytes().unwrap_or(0);
        self.account.bytes.store(bytes, Ordering::Relaxed);
        let oldest = store.oldest().ok().flatten().unwrap_or(0);
        self.account.oldest.store(u64::try_from(oldest).unwrap_or(0), Ordering::Relaxed);
    }
}
