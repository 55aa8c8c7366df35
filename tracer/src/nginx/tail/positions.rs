//! Where reading stood, kept over a restart: per file its identity, an offset, and a check of the bytes before it, so
//! that a rotated, copied or rewritten file is recognised by its content. Positions are those of lines that were
//! *used*, not merely read: after a crash, lines since the last save come again and none is missing.
//! Reads and writes the state file; opens no log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::inode::OVERLAP;
use super::{Identity, TailedLine};

/// Form of the state file.
const SCHEMA: &str = "rstscope.positions/1";
/// Longest state file read, bytes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;
/// Files remembered per path: the current one, and those before it that are still written to.
const PER_PATH: usize = 32;
/// Lines used within this are held back, and released, together.
const HELD_TOGETHER: Duration = Duration::from_secs(1);
/// Files remembered in all.
const MOST: usize = 4096;

/// What stood before a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Number of bytes looked at, at most 64.
    pub length: u8,
    /// Their CRC-32 (IEEE 802.3).
    pub crc32: u32,
}

impl Check {
    /// The check of the last bytes before a position.
    pub(super) fn of(before: &[u8]) -> Self {
        Self { length: u8::try_from(before.len()).unwrap_or(u8::MAX), crc32: crc32fast::hash(before) }
    }
}

/// Up to where one file was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The path it was followed under.
    pub path: String,
    /// Device of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Offset of the first byte not used.
    pub offset: u64,
    /// What stood before it.
    pub check: Check,
    /// The offset is inside a line that was too long and came cut.
    #[serde(default)]
    pub in_long_line: bool,
    /// When it was saved, milliseconds since 1970.
    #[serde(default)]
    pub saved_ms: u64,
}

/// How far the clock of a file system, which may be another host's, may be behind [`now_of_files`].
const TICK: Duration = Duration::from_millis(20);

/// Milliseconds since 1970 by the clock that files get the time of their last write from. It stands still between the
/// kernel's ticks, and on a host without processor time for longer than that: by a finer clock a file written after
/// this moment could look older.
fn now_of_files() -> u64 {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1000).saturating_add(nanoseconds.unwrap_or(0) / 1_000_000)
}

impl Position {
    pub(super) fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode }
    }

    /// Nothing of the file was used.
    pub(super) fn is_at_beginning(&self) -> bool {
        self.offset == 0
    }

    /// What was written later than this came after the position was saved.
    pub(super) fn saved_at(&self) -> Option<SystemTime> {
        (SystemTime::UNIX_EPOCH + Duration::from_millis(self.saved_ms)).checked_sub(TICK)
    }

    fn after(line: &TailedLine) -> Option<Self> {
        let identity = line.identity?;
        let feed: &[u8] = if line.is_cut { b"" } else { b"\n" };
        let shown = &line.bytes[line.bytes.len().saturating_sub(OVERLAP - feed.len())..];
        Some(Self {
            path: String::from(&*line.file),
            device: identity.device,
            inode: identity.inode,
            offset: line.offset + (line.bytes.len() + feed.len()) as u64,
            check: Check::of(&[shown, feed].concat()),
            in_long_line: line.is_cut,
            saved_ms: 0,
        })
    }
}

/// Why positions could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PositionsError {
    /// The file cannot be read.
    #[error("cannot read the positions in {}: {source}", path.display())]
    Read {
        /// The state file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is there and is something else.
    #[error("{} does not hold positions of rstscope ({why}); remove it to begin at the end of the logs", path.display())]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file cannot be written.
    #[error("cannot write the positions to {}: {source}", path.display())]
    Write {
        /// The state file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Stored {
    schema: String,
    files: Vec<Position>,
}

/// The positions of every file, and the state file they are kept in.
#[derive(Debug)]
pub struct Positions {
    file: PathBuf,
    /// From the state file, oldest first.
    saved: Vec<Position>,
    /// Of this run, by the number of the reading.
    readers: BTreeMap<u64, Position>,
    /// Of lines that were used and are held back, with the moment that a second of them began.
    held: VecDeque<(Instant, BTreeMap<u64, Position>)>,
    is_changed: bool,
}

impl Positions {
    /// Reads a state file; one that does not exist holds nothing yet.
    pub fn load(file: &Path) -> Result<Self, PositionsError> {
        let saved = match read(file) {
            Ok(bytes) => parse(file, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(PositionsError::Read { path: file.to_owned(), source }),
        };
        Ok(Self { saved, ..Self::anew(file) })
    }

    /// Holds nothing yet, whatever is in the state file.
    pub fn anew(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            saved: Vec::new(),
            readers: BTreeMap::new(),
            held: VecDeque::new(),
            is_changed: true,
        }
    }

    /// What the state file held of a path, oldest first; empty for one that was never followed.
    pub fn of(&self, path: &Path) -> Vec<Position> {
        self.saved.iter().filter(|position| Path::new(&position.path) == path).cloned().collect()
    }

    /// A line was used; it will not come again.
    pub fn note(&mut self, line: &TailedLine) {
        if let Some(position) = Position::after(line) {
            self.readers.insert(line.reader, position);
            self.is_changed = true;
        }
    }

    /// A line was used at `now`; until it is [released](Self::release) it would come again.
    pub fn hold(&mut self, line: &TailedLine, now: Instant) {
        let Some(position) = Position::after(line) else { return };
        match self.held.back_mut() {
            Some((since, held)) if now.duration_since(*since) < HELD_TOGETHER => {
                held.insert(line.reader, position);
            }
            _ => self.held.push_back((now, [(line.reader, position)].into())),
        }
    }

    /// Lines that were used until then will not come again; up to a second later ones with them stay held.
    pub fn release(&mut self, until: Instant) {
        while let Some((_, held)) = self.held.pop_front_if(|(since, _)| *since <= until) {
            self.readers.extend(held);
            self.is_changed = true;
        }
    }

    /// Readings that began: from [`super::Follower::opened`].
    pub fn opened(&mut self, opened: Vec<(u64, Position)>) {
        for (reader, position) in opened {
            self.is_changed = true;
            self.readers.entry(reader).or_insert(position);
        }
    }

    /// Writes the state file if anything changed: beside it, then over it, so that a crash leaves the old or the new.
    pub fn save(&mut self) -> Result<(), PositionsError> {
        if !self.is_changed {
            return Ok(());
        }
        self.forget_old();
        let stored = Stored { schema: SCHEMA.to_owned(), files: self.all() };
        let error = |source| PositionsError::Write { path: self.file.clone(), source };
        let bytes = serde_json::to_vec_pretty(&stored).map_err(|why| error(io::Error::other(why)))?;
        replace(&self.file, &bytes).map_err(error)?;
        self.is_changed = false;
        Ok(())
    }

    fn all(&self) -> Vec<Position> {
        let followed: BTreeSet<&String> = self.readers.values().map(|position| &position.path).collect();
        let others = self.saved.iter().filter(|position| !followed.contains(&position.path));
        let saved_ms = now_of_files();
        let of_this_run = self.readers.values().map(|position| Position { saved_ms, ..position.clone() });
        let all: Vec<Position> = others.cloned().chain(of_this_run).collect();
        let extra = all.len().saturating_sub(MOST);
        all.into_iter().skip(extra).collect()
    }

    /// Readings get their numbers in order, so the last of a path are the latest.
    fn forget_old(&mut self) {
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        let mut gone = Vec::new();
        for (reader, position) in self.readers.iter().rev() {
            let number = kept.entry(position.path.clone()).or_default();
            *number += 1;
            if *number > PER_PATH {
                gone.push(*reader);
            }
        }
        for reader in gone {
            self.readers.remove(&reader);
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Position>, PositionsError> {
    let damaged = |why: String| PositionsError::Damaged { path: file.to_owned(), why };
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if stored.schema == SCHEMA { Ok(stored.files) } else { Err(damaged(format!("form {}", stored.schema))) }
}

fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let mut options = OpenOptions::new();
    // The offsets tell how busy the logs are: nobody else's business.
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    opened.write_all(bytes)?;
    opened.sync_all()?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mono;

    fn line(path: &str, reader: u64, offset: u64, bytes: &[u8], is_cut: bool) -> TailedLine {
        TailedLine {
            file: path.into(),
            offset,
            arrival: Mono(1),
            bytes: bytes.to_vec(),
            is_cut,
            is_old: false,
            identity: Some(Identity { device: 1, inode: 100 + reader }),
            reader,
        }
    }

    #[test]
    fn what_is_held_back_is_not_saved_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("positions.json");
        let mut positions = Positions::load(&file).unwrap();
        let offset = |positions: &mut Positions| {
            positions.save().unwrap();
            Positions::load(&file).unwrap().of(Path::new("/e.log")).first().map(|found| found.offset)
        };
        let begin = Instant::now();
        positions.hold(&line("/e.log", 1, 0, b"abc", false), begin);
        positions.hold(&line("/e.log", 1, 4, b"abc", false), begin + HELD_TOGETHER / 2);
        positions.hold(&line("/e.log", 1, 8, b"abc", false), begin + HELD_TOGETHER * 2);
        assert_eq!(offset(&mut positions), None);
        positions.release(begin + HELD_TOGETHER);
        assert_eq!(offset(&mut positions), Some(8));
        positions.release(begin + HELD_TOGETHER * 2);
        assert_eq!(offset(&mut positions), Some(12));
    }

    #[test]
    fn what_is_written_later_looks_later() {
        let directory = tempfile::tempdir().expect("a directory");
        for round in 0..200 {
            let path = directory.path().join(round.to_string());
            let before = now_of_files();
            fs::write(&path, b"x").expect("a file");
            let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
            let written = written.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
            assert!(written >= u128::from(before), "{written} {before}");
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("positions");
        let mut positions = Positions::load(&file).unwrap();
        assert_eq!(positions.of(Path::new("/e.log")), []);
        positions.note(&line("/e.log", 1, 10, b"abc", false));
        positions.note(&line("/e.log", 2, 0, &[b'x'; 100], true));
        positions.save().unwrap();
        let loaded = Positions::load(&file).unwrap().of(Path::new("/e.log"));
        assert_eq!(loaded[0].offset, 14);
        assert_eq!(loaded[0].check, Check::of(b"abc\n"));
        assert_eq!(
            (loaded[1].offset, loaded[1].check, loaded[1].in_long_line),
            (100, Check::of(&[b'x'; 64]), true)
        );
    }

    #[test]
    fn files_of_other_runs_are_kept_and_old_readings_of_a_path_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("positions");
        let mut positions = Positions::load(&file).unwrap();
        positions.note(&line("/a.log", 1, 0, b"a", false));
        positions.save().unwrap();
        let mut positions = Positions::load(&file).unwrap();
        for reader in 1..40 {
            positions.note(&line("/b.log", reader, 0, b"b", false));
        }
        positions.save().unwrap();
        let loaded = Positions::load(&file).unwrap();
        assert_eq!(loaded.of(Path::new("/a.log")).len(), 1);
        let inodes: Vec<u64> = loaded.of(Path::new("/b.log")).iter().map(|position| position.inode).collect();
        assert_eq!(inodes, (108..140).collect::<Vec<_>>());
    }

    #[test]
    fn the_beginning_of_a_reading_does_not_undo_its_lines() {
        let mut positions = Positions::load(Path::new("/nonexistent/positions")).unwrap();
        positions.note(&line("/a.log", 7, 0, b"a", false));
        let begin = Position { offset: 0, ..positions.readers[&7].clone() };
        positions.opened(vec![(7, begin.clone()), (8, begin)]);
        assert_eq!((positions.readers[&7].offset, positions.readers[&8].offset), (2, 0));
    }

    #[test]
    fn what_holds_no_positions_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("positions");
        for text in ["", "{}", r#"{"schema":"rstscope.positions/9","files":[]}"#] {
            fs::write(&file, text).unwrap();
            let error = Positions::load(&file).unwrap_err().to_string();
            assert!(error.contains("does not hold positions"), "{error}");
        }
        let error = Positions::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    }
}
