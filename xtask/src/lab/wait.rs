//! Waiting for conditions, never for time; every wait ends early when the run is interrupted.

use super::cleanup;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// The limit for anything that should happen at once.
pub const SOON: Duration = Duration::from_secs(10);

/// Looks until the condition gives something; fails by name after the limit.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if cleanup::interrupted() {
            bail!("interrupted");
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain: {what}", limit.as_secs());
        }
        std::thread::sleep(STEP);
    }
}

/// Lets time pass where time itself is the scenario.
pub fn pass(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if cleanup::interrupted() {
            bail!("interrupted");
        }
        std::thread::sleep(STEP.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}
