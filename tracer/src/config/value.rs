//! Spans of time and sizes as people write them in the file: `90d`, `1G`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Units of time, largest first, seconds.
const SPANS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
/// Units of size, largest first, bytes.
const SIZES: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];
/// The shortest span that makes sense for anything in the file, seconds.
const LEAST_SPAN: u64 = 60;
/// The smallest size that makes sense for anything in the file, bytes.
const LEAST_SIZE: u64 = 1 << 20;

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A size, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Span {
    /// So many days.
    pub fn from_days(days: u64) -> Self {
        Self(Duration::from_secs(days * 86_400))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0.as_secs(), &SPANS)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &SIZES)
    }
}

fn write(f: &mut fmt::Formatter<'_>, number: u64, units: &[(char, u64)]) -> fmt::Result {
    match units.iter().find(|(_, unit)| number.is_multiple_of(*unit)) {
        Some((letter, unit)) => write!(f, "{}{letter}", number / unit),
        None => write!(f, "{number}"),
    }
}

fn read(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let unit = units.iter().find(|(letter, _)| text.ends_with(*letter));
    let (digits, unit) = unit.map_or((text, 1), |(letter, unit)| (text.trim_end_matches(*letter), *unit));
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let seconds = read(&text, &SPANS).filter(|seconds| *seconds >= LEAST_SPAN);
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(|| {
            de::Error::custom(format!(
                "\"{text}\" is no span of time of at least a minute: a number with m, h or d (30m, 12h, 90d)"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = read(&text, &SIZES).filter(|bytes| *bytes >= LEAST_SIZE);
        bytes.map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "\"{text}\" is no size of at least 1M: a number with M or G (500M, 2G)"
            ))
        })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_they_are_written() {
        for text in ["90d", "36h", "5m", "90s"] {
            assert_eq!(Span(Duration::from_secs(read(text, &SPANS).unwrap())).to_string(), text);
        }
        for text in ["2G", "500M", "1025K"] {
            assert_eq!(Size(read(text, &SIZES).unwrap()).to_string(), text);
        }
        assert_eq!(Span::from_days(2).to_string(), "2d");
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for text in ["", "d", "-1d", "1.5h", "99999999999999999d", "1w"] {
            assert_eq!(read(text, &SPANS), None, "{text}");
        }
    }
}
