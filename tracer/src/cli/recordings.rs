//! What `replay` and `correlate` are given where they want a recording: a file, or the folder of a daemon, which may be
//! named by the store it lies beside.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::model::Utc;
use crate::recording::Reader;
use crate::recording::runs::{self, Run};

/// First bytes of a store.
const STORE: &[u8] = b"SQLite format 3\0";

/// A recording that is open.
pub type Recording = Reader<Box<dyn BufRead>>;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Packets.
    Capture,
    /// What `rstscope trace --record` wrote.
    Recording,
    /// The daemon's store.
    Store,
    /// The daemon's recordings.
    Folder,
}

impl Form {
    /// By the first bytes; what cannot be read is for the reader of captures to complain about.
    pub fn of(path: &Path) -> Self {
        if path.is_dir() {
            return Self::Folder;
        }
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
        match () {
            () if read.is_err() => Self::Capture,
            () if start.starts_with(STORE) => Self::Store,
            () if start.get(8..20) == Some(b" {\"schema\":\"") => Self::Recording,
            () => Self::Capture,
        }
    }
}

/// One recording: a file, or what one run of a daemon left.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Files that follow each other.
    Run(Run),
}

/// The recordings at this place, in the order of time; at least one.
pub fn of(path: &Path) -> Result<Vec<Source>, String> {
    let folder = match Form::of(path) {
        Form::Store => runs::beside(path),
        Form::Folder => path.to_owned(),
        Form::Recording | Form::Capture => return Ok(vec![Source::File(path.to_owned())]),
    };
    let runs = runs::of(&folder).map_err(|error| without(path, &folder, &error.to_string()))?;
    if runs.is_empty() {
        return Err(without(path, &folder, "there is none in it"));
    }
    Ok(runs.into_iter().map(Source::Run).collect())
}

fn without(path: &Path, folder: &Path, why: &str) -> String {
    let path = path.display();
    format!(
        "{path}: no recording in {}: {why}; the daemon keeps one beside its store ([recording] in its configuration), \
         and a copy of the store needs a copy of that folder",
        folder.display()
    )
}

impl Source {
    /// Opens it and reads its header.
    pub fn open(&self) -> Result<Recording, String> {
        let lines: Box<dyn BufRead> = match self {
            Self::File(path) => {
                let file = File::open(path);
                Box::new(BufReader::new(
                    file.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
                ))
            }
            Self::Run(run) => Box::new(run.lines()),
        };
        Reader::open(lines).map_err(|error| format!("cannot use {}: {error}", self.name()))
    }

    /// Its first file.
    pub fn name(&self) -> String {
        shown(match self {
            Self::File(path) => Some(path),
            Self::Run(run) => run.files.first(),
        })
    }

    /// Its last file.
    pub fn last_file(&self) -> String {
        shown(match self {
            Self::File(path) => Some(path),
            Self::Run(run) => run.files.last(),
        })
    }
}

fn shown(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

/// Which recordings of the second host go with each of the first: those that have time in common with it. `begins` are
/// those of each, in order; a run of a daemon ends where the next begins, the last one `now`.
pub fn pairs(near: &[Utc], far: &[Utc], now: Utc) -> Vec<(usize, Vec<usize>)> {
    if let ([_], [_]) = (near, far) {
        return vec![(0, vec![0])]; // What was named is used; that they have nothing in common will show.
    }
    let span =
        |begins: &[Utc], index: usize| Some((begins.get(index)?.0, begins.get(index + 1).unwrap_or(&now).0));
    let share = |first, second| {
        let both = span(near, first).zip(span(far, second));
        both.is_some_and(|((from, to), (other_from, other_to))| to.min(other_to) > from.max(other_from))
    };
    let with = |first| (first, (0..far.len()).filter(|second| share(first, *second)).collect::<Vec<_>>());
    (0..near.len()).map(with).filter(|(_, found)| !found.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_paired_by_the_time_they_have_in_common() {
        let paired = |near: &[i64], far: &[i64]| {
            let times = |begins: &[i64]| begins.iter().copied().map(Utc).collect::<Vec<_>>();
            pairs(&times(near), &times(far), Utc(100))
        };
        assert_eq!(paired(&[10], &[5]), [(0, vec![0])]);
        assert_eq!(paired(&[10, 20, 30], &[12, 31]), [(0, vec![0]), (1, vec![0]), (2, vec![0, 1])]);
        assert_eq!(paired(&[10, 20], &[40]), [(1, vec![0])], "the first had ended");
        assert_eq!(paired(&[10], &[2, 5, 12, 90]), [(0, vec![1, 2, 3])], "its tracer was started anew");
        assert_eq!(paired(&[10], &[200]), [(0, vec![0])], "as they were named");
    }

    #[test]
    fn a_store_without_its_folder_is_told_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("verdicts.db");
        std::fs::write(&store, [STORE, b"the rest"].concat()).unwrap();
        let why = of(&store).unwrap_err();
        assert!(why.contains("verdicts.recording") && why.contains("[recording]"), "{why}");
    }
}
