//! How the C library's allocator is told to behave in a process that runs for months: what was needed for a moment goes
//! back to the system. Counts nothing; other C libraries than glibc are left as they are.
//!
//! glibc gives every thread a heap of its own, and with every large block that is freed it raises the size from which
//! blocks live outside of the heaps. A dozen threads that hand verdicts to each other then keep as much in holes as in
//! use: 41 MB for 23 MB after a minute of 800 incidents a second, and more after each burst.

use std::time::{Duration, Instant};

/// How often free pages in the middle of the heap are given back.
const EVERY: Duration = Duration::from_mins(1);

/// Gives free pages back from time to time, if anything was done since.
#[derive(Debug)]
pub(super) struct Trim {
    next: Instant,
    done: u64,
}

impl Trim {
    /// From now on.
    pub(super) fn new() -> Self {
        Self { next: Instant::now() + EVERY, done: 0 }
    }

    /// Looks whether it is time to; `done` grows with the work of the session.
    pub(super) fn pulse(&mut self, done: u64) {
        if self.is_due(Instant::now(), done) {
            trim();
        }
    }

    /// An idle daemon has nothing to give back, and is not woken for it.
    fn is_due(&mut self, now: Instant, done: u64) -> bool {
        if now < self.next || done == self.done {
            return false;
        }
        (self.next, self.done) = (now + EVERY, done);
        true
    }
}

/// One heap for all threads, and blocks from 128 KiB on outside of it. To be called before the first thread is started.
#[cfg(target_env = "gnu")]
pub(super) fn set_up() {
    const BLOCK: libc::c_int = 128 << 10;
    for (name, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, BLOCK), (libc::M_TRIM_THRESHOLD, BLOCK)]
    {
        // SAFETY: takes two numbers and keeps no pointer; glibc locks the heap while it changes them.
        let _refused_ones_stay_as_they_were = unsafe { libc::mallopt(name, value) };
    }
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn set_up() {}

/// Gives back what is free.
#[cfg(target_env = "gnu")]
pub(super) fn trim() {
    // SAFETY: takes a number; glibc locks the heap while it looks for free pages, and what is in use stays.
    let _whether_anything_was_free = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_back_before_its_time_nor_without_work() {
        let mut trim = Trim::new();
        let now = Instant::now();
        assert!(!trim.is_due(now, 1));
        let later = now + EVERY + EVERY;
        assert!(!trim.is_due(later, 0), "nothing was done");
        assert!(trim.is_due(later, 1));
        assert!(!trim.is_due(later + EVERY + EVERY, 1), "nothing was done since");
        assert!(trim.is_due(later + EVERY + EVERY, 2));
    }
}
