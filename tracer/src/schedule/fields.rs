//! Sets of minutes, hours and days, as cron (`crontab(5)`) and systemd (`systemd.time(7)`) write them: lists, ranges,
//! steps. Pure.

use jiff::civil::DateTime;

/// Names of the days, from Sunday as cron counts them.
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Names of the months.
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Minutes of a calendar, each field as a set of bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// 0 to 59.
    pub(super) minutes: u64,
    /// 0 to 23.
    pub(super) hours: u64,
    /// 1 to 31.
    pub(super) days: u64,
    /// 1 to 12.
    pub(super) months: u64,
    /// 0 (Sunday) to 6.
    pub(super) weekdays: u64,
    /// cron's rule: where both kinds of day are restricted, either will do.
    pub(super) any_day: bool,
}

impl Fields {
    /// Whether this minute is one of them.
    pub fn contains(&self, time: DateTime) -> bool {
        let has = |set: u64, number: i8| set >> number.clamp(0, 63) & 1 == 1;
        let day = has(self.days, time.day());
        let weekday = has(self.weekdays, time.weekday().to_sunday_zero_offset());
        let on_day = if self.any_day { day || weekday } else { day && weekday };
        has(self.minutes, time.minute())
            && has(self.hours, time.hour())
            && has(self.months, time.month())
            && on_day
    }
}

/// How a field is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// The smallest number.
    pub least: u32,
    /// The largest number.
    pub most: u32,
    /// What stands between the ends of a range: `-` or `..`.
    pub range: &'static str,
}

/// Minutes of cron.
pub(super) const MINUTES: Form = Form { least: 0, most: 59, range: "-" };
/// Hours.
pub(super) const HOURS: Form = Form { least: 0, most: 23, range: "-" };
/// Days of the month.
pub(super) const DAYS_OF_MONTH: Form = Form { least: 1, most: 31, range: "-" };
/// Months.
pub(super) const MONTHS_OF_YEAR: Form = Form { least: 1, most: 12, range: "-" };
/// Days of the week; 7 is Sunday, too.
pub(super) const WEEKDAYS: Form = Form { least: 0, most: 7, range: "-" };

impl Form {
    /// The same with systemd's ranges.
    pub(super) fn dotted(self) -> Self {
        Self { range: "..", ..self }
    }

    /// Everything.
    pub(super) fn all(self) -> u64 {
        span(self.least, self.most, 1)
    }

    /// A list of numbers, names, ranges and steps; `None` for anything else.
    pub(super) fn parse(self, text: &str) -> Option<u64> {
        let mut parts = text.split(',').map(|part| self.part(part));
        let set = parts.try_fold(0, |set, part| Some(set | part?))?;
        // Sunday has two numbers.
        Some(if self.most == 7 { set & 0x7f | set >> 7 & 1 } else { set })
    }

    fn part(self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        if range == "*" {
            return Some(span(self.least, self.most, step.unwrap_or(1)));
        }
        let (first, last) = match range.split_once(self.range) {
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            // `5/10` begins at 5 and goes on to the end.
            None => (self.number(range)?, if step.is_some() { self.most } else { self.number(range)? }),
        };
        (first <= last).then(|| span(first, last, step.unwrap_or(1)))
    }

    fn number(self, text: &str) -> Option<u32> {
        let named = |names: &[&str]| {
            let text = text.to_ascii_lowercase();
            let at = names.iter().position(|name| text.get(..3) == Some(name) && text.is_ascii())?;
            Some(u32::try_from(at).unwrap_or(0) + self.least)
        };
        let number = text.parse().ok().or_else(|| match self.most {
            7 => named(&DAYS),
            12 => named(&MONTHS),
            _ => None,
        });
        number.filter(|number| (self.least..=self.most).contains(number))
    }
}

/// Every `step`th number from `first` to `last` as bits.
fn span(first: u32, last: u32, step: u32) -> u64 {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (first..=last.min(63)).step_by(step).fold(0, |set, number| set | 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(form: Form, text: &str) -> Option<Vec<u32>> {
        let set = form.parse(text)?;
        Some((0..64).filter(|number| set >> number & 1 == 1).collect())
    }

    #[test]
    fn lists_ranges_steps_and_names_are_read() {
        assert_eq!(numbers(MINUTES, "5"), Some(vec![5]));
        assert_eq!(numbers(MINUTES, "*/20"), Some(vec![0, 20, 40]));
        assert_eq!(numbers(MINUTES, "50/5"), Some(vec![50, 55]));
        assert_eq!(numbers(HOURS, "1-3,22"), Some(vec![1, 2, 3, 22]));
        assert_eq!(numbers(HOURS.dotted(), "1..3"), Some(vec![1, 2, 3]));
        assert_eq!(numbers(WEEKDAYS, "mon-wed"), Some(vec![1, 2, 3]));
        assert_eq!(numbers(WEEKDAYS, "7"), Some(vec![0]));
        assert_eq!(numbers(WEEKDAYS.dotted(), "Saturday"), Some(vec![6]));
        assert_eq!(numbers(MONTHS_OF_YEAR, "feb"), Some(vec![2]));
        for wrong in ["", "60", "5-1", "*/0", "a", "1-", "-", "1,,2", "5/x", "99999999999"] {
            assert_eq!(numbers(MINUTES, wrong), None, "{wrong}");
        }
    }
}
