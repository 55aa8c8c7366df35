//! Patterns in the live stream: bursts, periods, concentrations, what follows a change of Nginx's processes or of those
//! behind the upstreams. A period gets the names of the cron entries and timers that have its times. One
//! notice per finding, however many incidents it has, and again only after it has been gone for a while.
//!
//! A thread of its own looks, at most once a minute and only after something new; verdicts that find its queue full
//! are counted. What a pattern is, is decided in `history::pattern`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::changes::{Moment, Moments};
use super::notices::Outlets;
use super::{Journal, Level};
use crate::guard;
use crate::history::pattern::live::{Recent, VerdictEvent};
use crate::history::pattern::{Finding, Pattern, find};
use crate::history::report::PatternRow;
use crate::history::words;
use crate::metrics::Shared;
use crate::model::Verdict;
use crate::schedule::{self, Places};
use crate::session::upstreams::Change;

/// Events that may wait for the thread.
const WAITING: usize = 4096;
/// Events kept, at most; a few hundred bytes each. In a storm the window becomes shorter.
const MOST: usize = 20_000;
/// How far back patterns are looked for, seconds.
const WINDOW: i64 = 24 * 3600;
/// Least time between two looks.
const LOOK: Duration = Duration::from_mins(1);
/// A finding that was not seen for this long is told anew, seconds.
const FORGOTTEN: i64 = 6 * 3600;
/// Findings remembered as told.
const MOST_TOLD: usize = 1000;

/// What the thread is told.
enum Heard {
    Event(VerdictEvent),
    /// Nginx's processes have changed, seconds of UTC.
    Mark(i64),
    /// Something happened to an upstream's process.
    Moment(Moment),
}

/// Where verdicts and changes are handed over.
#[derive(Clone)]
pub(super) struct Patterns {
    sender: SyncSender<Heard>,
    shared: Arc<Shared>,
}

impl Patterns {
    /// Starts the thread.
    pub(super) fn start(journal: Journal, shared: Arc<Shared>, outlets: Outlets) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let numbers = Arc::clone(&shared);
        thread::Builder::new().name("rstscope-patterns".to_owned()).spawn(move || {
            journal.confined("patterns", guard::worker(&[], None));
            let mut watch = Watch::new(now());
            let mut tell = |row: &PatternRow| {
                numbers.note_pattern(row.pattern, row.group.unwrap_or("all"));
                journal.line(Level::Warning, &format!("pattern: {}", row.text));
                outlets.pattern(row);
            };
            watch.run(&receiver, &mut tell);
        })?;
        Ok(Self { sender, shared })
    }

    /// Hands a verdict over.
    pub(super) fn verdict(&self, verdict: &Verdict) {
        if let Some(event) = VerdictEvent::of(verdict) {
            self.send(Heard::Event(event));
        }
        if let Some(moment) = Moment::of_verdict(verdict) {
            self.send(Heard::Moment(moment));
        }
    }

    /// Nginx's processes have changed.
    pub(super) fn mark(&self) {
        self.send(Heard::Mark(now()));
    }

    /// Something happened to the process behind an upstream.
    pub(super) fn change(&self, change: &Change) {
        self.send(Heard::Moment(Moment::of_change(change, now())));
    }

    fn send(&self, heard: Heard) {
        if self.sender.try_send(heard).is_err() {
            self.shared.patterns_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Watch {
    recent: Recent,
    started: i64,
    /// When each finding was last seen, seconds of UTC.
    told: BTreeMap<String, i64>,
    moments: Moments,
    /// Where this host says what it does at regular times.
    places: Places,
}

impl Watch {
    fn new(started: i64) -> Self {
        Self {
            recent: Recent::new(WINDOW, MOST),
            started,
            told: BTreeMap::new(),
            moments: Moments::default(),
            places: Places::default(),
        }
    }

    /// Until nobody hands anything over any more.
    fn run(&mut self, receiver: &Receiver<Heard>, tell: &mut impl FnMut(&PatternRow)) {
        let mut next_look: Option<Instant> = None;
        loop {
            let heard = match next_look {
                // Nothing new: nothing to wake up for.
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => receiver.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match heard {
                Ok(Heard::Event(event)) => self.recent.add(&event),
                Ok(Heard::Mark(time)) => self.recent.mark(time),
                Ok(Heard::Moment(moment)) => self.moments.add(moment),
                Err(RecvTimeoutError::Timeout) => {
                    self.look(now(), tell);
                    next_look = None;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            next_look = next_look.or_else(|| Some(Instant::now() + LOOK));
        }
    }

    fn look(&mut self, now: i64, tell: &mut impl FnMut(&PatternRow)) {
        self.told.retain(|_, seen| now - *seen < FORGOTTEN);
        for finding in find(&self.recent.window(self.started, now)) {
            // A few incidents over a long time are no news; each of them was told.
            if matches!(finding.pattern, Pattern::Occasional(_)) {
                continue;
            }
            if self.is_new(identity(&finding), now) {
                tell(&row(&finding, &self.places));
            }
        }
        for row in self.moments.find(&mut self.recent, self.started, now, now - WINDOW) {
            if self.is_new(format!("{} {}", row.group.unwrap_or("all"), row.pattern), now) {
                tell(&row);
            }
        }
    }

    fn is_new(&mut self, identity: String, now: i64) -> bool {
        self.told.insert(identity, now).is_none() && self.told.len() <= MOST_TOLD
    }
}

/// A finding in words; a period with the names of what this host does at its times.
fn row(finding: &Finding, places: &Places) -> PatternRow {
    let zone = TimeZone::system();
    let mut row = words::pattern(finding, &zone);
    if let Pattern::Periodic(period) = &finding.pattern {
        let names = schedule::named(period, &schedule::all(places), &zone);
        if !names.is_empty() {
            row.text = format!("{}; at these times: {}", row.text, names.join(", "));
            row.numbers["schedules"] = names.into();
        }
    }
    row
}

/// What makes two findings the same: the kind of trouble, the pattern, and for a concentration where.
fn identity(finding: &Finding) -> String {
    let group = finding.group.map_or("all", crate::history::pattern::Group::slug);
    let place = match &finding.pattern {
        Pattern::Concentration(found) => words::key(found.dimension, &found.key),
        _ => String::new(),
    };
    format!("{group} {} {place}", finding.pattern.slug())
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    const START: i64 = 1_772_373_802;

    fn burst(watch: &mut Watch, at: i64) {
        let event = VerdictEvent::of(&samples::upstream_abort()).unwrap();
        for second in 0..40 {
            watch.recent.add(&VerdictEvent { time: Some(at + second / 4), ..event.clone() });
        }
    }

    fn told(watch: &mut Watch, now: i64) -> Vec<&'static str> {
        let mut told = Vec::new();
        watch.look(now, &mut |row| told.push(row.pattern));
        told
    }

    #[test]
    fn a_finding_is_told_once_and_again_only_after_it_was_gone() {
        let mut watch = Watch::new(START - 7200);
        burst(&mut watch, START);
        assert!(told(&mut watch, START + 60).contains(&"burst"));
        burst(&mut watch, START + 61);
        assert_eq!(told(&mut watch, START + 120), Vec::<&str>::new());
        let much_later = START + WINDOW + FORGOTTEN + 200;
        assert_eq!(told(&mut watch, much_later), Vec::<&str>::new(), "nothing is left to tell");
        burst(&mut watch, much_later);
        assert!(told(&mut watch, much_later + 60).contains(&"burst"));
    }

    #[test]
    fn silence_and_single_incidents_are_no_news() {
        let mut watch = Watch::new(START - 7200);
        assert_eq!(told(&mut watch, START), Vec::<&str>::new());
        let event = VerdictEvent::of(&samples::upstream_abort()).unwrap();
        watch.recent.add(&event);
        assert_eq!(told(&mut watch, START + 60), Vec::<&str>::new());
    }

    #[test]
    fn a_period_has_the_name_of_the_cron_entry_with_its_times() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        // In every zone some minute of an hour is the 30th: zones with half hours move it.
        let minutes = (0..60).find(|minute| {
            let time = Timestamp::from_second(START.div_euclid(3600) * 3600 + minute * 60).unwrap();
            TimeZone::system().to_datetime(time).minute() == 30
        });
        std::fs::write(root.path().join("etc/crontab"), "30 * * * * root reindex\n0 * * * * root other\n")
            .unwrap();
        let mut watch = Watch::new(START);
        watch.places = Places { root: root.path().to_owned() };
        let first = START.div_euclid(3600) * 3600 + minutes.unwrap() * 60 + 12;
        let event = VerdictEvent::of(&samples::upstream_abort()).unwrap();
        for hour in 0..20 {
            for second in 0..5 {
                watch.recent.add(&VerdictEvent { time: Some(first + hour * 3600 + second), ..event.clone() });
            }
        }
        let mut texts = Vec::new();
        watch.look(first + 20 * 3600, &mut |row| texts.push(row.text.clone()));
        let period = texts.iter().find(|text| text.contains("return every")).expect("a period");
        assert!(period.contains("etc/crontab:1 (reindex)") && !period.contains("other"), "{period}");
    }
}
