//! How events spread over upstreams, URIs, clients and workers, over starts of processes, and over the two kinds
//! of gateway errors. A statement is made only when chance would hardly produce it.

use super::chance::{float, ln_binomial_tail, seconds};
use super::series::Series;
use super::window::{Dimension, Group, Turns, Window};
use crate::history::table::Table;

/// Fewest events that a statement on their spread rests on.
const FEWEST: u64 = 20;
/// `ln` of the accepted chance (1e-6).
const LN_LIMIT: f64 = -13.8;
/// Part of the events that a single key must have to be called a concentration.
const CONCENTRATED: f64 = 0.6;
/// Seconds after a start or end of a process in which events are counted as following it.
const AFTER_MARK: i64 = 10;

/// Most events have one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concentration {
    /// By what.
    pub dimension: Dimension,
    /// The key, raw.
    pub key: Vec<u8>,
    /// Events with it.
    pub count: u64,
    /// Events with any key of this dimension.
    pub of: u64,
    /// Different keys.
    pub keys: usize,
}

/// The key that most events of a group have, if they do; `None` also where only one key was ever named.
pub fn concentration(window: &Window, group: Group, dimension: Dimension) -> Option<Concentration> {
    let table = window.table(group, dimension);
    let ranked = table.ranked();
    let (key, top) = ranked.first()?;
    let keys = ranked.len() + usize::try_from(table.evicted()).unwrap_or(usize::MAX);
    if table.total() < FEWEST || keys < 2 {
        return None;
    }
    let share = float(top.count) / float(table.total());
    let ln_chance = ln_binomial_tail(float(table.total()), float(top.count), 1.0 / float(keys as u64));
    (share >= CONCENTRATED && ln_chance < LN_LIMIT).then(|| Concentration {
        dimension,
        key: key.to_vec(),
        count: top.count,
        of: table.total(),
        keys,
    })
}

/// Whether at least three keys share the events about equally: how many keys, and the largest part.
pub fn is_even(table: &Table) -> Option<(usize, f64)> {
    let ranked = table.ranked();
    if ranked.len() < 3 || ranked.len() > 64 || table.other() > 0 || table.total() < FEWEST {
        return None;
    }
    let mean = float(table.total()) / float(ranked.len() as u64);
    let (top, least) = (float(ranked[0].1.count), float(ranked[ranked.len() - 1].1.count));
    (top <= 1.6 * mean && least >= 0.4 * mean).then(|| (ranked.len(), top / float(table.total())))
}

/// Refusals and timeouts at the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alternation {
    /// Events that usually end in 502.
    pub bad_gateway: u64,
    /// Events that usually end in 504.
    pub gateway_timeout: u64,
    /// Runs of equal kind seen.
    pub runs: u64,
    /// Runs that a random mix would have.
    pub expected: f64,
}

/// Whether refusals and timeouts are mixed, and not two episodes of their own.
pub fn alternation(window: &Window) -> Option<Alternation> {
    let (bad, slow) = (window.count(Group::BadGateway), window.count(Group::GatewayTimeout));
    let Turns { runs, .. } = window.turns();
    let (less, all) = (bad.min(slow), bad + slow);
    if less < 10 || float(less) < 0.15 * float(all) {
        return None;
    }
    let expected = 2.0 * float(bad) * float(slow) / float(all) + 1.0;
    (float(runs) >= 0.5 * expected).then_some(Alternation {
        bad_gateway: bad,
        gateway_timeout: slow,
        runs,
        expected,
    })
}

/// Events right after processes of Nginx started or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AfterMarks {
    /// Starts and ends, those within one span counted once.
    pub marks: u64,
    /// Events within the span after one.
    pub count: u64,
    /// All events.
    pub of: u64,
    /// The span, seconds.
    pub within: i64,
}

/// Whether more events follow starts and ends of processes than chance has it.
pub fn after_marks(window: &Window, series: &Series) -> Option<AfterMarks> {
    let span = window.span()?;
    let mut marks = window.marks().to_vec();
    marks.sort_unstable();
    marks.dedup_by(|later, earlier| *later - *earlier <= AFTER_MARK);
    let (width, bins) = series.bins(1);
    if width > AFTER_MARK || marks.is_empty() {
        return None;
    }
    let count = marks.iter().map(|mark| events_in(&bins, (mark - series.start(), width))).sum();
    let part = seconds(AFTER_MARK + width) * float(marks.len() as u64) / seconds((span.1 - span.0).max(1));
    let found = AfterMarks { marks: marks.len() as u64, count, of: series.count(), within: AFTER_MARK };
    let ln_chance = ln_binomial_tail(float(found.of), float(count), part.min(0.999));
    (count >= 5 && part < 0.5 && float(count) >= 0.2 * float(found.of) && ln_chance < LN_LIMIT)
        .then_some(found)
}

/// Events in the span after `offset`, seconds from the first bin.
fn events_in(bins: &[u64], (offset, width): (i64, i64)) -> u64 {
    let index = |offset: i64| usize::try_from(offset.div_euclid(width).max(0)).unwrap_or(usize::MAX);
    if offset + AFTER_MARK < 0 {
        return 0;
    }
    let (from, to) = (index(offset).min(bins.len()), (index(offset + AFTER_MARK) + 1).min(bins.len()));
    bins[from..to].iter().sum()
}

#[cfg(test)]
mod tests {
    use super::super::window::Event;
    use super::*;

    fn window(events: impl IntoIterator<Item = (i64, Group, &'static str)>) -> Window {
        let mut window = Window::default();
        for (time, group, upstream) in events {
            window.add(&Event {
                time: Some(time),
                group,
                keys: [Some(upstream.as_bytes()), None, None, None, None],
            });
        }
        window
    }

    #[test]
    fn one_of_three_upstreams_stands_out() {
        let keys = ["10.0.0.1:80", "10.0.0.1:80", "10.0.0.1:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
        let window =
            window((0..120).zip(keys.into_iter().cycle()).map(|(at, key)| (at, Group::BadGateway, key)));
        let found = concentration(&window, Group::BadGateway, Dimension::Upstream).expect("a concentration");
        assert_eq!((found.count, found.of, found.keys), (80, 120, 3));
        assert_eq!(is_even(window.table(Group::BadGateway, Dimension::Upstream)), None);
    }

    #[test]
    fn less_than_most_is_no_concentration() {
        let keys = ["a", "a", "b", "c", "d"];
        let window =
            window((0..2000).zip(keys.into_iter().cycle()).map(|(at, key)| (at, Group::BadGateway, key)));
        assert_eq!(concentration(&window, Group::BadGateway, Dimension::Upstream), None);
    }

    #[test]
    fn an_only_key_is_no_concentration() {
        let window = window((0..120).map(|at| (at, Group::BadGateway, "10.0.0.1:80")));
        assert_eq!(concentration(&window, Group::BadGateway, Dimension::Upstream), None);
    }

    #[test]
    fn all_upstreams_alike() {
        let keys = ["a", "b", "c", "d"];
        let window =
            window((0..120).zip(keys.into_iter().cycle()).map(|(at, key)| (at, Group::BadGateway, key)));
        assert!(
            is_even(window.table(Group::BadGateway, Dimension::Upstream)).is_some_and(|found| found.0 == 4)
        );
    }

    #[test]
    fn mixed_is_not_one_after_the_other() {
        let kind = |slow: bool| if slow { Group::GatewayTimeout } else { Group::BadGateway };
        let mixed = window((0..60).map(|at| (at, kind(at % 3 == 0), "a")));
        assert!(alternation(&mixed).is_some_and(|found| found.gateway_timeout == 20));
        let episodes = window((0..60).map(|at| (at, kind(at > 30), "a")));
        assert_eq!(alternation(&episodes), None);
    }

    #[test]
    fn events_after_reloads_are_noticed() {
        let mut window = window(
            (0..10_i64).flat_map(|at| (0..5).map(move |event| (at * 3600 + event, Group::Client, "a"))),
        );
        let none = after_marks(&window, &window.series(Group::Client).clone());
        assert_eq!(none, None);
        (0..10).for_each(|at| window.mark(at * 3600));
        let found = after_marks(&window, window.series(Group::Client)).expect("they follow");
        assert_eq!((found.marks, found.count, found.of), (10, 50, 50));
    }
}
