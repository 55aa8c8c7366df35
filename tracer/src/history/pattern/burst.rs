//! Bursts and presence: many events in a short time, events all the time, or a few now and then.
//! A burst is judged against the mean rate of the whole window, with everything tried counted.

use super::chance::{float, ln_poisson_tail, seconds, size};
use super::series::Series;

/// Fewest events of a burst.
const FEWEST: u64 = 10;
/// A burst holds at least this part of all events.
const LEAST_SHARE: f64 = 0.2;
/// `ln` of the accepted chance (1e-6).
const LN_LIMIT: f64 = -13.8;
/// A burst is shorter than this part of the window.
const LONGEST_PART: i64 = 8;
/// Narrowest and widest slice in which presence is counted, seconds.
const SLICE: (i64, i64) = (60, 3600);
/// Slices that a window is cut into to tell whether events are always there.
const SLICES: i64 = 200;

/// Many events in a short time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Start, seconds of UTC.
    pub start: i64,
    /// Length of the window looked at, seconds.
    pub length: i64,
    /// Events in it.
    pub count: u64,
    /// All events.
    pub of: u64,
    /// Its rate over the mean rate of the whole time.
    pub times_mean: f64,
}

/// The clearest burst. `span` is the time the log covers, seconds of UTC.
pub fn find(series: &Series, span: (i64, i64)) -> Option<Burst> {
    let total = (span.1 - span.0).max(1);
    let all = series.count();
    if all < FEWEST {
        return None;
    }
    let mut best: Option<(f64, Burst)> = None;
    let mut width = series.width();
    while width * 2 <= total / LONGEST_PART {
        let (used, bins) = series.bins(width);
        let (at, count) = fullest_pair(&bins);
        let mean = float(all) * seconds(2 * used) / seconds(total);
        let tried = (seconds(total) / seconds(used) * 20.0).ln();
        let ln_chance = ln_poisson_tail(mean, float(count)) + tried;
        let start = series.start() + i64::try_from(at).unwrap_or(0) * used;
        let burst = Burst { start, length: 2 * used, count, of: all, times_mean: float(count) / mean };
        if is_burst(&burst, ln_chance) && best.as_ref().is_none_or(|best| ln_chance < best.0) {
            best = Some((ln_chance, burst));
        }
        width *= 2;
    }
    best.map(|(_, burst)| burst)
}

fn is_burst(burst: &Burst, ln_chance: f64) -> bool {
    let share = float(burst.count) / float(burst.of);
    burst.count >= FEWEST && share >= LEAST_SHARE && burst.times_mean >= 3.0 && ln_chance < LN_LIMIT
}

/// The two neighbouring bins with most events.
fn fullest_pair(bins: &[u64]) -> (usize, u64) {
    let pair = |at: usize| bins[at] + bins.get(at + 1).copied().unwrap_or(0);
    (0..bins.len())
        .map(|at| (at, pair(at)))
        .max_by_key(|(at, count)| (*count, std::cmp::Reverse(*at)))
        .unwrap_or((0, 0))
}

/// In how many slices of the time there were events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Length of a slice, seconds.
    pub slice: i64,
    /// Slices with events.
    pub busy: u64,
    /// Slices of the time that the log covers.
    pub slices: u64,
}

impl Presence {
    /// Counts the slices; `None` if the time covered is too short to say anything.
    pub fn of(series: &Series, span: (i64, i64)) -> Option<Self> {
        let total = span.1 - span.0;
        let slice = (total / SLICES).clamp(SLICE.0, SLICE.1);
        if series.count() == 0 || total < 20 * slice {
            return None;
        }
        let (slice, bins) = series.bins(slice);
        let busy = bins.iter().filter(|count| **count > 0).count() as u64;
        let slices = u64::try_from(total / slice + 1).unwrap_or(1).max(bins.len() as u64);
        Some(Self { slice, busy, slices })
    }

    /// Events nearly all the time.
    pub fn is_persistent(&self) -> bool {
        float(self.busy) >= 0.8 * float(self.slices)
    }

    /// A few slices with events in a long time.
    pub fn is_occasional(&self) -> bool {
        float(self.busy) <= 0.1 * float(self.slices) && self.busy <= 20
    }
}

/// Counts per equal part of the time covered, for a picture.
pub fn outline(series: &Series, span: (i64, i64), parts: usize) -> Vec<u64> {
    let total = (span.1 - span.0).max(1) + 1;
    let mut outline = vec![0; parts.max(1)];
    let (width, bins) = series.bins(1);
    for (at, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let time = series.start() + i64::try_from(at).unwrap_or(0) * width - span.0;
        let part = seconds(time.max(0)) / seconds(total) * size(&outline);
        let part = usize::try_from(super::chance::whole(part.floor())).unwrap_or(0);
        outline[part.min(parts.max(1) - 1)] += count;
    }
    outline
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(times: impl IntoIterator<Item = i64>) -> Series {
        let mut series = Series::default();
        times.into_iter().for_each(|time| series.add(time));
        series
    }

    #[test]
    fn a_burst_is_found_where_it_is() {
        let quiet = (0..100).map(|at| at * 864);
        let burst =
            find(&series(quiet.chain((0..200).map(|at| 40_000 + at / 10))), (0, 86_400)).expect("a burst");
        assert!(burst.count >= 190 && (39_900..40_030).contains(&burst.start), "{burst:?}");
        assert!(burst.length <= 64, "{burst:?}");
    }

    #[test]
    fn a_small_part_of_the_events_is_no_burst() {
        let flow = (0..1000).map(|at| at * 86);
        assert_eq!(find(&series(flow.chain((0..100).map(|at| 40_000 + at / 10))), (0, 86_400)), None);
    }

    #[test]
    fn what_chance_brings_together_is_no_burst() {
        let flow = (0..30).map(|at| at * 1200);
        let near = (0..10).map(|at| 18_432 + at * 200);
        assert_eq!(find(&series(flow.chain(near)), (0, 36_000)), None);
    }

    #[test]
    fn an_even_flow_is_persistent_and_no_burst() {
        let flow = series((0..4000).map(|at| at * 20));
        assert_eq!(find(&flow, (0, 80_000)), None);
        assert!(Presence::of(&flow, (0, 80_000)).is_some_and(|presence| presence.is_persistent()));
    }

    #[test]
    fn a_few_lines_in_a_day_are_occasional() {
        let few = series([100, 30_000, 30_001, 70_000]);
        let presence = Presence::of(&few, (0, 86_400)).expect("a day");
        assert!(presence.is_occasional() && !presence.is_persistent());
        assert_eq!(Presence::of(&few, (0, 600)), None);
    }

    #[test]
    fn the_outline_has_every_event() {
        let outline = outline(&series([0, 5, 10, 99]), (0, 99), 10);
        assert_eq!((outline.len(), outline.iter().sum::<u64>(), outline[9]), (10, 4, 1));
    }
}
