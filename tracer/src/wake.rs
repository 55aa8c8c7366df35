//! Waking a thread that waits in `poll(2)`: an `eventfd(2)` among what it waits for.

use std::io;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

/// A descriptor that wakes who waits for it.
pub fn descriptor() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Wakes. A full counter means that whoever waits is awake already.
pub fn wake(descriptor: &OwnedFd) {
    rustix::io::write(descriptor, &1_u64.to_ne_bytes()).ok();
}

/// Lets the next wait wait again.
pub fn rest(descriptor: &OwnedFd) {
    let mut count = [0; 8];
    rustix::io::read(descriptor, &mut count).ok();
}
