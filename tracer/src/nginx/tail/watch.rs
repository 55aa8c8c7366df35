//! Waiting for something to happen to a file: inotify where it works, a timer always. Events only wake the reader;
//! what changed is found by looking at the files.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchMask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;

use super::open;
use crate::wake;

/// What woke the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Woken {
    /// A name was created, moved or removed, or events were lost.
    pub names: bool,
}

/// Longest wait where inotify tells of everything: what remains are writers on other hosts.
const WATCHED: Duration = Duration::from_secs(1);
/// Longest wait where something is not watched.
const UNWATCHED: Duration = Duration::from_millis(250);

/// The watches on files and their directories.
pub(super) struct Watcher {
    inotify: Option<Inotify>,
    /// A file or a directory could not be watched.
    incomplete: Cell<bool>,
}

impl Watcher {
    /// Without inotify (its limits are used up) the timer alone wakes.
    pub(super) fn new() -> Self {
        let inotify = Inotify::init().ok();
        Self { incomplete: Cell::new(inotify.is_none()), inotify }
    }

    /// How long a file may go without being looked at.
    pub(super) fn patience(&self) -> Duration {
        if self.incomplete.get() { UNWATCHED } else { WATCHED }
    }

    /// Watches an open file for data.
    pub(super) fn watch_file(&self, file: BorrowedFd<'_>) {
        self.watch(file, WatchMask::MODIFY | WatchMask::MOVE_SELF | WatchMask::ATTRIB);
    }

    /// Watches a directory for new names.
    pub(super) fn watch_directory(&self, root: &Path, path: &Path) {
        match open::open_directory(root, path) {
            Ok(directory) => {
                self.watch(directory.as_fd(), WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE);
            }
            Err(_) => self.incomplete.set(true),
        }
    }

    /// Watches the inode behind a descriptor, so that no name can change in between. A failure costs promptness only.
    fn watch(&self, descriptor: BorrowedFd<'_>, mask: WatchMask) {
        let Some(inotify) = &self.inotify else { return };
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        if inotify.watches().add(path, mask).is_err() {
            self.incomplete.set(true);
        }
    }

    /// Waits for an event, for `waker` or for the end of `timeout`.
    pub(super) fn wait(&mut self, waker: &OwnedFd, timeout: Duration) -> Woken {
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = vec![PollFd::new(waker, PollFlags::IN)];
        if let Some(inotify) = &self.inotify {
            fds.push(PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN));
        }
        // An interrupted wait is a wake-up like any other.
        let ready = poll(&mut fds, timeout.as_ref()).unwrap_or(0);
        if ready == 0 {
            return Woken::default();
        }
        wake::rest(waker);
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
