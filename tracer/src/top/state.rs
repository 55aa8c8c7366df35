//! What the view knows and what a key changes. Pure: no terminal, no clock of its own.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use crate::model::Verdict;
use crate::model::verdict::{Cause, Impact, Party};
use crate::output::parts;

/// Incidents kept for the list and for the verdict in full.
const MOST: usize = 2000;
/// Times kept for the rates.
const MOST_TIMES: usize = 200_000;
/// Places that are counted apart.
const MOST_PLACES: usize = 256;
/// Rows that a page of the list moves.
const PAGE: usize = 10;
/// Spans of the rates, seconds; the last column counts everything.
pub(super) const SPANS: [i64; 3] = [60, 300, 3600];

/// A key, whatever it is on the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Help,
    Pause,
    Harmless,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    Open,
    Back,
}

/// What is on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Verdict,
    Help,
}

/// Everything the view knows.
#[derive(Debug)]
pub(super) struct State {
    /// What is shown, for the first line.
    pub source: String,
    /// Time goes on without verdicts.
    pub live: bool,
    pub page: Page,
    pub paused: bool,
    pub harmless: bool,
    /// Line of the list, or first line of the text.
    pub selected: usize,
    pub scroll: usize,
    /// Why nothing more comes.
    pub end: Option<String>,
    /// Latest first.
    latest: VecDeque<Verdict>,
    /// What came while the view was paused.
    held: VecDeque<Verdict>,
    times: VecDeque<(i64, Party)>,
    by_party: BTreeMap<Party, u64>,
    by_cause: BTreeMap<(Cause, String), u64>,
    harmless_seen: u64,
    last: i64,
}

impl State {
    pub(super) fn new(source: String, live: bool) -> Self {
        Self {
            source,
            live,
            page: Page::Overview,
            paused: false,
            harmless: false,
            selected: 0,
            scroll: 0,
            end: None,
            latest: VecDeque::new(),
            held: VecDeque::new(),
            times: VecDeque::new(),
            by_party: BTreeMap::new(),
            by_cause: BTreeMap::new(),
            harmless_seen: 0,
            last: 0,
        }
    }

    /// Takes a verdict in.
    pub(super) fn add(&mut self, verdict: Verdict) {
        self.count(&verdict);
        let list = if self.paused { &mut self.held } else { &mut self.latest };
        list.push_front(verdict);
        list.truncate(MOST);
        // The line that is looked at stays the same incident.
        if !self.paused && (self.selected > 0 || self.page == Page::Verdict) {
            let shown = self.latest.front().is_some_and(|newest| self.shows(newest));
            self.selected += usize::from(shown);
        }
    }

    fn count(&mut self, verdict: &Verdict) {
        let time = verdict.time.parse::<Timestamp>().map_or(0, Timestamp::as_second);
        self.last = self.last.max(time);
        if verdict.impact == Impact::Harmless {
            self.harmless_seen += 1;
            return;
        }
        if self.times.len() >= MOST_TIMES {
            self.times.pop_front();
        }
        self.times.push_back((time, verdict.party));
        *self.by_party.entry(verdict.party).or_default() += 1;
        let known = self.by_cause.len() < MOST_PLACES;
        let key = (verdict.cause, parts::place(verdict));
        let key =
            if known || self.by_cause.contains_key(&key) { key } else { (verdict.cause, "other".to_owned()) };
        *self.by_cause.entry(key).or_default() += 1;
    }

    pub(super) fn ended(&mut self, why: String) {
        self.end = Some(why);
    }

    /// Changes what is shown; true when the user has seen enough.
    pub(super) fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Quit if self.page == Page::Overview => return true,
            Key::Quit | Key::Back => (self.page, self.scroll) = (Page::Overview, 0),
            Key::Help => self.page = if self.page == Page::Help { Page::Overview } else { Page::Help },
            Key::Pause => self.pause(),
            Key::Harmless => (self.harmless, self.selected) = (!self.harmless, 0),
            Key::Open if self.shown().next().is_some() => (self.page, self.scroll) = (Page::Verdict, 0),
            Key::Open => {}
            Key::Up => self.step(-1),
            Key::Down => self.step(1),
            Key::PageUp => self.step(-PAGE.cast_signed()),
            Key::PageDown => self.step(PAGE.cast_signed()),
            Key::Home => (self.selected, self.scroll) = (0, 0),
        }
        false
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        for verdict in std::mem::take(&mut self.held).into_iter().rev() {
            self.latest.push_front(verdict);
        }
        self.latest.truncate(MOST);
    }

    fn step(&mut self, by: isize) {
        if self.page == Page::Overview {
            let last = self.shown().count().saturating_sub(1);
            self.selected = self.selected.saturating_add_signed(by).min(last);
        } else {
            self.scroll = self.scroll.saturating_add_signed(by);
        }
    }

    fn shows(&self, verdict: &Verdict) -> bool {
        self.harmless || verdict.impact != Impact::Harmless
    }

    /// Incidents of the list, the latest first.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Verdict> {
        self.latest.iter().filter(|verdict| self.shows(verdict))
    }

    /// The incident that is looked at.
    pub(super) fn chosen(&self) -> Option<&Verdict> {
        self.shown().nth(self.selected)
    }

    /// The time that rates end at.
    pub(super) fn now(&self, clock: i64) -> i64 {
        if self.live && self.end.is_none() { clock } else { self.last }
    }

    /// Incidents of a party in each of the spans before `now`, and in all.
    pub(super) fn counts(&self, party: Party, now: i64) -> [u64; 4] {
        let mut counts = [0; 4];
        for (time, _) in self.times.iter().filter(|(_, whose)| *whose == party) {
            for (count, span) in counts.iter_mut().zip(SPANS) {
                *count += u64::from(*time > now - span);
            }
        }
        counts[3] = self.by_party.get(&party).copied().unwrap_or(0);
        counts
    }

    /// Causes and places, the most frequent first.
    pub(super) fn causes(&self) -> Vec<(&Cause, &str, u64)> {
        let mut causes: Vec<_> =
            self.by_cause.iter().map(|((cause, place), count)| (cause, place.as_str(), *count)).collect();
        causes.sort_by_key(|(cause, place, count)| (std::cmp::Reverse(*count), **cause, *place));
        causes
    }

    pub(super) fn harmless_seen(&self) -> u64 {
        self.harmless_seen
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn filled() -> State {
        let mut state = State::new("test".to_owned(), false);
        for verdict in samples::all() {
            state.add(verdict);
        }
        state
    }

    #[test]
    fn keys_lead_to_a_verdict_and_back() {
        let mut state = filled();
        assert!(!state.press(Key::Open));
        assert_eq!(state.page, Page::Verdict);
        state.press(Key::Down);
        assert_eq!((state.scroll, state.selected), (1, 0));
        assert!(!state.press(Key::Quit), "from a page q leads back");
        assert_eq!((state.page, state.scroll), (Page::Overview, 0));
        for _ in 0..100 {
            state.press(Key::PageDown);
        }
        assert_eq!(state.selected, state.shown().count() - 1);
        assert!(state.press(Key::Quit));
    }

    #[test]
    fn what_is_looked_at_stays_when_more_comes() {
        let mut state = filled();
        state.press(Key::Down);
        let id = state.chosen().unwrap().summary.clone();
        state.add(samples::refused());
        state.add(samples::client_late_reset()); // Not in the list.
        assert_eq!(state.chosen().unwrap().summary, id);
    }

    #[test]
    fn a_pause_holds_the_list_and_loses_nothing() {
        let mut state = filled();
        let before = state.shown().count();
        state.press(Key::Pause);
        state.add(samples::refused());
        assert_eq!((state.shown().count(), state.held()), (before, 1));
        state.press(Key::Pause);
        assert_eq!((state.shown().count(), state.held()), (before + 1, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut state = State::new("test".to_owned(), true);
        for number in 0..5000 {
            let mut verdict = samples::upstream_abort();
            verdict.connection.as_mut().unwrap().remote =
                format!("10.0.{}.{}:80", number / 250, number % 250);
            state.add(verdict);
        }
        assert_eq!(state.shown().count(), MOST);
        assert_eq!(state.causes().len(), MOST_PLACES + 1);
        assert_eq!(state.causes().iter().map(|(.., count)| count).sum::<u64>(), 5000);
    }
}
