//! Patterns and keys in words. Raw text: what the log named is in it as it was.

use jiff::tz::TimeZone;
use serde_json::json;

use super::key::network_name;
use super::pattern::burst::{Burst, Presence};
use super::pattern::chance::whole;
use super::pattern::periodic::Period;
use super::pattern::spread::{AfterMarks, Alternation, Concentration};
use super::pattern::{Dimension, Finding, Group, Pattern};
use super::report::{PatternRow, local, rfc3339, share};
use crate::output::layout::span;

/// A key as text.
pub fn key(dimension: Dimension, key: &[u8]) -> String {
    match (dimension, key.try_into()) {
        (Dimension::Worker, Ok(pid)) => u32::from_be_bytes(pid).to_string(),
        (Dimension::Client, _) => network_name(key),
        _ => String::from_utf8_lossy(key).into_owned(),
    }
}

/// A part in whole percent.
pub fn percent(part: f64) -> String {
    match part {
        part if part > 0.0 && part < 0.005 => "<1 %".to_owned(),
        part if part > 0.995 && part < 1.0 => ">99 %".to_owned(),
        part => format!("{} %", whole(part * 100.0)),
    }
}

/// What the incidents of a group are called.
pub fn group(group: Option<Group>) -> &'static str {
    match group {
        Some(Group::BadGateway) => "upstream failures (502)",
        Some(Group::GatewayTimeout) => "upstream timeouts (504)",
        Some(Group::Client) => "client-side incidents",
        Some(Group::Nginx) => "incidents of Nginx itself",
        None => "incidents",
    }
}

/// A finding with its sentence and its numbers.
pub fn pattern(finding: &Finding, zone: &TimeZone) -> PatternRow {
    let who = group(finding.group);
    let (text, numbers) = match &finding.pattern {
        Pattern::Occasional(presence) => occasional(who, finding.events, presence),
        Pattern::Persistent(presence) => persistent(who, presence),
        Pattern::Periodic(period) => periodic(who, period, zone),
        Pattern::Burst(burst) => self::burst(who, burst, zone),
        Pattern::Concentration(found) => concentration(who, found),
        Pattern::AllUpstreams(upstreams, largest) => (
            format!(
                "{who} hit all {upstreams} upstreams about equally (none above {}): look at what they share",
                percent(*largest)
            ),
            json!({ "upstreams": upstreams, "largest_share": largest }),
        ),
        Pattern::Alternating(found) => alternating(found),
        Pattern::AfterMarks(found) => after_marks(who, found),
    };
    PatternRow {
        pattern: finding.pattern.slug(),
        group: finding.group.map(Group::slug),
        events: finding.events,
        text,
        numbers,
    }
}

type Said = (String, serde_json::Value);

fn milliseconds(seconds: f64) -> u64 {
    whole(seconds * 1000.0)
}

fn slices(presence: &Presence) -> serde_json::Value {
    json!({ "slice_s": presence.slice, "busy_slices": presence.busy, "slices": presence.slices })
}

fn length(seconds: i64) -> String {
    span(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

fn occasional(who: &str, events: u64, presence: &Presence) -> Said {
    let slice = length(presence.slice);
    let text = format!(
        "{who} are occasional: {events} in {} of {} slices of {slice}; restarts and single clients look like this",
        presence.busy, presence.slices
    );
    (text, slices(presence))
}

fn persistent(who: &str, presence: &Presence) -> Said {
    let slice = length(presence.slice);
    let text = format!(
        "{who} are there all the time: in {} of {} slices of {slice}",
        presence.busy, presence.slices
    );
    (text, slices(presence))
}

fn periodic(who: &str, period: &Period, zone: &TimeZone) -> Said {
    let text = format!(
        "{who} return every {}, for example at {} (in a window of {}): {} of {} cycles, {} of {} onsets",
        span(milliseconds(period.seconds)),
        local(period.anchor, zone),
        span(milliseconds(period.window)),
        period.cycles.0,
        period.cycles.1,
        period.onsets.0,
        period.onsets.1,
    );
    let numbers = json!({
        "period_s": period.seconds,
        "anchor": rfc3339(period.anchor),
        "phase_s": super::pattern::chance::seconds(period.anchor).rem_euclid(period.seconds),
        "window_s": period.window,
        "onsets_in_window": period.onsets.0,
        "onsets": period.onsets.1,
        "cycles_with_onset": period.cycles.0,
        "cycles": period.cycles.1,
        "log10_chance": period.ln_chance / std::f64::consts::LN_10,
    });
    (text, numbers)
}

fn burst(who: &str, burst: &Burst, zone: &TimeZone) -> Said {
    let text = format!(
        "{} of {} {who} ({}) fall into {} from {}: {} times the mean rate",
        burst.count,
        burst.of,
        percent(share(burst.count, burst.of)),
        length(burst.length),
        local(burst.start, zone),
        whole(burst.times_mean),
    );
    let numbers = json!({
        "start": rfc3339(burst.start), "length_s": burst.length, "count": burst.count, "of": burst.of,
        "times_mean": burst.times_mean,
    });
    (text, numbers)
}

fn concentration(who: &str, found: &Concentration) -> Said {
    let what = match found.dimension {
        Dimension::Upstream => "upstream",
        Dimension::Uri => "URI",
        Dimension::Client => "client network",
        Dimension::Server => "server",
        Dimension::Worker => "worker",
    };
    let key = key(found.dimension, &found.key);
    let share = share(found.count, found.of);
    let text = format!(
        "{} of {who} concern one {what} of {}: {key} ({} of {})",
        percent(share),
        found.keys,
        found.count,
        found.of
    );
    let numbers = json!({
        "dimension": found.dimension.slug(), "key": key, "count": found.count, "of": found.of, "keys": found.keys,
        "share": share,
    });
    (text, numbers)
}

fn alternating(found: &Alternation) -> Said {
    let text = format!(
        "502 and 504 alternate: {} failures and {} timeouts take turns {} times (a random mix: {}); an overloaded \
         upstream refuses and delays at the same time",
        found.bad_gateway,
        found.gateway_timeout,
        found.runs,
        whole(found.expected)
    );
    let numbers = json!({
        "bad_gateway": found.bad_gateway, "gateway_timeout": found.gateway_timeout, "runs": found.runs,
        "expected_runs": found.expected,
    });
    (text, numbers)
}

fn after_marks(who: &str, found: &AfterMarks) -> Said {
    let text = format!(
        "{} of {} {who} come within {} s after one of {} starts, reloads or ends of Nginx's processes",
        found.count, found.of, found.within, found.marks
    );
    let numbers = json!({
        "count": found.count, "of": found.of, "within_s": found.within, "changes": found.marks,
    });
    (text, numbers)
}
