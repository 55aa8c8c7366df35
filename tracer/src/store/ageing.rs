//! Whether the clock may be believed when verdicts are to go by age: one that is set far ahead would take them all.
//! Pure; by size they go in any case.

use std::time::{Duration, Instant};

/// A clock that is ahead by more than this of the time that has passed was set.
const LEAP: Duration = Duration::from_hours(1);
/// Nothing goes by age for so long then: time to see it and to set it right. A daemon that was away for longer cannot
/// tell the two apart.
const GRACE: Duration = Duration::from_hours(24);

/// What was seen of the clock.
#[derive(Debug, Default)]
pub(super) struct Ageing {
    seen: Option<(i64, Instant)>,
    /// When it was found to have been set ahead.
    set: Option<Instant>,
}

impl Ageing {
    /// Whether verdicts may go by age at `now`, nanoseconds since 1970; `moment` is of a clock that is never set.
    /// `latest` is the last that was stored before, in nanoseconds since 1970.
    pub(super) fn may_take(
        &mut self,
        now: i64,
        moment: Instant,
        latest: impl FnOnce() -> Option<i64>,
    ) -> bool {
        let (before, passed) = match self.seen.replace((now, moment)) {
            Some((before, then)) => (before, moment.duration_since(then)),
            None => (latest().unwrap_or(now), GRACE),
        };
        let nanoseconds = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let ahead = now.saturating_sub(before).saturating_sub(nanoseconds(passed));
        if ahead > nanoseconds(LEAP) {
            self.set = Some(moment);
        } else if ahead < -nanoseconds(GRACE + LEAP) {
            self.set = None; // It was set right.
        }
        self.set.is_none_or(|set| moment.duration_since(set) >= GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const YEAR: i64 = 365 * 24 * HOUR;

    #[test]
    fn a_clock_that_is_set_ahead_takes_nothing_for_a_day_and_one_that_is_set_right_is_believed_at_once() {
        let (mut ageing, begin) = (Ageing::default(), Instant::now());
        let at = |hours: u64| begin + Duration::from_hours(hours);
        assert!(ageing.may_take(YEAR, at(0), || Some(YEAR - HOUR)));
        assert!(ageing.may_take(YEAR + 9 * HOUR, at(9), || None));
        assert!(!ageing.may_take(2 * YEAR, at(10), || None), "a year in an hour");
        assert!(!ageing.may_take(2 * YEAR + 20 * HOUR, at(30), || None));
        assert!(ageing.may_take(2 * YEAR + 25 * HOUR, at(35), || None), "nobody has set it back");
        assert!(!ageing.may_take(3 * YEAR, at(36), || None));
        assert!(ageing.may_take(YEAR + 37 * HOUR, at(37), || None));
    }

    #[test]
    fn a_daemon_that_begins_compares_with_what_was_stored_last() {
        let now = Instant::now();
        assert!(Ageing::default().may_take(YEAR, now, || None));
        assert!(Ageing::default().may_take(YEAR, now, || Some(YEAR - 20 * HOUR)));
        assert!(!Ageing::default().may_take(YEAR, now, || Some(YEAR - 100 * HOUR)));
        assert!(Ageing::default().may_take(YEAR, now, || Some(2 * YEAR)));
    }
}
