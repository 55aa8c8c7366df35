//! Socket time stamps are in jiffies. How many make a second (`CONFIG_HZ`) is found from one pair of
//! jiffies and nanoseconds, because `jiffies_64` starts at minus 300 seconds (`INITIAL_JIFFIES`).

/// Values that `CONFIG_HZ` can have on x86-64 and arm64, and 1024 for alpha's sake is left out.
const RATES: [u32; 4] = [100, 250, 300, 1000];

/// Ticks per second that fit best.
pub fn rate(jiffies: u64, monotonic_ns: u64) -> u32 {
    let uptime = monotonic_ns / 1_000_000;
    let distance = |hz: u32| uptime_ms(jiffies, hz).abs_diff(uptime);
    RATES.into_iter().min_by_key(|hz| distance(*hz)).unwrap_or(250)
}

/// Milliseconds since boot by `jiffies_64`.
fn uptime_ms(jiffies: u64, hz: u32) -> u64 {
    let initial = u64::from(0u32.wrapping_sub(300 * hz));
    jiffies.wrapping_sub(initial).wrapping_mul(1000) / u64::from(hz)
}

/// Milliseconds from the 32-bit stamp `then` to `now`. Stamps up to 24 days old are told from such of the future.
pub fn age_ms(now: u64, then: u32, hz: u32) -> u32 {
    let ticks = (now as u32).wrapping_sub(then);
    if ticks > u32::MAX / 2 {
        return 0;
    }
    u32::try_from(u64::from(ticks) * 1000 / u64::from(hz.max(1))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_is_recognised_from_a_minute_after_boot() {
        for hz in RATES {
            let jiffies = u64::from(0u32.wrapping_sub(300 * hz)) + u64::from(hz) * 60;
            assert_eq!(rate(jiffies, 60_100_000_000), hz);
        }
    }

    #[test]
    fn ages_survive_the_wrap_of_the_counter() {
        assert_eq!(age_ms(u64::from(u32::MAX) + 11, u32::MAX - 239, 250), 1000);
        assert_eq!(age_ms(100, 105, 250), 0, "a stamp of the same tick read later");
    }
}
