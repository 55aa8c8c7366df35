//! The two clocks, read together.

use rustix::time::{ClockId, clock_gettime};

use crate::model::{Clock, Mono};

/// Readings of which the tightest is used.
const TRIES: usize = 5;

/// Now, on the kernel's event clock.
pub fn now() -> Mono {
    Mono(u64::try_from(nanoseconds(ClockId::Monotonic)).unwrap_or(0))
}

/// Measures the distance of the two clocks: UTC read between two readings of the monotonic one.
pub fn measure() -> Clock {
    let best = (0..TRIES).map(|_| sample()).min_by_key(|(width, _)| *width);
    Clock { offset_ns: best.map_or(0, |(_, offset)| offset) }
}

fn sample() -> (i64, i64) {
    let before = nanoseconds(ClockId::Monotonic);
    let utc = nanoseconds(ClockId::Realtime);
    let after = nanoseconds(ClockId::Monotonic);
    (after - before, utc - (before + (after - before) / 2))
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}
