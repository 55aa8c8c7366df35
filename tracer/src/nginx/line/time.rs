//! The time stamp at the head of a line: local time without a zone, one-second resolution
//! (`ngx_cached_err_log_time`). Vendor forms with dashes, a `T` or a fraction are read as well.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::Problem;
use crate::model::Utc;

/// Length of `YYYY/MM/DD HH:MM:SS`.
pub(super) const LENGTH: usize = 19;

/// Reads a time stamp at the start of `bytes`: its value and its length, a fraction or offset included.
/// `None` if the bytes do not have the shape; `Some((None, _))` if they do and are no date.
pub(super) fn read(bytes: &[u8]) -> Option<(Option<DateTime>, usize)> {
    let stamp = bytes.get(..LENGTH)?;
    if !has_shape(stamp) {
        return None;
    }
    let date_time = DateTime::new(
        i16::try_from(number(&stamp[0..4])).ok()?,
        small(&stamp[5..7]),
        small(&stamp[8..10]),
        small(&stamp[11..13]),
        small(&stamp[14..16]),
        small(&stamp[17..19]),
        0,
    );
    Some((date_time.ok(), LENGTH + fraction_length(&bytes[LENGTH..])))
}

fn has_shape(stamp: &[u8]) -> bool {
    stamp.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => matches!(byte, b'/' | b'-'),
        10 => matches!(byte, b' ' | b'T'),
        13 | 16 => *byte == b':',
        _ => byte.is_ascii_digit(),
    })
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

fn small(digits: &[u8]) -> i8 {
    i8::try_from(number(digits)).unwrap_or(i8::MAX)
}

/// Length of `.039`, `,039`, `:039` and of `Z` or `+08:00` after it.
fn fraction_length(rest: &[u8]) -> usize {
    let mut length = 0;
    if matches!(rest.first(), Some(b'.' | b',' | b':')) {
        let digits = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if (1..=9).contains(&digits) {
            length = digits + 1;
        }
    }
    length + offset_length(&rest[length..])
}

fn offset_length(rest: &[u8]) -> usize {
    match rest.first() {
        Some(b'Z') => 1,
        Some(b'+' | b'-') => {
            1 + rest[1..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b':').count().min(5)
        }
        _ => 0,
    }
}

/// The moment a local time means in `zone`. Where the local time occurs twice the earlier moment is taken.
pub(super) fn to_utc(local: DateTime, zone: &TimeZone) -> (Option<Utc>, Option<Problem>) {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let problem = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => None,
        AmbiguousOffset::Gap { .. } | AmbiguousOffset::Fold { .. } => Some(Problem::AmbiguousTime),
    };
    let utc =
        ambiguous.compatible().ok().and_then(|stamp| i64::try_from(stamp.as_nanosecond()).ok()).map(Utc);
    (utc, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_forms_are_read_to_their_end() {
        for (text, length) in [
            ("2024/01/02 03:04:05 [", 19),
            ("2024/01/02 03:04:05:039 [", 23),
            ("2024/01/02 03:04:05.039123 [", 26),
            ("2024-01-02T03:04:05+08:00 [", 25),
        ] {
            let (value, found) = read(text.as_bytes()).expect("a time stamp");
            assert_eq!((found, value.map(DateTime::second)), (length, Some(5)), "{text}");
        }
        assert_eq!(read(b"2024/13/02 03:04:05"), Some((None, 19)));
        assert_eq!(read(b"2024/1/02 03:04:05 "), None);
    }

    #[test]
    fn the_zone_of_the_process_counts() {
        let zone = TimeZone::get("America/New_York").expect("zone data");
        let local = jiff::civil::date(2026, 11, 20).at(1, 43, 33, 0);
        let (utc, problem) = to_utc(local, &zone);
        assert_eq!(utc.map(Utc::rfc3339).as_deref(), Some("2026-11-20T06:43:33.000000000Z"));
        assert_eq!(problem, None);
        let twice = jiff::civil::date(2026, 11, 1).at(1, 30, 0, 0);
        assert_eq!(to_utc(twice, &zone).1, Some(Problem::AmbiguousTime));
    }
}
