//! The folder in which the daemon records: which files belong to one run, and their lines one after the other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use super::MAX_LINE;

const EXTENSION: &str = "rec";
/// Folder of the recording beside a store: the store's name with this extension.
const FOLDER: &str = "recording";

/// The files of one run of the daemon, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// From the oldest that is still there.
    pub files: Vec<PathBuf>,
}

/// The folder of the recording that belongs to a store.
pub fn beside(store: &Path) -> PathBuf {
    store.with_extension(FOLDER)
}

/// The runs of a folder, in order.
pub fn of(folder: &Path) -> io::Result<Vec<Run>> {
    let mut runs: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files(folder)? {
        // Its daemon was killed before the header was there.
        if fs::metadata(&file)?.len() == 0 {
            continue;
        }
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let run = stem.split_once('-').map_or(&*stem, |(run, _)| run).to_owned();
        runs.entry(run).or_default().push(file);
    }
    Ok(runs.into_values().map(|files| Run { files }).collect())
}

/// Files of a folder, the oldest first.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let all = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let is_ours = |path: &PathBuf| path.extension().is_some_and(|extension| extension == EXTENSION);
    let mut files: Vec<_> = all.into_iter().filter(is_ours).collect();
    files.sort();
    Ok(files)
}

/// A name for the run that began at this time, RFC 3339 UTC: its digits, so that names sort by time.
pub(super) fn run_of(began: &str) -> String {
    began.chars().filter(char::is_ascii_digit).take(20).collect()
}

/// Name of a run's file.
pub(super) fn name(run: &str, number: u32) -> String {
    format!("{run}-{number:06}.{EXTENSION}")
}

impl Run {
    /// The lines of its files, as of one recording.
    pub fn lines(&self) -> BufReader<Lines> {
        let files = self.files.clone().into_iter();
        BufReader::new(Lines { files, file: None, is_first: true, line: Vec::new(), taken: 0 })
    }
}

/// The whole lines of several files, with the first line of the first file only: that of the others is a header again.
/// A line that a file does not end is left out; its daemon was killed, or writes it now.
#[derive(Debug)]
pub struct Lines {
    files: IntoIter<PathBuf>,
    file: Option<BufReader<File>>,
    is_first: bool,
    line: Vec<u8>,
    taken: usize,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.line.len() {
            if !self.next_line()? {
                return Ok(0);
            }
        }
        let rest = self.line.get(self.taken..).unwrap_or_default();
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.taken += taken;
        Ok(taken)
    }
}

impl Lines {
    /// Takes the next whole line; false behind the last file.
    fn next_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.taken = 0;
        let Some(file) = &mut self.file else { return self.next_file() };
        let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        file.take(most).read_until(b'\n', &mut self.line)?;
        if self.line.last() != Some(&b'\n') && self.line.len() < MAX_LINE {
            self.line.clear();
            self.file = None;
        }
        Ok(true)
    }

    fn next_file(&mut self) -> io::Result<bool> {
        let Some(path) = self.files.next() else { return Ok(false) };
        self.file = Some(BufReader::new(File::open(path)?));
        if !std::mem::take(&mut self.is_first) {
            self.next_line()?;
            self.line.clear();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_run_are_read_as_one_without_headers_and_unfinished_lines() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("1-000001.rec", "head\na\nb"), ("1-000002.rec", "head\nc\nd\n"), ("2-000001.rec", "x\n")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::write(folder.path().join("notes.txt"), "none of ours").unwrap();
        fs::write(folder.path().join("0-000001.rec"), "").unwrap();
        let runs = of(folder.path()).unwrap();
        assert_eq!(runs.iter().map(|run| run.files.len()).collect::<Vec<_>>(), [2, 1]);
        let mut text = String::new();
        runs[0].lines().read_to_string(&mut text).unwrap();
        assert_eq!(text, "head\na\nc\nd\n");
    }

    #[test]
    fn names_sort_by_time() {
        let (early, late) = (run_of("2026-11-22T01:26:26.5Z"), run_of("2026-11-22T01:26:27.25Z"));
        assert!(name(&early, 12) < name(&late, 1) && name(&early, 2) < name(&early, 12));
        assert!(!early.contains('-'));
    }
}
