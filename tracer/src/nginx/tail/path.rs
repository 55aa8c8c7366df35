//! One followed path: the file that stands there now, and the files that stood there before and may still be written
//! to. After a rename Nginx writes to the old inode until it gets USR1, workers one after the other.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::inode::{OpenInode, Place, RawLine, Stop};
use super::open::{self, OpenError};
use super::positions::Position;
use super::siblings::{self, Sibling};
use super::{Counters, Identity, Start, Target, count};
use crate::model::Mono;

/// A rotated file that has no name any more is let go after this long without a line.
const GRACE: Duration = Duration::from_mins(1);

/// The log of a container that has ended is let go after this long.
const LOST: Duration = Duration::from_mins(10);

/// Rotated files kept open although nothing is left to read in them.
const ROTATED_LIMIT: usize = 4;

/// Rotated files kept open because they are not read to their end.
const UNREAD_LIMIT: usize = 64;

struct Rotated {
    inode: OpenInode,
    last_data: Mono,
}

/// A path and the files behind it.
pub(super) struct FollowedPath {
    pub target: Target,
    pub name: Arc<str>,
    /// Why nothing stands there now.
    problem: Option<OpenError>,
    /// Since when the root it belongs to is not there: its container has ended.
    lost_since: Option<Mono>,
    current: Option<OpenInode>,
    rotated: VecDeque<Rotated>,
}

impl FollowedPath {
    /// Begins to follow.
    pub(super) fn new(target: Target, start: Start) -> Self {
        let mut path = Self::without_files(target);
        match path.open(start) {
            Ok(inode) => path.current = Some(inode),
            Err(problem) => path.problem = Some(problem),
        }
        path
    }

    fn without_files(target: Target) -> Self {
        let name = Arc::from(target.path.to_string_lossy());
        Self { target, name, problem: None, lost_since: None, current: None, rotated: VecDeque::new() }
    }

    /// Goes on where an earlier run ended, through every rotation that happened in between.
    pub(super) fn resume(target: Target, saved: &[Position], now: Mono, counters: &Counters) -> Self {
        let mut path = Self::without_files(target);
        let mut followed_on = None;
        match open::open_in_root(&path.target.root, &path.target.path) {
            Ok((file, identity)) => {
                let place_of = |position| Some((position, siblings::place_in(&file, identity, position)?));
                let (position, place) = saved.iter().rev().find_map(place_of).unzip();
                followed_on = position;
                let inode = OpenInode::from_place(file, identity, place.unwrap_or_default());
                path.current = Some(inode.already_written());
            }
            Err(problem) => path.problem = Some(problem),
        }
        let siblings = siblings::of(&path.target);
        path.resume_rotated(siblings, saved, followed_on, now, counters);
        path
    }

    /// Files that were read before and stand beside the log now are read to their end; those that came and went in
    /// between are read whole.
    fn resume_rotated(
        &mut self,
        siblings: Vec<Sibling>,
        saved: &[Position],
        followed_on: Option<&Position>,
        now: Mono,
        counters: &Counters,
    ) {
        // The last position is not always that of the last file: a copy of the one before may have been found later.
        let Some(latest) = followed_on.or(saved.last()) else { return };
        let stands_in = siblings.iter().find(|sibling| sibling.holds(latest));
        let found = stands_in.map(|sibling| sibling.written);
        let since = match found {
            // Without content to recognise it by, a copy is known by its time only.
            _ if latest.is_at_beginning() => latest.saved_at(),
            _ if followed_on.is_some() => None,
            found => found.or_else(|| latest.saved_at()),
        };
        if followed_on.is_none() && found.is_none() && !latest.is_at_beginning() {
            count(&counters.gaps);
        }
        let mut seen: Vec<Identity> = self.identities().collect();
        for sibling in siblings {
            let is_between = sibling.is_numbered && since.is_some_and(|since| sibling.written >= since);
            let place = sibling.place(saved).or_else(|| is_between.then(Place::default));
            let Some(place) = place.filter(|_| !seen.contains(&sibling.identity)) else { continue };
            seen.push(sibling.identity);
            let inode = OpenInode::from_place(sibling.file, sibling.identity, place).already_written();
            self.rotated.push_back(Rotated { inode, last_data: now });
        }
    }

    /// Everything that is read for this path, to be given numbers.
    pub(super) fn readings(&mut self) -> impl Iterator<Item = &mut OpenInode> {
        self.rotated.iter_mut().map(|rotated| &mut rotated.inode).chain(&mut self.current)
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
        self.lost_since = None;
    }

    /// What keeps it from being followed; nobody writes to the log of a container that has ended.
    pub(super) fn problem(&self) -> Option<&OpenError> {
        self.problem.as_ref().filter(|_| self.lost_since.is_none())
    }

    /// Its container ended long ago. One that comes back soon may go on with the same file.
    pub(super) fn is_over(&self, now: Mono) -> bool {
        self.lost_since.is_some_and(|since| now.since(since) >= LOST)
    }

    /// Looks whether another file stands at the path. True if one does now. Files in `taken` are read for other
    /// paths: a link, or a rotated file under its new name.
    pub(super) fn check(&mut self, now: Mono, counters: &Counters, taken: &[Identity]) -> bool {
        self.forget_old(now);
        let is_lost = fs::symlink_metadata(&self.target.root).is_err();
        self.lost_since = is_lost.then(|| self.lost_since.unwrap_or(now));
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
        self.shed(counters);
        true
    }

    /// Lets old files go: first those that are read to their end, and only too many others, which is a loss.
    fn shed(&mut self, counters: &Counters) {
        while self.rotated.len() > ROTATED_LIMIT {
            let finished = self.rotated.iter().position(|rotated| rotated.inode.is_at_end());
            if finished.is_none() && self.rotated.len() <= UNREAD_LIMIT {
                return;
            }
            if finished.is_none() {
                count(&counters.abandoned);
            }
            self.rotated.remove(finished.unwrap_or(0));
        }
    }

    fn forget_old(&mut self, now: Mono) {
        self.rotated.retain(|Rotated { inode, last_data }| {
            now.since(*last_data) < GRACE || has_name(inode) || !inode.is_at_end()
        });
    }

    /// Reads every file behind the path once, the oldest first.
    pub(super) fn read(
        &mut self,
        now: Mono,
        buffer: &mut [u8],
        counters: &Counters,
        sink: &mut dyn FnMut(&RawLine<'_>) -> bool,
    ) -> Stop {
        let stop = self.read_each(now, buffer, counters, sink);
        let truncated: Vec<Place> = self.readings().filter_map(OpenInode::take_left).collect();
        for left in &truncated {
            self.read_copy(left, now, counters);
        }
        stop
    }

    fn read_each(
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

    /// `copytruncate` took the unread end of the file away, but its copy has it. Only what was written between the
    /// copy and the truncation is nowhere.
    fn read_copy(&mut self, left: &Place, now: Mono, counters: &Counters) {
        if left.next == 0 {
            return;
        }
        let taken: Vec<Identity> = self.identities().collect();
        let is_copy = |sibling: &Sibling| !taken.contains(&sibling.identity) && left.is_in(&sibling.file);
        let Some(copy) = siblings::of(&self.target).into_iter().rev().find(is_copy) else { return };
        // Also one without an unread end: it is known from then on, and not taken for a new file after a restart.
        let inode = OpenInode::from_place(copy.file, copy.identity, left.clone());
        self.rotated.push_back(Rotated { inode, last_data: now });
        self.shed(counters);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_container_that_ended_is_no_problem_and_is_let_go() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("1");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("e.log"), "").unwrap();
        let target = Target { root: root.clone(), path: "/e.log".into() };
        let mut path = FollowedPath::new(target, Start::End);
        let counters = Counters::default();
        let check = |path: &mut FollowedPath, now| path.check(now, &counters, &[]);
        fs::remove_file(root.join("e.log")).unwrap();
        check(&mut path, Mono(1));
        assert!(path.problem().is_some() && !path.is_over(Mono(1).after(LOST)));
        fs::remove_dir(&root).unwrap();
        let ended = Mono(2);
        check(&mut path, ended);
        assert!(path.problem().is_none() && !path.is_over(ended) && path.is_over(ended.after(LOST)));
        fs::create_dir(&root).unwrap();
        check(&mut path, Mono(3));
        assert!(path.problem().is_some() && !path.is_over(ended.after(LOST)));
    }
}
