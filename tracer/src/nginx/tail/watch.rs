//! Waiting for something to happen to a file: inotify where it works, a timer always. Events only wake the reader;
//! what changed is found by looking at the files.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchMask};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;

use super::open;

/// What woke the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Woken {
    /// A name was created, moved or removed, or events were lost.
    pub names: bool,
}

/// The watches on files and their directories.
pub(super) struct Watcher {
    inotify: Option<Inotify>,
}

impl Watcher {
    /// Without inotify (its limits are used up) the timer alone wakes.
    pub(super) fn new() -> Self {
        Self { inotify: Inotify::init().ok() }
    }

    /// Watches an open file for data.
    pub(super) fn watch_file(&self, file: BorrowedFd<'_>) {
        self.watch(file, WatchMask::MODIFY | WatchMask::MOVE_SELF | WatchMask::ATTRIB);
    }

    /// Watches a directory for new names.
    pub(super) fn watch_directory(&self, root: &Path, path: &Path) {
        if let Ok(directory) = open::open_directory(root, path) {
            self.watch(directory.as_fd(), WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE);
        }
    }

    /// Watches the inode behind a descriptor, so that no name can change in between. A failure costs promptness only.
    fn watch(&self, descriptor: BorrowedFd<'_>, mask: WatchMask) {
        let Some(inotify) = &self.inotify else { return };
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        drop(inotify.watches().add(path, mask));
    }

    /// Waits for an event, for `wake` or for the end of `timeout`.
    pub(super) fn wait(&mut self, wake: &OwnedFd, timeout: Duration) -> Woken {
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        if let Some(inotify) = &self.inotify {
            fds.push(PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN));
        }
        // An interrupted wait is a wake-up like any other.
        let ready = poll(&mut fds, timeout.as_ref()).unwrap_or(0);
        if ready == 0 {
            return Woken::default();
        }
        drain_wake(wake);
        self.drain_events()
    }

    fn drain_events(&mut self) -> Woken {
        let mut woken = Woken::default();
        let Some(inotify) = &mut self.inotify else { return woken };
        let mut buffer = [0; 4096];
        while let Ok(events) = inotify.read_events(&mut buffer) {
            let mut any = false;
            for event in events {
                any = true;
                woken.names |= event.mask != EventMask::MODIFY;
            }
            if !any {
                break;
            }
        }
        woken
    }
}

/// A descriptor that wakes the reader.
pub(super) fn wake_descriptor() -> std::io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Wakes the reader. A full counter means it is awake already.
pub(super) fn wake(descriptor: &OwnedFd) {
    rustix::io::write(descriptor, &1_u64.to_ne_bytes()).ok();
}

fn drain_wake(descriptor: &OwnedFd) {
    let mut count = [0; 8];
    rustix::io::read(descriptor, &mut count).ok();
}
