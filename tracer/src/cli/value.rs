//! Values of flags: read strictly, and refused with a sentence that says what would be right.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use crate::model::verdict::{Cause, Certainty, Impact, Party};
use crate::nginx::line;
use crate::nginx::syslog::Address;

/// Longest session that can be asked for.
const MOST_SECONDS: u64 = 366 * 24 * 3600;

/// A port: 1 to 65535.
pub fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("a port is a number from 1 to 65535".to_owned()),
    }
}

/// `ADDR`, `ADDR:PORT` or `[ADDR]:PORT`; without a port it stands for every port (port zero).
/// Names are refused: resolving them would make traffic.
pub fn upstream(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(SocketAddr::new(address.ip().to_canonical(), address.port()));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|address| SocketAddr::new(address.to_canonical(), 0));
    address.map_err(|_| "an upstream is ADDR, ADDR:PORT or [ADDR6]:PORT; names are not resolved".to_owned())
}

/// `udp:ADDR:PORT` or `unix:PATH`.
pub fn syslog(text: &str) -> Result<Address, String> {
    Address::read(text)
        .ok_or_else(|| "a syslog address is udp:ADDR:PORT, udp:[ADDR6]:PORT or unix:/PATH".to_owned())
}

/// A party by its slug.
pub fn party(text: &str) -> Result<Party, String> {
    let known = || Party::ALL.iter().map(|party| party.slug()).collect::<Vec<_>>().join(", ");
    Party::from_slug(text).ok_or_else(|| format!("a party is one of {}", known()))
}

/// A cause by its slug.
pub fn cause(text: &str) -> Result<Cause, String> {
    Cause::from_slug(text).ok_or_else(|| "no such cause; docs/verdicts.md lists them".to_owned())
}

/// A certainty by its slug.
pub fn certainty(text: &str) -> Result<Certainty, String> {
    let known = || Certainty::ALL.iter().map(|one| one.slug()).collect::<Vec<_>>().join(", ");
    Certainty::from_slug(text).ok_or_else(|| format!("a certainty is one of {}", known()))
}

/// An impact by its slug.
pub fn impact(text: &str) -> Result<Impact, String> {
    let known = || Impact::ALL.iter().map(|one| one.slug()).collect::<Vec<_>>().join(", ");
    Impact::from_slug(text).ok_or_else(|| format!("an impact is one of {}", known()))
}

/// How many connections a tracker keeps.
pub fn connections(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(number) if (1..=10_000_000).contains(&number) => Ok(number),
        _ => Err("a number of connections is 1 to 10000000".to_owned()),
    }
}

/// A process id.
pub fn pid(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err("a process id is a positive number".to_owned()),
    }
}

/// A span of time: a number of seconds, or a number with `s`, `m` or `h`.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong =
        || "a duration is a positive number of seconds, or a number with s, m or h (30s, 5m, 1h)".to_owned();
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3600),
        _ => (Some(text), 1),
    };
    let seconds =
        number.and_then(|number| number.parse::<u64>().ok()).and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(seconds) if seconds > 0 && seconds <= MOST_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

/// A time zone: an IANA name, `UTC`, or an offset like `+02:00`.
pub fn zone(text: &str) -> Result<TimeZone, String> {
    if text.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    let named = TimeZone::get(text).ok().or_else(|| offset(text).map(TimeZone::fixed));
    named.ok_or_else(|| "a time zone is a name like Europe/Berlin, UTC, or an offset like +02:00".to_owned())
}

fn offset(text: &str) -> Option<Offset> {
    let (hours, minutes) = text.strip_prefix(['+', '-'])?.split_once(':')?;
    let (hours, minutes) = (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?);
    let seconds = (hours * 60 + minutes) * 60;
    let in_range = (0..=15).contains(&hours) && (0..60).contains(&minutes);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    if in_range { Offset::from_seconds(sign * seconds).ok() } else { None }
}

/// A moment as seconds of UTC: RFC 3339, a local time of `zone`, or a span before `now`.
pub fn moment(text: &str, zone: &TimeZone, now: i64) -> Result<i64, String> {
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Ok(stamp.as_second());
    }
    if let Some(time) = line::moment(text.as_bytes(), zone) {
        return Ok(time.0.div_euclid(1_000_000_000));
    }
    if let Ok(before) = span(text) {
        return Ok(now.saturating_sub(i64::try_from(before.as_secs()).unwrap_or(i64::MAX)));
    }
    Err("a time is RFC 3339 (2026-11-20T06:00:00Z), \"YYYY/MM/DD HH:MM:SS\", or a span before now (30m, 2h)"
        .to_owned())
}

/// A number of bytes, or a number with `K`, `M` or `G` (powers of 1024).
pub fn size(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 4096;
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 'K')) => (text.get(..at), 1 << 10),
        Some((at, 'M')) => (text.get(..at), 1 << 20),
        Some((at, 'G')) => (text.get(..at), 1 << 30),
        _ => (Some(text), 1),
    };
    let bytes =
        number.and_then(|number| number.parse::<u64>().ok()).and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes >= LEAST).ok_or_else(|| {
        "a size is a number of bytes, at least 4096, or a number with K, M or G (500M, 2G)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_three_forms() {
        let zone = zone("+01:00").unwrap();
        assert_eq!(moment("2026-11-20T06:43:33Z", &zone, 0), Ok(1_795_157_013));
        assert_eq!(moment("2026/11/20 07:43:33", &zone, 0), Ok(1_795_157_013));
        assert_eq!(moment("2h", &zone, 10_000), Ok(2800));
        assert!(moment("yesterday", &zone, 0).is_err());
    }

    #[test]
    fn zones_are_names_or_offsets() {
        assert_eq!(zone("UTC"), Ok(TimeZone::UTC));
        assert!(zone("-03:30").is_ok());
        for wrong in ["+25:00", "Middle/Earth", "+1", "+01:99", ""] {
            assert!(zone(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_upstream_needs_no_port() {
        assert_eq!(upstream("10.0.1.10:8080"), Ok("10.0.1.10:8080".parse().unwrap()));
        assert_eq!(upstream("10.0.1.10"), Ok("10.0.1.10:0".parse().unwrap()));
        assert_eq!(upstream("[fd00::1]:80"), Ok("[fd00::1]:80".parse().unwrap()));
        assert_eq!(upstream("fd00::1"), Ok("[fd00::1]:0".parse().unwrap()));
        assert_eq!(upstream("::ffff:10.0.0.1"), Ok("10.0.0.1:0".parse().unwrap()));
        assert!(upstream("backend.example:80").is_err());
    }

    #[test]
    fn spans_have_units_and_bounds() {
        assert_eq!(span("30"), Ok(Duration::from_secs(30)));
        assert_eq!(span("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(span("1h"), Ok(Duration::from_hours(1)));
        for wrong in ["", "0", "-1", "s", "1d", "99999999999999999999h", "ten", "5é"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units_and_a_least() {
        assert_eq!((size("4096"), size("500M"), size("1G")), (Ok(4096), Ok(500 << 20), Ok(1 << 30)));
        for wrong in ["", "K", "0", "1K", "-1", "1.5G", "99999999999G", "1T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn port_zero_is_refused() {
        assert_eq!(port("443"), Ok(443));
        assert!(port("0").is_err() && port("65536").is_err() && port("http").is_err());
    }
}
