//! The files beside a log that a rotation left there: the renamed old file, or the copy of `copytruncate`.
//! Compressed ones are not opened. Bounded; looks and opens, never writes.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::SystemTime;

use super::inode::Place;
use super::open;
use super::positions::Position;
use super::{Identity, Target};

/// Names looked at in the directory of a log.
const NAMES_LIMIT: usize = 65_536;
/// Rotated files of one log that are opened.
const OPEN_LIMIT: usize = 64;
/// Endings of files that hold the same lines in another form.
const COMPRESSED: [&str; 5] = [".gz", ".xz", ".bz2", ".zst", ".lz4"];

/// A file beside the log.
pub(super) struct Sibling {
    pub file: File,
    pub identity: Identity,
    /// When it was last written.
    pub written: SystemTime,
    /// Its name is that of the log with a number or a date, as rotations give it.
    pub is_numbered: bool,
}

impl Sibling {
    /// Where reading goes on in this file: at the latest position that fits. A file that was followed and fits none
    /// was truncated since, or another got its inode; all that is in it is new.
    pub(super) fn place(&self, saved: &[Position]) -> Option<Place> {
        let fitting = saved.iter().rev().find_map(|position| place_in(&self.file, self.identity, position));
        let was_followed = || saved.iter().any(|position| position.identity() == self.identity);
        fitting.or_else(|| was_followed().then(Place::default))
    }

    /// Whether this is the file of a position, or a copy of it, with what stood before it.
    pub(super) fn holds(&self, position: &Position) -> bool {
        place_in(&self.file, self.identity, position).is_some()
    }
}

/// Where a position is in a file.
pub(super) fn place_in(file: &File, identity: Identity, position: &Position) -> Option<Place> {
    let is_same_inode = identity.inode == position.inode;
    if position.check.length == 0 && !is_same_inode {
        return None;
    }
    Place::find(file, position)
}

/// The uncompressed files whose name begins like that of the log, the one written first being first.
pub(super) fn of(target: &Target) -> Vec<Sibling> {
    let (Some(directory), Some(name)) = (target.path.parent(), target.path.file_name()) else {
        return Vec::new();
    };
    let Ok(descriptor) = open::open_directory(&target.root, directory) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(format!("/proc/self/fd/{}", descriptor.as_raw_fd())) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let names = entries.take(NAMES_LIMIT).filter_map(|entry| Some(entry.ok()?.file_name()));
    let opened = names.filter_map(|other| {
        let mark = mark(&name, &other.to_string_lossy())?.to_owned();
        sibling(&target.root, &directory.join(&other), is_number(&mark))
    });
    let mut siblings: Vec<Sibling> = opened.collect();
    siblings.sort_by_key(|sibling| sibling.written);
    siblings.drain(..siblings.len().saturating_sub(OPEN_LIMIT));
    siblings
}

/// What a rotation added to the name: `.1` in `error.log.1`, `-20261121` in `error-20261121.log`.
fn mark<'a>(name: &str, other: &'a str) -> Option<&'a str> {
    if other == name || COMPRESSED.iter().any(|end| other.ends_with(end)) {
        return None;
    }
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let inside = || other.strip_prefix(stem)?.strip_suffix(&name[stem.len()..]);
    other.strip_prefix(name).or_else(inside)
}

fn is_number(mark: &str) -> bool {
    mark.bytes().any(|byte| byte.is_ascii_digit())
        && mark.bytes().all(|byte| byte.is_ascii_digit() || b".-_".contains(&byte))
}

fn sibling(root: &Path, path: &Path, is_numbered: bool) -> Option<Sibling> {
    let (file, identity) = open::open_in_root(root, path).ok()?;
    let written = file.metadata().ok()?.modified().ok()?;
    Some(Sibling { file, identity, written, is_numbered })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_carry_a_number_or_a_date() {
        let numbered = |other: &str| mark("error.log", other).map(is_number);
        for other in
            ["error.log.1", "error.log-20261121", "error-20261121.log", "error.2.log", "error.log.1.2"]
        {
            assert_eq!(numbered(other), Some(true), "{other}");
        }
        for other in ["error.log.old", "error.log.app", "error-app.log"] {
            assert_eq!(numbered(other), Some(false), "{other}");
        }
        for other in ["error.log", "error.log.2.gz", "access.log", "error"] {
            assert_eq!(numbered(other), None, "{other}");
        }
    }
}
