//! How likely a count is by chance: logarithms of the tails of the Poisson and the binomial distribution.
//! Natural logarithms throughout, because the numbers are far below what a float holds.

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "counts of log lines are far below 2^52")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// The length of a list as a float.
pub fn size<T>(list: &[T]) -> f64 {
    float(list.len() as u64)
}

/// A span of seconds as a float.
#[expect(clippy::cast_precision_loss, reason = "seconds of a date are far below 2^52")]
pub fn seconds(span: i64) -> f64 {
    span as f64
}

/// The whole number nearest to `value`, zero if it is negative or no number.
#[expect(clippy::cast_sign_loss, reason = "the value is not negative, and the conversion saturates")]
pub fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

/// The whole seconds nearest to `value`.
pub fn whole_seconds(value: f64) -> i64 {
    value.round() as i64
}

/// `ln(n!)`, exact to about 1e-9 (Stirling's series, with a table's worth of products for small `n`).
fn ln_factorial(n: f64) -> f64 {
    if n < 16.0 {
        let mut product = 1.0;
        let mut factor = 2.0;
        while factor <= n {
            product *= factor;
            factor += 1.0;
        }
        return f64::ln(product);
    }
    let tail = 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3));
    n * n.ln() - n + 0.5 * (2.0 * std::f64::consts::PI * n).ln() + tail
}

/// Upper bound of `ln P(X >= k)` for a Poisson variable with this mean; zero if `k` is not above the mean.
pub fn ln_poisson_tail(mean: f64, k: f64) -> f64 {
    if k <= mean || k <= 0.0 {
        return 0.0;
    }
    let mean = mean.max(1e-9);
    let term = k * mean.ln() - mean - ln_factorial(k);
    // The following terms fall at least as fast as a geometric series.
    (term - (1.0 - mean / (k + 1.0)).ln()).min(0.0)
}

/// Upper bound of `ln P(X >= k)` for a binomial variable; zero if `k` is not above the mean.
pub fn ln_binomial_tail(n: f64, k: f64, p: f64) -> f64 {
    if k <= n * p || k <= 0.0 {
        return 0.0;
    }
    if p <= 0.0 || k > n {
        return f64::NEG_INFINITY;
    }
    let choose = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let term = choose + k * p.ln() + (n - k) * (1.0 - p).max(1e-300).ln();
    let ratio = (n - k) / (k + 1.0) * p / (1.0 - p).max(1e-300);
    (term - (1.0 - ratio.min(0.999_999)).ln()).min(0.0)
}

/// The smallest count whose Poisson tail is below `ln_limit`.
pub fn poisson_threshold(mean: f64, ln_limit: f64) -> f64 {
    let mut k = mean.floor() + 1.0;
    let step = mean.sqrt().max(1.0).floor();
    while ln_poisson_tail(mean, k) > ln_limit {
        k += step;
    }
    k
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 0.02 * expected.abs().max(1e-9), "{value} is not {expected}");
    }

    #[test]
    fn tails_agree_with_known_values() {
        // P(X >= 10 | Poisson 3) = 0.00110249; P(X >= 8 | Bin(10, 0.5)) = 0.0546875.
        assert!((ln_poisson_tail(3.0, 10.0).exp() - 0.001_102_49).abs() < 5e-5);
        assert!((ln_binomial_tail(10.0, 8.0, 0.5).exp() - 0.054_687_5).abs() < 3e-3);
        near(ln_factorial(20.0), 42.335_616);
        near(ln_factorial(5.0), 4.787_492);
    }

    #[test]
    fn below_the_mean_nothing_is_unlikely() {
        assert!(ln_poisson_tail(5.0, 4.0).abs() < 1e-12);
        assert!(ln_binomial_tail(10.0, 4.0, 0.5).abs() < 1e-12);
        assert!(poisson_threshold(0.1, -6.9) >= 3.0);
    }
}
