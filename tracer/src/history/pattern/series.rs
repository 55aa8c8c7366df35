//! Events over time in a fixed amount of memory: counts per bin, and bins that double their width when the time
//! they cover grows. Times are whole seconds; order does not matter.

/// Most bins held.
const MAX_BINS: usize = 1 << 16;
/// Narrowest bin, seconds.
const MIN_WIDTH: i64 = 1;
/// A time that would stretch the series by more than this is not believed, seconds (about 400 days).
pub const MAX_JUMP: i64 = 400 * 86_400;
/// Room made in front at once when an earlier time comes, bins.
const FRONT: i64 = 64;

/// Counts per bin.
#[derive(Debug, Clone)]
pub struct Series {
    /// Start of the first bin, seconds.
    base: i64,
    width: i64,
    bins: Vec<u32>,
    count: u64,
    first: i64,
    last: i64,
    refused: u64,
    /// Time and bin of the event before: most events of a log share the second of their neighbour.
    recent: Option<(i64, usize)>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            base: 0,
            width: MIN_WIDTH,
            bins: Vec::new(),
            count: 0,
            first: 0,
            last: 0,
            refused: 0,
            recent: None,
        }
    }
}

impl Series {
    /// Counts an event at `time`, seconds.
    pub fn add(&mut self, time: i64) {
        if let Some((recent, at)) = self.recent
            && recent == time
        {
            self.bins[at] = self.bins[at].saturating_add(1);
            self.count += 1;
            return;
        }
        self.add_elsewhere(time);
    }

    fn add_elsewhere(&mut self, time: i64) {
        if self.count == 0 {
            (self.base, self.first, self.last) = (time, time, time);
        } else if time < self.first.saturating_sub(MAX_JUMP) || time > self.last.saturating_add(MAX_JUMP) {
            self.refused += 1;
            return;
        }
        self.reach(time);
        let at = self.index(time);
        if at >= self.bins.len() {
            self.bins.resize(at + 1, 0);
        }
        self.bins[at] = self.bins[at].saturating_add(1);
        self.count += 1;
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.recent = Some((time, at));
    }

    /// Events counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Events whose time was too far off.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Time of the first and the last event, seconds.
    pub fn span(&self) -> Option<(i64, i64)> {
        (self.count > 0).then_some((self.first, self.last))
    }

    /// Width of a bin, seconds.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// Counts in bins of about `width` seconds that start at the first event: the width used, and the counts.
    pub fn bins(&self, width: i64) -> (i64, Vec<u64>) {
        let factor = (width / self.width).max(1);
        let width = factor * self.width;
        if self.count == 0 {
            return (width, Vec::new());
        }
        let start = self.index(self.first);
        let used = &self.bins[start..];
        let chunk = usize::try_from(factor).unwrap_or(1);
        (width, used.chunks(chunk).map(|bins| bins.iter().map(|bin| u64::from(*bin)).sum()).collect())
    }

    /// Time at which the first of [`Series::bins`] starts, seconds.
    pub fn start(&self) -> i64 {
        self.base + i64::try_from(self.index(self.first)).unwrap_or(0) * self.width
    }

    fn index(&self, time: i64) -> usize {
        usize::try_from((time - self.base).div_euclid(self.width)).unwrap_or(0)
    }

    /// Makes room for `time`: in front, or by doubling the width.
    fn reach(&mut self, time: i64) {
        if time < self.base {
            self.extend_front(time);
        }
        while self.index(time) >= MAX_BINS {
            self.double();
        }
    }

    fn extend_front(&mut self, time: i64) {
        loop {
            let needed = (self.base - time + self.width - 1) / self.width + FRONT;
            let needed = usize::try_from(needed).unwrap_or(usize::MAX);
            if needed.saturating_add(self.bins.len()) <= MAX_BINS {
                self.bins.splice(0..0, std::iter::repeat_n(0, needed));
                self.base -= i64::try_from(needed).unwrap_or(0) * self.width;
                return;
            }
            self.double();
        }
    }

    fn double(&mut self) {
        let sums =
            self.bins.chunks(2).map(|pair| pair.iter().fold(0, |sum: u32, bin| sum.saturating_add(*bin)));
        self.bins = sums.collect();
        self.width *= 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wild_time_does_not_cost_the_resolution() {
        let mut series = Series::default();
        series.add(1_700_000_000);
        series.add(0);
        series.add(1_700_000_060);
        assert_eq!((series.count(), series.refused(), series.width()), (2, 1, 1));
        assert_eq!(series.bins(10).1, [1, 0, 0, 0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn bounded_and_complete(times in prop::collection::vec(0_i64..20_000_000, 1..300)) {
            let mut series = Series::default();
            for time in &times {
                series.add(*time);
                prop_assert!(series.bins.len() <= MAX_BINS);
            }
            let (width, bins) = series.bins(1);
            prop_assert_eq!(bins.iter().sum::<u64>(), times.len() as u64);
            for time in &times {
                let at = usize::try_from((time - series.start()) / width).unwrap();
                prop_assert!(bins[at] > 0, "{time} is in its bin");
            }
        }
    }
}
