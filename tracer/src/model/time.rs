//! Two clocks and the way between them. The kernel stamps events with `CLOCK_MONOTONIC`;
//! people and log files use UTC.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_MONOTONIC` (what `bpf_ktime_get_ns` returns): since boot, without suspend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// Time since `earlier`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Distance between two moments, whichever came first.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    /// This moment plus `span`.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This moment minus `span`, not before boot.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Utc(pub i64);

impl Utc {
    /// The moment that RFC 3339 text says; `None` for other text, and for what is centuries away.
    pub fn parse(text: &str) -> Option<Self> {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(stamp.as_nanosecond()).ok().map(Self)
    }

    /// RFC 3339 in UTC with nanoseconds, the form of `verdict.time`.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(stamp) => format!("{stamp:.9}"),
            Err(_) => "1970-01-01T00:00:00.000000000Z".to_owned(),
        }
    }
}

/// The measured distance between the two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clock {
    /// `CLOCK_REALTIME - CLOCK_MONOTONIC`, nanoseconds.
    pub offset_ns: i64,
}

impl Clock {
    /// UTC of a kernel time stamp.
    pub fn utc(self, time: Mono) -> Utc {
        Utc(i64::try_from(time.0).unwrap_or(i64::MAX).saturating_add(self.offset_ns))
    }

    /// Kernel time of a UTC moment; moments before boot become zero.
    pub fn mono(self, time: Utc) -> Mono {
        Mono(u64::try_from(time.0.saturating_sub(self.offset_ns)).unwrap_or(0))
    }
}
