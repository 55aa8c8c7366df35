//! What this host does at regular times: cron entries and systemd timers. Read to give a period its name; nothing is
//! run and nothing is asked of another program.

mod cron;
mod fields;
mod read;
mod timer;

use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::history::pattern::periodic::Period;
use fields::Fields;

pub use read::{Places, all};

/// Cycles that a schedule has to agree with.
const CYCLES: i64 = 5;
/// How far a period may be from that of a schedule without times of day.
const LOOSE: f64 = 0.01;
/// How long after the start of a job its effect may come, seconds; the window of the period comes on top.
const EFFECT: i64 = 90;
/// Schedules named at most.
const MOST_NAMED: usize = 3;

/// When something happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// At these minutes.
    Calendar(Box<Fields>),
    /// Every so many seconds, counted from a start that is not known.
    Every(u64),
}

/// Something that happens at regular times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What and where, as a person would look for it.
    pub name: String,
    /// When.
    pub when: When,
}

/// Names of the schedules whose times are those of the period, with times of day in `zone`.
pub fn named(period: &Period, schedules: &[Schedule], zone: &TimeZone) -> Vec<String> {
    let agreeing = schedules.iter().filter(|schedule| agrees(period, &schedule.when, zone));
    agreeing.map(|schedule| schedule.name.clone()).take(MOST_NAMED).collect()
}

fn agrees(period: &Period, when: &When, zone: &TimeZone) -> bool {
    match when {
        When::Every(seconds) => {
            let seconds = crate::history::pattern::chance::float(*seconds);
            (period.seconds - seconds).abs() <= LOOSE * seconds
        }
        When::Calendar(fields) => agrees_with_calendar(period, fields, zone),
    }
}

/// Before each onset the schedule has fired, and between onsets it has not: as many firings as cycles, each within
/// reach of an onset.
fn agrees_with_calendar(period: &Period, fields: &Fields, zone: &TimeZone) -> bool {
    let length = crate::history::pattern::chance::whole_seconds(period.seconds);
    let window = crate::history::pattern::chance::whole_seconds(period.window);
    if !(60..=31 * 86_400).contains(&length) {
        return false;
    }
    let reach = (EFFECT + window).min(length / 2);
    let start = period.anchor - reach;
    let fired = firings(fields, start..=start + CYCLES * length - 1, zone);
    let near = |time: &i64| (period.anchor - time + CYCLES * length).rem_euclid(length) <= reach + 60;
    fired.len() == usize::try_from(CYCLES).unwrap_or(0) && fired.iter().all(near)
}

/// Beginnings of the minutes at which it fires, seconds of UTC.
fn firings(fields: &Fields, span: RangeInclusive<i64>, zone: &TimeZone) -> Vec<i64> {
    let first = span.start().div_euclid(60) + i64::from(span.start().rem_euclid(60) > 0);
    let minutes = (first..=span.end().div_euclid(60)).map(|minute| minute * 60);
    let fires = |time: &i64| local(*time, zone).is_some_and(|local| fields.contains(local));
    // One more than agree says that it fires too often.
    minutes.filter(fires).take(usize::try_from(CYCLES).unwrap_or(0) + 1).collect()
}

fn local(time: i64, zone: &TimeZone) -> Option<DateTime> {
    Some(zone.to_datetime(Timestamp::from_second(time).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(seconds: f64, anchor: &str) -> Period {
        let anchor = anchor.parse::<Timestamp>().unwrap().as_second();
        Period { seconds, anchor, window: 30.0, onsets: (9, 9), cycles: (9, 9), ln_chance: -20.0 }
    }

    fn schedule(name: &str, when: When) -> Schedule {
        Schedule { name: name.to_owned(), when }
    }

    fn cron(line: &str) -> Schedule {
        cron::entry(line, "crontab", 1, false).unwrap()
    }

    #[track_caller]
    fn check(seconds: f64, anchor: &str, line: &str, is_named: bool) {
        let found = named(&period(seconds, anchor), &[cron(line)], &TimeZone::UTC);
        assert_eq!(found.len(), usize::from(is_named), "{line} at {anchor}");
    }

    #[test]
    fn a_cron_entry_is_named_when_length_and_phase_agree() {
        check(3600.0, "2026-11-21T03:05:07Z", "5 * * * * backup", true);
        check(3600.0, "2026-11-21T03:05:07Z", "35 * * * * backup", false);
        check(3600.0, "2026-11-21T03:05:07Z", "*/5 * * * * often", false);
        check(300.0, "2026-11-21T03:05:07Z", "*/5 * * * * often", true);
        check(86_400.0, "2026-11-21T03:00:40Z", "0 3 * * * nightly", true);
        check(86_400.0, "2026-11-21T03:00:40Z", "0 15 * * * daily", false);
        check(86_400.0, "2026-11-21T03:00:40Z", "0 3 * * 1 weekly", false);
        check(604_800.0, "2026-11-23T03:00:40Z", "0 3 * * 1 weekly", true);
    }

    #[test]
    fn times_of_day_are_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let nightly = [cron("0 3 * * * nightly")];
        assert_eq!(named(&period(86_400.0, "2026-11-21T01:00:09Z"), &nightly, &zone).len(), 1);
        assert_eq!(named(&period(86_400.0, "2026-11-21T03:00:09Z"), &nightly, &zone).len(), 0);
    }

    #[test]
    fn an_interval_needs_only_its_length() {
        let every = [schedule("timer", When::Every(900))];
        assert_eq!(named(&period(903.0, "2026-11-21T01:07:09Z"), &every, &TimeZone::UTC), ["timer"]);
        assert_eq!(named(&period(950.0, "2026-11-21T01:07:09Z"), &every, &TimeZone::UTC), [""; 0]);
    }
}
