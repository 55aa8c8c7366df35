//! Finds what returns at regular times, a cron job for example, and stays silent on noise.
//!
//! The events are first reduced to onsets (a burst counts once, or it would look like many agreeing witnesses).
//! Candidate periods are the usual ones of timers and the peaks of the onsets' spectrum. A candidate holds when more
//! onsets fall into one window of its cycle than chance allows, counted over everything that was tried, and when
//! most cycles have an onset: that excludes multiples, fractions and single bursts.

use super::chance::{ln_binomial_tail, poisson_threshold, seconds, size, whole_seconds};
use super::series::Series;

/// Periods that timers and middle devices have, seconds.
const USUAL: [i64; 22] = [
    30, 60, 120, 180, 240, 300, 350, 600, 900, 1200, 1800, 3600, 7200, 10_800, 14_400, 21_600, 28_800,
    43_200, 86_400, 172_800, 604_800, 1_209_600,
];
/// Widths at which onsets are looked for, seconds.
const SCALES: [i64; 4] = [2, 10, 60, 600];
/// Windows tried, as parts of the cycle.
const WINDOWS: [f64; 5] = [1.0 / 64.0, 1.0 / 32.0, 1.0 / 16.0, 1.0 / 8.0, 1.0 / 5.0];
/// Fewest onsets, and fewest cycles with one.
const FEWEST: usize = 5;
/// Most onsets looked at; more are no sequence of events but a state.
const MOST: usize = 3000;
/// Steps of the spectrum times onsets, at most.
const WORK: usize = 3_000_000;
/// Least part of the onsets in the window, and of the cycles that have one.
const LEAST_SHARE: f64 = 0.6;
/// `ln` of the accepted chance of a false period per test, over all groups, scales and levels (1e-3 / 100).
const LN_LIMIT: f64 = -11.5;
/// A period has at least this many bins of its scale.
const BINS_PER_PERIOD: i64 = 6;

/// A period that holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Period {
    /// Length, seconds.
    pub seconds: f64,
    /// Time of the first onset in the window, seconds of UTC; the phase is this modulo the length.
    pub anchor: i64,
    /// Length of the window that holds the onsets, seconds.
    pub window: f64,
    /// Onsets in the window, and onsets.
    pub onsets: (u64, u64),
    /// Cycles with an onset in the window, and cycles.
    pub cycles: (u64, u64),
    /// Natural logarithm of the chance that noise looks like this, everything tried counted.
    pub ln_chance: f64,
}

/// The best period of a series, if any holds.
pub fn find(series: &Series) -> Option<Period> {
    let scales = SCALES.iter().filter(|scale| **scale >= series.width());
    let tests = scales.flat_map(|scale| {
        let (width, bins) = series.bins(*scale);
        levels(&bins)
            .into_iter()
            .filter_map(move |level| of_onsets(&onsets(&bins, level, series.start(), width), width))
    });
    tests.min_by(|a, b| a.ln_chance.total_cmp(&b.ln_chance))
}

/// Counts from which a bin is an event: any, above the background, and near the largest.
fn levels(bins: &[u64]) -> Vec<u64> {
    let mut sorted: Vec<u64> = bins.to_vec();
    sorted.sort_unstable();
    let quiet = &sorted[..sorted.len() * 9 / 10];
    let mean = super::chance::float(quiet.iter().sum()) / size(quiet).max(1.0);
    let busy = &sorted[sorted.partition_point(|count| *count == 0)..];
    let large = busy.get(busy.len() * 19 / 20).map_or(1, |count| count / 2);
    let mut levels = vec![1, super::chance::whole(poisson_threshold(mean, -6.9)), large.max(1)];
    levels.sort_unstable();
    levels.dedup();
    levels
}

/// Beginnings of runs of bins at or above `level`; one quiet bin does not end a run.
fn onsets(bins: &[u64], level: u64, start: i64, width: i64) -> Vec<i64> {
    let mut onsets = Vec::new();
    let mut last_hot = None;
    for (at, _) in bins.iter().enumerate().filter(|(_, count)| **count >= level) {
        if last_hot.is_none_or(|last| at > last + 2) {
            onsets.push(start + i64::try_from(at).unwrap_or(0) * width);
            if onsets.len() > MOST {
                return Vec::new();
            }
        }
        last_hot = Some(at);
    }
    onsets
}

fn of_onsets(onsets: &[i64], resolution: i64) -> Option<Period> {
    let (first, last) = (*onsets.first()?, *onsets.last()?);
    let span = last - first;
    if onsets.len() < FEWEST || span <= 0 {
        return None;
    }
    let shortest = BINS_PER_PERIOD * resolution;
    let longest = span / 4;
    let usual = USUAL.iter().filter(|period| (shortest..=longest).contains(*period));
    let usual = usual.map(|period| (seconds(*period), 2.0 * size(&USUAL)));
    let spectrum = Spectrum::of(onsets, shortest);
    let found = spectrum.peaks(onsets).into_iter().map(|period| (period, 8.0 * seconds(spectrum.steps)));
    let found: Vec<_> = found.filter(|(period, _)| *period >= seconds(shortest)).collect();
    let tests =
        usual.chain(found).filter_map(|(period, trials)| test(onsets, period, seconds(resolution), trials));
    tests.min_by(|a, b| a.ln_chance.total_cmp(&b.ln_chance))
}

/// The range of frequencies that is looked at, in quarters of the span's own.
struct Spectrum {
    first: f64,
    step: f64,
    steps: i64,
}

impl Spectrum {
    fn of(onsets: &[i64], shortest: i64) -> Self {
        let span = seconds(onsets[onsets.len() - 1] - onsets[0]);
        let step = 1.0 / (4.0 * span);
        let most = i64::try_from(WORK / onsets.len()).unwrap_or(i64::MAX);
        let wanted = whole_seconds((1.0 / seconds(shortest) - 4.0 / span) / step);
        Self { first: 4.0 / span, step, steps: wanted.clamp(0, most) }
    }

    /// Periods at which the onsets agree best, refined.
    fn peaks(&self, onsets: &[i64]) -> Vec<f64> {
        let powers = self.powers(onsets);
        let floor = seconds(self.steps.max(2)).ln();
        let mut peaks: Vec<(f64, usize)> = (0..powers.len())
            .filter(|at| powers[*at] > floor && is_peak(&powers, *at))
            .map(|at| (powers[at], at))
            .collect();
        peaks.sort_by(|a, b| b.0.total_cmp(&a.0));
        peaks.truncate(12);
        peaks.into_iter().map(|(_, at)| self.refine(onsets, at)).collect()
    }

    /// Rayleigh's statistic at every step; by turning each onset's pointer on, not by calling `sin` each time.
    fn powers(&self, onsets: &[i64]) -> Vec<f64> {
        let steps = usize::try_from(self.steps).unwrap_or(0);
        let mut sums = vec![(0.0_f64, 0.0_f64); steps];
        for onset in onsets {
            let turn = std::f64::consts::TAU * seconds(onset - onsets[0]);
            let (mut sine, mut cosine) = (turn * self.first).sin_cos();
            let (step_sine, step_cosine) = (turn * self.step).sin_cos();
            for sum in &mut sums {
                sum.0 += cosine;
                sum.1 += sine;
                (cosine, sine) =
                    (cosine * step_cosine - sine * step_sine, sine * step_cosine + cosine * step_sine);
            }
        }
        sums.iter().map(|(x, y)| (x * x + y * y) / size(onsets)).collect()
    }

    fn refine(&self, onsets: &[i64], at: usize) -> f64 {
        let centre = self.first + super::chance::float(at as u64) * self.step;
        let tries = (-16..=16).map(|part| centre + f64::from(part) / 16.0 * self.step);
        let best = tries.max_by(|a, b| power(onsets, *a).total_cmp(&power(onsets, *b)));
        1.0 / best.unwrap_or(centre)
    }
}

fn is_peak(powers: &[f64], at: usize) -> bool {
    let around = &powers[at.saturating_sub(2)..(at + 3).min(powers.len())];
    around.iter().all(|other| *other <= powers[at])
}

fn power(onsets: &[i64], frequency: f64) -> f64 {
    let sum = onsets.iter().fold((0.0, 0.0), |sum: (f64, f64), onset| {
        let (sine, cosine) = (std::f64::consts::TAU * seconds(onset - onsets[0]) * frequency).sin_cos();
        (sum.0 + cosine, sum.1 + sine)
    });
    sum.0 * sum.0 + sum.1 * sum.1
}

/// Whether the onsets keep to one window of this period's cycle. `trials` is how many periods were tried.
fn test(onsets: &[i64], period: f64, resolution: f64, trials: f64) -> Option<Period> {
    let windows = WINDOWS.iter().map(|part| (part * period).max(resolution));
    let tests = windows.map(|window| {
        // Onsets closer than the window are no independent witnesses of a phase.
        let apart = thinned(onsets, window);
        let mut phases: Vec<f64> =
            apart.iter().map(|onset| seconds(onset - onsets[0]).rem_euclid(period)).collect();
        phases.sort_by(f64::total_cmp);
        let (start, held) = fullest(&phases, period, window);
        // Onsets lie on a grid, so the window reaches half a bin further on each side.
        let part = ((window + resolution) / period).min(0.999);
        let tail = ln_binomial_tail(size(&apart) - 1.0, super::chance::float(held as u64) - 1.0, part);
        (tail + size(&apart).ln() + (trials * size(&WINDOWS)).ln(), window, start)
    });
    let (ln_chance, window, start) = tests.min_by(|a, b| a.0.total_cmp(&b.0))?;
    if ln_chance > LN_LIMIT {
        return None;
    }
    describe(onsets, period, (start, window), ln_chance)
}

/// The onsets that follow the last one kept by more than `gap` seconds.
fn thinned(onsets: &[i64], gap: f64) -> Vec<i64> {
    let mut kept: Vec<i64> = Vec::new();
    for onset in onsets {
        if kept.last().is_none_or(|last| seconds(onset - last) > gap) {
            kept.push(*onset);
        }
    }
    kept
}

/// The start of the window of the cycle with most phases, and their number.
fn fullest(phases: &[f64], period: f64, window: f64) -> (f64, usize) {
    let mut best = (0.0, 0);
    let mut end = 0;
    for (begin, start) in phases.iter().enumerate() {
        end = end.max(begin);
        while end < begin + phases.len() && unrolled(phases, period, end) - start <= window {
            end += 1;
        }
        if end - begin > best.1 {
            best = (*start, end - begin);
        }
    }
    best
}

fn unrolled(phases: &[f64], period: f64, at: usize) -> f64 {
    phases[at % phases.len()] + if at >= phases.len() { period } else { 0.0 }
}

/// Counts cycles, and refuses what is no return: too few cycles, or too many empty ones.
fn describe(onsets: &[i64], period: f64, (start, window): (f64, f64), ln_chance: f64) -> Option<Period> {
    let first = onsets[0];
    let inside: Vec<i64> = onsets
        .iter()
        .copied()
        .filter(|onset| (seconds(onset - first) - start).rem_euclid(period) <= window)
        .collect();
    let anchor = *inside.first()?;
    let cycle = |onset: i64| ((seconds(onset - first) - start) / period).floor();
    let mut hit: Vec<i64> = inside.iter().map(|onset| whole_seconds(cycle(*onset))).collect();
    hit.dedup();
    let cycles = seconds(hit.last()? - hit.first()?) + 1.0;
    let enough = hit.len() >= FEWEST && size(&hit) >= LEAST_SHARE * cycles;
    if !enough || size(&inside) < LEAST_SHARE * size(onsets) {
        return None;
    }
    Some(Period {
        seconds: period,
        anchor,
        window,
        onsets: (inside.len() as u64, onsets.len() as u64),
        cycles: (hit.len() as u64, super::chance::whole(cycles)),
        ln_chance,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(times: impl IntoIterator<Item = i64>) -> Series {
        let mut series = Series::default();
        times.into_iter().for_each(|time| series.add(time));
        series
    }

    /// A bare generator of uniform numbers, so that the tests are the same everywhere.
    fn random(seed: u64) -> impl FnMut(i64) -> i64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            i64::try_from(state >> 33).unwrap_or(0) % below.max(1)
        }
    }

    #[test]
    fn an_hourly_job_is_found_with_its_phase() {
        let start = 1_760_000_400;
        let times = (0..24).flat_map(|hour| (0..20).map(move |event| start + hour * 3600 + event * 2));
        let period = find(&series(times)).expect("a period");
        assert!((period.seconds - 3600.0).abs() < 2.0, "{period:?}");
        assert_eq!(period.anchor, start);
        assert_eq!(period.cycles, (24, 24));
    }

    #[test]
    fn one_burst_and_few_events_have_no_period() {
        assert_eq!(find(&series((0..600).map(|at| 1_760_000_000 + at))), None);
        assert_eq!(find(&series((0..4).map(|at| 1_760_000_000 + at * 3600))), None);
        assert_eq!(find(&Series::default()), None);
    }

    #[test]
    fn a_daily_job_over_a_week_is_found() {
        let period =
            find(&series((0..8).map(|day| 1_760_000_000 + day * 86_400 + day % 3))).expect("a period");
        assert!((period.seconds - 86_400.0).abs() < 30.0, "{period:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn noise_has_no_period(seed in 1_u64..1_000_000, events in 5_i64..2000, span in 600_i64..700_000) {
            let mut random = random(seed);
            let found = find(&series((0..events).map(|_| 1_760_000_000 + random(span))));
            prop_assert_eq!(found, None);
        }

        /// A handful of events always keeps to some cycle.
        #[test]
        fn a_few_events_have_no_period(seed in 1_u64..1_000_000, events in 5_i64..30, span in 600_i64..700_000) {
            let mut random = random(seed);
            let found = find(&series((0..events).map(|_| 1_760_000_000 + random(span))));
            prop_assert_eq!(found, None);
        }

        #[test]
        fn noise_in_bursts_has_no_period(seed in 1_u64..1_000_000, bursts in 2_i64..60, size in 1_i64..80) {
            let mut random = random(seed);
            let times = (0..bursts).flat_map(|_| {
                let at = 1_760_000_000 + random(400_000);
                (0..size).map(|_| at + random(90)).collect::<Vec<_>>()
            });
            prop_assert_eq!(find(&series(times.collect::<Vec<_>>())), None);
        }

        #[test]
        fn a_planted_period_is_found(
            seed in 1_u64..1_000_000, length in 45_i64..9000, cycles in 14_i64..80, size in 1_i64..30,
        ) {
            let mut random = random(seed);
            let jitter = (length / 40).clamp(1, 20);
            let mut times = Vec::new();
            for cycle in 0..cycles {
                // One cycle in ten is missed.
                if random(10) == 0 { continue; }
                let at = 1_760_000_000 + cycle * length + random(jitter);
                times.extend((0..size).map(|_| at + random(jitter)));
            }
            let found = find(&series(times)).expect("a period");
            let error = (found.seconds - seconds(length)).abs() / seconds(length);
            prop_assert!(error < 0.01, "{length}: {found:?}");
        }

        #[test]
        fn a_planted_period_is_found_under_noise(
            seed in 1_u64..1_000_000, length in 300_i64..7200, noise in 0_i64..60,
        ) {
            let mut random = random(seed);
            let mut times: Vec<i64> = (0..40_i64).flat_map(|cycle| (0..25).map(move |at| cycle * length + at / 4)).collect();
            times.extend((0..noise).map(|_| random(40 * length)));
            let found = find(&series(times.iter().map(|time| 1_760_000_000 + time))).expect("a period");
            prop_assert!((found.seconds - seconds(length)).abs() < 0.01 * seconds(length), "{length}: {found:?}");
        }
    }
}
