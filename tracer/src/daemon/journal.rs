//! Lines for the journal, on standard error. A thread of its own writes them, because a journal that hangs must not
//! hold anything up; lines that find its queue full are counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::guard::{self, Confined, GuardError};
use crate::metrics::Shared;
use crate::model::Verdict;
use crate::model::verdict::Impact;
use crate::output::{parts, sanitize};

/// Lines that may wait.
const WAITING: usize = 256;
/// Characters of a line.
const MAX_LINE: usize = 1500;
const MINUTE: Duration = Duration::from_mins(1);
/// Longest wait for the last lines to be taken.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How grave a line is, as `syslog(3)` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something works less well.
    Warning,
    /// Worth knowing.
    Notice,
    /// One incident.
    Info,
}

impl Level {
    /// The prefix by which the journal knows the level.
    fn prefix(self) -> &'static str {
        match self {
            Self::Error => "<3>",
            Self::Warning => "<4>",
            Self::Notice => "<5>",
            Self::Info => "<6>",
        }
    }
}

/// Where lines are handed over.
#[derive(Debug, Clone)]
pub struct Journal {
    sender: Arc<Mutex<Option<SyncSender<String>>>>,
    /// Ends when the thread does.
    ended: Arc<Mutex<Receiver<()>>>,
    shared: Arc<OnceLock<Arc<Shared>>>,
    /// The journal reads standard error, and so understands levels.
    levels: bool,
}

impl Journal {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        Self::to(io::stderr(), || {
            // Without a sandbox it writes the same lines.
            let _confined = guard::worker(&[], None);
        })
    }

    fn to(mut out: impl Write + Send + 'static, begin: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<String>(WAITING);
        let (ends, ended) = sync_channel(0);
        thread::Builder::new().name("rstscope-journal".to_owned()).spawn(move || {
            begin();
            for line in receiver {
                // Nobody reads the log; there is nowhere to say so.
                let _written = out.write_all(line.as_bytes());
            }
            drop(ends);
        })?;
        Ok(Self {
            sender: Arc::new(Mutex::new(Some(sender))),
            ended: Arc::new(Mutex::new(ended)),
            shared: Arc::default(),
            levels: std::env::var_os("JOURNAL_STREAM").is_some(),
        })
    }

    /// Counts lines that do not fit there from now on.
    pub(super) fn count_losses_in(&self, shared: &Arc<Shared>) {
        let _first = self.shared.set(Arc::clone(shared));
    }

    /// Writes one line, whatever stands in it.
    pub fn line(&self, level: Level, text: &str) {
        let prefix = if self.levels { level.prefix() } else { "" };
        let line = format!("{prefix}{}\n", sanitize::line(text, MAX_LINE));
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = sender.as_ref().is_some_and(|sender| sender.try_send(line).is_ok());
        if let (false, Some(shared)) = (sent, self.shared.get()) {
            shared.journal_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says what a thread is left with.
    pub(super) fn confined(&self, thread: &str, confined: Result<Confined, GuardError>) {
        match confined {
            Ok(Confined { capabilities, landlock }) => {
                let capabilities =
                    if capabilities.is_empty() { "no capability".to_owned() } else { capabilities.join(" ") };
                self.line(
                    Level::Notice,
                    &format!("{thread} thread: keeps {capabilities}, Landlock: {landlock}"),
                );
            }
            Err(error) => self.line(Level::Warning, &format!("{thread} thread is not confined: {error}")),
        }
    }

    /// Writes what is on the way and ends. A journal that hangs is not waited for for long.
    pub(super) fn finish(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST_LINES);
    }
}

/// One line per incident, only so many in a minute.
pub(super) struct Incidents {
    journal: Journal,
    /// Zero: none at all.
    per_minute: Arc<AtomicU32>,
    minute: Instant,
    told: u32,
    held_back: AtomicU64,
}

impl Incidents {
    pub(super) fn new(journal: Journal, per_minute: Arc<AtomicU32>) -> Self {
        Self { journal, per_minute, minute: Instant::now(), told: 0, held_back: AtomicU64::new(0) }
    }

    pub(super) fn tell(&mut self, verdict: &Verdict) {
        let most = self.per_minute.load(Ordering::Relaxed);
        if verdict.impact == Impact::Harmless || most == 0 {
            return;
        }
        if self.minute.elapsed() >= MINUTE {
            self.minute = Instant::now();
            self.told = 0;
            let held_back = self.held_back.swap(0, Ordering::Relaxed);
            if held_back > 0 {
                let text =
                    format!("{held_back} more incidents were not told here; `rstscope query` has them");
                self.journal.line(Level::Notice, &text);
            }
        }
        if self.told >= most {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.told += 1;
        self.journal.line(Level::Info, &line(verdict));
    }
}

/// One incident in a line, the id last, so that `rstscope show` can be asked.
fn line(verdict: &Verdict) -> String {
    let culprit = parts::culprit(verdict);
    let tail = parts::impact_and_request(verdict);
    let parts = [verdict.party.slug(), verdict.certainty.slug(), verdict.cause.slug(), &culprit, &tail];
    let shown: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("incident: {}: {} [{}]", shown.join(" "), verdict.summary, verdict.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    /// Takes nothing until its other end is dropped.
    struct Hanging(Receiver<()>);

    impl Write for Hanging {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _dropped = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_journal_that_hangs_neither_holds_up_a_line_nor_the_end() {
        let (release, hangs) = sync_channel(0);
        let journal = Journal::to(Hanging(hangs), || ()).unwrap();
        let shared = Arc::new(Shared::new(Arc::default(), crate::metrics::Notices::default(), 8));
        journal.count_losses_in(&shared);
        (0..WAITING * 2).for_each(|_| journal.line(Level::Notice, "a line"));
        assert!(shared.journal_lost.load(Ordering::Relaxed) >= WAITING as u64 - 1);
        journal.finish();
        drop(release);
    }

    #[test]
    fn an_incident_is_one_line_with_its_id() {
        for verdict in samples::all() {
            let line = line(&verdict);
            let shown = sanitize::line(&line, MAX_LINE);
            assert!(!shown.contains('\n') && !shown.chars().any(sanitize::is_dangerous));
            assert!(line.ends_with(&format!("[{}]", verdict.id)));
        }
    }
}
