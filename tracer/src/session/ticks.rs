//! A timer that wakes the loop at even times and never in between: tokio's own, which sort what is due by coarser and
//! coarser slots, wake twice or three times for a second. For a moment that comes once they will do.

use std::io;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// A timer of the kernel, `timerfd_create(2)`.
#[derive(Debug)]
pub(super) struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    /// Ticks after `first`, and from then on with this period. What was missed is made up for by one.
    pub(super) fn new(first: Duration, period: Duration) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // A first time of zero would stop the timer.
        let setting = Itimerspec {
            it_value: timespec(first.max(Duration::from_nanos(1))),
            it_interval: timespec(period),
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
        // SAFETY: an `OwnedFd` names the same open descriptor from here to its end, which is that of the registration.
        let registered = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Waits for the next tick. Loses none when it is given up before.
    pub(super) async fn tick(&self) {
        let read = |timer: &OwnedFd| Ok(rustix::io::read(timer, &mut [0; 8])?);
        if self.0.async_io(Interest::READABLE, read).await.is_err() {
            // A timer that cannot be read ticks no more; the loop goes on with what else wakes it.
            std::future::pending::<()>().await;
        }
    }
}

/// Waits until then, for ever without an end.
pub(super) async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ticks_at_once_and_again() {
        let ticks = Ticks::new(Duration::ZERO, Duration::from_millis(1)).unwrap();
        for _ in 0..3 {
            ticks.tick().await;
        }
    }

    #[tokio::test]
    async fn a_tick_that_nobody_waited_for_is_not_lost() {
        let ticks = Ticks::new(Duration::ZERO, Duration::from_hours(1)).unwrap();
        drop(ticks.tick());
        ticks.tick().await;
    }
}
