//! Medians of paired measurements, and how well they are known, without a guess at the distribution.

/// Most that the true median may lie below the range, and as much above it: 95 % lie within.
const OUTSIDE: f64 = 0.025;

/// The middle one, or half-way between the two in the middle; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().saturating_sub(1) / 2;
    match (values.get(lower), values.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => 0.0,
    }
}

/// Between which of the values the median lies with a certainty of 95 %; nothing when they are too few (below six).
///
/// Each value lies above the true median with probability 1/2, so that the count of those above is binomial.
pub fn range(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let left_out = left_out(count)?;
    Some((*values.get(left_out)?, *values.get(count - 1 - left_out)?))
}

/// What was measured with something in relation to the same rounds without it: the median, and its range.
pub fn beside(with: &[f64], without: &[f64]) -> (String, String) {
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let ratios = || with.iter().zip(without).map(|(with, without)| with / without).collect();
    let shown = range(ratios()).map(|(low, high)| format!("{:+.1} to {:+.1}", percent(low), percent(high)));
    (format!("{:+.1} %", percent(median(ratios()))), shown.unwrap_or_else(|| "too few rounds".to_owned()))
}

/// How many of the least, and as many of the greatest, can be left out.
fn left_out(count: usize) -> Option<usize> {
    let mut term = 0.5_f64.powi(i32::try_from(count).ok()?);
    let (mut below, mut fits) = (0.0, None);
    for out in 0..count / 2 {
        below += term;
        if below > OUTSIDE {
            break;
        }
        fits = Some(out);
        term *= (count - out) as f64 / (out + 1) as f64;
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let medians = [vec![3.0, 1.0, 2.0], vec![4.0, 1.0, 2.0, 3.0], vec![]].map(median);
        assert_eq!(medians.map(f64::to_bits), [2.0, 2.5, 0.0].map(f64::to_bits));
    }

    #[test]
    fn rounds_are_compared_with_their_own_turn_without() {
        let none = [10.0, 20.0, 40.0, 10.0, 20.0, 40.0];
        let with = [10.1, 20.2, 40.4, 10.3, 20.6, 41.2];
        assert_eq!(beside(&with, &none), ("+2.0 %".to_owned(), "+1.0 to +3.0".to_owned()));
        assert_eq!(beside(&with[..2], &none[..2]).1, "too few rounds");
    }

    #[test]
    fn how_many_can_be_left_out_is_what_tables_of_the_sign_test_say() {
        let counts = [5, 6, 8, 9, 11, 12, 15, 20, 25];
        let expected = [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(3), Some(5), Some(7)];
        assert_eq!(counts.map(left_out), expected);
    }

    #[test]
    fn the_range_leaves_out_the_least_and_the_greatest() {
        let values: Vec<f64> = (1..=9).map(f64::from).collect();
        assert_eq!(range(values), Some((2.0, 8.0)));
        assert_eq!(range(vec![1.0, 2.0]), None);
    }
}
