//! One followed path: the file that stands there now, and the files that stood there before and may still be written
//! to. After a rename Nginx writes to the old inode until it gets USR1, workers one after the other.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::inode::{OpenInode, RawLine, Stop};
use super::open::{self, OpenError};
use super::{Counters, Identity, Start, Target, count};
use crate::model::Mono;

/// A rotated file that has no name any more is let go after this long without a line.
const GRACE: Duration = Duration::from_mins(1);

/// Rotated files kept open at once.
const ROTATED_LIMIT: usize = 4;

struct Rotated {
    inode: OpenInode,
    last_data: Mono,
}

/// A path and the files behind it.
pub(super) struct FollowedPath {
    pub target: Target,
    pub name: Arc<str>,
    /// Why nothing stands there now.
    pub problem: Option<OpenError>,
    current: Option<OpenInode>,
    rotated: VecDeque<Rotated>,
}

impl FollowedPath {
    /// Begins to follow.
    pub(super) fn new(target: Target, start: Start) -> Self {
        let name = Arc::from(target.path.to_string_lossy());
        let mut path = Self { target, name, problem: None, current: None, rotated: VecDeque::new() };
        match path.open(start) {
            Ok(inode) => path.current = Some(inode),
            Err(problem) => path.problem = Some(problem),
        }
        path
    }

    /// The directory to watch for new files.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.target.path.parent()
    }

    /// The file that stands at the path now.
    pub(super) fn current(&self) -> Option<&OpenInode> {
        self.current.as_ref()
    }

    fn open(&self, start: Start) -> Result<OpenInode, OpenError> {
        let (file, identity) = open::open_in_root(&self.target.root, &self.target.path)?;
        match start {
            Start::Beginning => Ok(OpenInode::from_beginning(file, identity)),
            Start::End => OpenInode::from_end(file, identity).map_err(|error| of_io(&error)),
        }
    }

    /// Every file read for this path.
    pub(super) fn identities(&self) -> impl Iterator<Item = Identity> {
        let rotated = self.rotated.iter().map(|rotated| rotated.inode.identity);
        self.current.iter().map(|inode| inode.identity).chain(rotated)
    }

    /// Leaves the file at the path to another path that reads it already.
    pub(super) fn yield_current(&mut self) {
        self.current = None;
    }

    /// Whether this path reads nothing because `other` reads its file.
    pub(super) fn is_name_of(&self, other: &Self) -> bool {
        let Some(inode) = &other.current else { return false };
        self.current.is_none() && open::identify(&self.target.root, &self.target.path) == Ok(inode.identity)
    }

    /// Goes on where `other` ended.
    pub(super) fn inherit(&mut self, other: Self) {
        self.current = other.current;
        self.rotated.extend(other.rotated);
    }

    /// Whether the path leads nowhere now.
    pub(super) fn is_gone(&self) -> bool {
        open::identify(&self.target.root, &self.target.path).is_err()
    }

    /// Goes on with the same files under another name: the same file seen from another root.
    pub(super) fn retarget(&mut self, other: Self) {
        self.target = other.target;
        self.name = other.name;
        self.problem = None;
    }

    /// Looks whether another file stands at the path. True if one does now. Files in `taken` are read for other
    /// paths: a link, or a rotated file under its new name.
    pub(super) fn check(&mut self, now: Mono, counters: &Counters, taken: &[Identity]) -> bool {
        self.forget_old(now);
        match open::identify(&self.target.root, &self.target.path) {
            Ok(identity) if self.is_current(identity) || taken.contains(&identity) => {
                self.problem = None;
                false
            }
            Ok(identity) => self.replace(identity, now, counters),
            Err(problem) => {
                self.problem = Some(problem);
                false
            }
        }
    }

    fn is_current(&self, identity: Identity) -> bool {
        self.current.as_ref().is_some_and(|current| current.identity == identity)
    }

    fn replace(&mut self, identity: Identity, now: Mono, counters: &Counters) -> bool {
        let returned = self.rotated.iter().position(|rotated| rotated.inode.identity == identity);
        let next = match returned.and_then(|position| self.rotated.remove(position)) {
            Some(rotated) => rotated.inode,
            None => match self.open(Start::Beginning) {
                // Between the look and the opening the file may have changed once more; the next look will see.
                Ok(inode) if inode.identity == identity => inode,
                Ok(_) => return false,
                Err(problem) => {
                    self.problem = Some(problem);
                    return false;
                }
            },
        };
        self.problem = None;
        if let Some(inode) = self.current.replace(next) {
            count(&counters.rotations);
            self.rotated.push_back(Rotated { inode, last_data: now });
        }
        if self.rotated.len() > ROTATED_LIMIT {
            self.rotated.pop_front();
            count(&counters.abandoned);
        }
        true
    }

    fn forget_old(&mut self, now: Mono) {
        self.rotated.retain(|rotated| now.since(rotated.last_data) < GRACE || has_name(&rotated.inode));
    }

    /// Reads every file behind the path once, the oldest first.
    pub(super) fn read(
        &mut self,
        now: Mono,
        buffer: &mut [u8],
        counters: &Counters,
        sink: &mut dyn FnMut(&RawLine<'_>) -> bool,
    ) -> Stop {
        for rotated in &mut self.rotated {
            let mut had_data = false;
            let stop = rotated.inode.read(buffer, &mut |line| {
                had_data = true;
                sink(line)
            });
            if had_data {
                rotated.last_data = now;
            }
            match settle(&stop, counters) {
                Stop::End => {}
                // A rotated file keeps its turn until it is read to its end: the order of lines is the order of files.
                unfinished => return unfinished,
            }
        }
        let Some(current) = &mut self.current else { return Stop::End };
        settle(&current.read(buffer, sink), counters)
    }
}

/// Counts a truncation and goes on; an unreadable file has nothing to read now.
fn settle(stop: &io::Result<Stop>, counters: &Counters) -> Stop {
    match stop {
        Ok(Stop::Truncated) => {
            count(&counters.truncations);
            Stop::More
        }
        Ok(stop) => *stop,
        Err(_) => Stop::End,
    }
}

fn has_name(inode: &OpenInode) -> bool {
    rustix::fs::fstat(inode.file()).is_ok_and(|status| status.st_nlink > 0)
}

fn of_io(error: &io::Error) -> OpenError {
    OpenError::System(rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO))
}
