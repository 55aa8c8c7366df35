//! Entries of crontabs (`crontab(5)`). Pure.

use super::fields::{DAYS_OF_MONTH, Fields, HOURS, MINUTES, MONTHS_OF_YEAR, WEEKDAYS};
use super::{Schedule, When};

/// Names for common times.
const NAMED: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
/// Characters of a command that are shown.
const MAX_COMMAND: usize = 80;

/// The entry on a line, `None` for comments, variables and what cannot be read. `has_user` as in `/etc/crontab`.
pub(super) fn entry(line: &str, file: &str, number: usize, has_user: bool) -> Option<Schedule> {
    let line = line.trim();
    let (times, rest) = times(line)?;
    let command = if has_user { rest.split_once(char::is_whitespace)?.1 } else { rest };
    let shown = crate::output::sanitize::line(command.trim(), MAX_COMMAND);
    let name = format!("cron entry {file}:{number} ({shown})");
    Some(Schedule { name, when: When::Calendar(Box::new(times)) })
}

fn times(line: &str) -> Option<(Fields, &str)> {
    if line.starts_with('@') {
        let (name, rest) = line.split_once(char::is_whitespace)?;
        let (_, times) = NAMED.iter().find(|(known, _)| *known == name)?;
        return Some((fields(times)?.0, rest));
    }
    fields(line)
}

/// The five fields, and what follows them.
fn fields(line: &str) -> Option<(Fields, &str)> {
    let mut rest = line;
    let mut next = || {
        let (field, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        (!field.is_empty()).then_some(field)
    };
    let (minutes, hours, days, months, weekdays) = (next()?, next()?, next()?, next()?, next()?);
    let fields = Fields {
        minutes: MINUTES.parse(minutes)?,
        hours: HOURS.parse(hours)?,
        days: DAYS_OF_MONTH.parse(days)?,
        months: MONTHS_OF_YEAR.parse(months)?,
        weekdays: WEEKDAYS.parse(weekdays)?,
        any_day: !days.starts_with('*') && !weekdays.starts_with('*'),
    };
    Some((fields, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(line: &str) -> Option<Fields> {
        match entry(line, "f", 1, false)?.when {
            When::Calendar(fields) => Some(*fields),
            When::Every(_) => None,
        }
    }

    #[test]
    fn entries_are_read_and_everything_else_is_not() {
        let entry =
            entry("17 *\t* * *\troot    cd / && run-parts \x1b[31m", "/etc/crontab", 12, true).unwrap();
        assert_eq!(entry.name, "cron entry /etc/crontab:12 (cd / && run-parts \\x1b[31m)");
        assert_eq!(fields_of("@hourly x"), fields_of("0 * * * * x"));
        for line in ["", "# 0 * * * * x", "PATH=/bin", "@reboot x", "0 * * *", "61 * * * * x", "0 0 0 * * x"]
        {
            assert_eq!(fields_of(line), None, "{line}");
        }
    }

    #[test]
    fn two_restricted_days_mean_either() {
        assert!(fields_of("0 0 1 * 1 x").unwrap().any_day);
        assert!(!fields_of("0 0 1 * * x").unwrap().any_day);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_an_entry_or_none(line in ".{0,80}") {
            let _either = entry(&line, "f", 1, true);
        }
    }
}
