//! The thread behind [`super::Follower`]: waits, looks at names, reads, hands over.

use std::os::fd::AsFd;
use std::sync::mpsc as commands;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::inode::{BUFFER, RawLine, Stop};
use super::path::FollowedPath;
use super::positions::Position;
use super::watch::Watcher;
use super::{Command, Counters, Identity, OPENED_LIMIT, Opened, Problems, TailedLine, Target, count};
use crate::model::Mono;

/// Wait before the next attempt when the receiver was slow.
const RETRY: Duration = Duration::from_millis(5);

/// Wait where nothing is followed: only a command has anything to tell.
const NOTHING: Duration = Duration::from_hours(1);

/// Reads while the last read is finished, at most this often: an unread receiver must not keep the thread.
const LAST_READS: u32 = 1000;

/// What the thread shares with its [`super::Follower`].
pub(super) struct Shared {
    pub wake: Arc<OwnedFd>,
    pub counters: Arc<Counters>,
    pub problems: Problems,
    pub opened: Opened,
}

pub(super) struct Runner {
    sender: mpsc::Sender<TailedLine>,
    inbox: commands::Receiver<Command>,
    wake: Arc<OwnedFd>,
    counters: Arc<Counters>,
    problems: Problems,
    opened: Opened,
    /// Readings numbered so far.
    readers: u64,
    watcher: Watcher,
    paths: Vec<FollowedPath>,
    buffer: Vec<u8>,
    last_check: Mono,
}

impl Runner {
    pub(super) fn new(
        sender: mpsc::Sender<TailedLine>,
        inbox: commands::Receiver<Command>,
        shared: Shared,
    ) -> Self {
        Self {
            sender,
            inbox,
            wake: shared.wake,
            counters: shared.counters,
            problems: shared.problems,
            opened: shared.opened,
            readers: 0,
            watcher: Watcher::new(),
            paths: Vec::new(),
            buffer: vec![0; BUFFER],
            last_check: Mono(0),
        }
    }

    /// Runs until the last sender of commands or the receiver of lines is gone.
    pub(super) fn run(mut self) {
        let mut again = None;
        loop {
            let is_open = self.take_commands();
            let wait = again.unwrap_or_else(|| self.patience());
            let woken = if is_open {
                self.watcher.wait(&self.wake, wait)
            } else {
                super::watch::Woken { names: true }
            };
            let now = now();
            if woken.names || now.since(self.last_check) >= self.watcher.patience() {
                self.check(now);
            }
            if !is_open {
                return self.read_last();
            }
            again = match self.read_all() {
                _ if self.sender.is_closed() => return,
                Stop::Full => Some(RETRY),
                _ => None,
            };
        }
    }

    /// How long to wait when nothing tells of anything.
    fn patience(&self) -> Duration {
        if self.paths.is_empty() { NOTHING } else { self.watcher.patience() }
    }

    /// True while somebody can still send commands.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Add(target, start)) => {
                    self.add(&target, |target| FollowedPath::new(target, start));
                }
                Ok(Command::Resume(target, saved)) => self.resume(&target, &saved),
                Ok(Command::Forget(target)) => self.forget(&target),
                Err(commands::TryRecvError::Empty) => return true,
                Err(commands::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn resume(&mut self, target: &Target, saved: &[Position]) {
        let counters = Arc::clone(&self.counters);
        self.add(target, |target| FollowedPath::resume(target, saved, now(), &counters));
    }

    fn add(&mut self, target: &Target, open: impl FnOnce(Target) -> FollowedPath) {
        if self.paths.iter().any(|path| path.target == *target) {
            return;
        }
        let mut path = open(target.clone());
        if let Some(directory) = path.directory() {
            self.watcher.watch_directory(&path.target.root, directory);
        }
        match self.reader_of(&path) {
            // After a restart of a container the same file is reached through the root of another process.
            Some(position) if self.paths[position].is_gone() => self.paths[position].retarget(path),
            Some(_) => {
                path.yield_current();
                self.paths.push(path);
            }
            None => {
                self.watch_current(&path);
                self.paths.push(path);
            }
        }
        self.number_readings();
        self.publish_problems();
    }

    /// Gives every reading that has just begun its number, and makes known where it began.
    fn number_readings(&mut self) {
        for path in &mut self.paths {
            let name = Arc::clone(&path.name);
            for inode in path.readings().filter(|inode| inode.reader == 0) {
                self.readers += 1;
                inode.reader = self.readers;
                let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
                opened.push_back((self.readers, inode.position(&name)));
                if opened.len() > OPENED_LIMIT {
                    opened.pop_front();
                }
            }
        }
    }

    /// The path that reads the same file already.
    fn reader_of(&self, new: &FollowedPath) -> Option<usize> {
        let identity = new.current()?.identity;
        self.paths.iter().position(|path| path.identities().any(|other| other == identity))
    }

    /// Reads what is there and lets the file go. Another name of the same file goes on where this one ended.
    fn forget(&mut self, target: &Target) {
        let Some(position) = self.paths.iter().position(|path| path.target == *target) else { return };
        let mut forgotten = self.paths.remove(position);
        match self.paths.iter_mut().find(|path| path.is_name_of(&forgotten)) {
            Some(heir) => heir.inherit(forgotten),
            None => {
                while read_path(&mut forgotten, &mut self.buffer, &self.counters, &self.sender) == Stop::More
                {
                }
            }
        }
        self.publish_problems();
    }

    fn watch_current(&self, path: &FollowedPath) {
        if let Some(inode) = path.current() {
            self.watcher.watch_file(inode.file().as_fd());
        }
    }

    fn check(&mut self, now: Mono) {
        self.last_check = now;
        self.paths.retain(|path| !path.is_over(now));
        for position in 0..self.paths.len() {
            let taken = self.identities_of_others(position);
            let path = &mut self.paths[position];
            if path.check(now, &self.counters, &taken)
                && let Some(inode) = path.current()
            {
                self.watcher.watch_file(inode.file().as_fd());
                if let Some(directory) = path.directory() {
                    self.watcher.watch_directory(&path.target.root, directory);
                }
            }
        }
        self.publish_problems();
    }

    fn identities_of_others(&self, position: usize) -> Vec<Identity> {
        let others = self.paths.iter().enumerate().filter(|(other, _)| *other != position);
        others.flat_map(|(_, path)| path.identities()).collect()
    }

    fn publish_problems(&self) {
        let described = self.paths.iter().filter_map(|path| {
            let problem = path.problem()?;
            Some(format!("{} {problem}", path.name))
        });
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = described.collect();
    }

    /// Reads every file until nothing is left or the receiver takes no more.
    fn read_all(&mut self) -> Stop {
        loop {
            self.number_readings();
            let mut result = Stop::End;
            for path in &mut self.paths {
                let stop = read_path(path, &mut self.buffer, &self.counters, &self.sender);
                match stop {
                    Stop::Full => return Stop::Full,
                    Stop::More | Stop::Truncated => result = Stop::More,
                    Stop::End => {}
                }
            }
            if result == Stop::End {
                return Stop::End;
            }
        }
    }

    /// Reads what was written before the end, as long as somebody takes it.
    fn read_last(mut self) {
        for _ in 0..LAST_READS {
            match self.read_all() {
                Stop::Full if !self.sender.is_closed() => std::thread::sleep(RETRY),
                _ => return,
            }
        }
    }
}

fn read_path(
    path: &mut FollowedPath,
    buffer: &mut [u8],
    counters: &Counters,
    sender: &mpsc::Sender<TailedLine>,
) -> Stop {
    let arrival = now();
    let file = Arc::clone(&path.name);
    path.read(arrival, buffer, counters, &mut |line| hand_over(line, &file, arrival, counters, sender))
}

/// False when the receiver takes no more. Lines for a receiver that is gone are taken and forgotten.
fn hand_over(
    line: &RawLine<'_>,
    file: &Arc<str>,
    arrival: Mono,
    counters: &Counters,
    sender: &mpsc::Sender<TailedLine>,
) -> bool {
    match sender.try_reserve() {
        Ok(permit) => {
            count(&counters.lines);
            if line.is_cut {
                count(&counters.cut);
            }
            permit.send(TailedLine {
                file: Arc::clone(file),
                offset: line.offset,
                arrival,
                bytes: line.bytes.to_vec(),
                is_cut: line.is_cut,
                is_old: line.is_old,
                identity: Some(line.identity),
                reader: line.reader,
            });
            true
        }
        Err(TrySendError::Full(())) => {
            count(&counters.delays);
            false
        }
        Err(TrySendError::Closed(())) => true,
    }
}

/// `CLOCK_MONOTONIC`, the clock of the kernel's events.
fn now() -> Mono {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Mono(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0)))
}
