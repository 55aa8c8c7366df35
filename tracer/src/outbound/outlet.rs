//! A queue with a bound, a thread that delivers what is in it one after the other, and the account of both. How
//! something is delivered is the business of whoever starts it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::notice::{About, Notice};

/// Notices that may wait.
const WAITING: usize = 256;
const MINUTE: Duration = Duration::from_mins(1);

/// What became of the notices. The numbers only grow.
#[derive(Debug, Default)]
pub struct Account {
    /// Delivered.
    pub sent: AtomicU64,
    /// Given up: the receiver refused, or could not be reached.
    pub failed: AtomicU64,
    /// Found the queue full, or were too large.
    pub dropped: AtomicU64,
    /// Beyond what may be sent in a minute.
    pub limited: AtomicU64,
}

impl Account {
    /// Notices that did not arrive, for whatever reason.
    pub fn lost(&self) -> u64 {
        [&self.failed, &self.dropped, &self.limited].iter().map(|number| number.load(Ordering::Relaxed)).sum()
    }
}

/// Why a notice did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// The reason.
    pub why: String,
    /// It may go better later.
    pub is_temporary: bool,
}

/// Delivers one line.
pub type Deliver = Box<dyn FnMut(&[u8]) -> Result<(), Failure> + Send>;

/// Told when deliveries begin to fail, with the reason, and when they work again.
pub type Say = Box<dyn Fn(Result<(), &Failure>) + Send>;

/// What an outlet is like.
pub struct Plan {
    /// Name of the thread.
    pub name: &'static str,
    /// What it is told of.
    pub about: Vec<About>,
    /// Most notices in a minute.
    pub per_minute: u32,
    /// Pauses before a delivery that failed for now is tried again; after the last it is given up.
    pub again: &'static [Duration],
    /// Told when deliveries begin to fail, and when they work again.
    pub say: Say,
}

/// Where notices are handed over.
#[derive(Clone)]
pub struct Outlet {
    sender: SyncSender<Vec<u8>>,
    about: Arc<[About]>,
    account: Arc<Account>,
}

impl Outlet {
    /// Starts the thread; `begin` runs in it first and gives what delivers.
    pub fn start(
        plan: Plan,
        account: Arc<Account>,
        begin: impl FnOnce() -> Deliver + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let about = plan.about.clone().into();
        let mut work =
            Work { plan, account: Arc::clone(&account), minute: Instant::now(), told: 0, failing: false };
        let name = format!("rstscope-{}", work.plan.name);
        thread::Builder::new().name(name).spawn(move || {
            let mut deliver = begin();
            work.run(&receiver, &mut deliver);
        })?;
        Ok(Self { sender, about, account })
    }

    /// Hands a notice over, if it is one that the receiver wants. Never waits.
    pub fn tell(&self, notice: &Notice<'_>) {
        if !self.about.contains(&notice.about) {
            return;
        }
        let sent = notice.line().is_some_and(|line| self.sender.try_send(line).is_ok());
        if !sent {
            self.account.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Work {
    plan: Plan,
    account: Arc<Account>,
    minute: Instant,
    told: u32,
    failing: bool,
}

impl Work {
    /// Until nobody hands anything over any more.
    fn run(&mut self, receiver: &Receiver<Vec<u8>>, deliver: &mut Deliver) {
        for line in receiver {
            if !self.may_send() {
                self.account.limited.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let result = self.attempt(&line, deliver);
            let number = if result.is_ok() { &self.account.sent } else { &self.account.failed };
            number.fetch_add(1, Ordering::Relaxed);
            if result.is_err() != self.failing {
                self.failing = result.is_err();
                (self.plan.say)(match &result {
                    Ok(()) => Ok(()),
                    Err(failure) => Err(failure),
                });
            }
        }
    }

    fn may_send(&mut self) -> bool {
        if self.minute.elapsed() >= MINUTE {
            self.minute = Instant::now();
            self.told = 0;
        }
        self.told += 1;
        self.told <= self.plan.per_minute
    }

    fn attempt(&self, line: &[u8], deliver: &mut Deliver) -> Result<(), Failure> {
        let mut result = deliver(line);
        for pause in self.plan.again {
            if !result.as_ref().is_err_and(|failure| failure.is_temporary) {
                break;
            }
            thread::sleep(*pause);
            result = deliver(line);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::output::samples;

    fn plan(per_minute: u32) -> Plan {
        let about = vec![About::Incidents];
        Plan { name: "test", about, per_minute, again: &[], say: Box::new(|_| {}) }
    }

    fn total(account: &Account) -> u64 {
        account.sent.load(Ordering::Relaxed) + account.lost()
    }

    fn until(mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < end, "never came about");
            thread::yield_now();
        }
    }

    #[test]
    fn a_receiver_that_hangs_holds_nobody_up_and_everything_is_counted() {
        let (release, hangs) = channel::<()>();
        let account = Arc::new(Account::default());
        let outlet = Outlet::start(plan(u32::MAX), Arc::clone(&account), move || {
            Box::new(move |_| {
                // Hangs until the other end is dropped.
                let _released = hangs.recv();
                Ok(())
            })
        })
        .unwrap();
        let verdict = samples::keepalive_race();
        let notice = Notice::of_verdict(&verdict).unwrap();
        (0..1000).for_each(|_| outlet.tell(&notice));
        assert!(account.dropped.load(Ordering::Relaxed) >= 1000 - 257);
        drop(release);
        until(|| total(&account) == 1000);
    }

    #[test]
    fn only_so_many_are_sent_in_a_minute_and_only_what_is_wanted() {
        let account = Arc::new(Account::default());
        let refused = Failure { why: "no".to_owned(), is_temporary: true };
        let outlet =
            Outlet::start(plan(3), Arc::clone(&account), move || Box::new(move |_| Err(refused.clone())))
                .unwrap();
        let verdict = samples::keepalive_race();
        let mut notice = Notice::of_verdict(&verdict).unwrap();
        (0..10).for_each(|_| outlet.tell(&notice));
        until(|| total(&account) == 10);
        assert_eq!(account.failed.load(Ordering::Relaxed), 3);
        assert_eq!(account.limited.load(Ordering::Relaxed), 7);
        notice.about = About::Patterns;
        outlet.tell(&notice);
        assert_eq!(total(&account), 10);
    }
}
