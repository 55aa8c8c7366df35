//! The `[Timer]` section of systemd's timers (`systemd.timer(5)`, `systemd.time(7)`). Pure. Times to the minute; what
//! is not understood gives no schedule, never a wrong one.

use super::When;
use super::fields::{DAYS_OF_MONTH, Fields, HOURS, MINUTES, MONTHS_OF_YEAR, WEEKDAYS};

/// Names for common times.
const NAMED: [(&str, &str); 8] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
];
/// Units of spans, seconds; the first that fits.
const SPANS: [(&[&str], u64); 5] = [
    (&["s", "sec", "second", "seconds", ""], 1),
    (&["m", "min", "minute", "minutes"], 60),
    (&["h", "hr", "hour", "hours"], 3600),
    (&["d", "day", "days"], 86_400),
    (&["w", "week", "weeks"], 604_800),
];
/// Delays by chance beyond this make a timer's times unknown, seconds.
const MOST_RANDOM: u64 = 60;

/// When a timer fires, by the text of its unit and of its drop-ins, one after the other.
pub(super) fn times(unit: &str) -> Vec<When> {
    let mut all = Vec::new();
    for (key, value) in unit.lines().filter_map(|line| line.trim().split_once('=')) {
        let value = value.trim();
        match key.trim() {
            // An empty value takes back what was said before.
            "OnCalendar" | "OnUnitActiveSec" | "OnUnitInactiveSec" if value.is_empty() => all.clear(),
            "OnCalendar" => all.extend(calendar(value).map(|fields| When::Calendar(Box::new(fields)))),
            "OnUnitActiveSec" | "OnUnitInactiveSec" => all.extend(span(value).map(When::Every)),
            "RandomizedDelaySec" if span(value).is_none_or(|delay| delay > MOST_RANDOM) => return Vec::new(),
            _ => {}
        }
    }
    all
}

/// A calendar expression without a year and without a zone.
fn calendar(text: &str) -> Option<Fields> {
    let lower = text.to_ascii_lowercase();
    let text = NAMED.iter().find(|(name, _)| *name == lower).map_or(text, |(_, times)| times);
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let weekdays =
        match words.first().filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic())) {
            Some(word) => {
                let set = WEEKDAYS.dotted().parse(word)?;
                words.remove(0);
                set
            }
            None => WEEKDAYS.all() & 0x7f,
        };
    let (date, time) = match words[..] {
        [date, time] => (date, time),
        [time] if time.contains(':') => ("*-*-*", time),
        [date] => (date, "00:00"),
        [] => ("*-*-*", "00:00"),
        _ => return None,
    };
    let (months, days) = self::date(date)?;
    let (hours, minutes) = self::time(time)?;
    Some(Fields { minutes, hours, days, months, weekdays, any_day: false })
}

fn date(text: &str) -> Option<(u64, u64)> {
    let (year_and_month, day) = text.rsplit_once('-')?;
    let month = year_and_month
        .rsplit_once('-')
        .map_or(Some(year_and_month), |(year, month)| (year == "*").then_some(month))?;
    Some((MONTHS_OF_YEAR.dotted().parse(month)?, DAYS_OF_MONTH.dotted().parse(day)?))
}

/// Hours and minutes; the seconds do not matter here, as long as there is one.
fn time(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    if parts.next().is_some() || seconds.parse::<f64>().is_err() {
        return None;
    }
    Some((HOURS.dotted().parse(hours)?, MINUTES.dotted().parse(minutes)?))
}

/// A span: `15min`, `1h 30min`, `90`.
fn span(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let (_, seconds) = SPANS.iter().find(|(names, _)| names.contains(&unit))?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*seconds)?)?;
        rest = next.trim_start();
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(expression: &str) -> Option<(u64, u64)> {
        calendar(expression).map(|fields| (fields.hours, fields.minutes))
    }

    #[test]
    fn calendar_expressions_are_read() {
        let midnight = Some((1, 1));
        assert_eq!(minutes("daily"), midnight);
        assert_eq!(minutes("*-*-* 00:00:00"), midnight);
        assert_eq!(minutes("Mon..Fri 00:00"), midnight);
        assert_eq!(calendar("Mon..Fri 00:00").unwrap().weekdays, 0b011_1110);
        assert_eq!(calendar("Sat,Sun *-*-* 6:30").unwrap().weekdays, 0b100_0001);
        assert_eq!(minutes("*:0/15"), Some(((1 << 24) - 1, 1 | 1 << 15 | 1 << 30 | 1 << 45)));
        assert_eq!(calendar("*-*-01 04:00:00").unwrap().days, 2);
        assert_eq!(minutes("*-*-* 6,18:00:00"), Some((1 << 6 | 1 << 18, 1)));
        for unknown in ["2027-01-01 00:00", "00:00 UTC Europe", "*-*~01", "Foo 1:00", "*:*:0/10", "1:2:3:4"] {
            assert_eq!(minutes(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn units_and_their_drop_ins_are_read() {
        let unit = "[Unit]\nDescription=x\n[Timer]\nOnBootSec=5min\nOnUnitActiveSec=1h 30min\n";
        assert_eq!(times(unit), [When::Every(5400)]);
        assert_eq!(times("[Timer]\nOnCalendar=daily\nOnCalendar=\nOnCalendar=hourly\n").len(), 1);
        assert_eq!(times("[Timer]\nOnCalendar=daily\nRandomizedDelaySec=12h\n"), []);
        assert_eq!(times("rubbish\n=\n"), []);
    }

    #[test]
    fn spans_are_read() {
        assert_eq!((span("90"), span("2 h"), span("1d12h")), (Some(90), Some(7200), Some(129_600)));
        assert_eq!(
            (span(""), span("soon"), span("3x"), span("99999999999999999999d")),
            (None, None, None, None)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_unit_is_read(text in "(OnCalendar|OnUnitActiveSec)=.{0,40}") {
            let _all = times(&text);
        }
    }
}
