//! Follows error.log files: every complete line, with the moment it was seen and its place in the file, through a
//! bounded channel. Rotation by rename, `copytruncate`, deletion and late creation are followed by inode. It reads
//! and never writes. When the receiver is slow the reading waits, since the file keeps the lines; nothing is dropped.

mod inode;
mod open;
mod path;
pub mod positions;
mod run;
mod siblings;
mod watch;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as commands;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jiff::tz::TimeZone;
use rustix::fd::OwnedFd;
use tokio::sync::mpsc;

use crate::model::{LogRecord, Mono};
use crate::nginx::line;
use crate::wake;
use positions::Position;

pub use open::{Identity, OpenError, PathStatus, open_in_root, path_status};
pub(in crate::nginx) use open::{Stamp, identify, open_directory, stamp};

/// Longest line delivered whole, bytes. Nginx writes at most 2048; carriers in JSON make them longer.
pub const LINE_LIMIT: usize = 64 * 1024;

/// A file to follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Root of the mount namespace the path belongs to: `/`, or `/proc/PID/root`.
    pub root: PathBuf,
    /// Absolute path inside that root.
    pub path: PathBuf,
}

impl Target {
    /// A file of this process' own mount namespace.
    pub fn local(path: impl Into<PathBuf>) -> Self {
        Self { root: PathBuf::from("/"), path: path.into() }
    }
}

/// Where to begin in a file that exists at the start. Files that appear later are read from their beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// Only lines written from now on.
    #[default]
    End,
    /// The whole file.
    Beginning,
}

/// One line as it appeared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailedLine {
    /// Path of the file inside its root.
    pub file: Arc<str>,
    /// Byte offset of the line in its file.
    pub offset: u64,
    /// When the bytes were there to be read.
    pub arrival: Mono,
    /// The line without its line feed.
    pub bytes: Vec<u8>,
    /// The line was longer than [`LINE_LIMIT`]; the rest is missing.
    pub is_cut: bool,
    /// It was there before the file was followed, or before the session could run again: only its own time stamp tells
    /// when it was written.
    pub is_old: bool,
    /// The file it stands in; `None` for a line that came by another way.
    pub identity: Option<Identity>,
    /// The reading it came from; see [`positions::Positions`].
    pub reader: u64,
}

impl TailedLine {
    /// Reads the line. `zone` is that of the Nginx process.
    pub fn record(&self, zone: &TimeZone) -> LogRecord {
        let mut record = line::parse(&self.bytes, zone);
        record.keep_line(&self.bytes);
        record.file = String::from(&*self.file);
        record.offset = self.offset;
        record.arrival = (!self.is_old).then_some(self.arrival);
        if self.is_cut {
            record.problems.push(format!("the line is longer than {LINE_LIMIT} bytes"));
        }
        record
    }
}

/// What happened while following; the numbers only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Lines delivered.
    pub lines: AtomicU64,
    /// Lines longer than [`LINE_LIMIT`].
    pub cut: AtomicU64,
    /// Files found shorter than before, or rewritten (`copytruncate`).
    pub truncations: AtomicU64,
    /// Files replaced by another at the same path.
    pub rotations: AtomicU64,
    /// Times the reading waited because the receiver was slow; arrival times after that are too late.
    pub delays: AtomicU64,
    /// Rotated files given up although their end was unread.
    pub abandoned: AtomicU64,
    /// Files that an earlier run followed and that are gone or compressed: their last lines may be missing.
    pub gaps: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Why following could not begin.
#[derive(Debug, thiserror::Error)]
#[error("cannot start following log files: {what}")]
pub struct StartError {
    what: &'static str,
    source: std::io::Error,
}

enum Command {
    Add(Target, Start),
    Resume(Target, Vec<Position>),
    Forget(Target),
}

/// The state of every followed file that has trouble, by path.
type Problems = Arc<Mutex<Vec<String>>>;

/// Readings that began and were not asked for yet, with the place they began at.
type Opened = Arc<Mutex<VecDeque<(u64, Position)>>>;

/// Beginnings kept for somebody who asks for them.
const OPENED_LIMIT: usize = 1024;

/// Follows files on a thread of its own. Dropping it stops the thread after a last read.
#[derive(Debug)]
pub struct Follower {
    commands: commands::Sender<Command>,
    wake: Arc<OwnedFd>,
    counters: Arc<Counters>,
    problems: Problems,
    opened: Opened,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts the thread. `capacity` is that of the channel, in lines.
    pub fn start(capacity: usize) -> Result<(Self, mpsc::Receiver<TailedLine>), StartError> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        Ok((Self::start_on(sender)?, receiver))
    }

    /// Starts the thread on a channel that others may send into, too.
    pub fn start_on(sender: mpsc::Sender<TailedLine>) -> Result<Self, StartError> {
        let (commands, inbox) = commands::channel();
        let wake = Arc::new(wake::descriptor().map_err(failed("eventfd"))?);
        let counters = Arc::new(Counters::default());
        let (problems, opened) = (Problems::default(), Opened::default());
        let shared = run::Shared {
            wake: Arc::clone(&wake),
            counters: Arc::clone(&counters),
            problems: Arc::clone(&problems),
            opened: Arc::clone(&opened),
        };
        let runner = run::Runner::new(sender, inbox, shared);
        let thread = std::thread::Builder::new().name("nginx-tail".to_owned());
        let thread = thread.spawn(move || runner.run()).map_err(failed("thread"))?;
        Ok(Self { commands, wake, counters, problems, opened, thread: Some(thread) })
    }

    /// Follows one more file. A file that is followed already is left alone, also under another name.
    pub fn add(&self, target: Target, start: Start) {
        self.send(Command::Add(target, start));
    }

    /// Follows one more file, going on where an earlier run ended ([`positions::Positions::of`]). Without a position
    /// only new lines come.
    pub fn resume(&self, target: Target, saved: Vec<Position>) {
        if saved.is_empty() {
            return self.add(target, Start::End);
        }
        self.send(Command::Resume(target, saved));
    }

    /// Readings that began since the last call; ask for them before using the lines that came.
    pub fn opened(&self) -> Vec<(u64, Position)> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// Reads what is there of a file and follows it no longer.
    pub fn forget(&self, target: Target) {
        self.send(Command::Forget(target));
    }

    /// The thread is gone only when nobody receives lines any more, and then there is nothing to be done.
    fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            wake::wake(&self.wake);
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Files that cannot be followed, and why.
    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads what is there, ends the thread and waits for it.
    pub fn stop(&mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        let (closed, _) = commands::channel();
        // The thread ends when the last sender of commands is gone.
        self.commands = closed;
        wake::wake(&self.wake);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            count(&self.counters.abandoned);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.finish();
    }
}

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError { what, source }
}
