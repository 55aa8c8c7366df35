//! The ratio of two rates from counts, with an exact confidence interval.
//!
//! Given their sum, the later of two Poisson counts is binomial; its exact interval (Clopper and Pearson, 1934) becomes
//! one of the ratio of the rates (Przyborowski and Wilenski, 1940). Pure arithmetic; says nothing of what was counted.

/// Steps of a bisection; each halves the error.
const STEPS: u32 = 80;

/// A count and what it is measured against: connections, or seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Incidents.
    pub count: u64,
    /// Exposure, more than zero.
    pub exposure: f64,
}

/// How many times the earlier rate the later one is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The ratio; `None` where nothing was counted before.
    pub value: Option<f64>,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval; infinite where nothing was counted before.
    pub high: f64,
}

/// The ratio of the later rate to the earlier one with its interval of `confidence` (0.95 for 95 %).
/// `None` where nothing was counted at all, or nothing was observed.
pub fn ratio(before: Rate, after: Rate, confidence: f64) -> Option<Ratio> {
    let sum = before.count + after.count;
    let observed = before.exposure > 0.0 && after.exposure > 0.0;
    if sum == 0 || !observed {
        return None;
    }
    let tail = (1.0 - confidence) / 2.0;
    // P(X >= x) = I_p(x, n - x + 1) and P(X <= x) = 1 - I_p(x + 1, n - x) for X binomial in n and p.
    let (later, rest) = (float(after.count), float(before.count));
    let low = if after.count == 0 { 0.0 } else { root(|p| beta(p, later, rest + 1.0), tail) };
    let high = if before.count == 0 { 1.0 } else { root(|p| beta(p, later + 1.0, rest), 1.0 - tail) };
    let of_share = |share: f64| share / (1.0 - share) * before.exposure / after.exposure;
    Some(Ratio {
        value: (before.count > 0).then(|| (later / after.exposure) / (rest / before.exposure)),
        low: of_share(low),
        high: if before.count == 0 { f64::INFINITY } else { of_share(high) },
    })
}

/// Probability of counts at least as unequal if both rates are the same, two-sided: twice the smaller tail, so that it is
/// below 5 % exactly where the interval of 95 % leaves out a ratio of 1. `None` as for [`ratio`].
pub fn probability(before: Rate, after: Rate) -> Option<f64> {
    let sum = before.count + after.count;
    if sum == 0 || before.exposure <= 0.0 || after.exposure <= 0.0 {
        return None;
    }
    let share = after.exposure / (before.exposure + after.exposure);
    let (later, rest) = (float(after.count), float(before.count));
    let at_least = if after.count == 0 { 1.0 } else { beta(share, later, rest + 1.0) };
    let at_most = if before.count == 0 { 1.0 } else { 1.0 - beta(share, later + 1.0, rest) };
    Some((2.0 * at_least.min(at_most)).min(1.0))
}

/// Probabilities of several tests made one by one, raised for their number by the method of Holm (1979): of all that are
/// then below 5 % one is wrong in at most 5 % of all families of tests.
pub fn holm(probabilities: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> =
        probabilities.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?))).collect();
    order.sort_by(|one, other| one.1.total_cmp(&other.1));
    let mut adjusted = vec![None; probabilities.len()];
    let (mut left, mut highest) = (order.len(), 0.0_f64);
    for (at, value) in order {
        highest = highest.max((value * float(left as u64)).min(1.0));
        left -= 1;
        if let Some(slot) = adjusted.get_mut(at) {
            *slot = Some(highest);
        }
    }
    adjusted
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 would differ in no digit that is shown")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Where a function that grows from 0 to 1 over [0, 1] reaches `level`.
fn root(function: impl Fn(f64) -> f64, level: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if function(middle) < level {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The regularised incomplete beta function `I_x(a, b)` (DLMF 8.17), by its continued fraction (DLMF 8.17.22).
fn beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    // The fraction converges quickly only on one side of the mean.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

/// The continued fraction, by the method of Lentz.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    const CLOSE: f64 = 1e-14;
    const MOST: u32 = 10_000;
    let kept = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut upper = 1.0;
    let mut lower = 1.0 / kept(1.0 - (a + b) * x / (a + 1.0));
    let mut result = lower;
    for number in 1..=MOST {
        let twice = 2.0 * f64::from(number);
        let even = twice / 2.0 * (b - twice / 2.0) * x / ((a + twice - 1.0) * (a + twice));
        let odd = -(a + twice / 2.0) * (a + b + twice / 2.0) * x / ((a + twice) * (a + twice + 1.0));
        for term in [even, odd] {
            lower = 1.0 / kept(1.0 + term * lower);
            upper = kept(1.0 + term / upper);
            result *= lower * upper;
        }
        if (lower * upper - 1.0).abs() < CLOSE {
            break;
        }
    }
    result
}

/// `ln Γ(x)` for x ≥ 1: Stirling's series (DLMF 5.11.1) after moving x up by the recurrence.
fn log_gamma(x: f64) -> f64 {
    const LARGE: f64 = 12.0;
    let (mut x, mut shift) = (x, 0.0);
    while x < LARGE {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(before: (u64, f64), after: (u64, f64)) -> Ratio {
        let rate = |(count, exposure)| Rate { count, exposure };
        ratio(rate(before), rate(after), 0.95).unwrap()
    }

    fn near(seen: f64, known: f64) {
        assert!((seen - known).abs() <= known.abs() * 1e-3 + 1e-9, "{seen} instead of {known}");
    }

    #[test]
    fn the_interval_is_that_of_the_binomial_test() {
        // Clopper-Pearson for 7 of 27: 0.1111 to 0.4628; 7/27 against 20/27 with equal exposure.
        let found = of((20, 1.0), (7, 1.0));
        near(found.value.unwrap(), 0.35);
        near(found.low, 0.1111 / 0.8889);
        near(found.high, 0.4628 / 0.5372);
    }

    #[test]
    fn nothing_after_bounds_the_ratio_by_the_rule_of_three() {
        // With 0 of 10 the upper limit of the share is 1 - 0.025^(1/10) = 0.30850.
        let found = of((10, 1.0), (0, 1.0));
        assert_eq!((found.value, found.low), (Some(0.0), 0.0));
        near(found.high, 0.308_497 / 0.691_503);
    }

    #[test]
    fn nothing_before_has_no_ratio() {
        let found = of((0, 1.0), (10, 1.0));
        assert_eq!(found.value, None);
        assert!(found.high.is_infinite());
        near(found.low, 0.691_503 / 0.308_497);
    }

    #[test]
    fn exposure_scales_the_ratio() {
        let (equal, double) = (of((20, 1.0), (7, 1.0)), of((20, 1.0), (7, 2.0)));
        near(double.low, equal.low / 2.0);
        near(double.high, equal.high / 2.0);
        let rate = |count| Rate { count, exposure: 1.0 };
        assert_eq!(ratio(rate(0), rate(0), 0.95), None);
        assert_eq!(ratio(Rate { count: 1, exposure: 0.0 }, rate(1), 0.95), None);
    }

    #[test]
    fn the_probability_agrees_with_the_interval() {
        let rate = |count| Rate { count, exposure: 1.0 };
        // Ten of ten: 2 * 0.5^10.
        near(probability(rate(10), rate(0)).unwrap(), 2.0 / 1024.0);
        near(probability(rate(0), rate(10)).unwrap(), 2.0 / 1024.0);
        near(probability(rate(5), rate(5)).unwrap(), 1.0);
        assert_eq!(probability(rate(0), rate(0)), None);
        for (before, after) in [(20, 7), (16, 6), (15, 6), (14, 6), (0, 5), (0, 6), (9, 3), (9, 2)] {
            let excludes = |ratio: Ratio| ratio.low > 1.0 || ratio.high < 1.0;
            let found = ratio(rate(before), rate(after), 0.95).map(excludes);
            let below = probability(rate(before), rate(after)).map(|value| value < 0.05);
            assert_eq!(found, below, "{before} and {after}");
        }
    }

    #[test]
    fn many_tests_need_a_smaller_probability_each() {
        let found = holm(&[Some(0.01), None, Some(0.04), Some(0.03)]);
        assert_eq!(found[1], None);
        for (at, wanted) in [(0, 0.03), (3, 0.06), (2, 0.06)] {
            near(found[at].unwrap(), wanted);
        }
    }

    #[test]
    fn large_counts_stay_finite() {
        let found = of((1_000_000, 1.0), (1_010_000, 1.0));
        assert!(found.low < 1.01 && found.high > 1.01 && found.high - found.low < 0.006, "{found:?}");
        assert!(found.low > 1.0);
    }
}
