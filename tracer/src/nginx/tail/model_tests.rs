//! The followers against a model: random sequences of writes, rotations, truncations, deletions, restarts and crashes.
//! Every line that anybody could have read arrives; one that was used before a clean end never comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::sync::mpsc::Receiver;

use super::positions::Positions;
use super::{Follower, TailedLine, Target};

/// What can happen to a log file and to its reader.
#[derive(Debug, Clone, Copy)]
enum Step {
    Write(u8),
    /// Rename, and a new file.
    Rotate,
    /// A copy, then truncation in place.
    CopyTruncate,
    /// Truncation without a copy.
    Truncate,
    DeleteAndCreate,
    /// The reader saves where it is.
    Save,
    /// The reader ends in order; the next step of this kind starts it again.
    Restart,
    /// The reader ends without saving; the next `Restart` starts it again.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u8..20).prop_map(Step::Write),
        2 => Just(Step::Rotate),
        2 => Just(Step::CopyTruncate),
        1 => Just(Step::Truncate),
        1 => Just(Step::DeleteAndCreate),
        1 => Just(Step::Save),
        3 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..24)
}

struct Reader {
    follower: Follower,
    lines: Receiver<TailedLine>,
    positions: Positions,
    rotations: u64,
}

struct World {
    directory: tempfile::TempDir,
    log: PathBuf,
    writer: File,
    reader: Option<Reader>,
    round: usize,
    /// How often each line was used.
    used: BTreeMap<String, usize>,
    /// Lines that must be used.
    owed: BTreeSet<String>,
    /// Lines that may come once more, for every crash that they were used before and not saved.
    again: BTreeMap<String, usize>,
    /// Used since the last save.
    unsaved: Vec<String>,
    /// In the file at the path, in order.
    current: Vec<String>,
    /// In files that were deleted while the reader had them open.
    deleted: Vec<String>,
}

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).expect("log file")
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let log = directory.path().join("error.log");
        let mut world = Self {
            writer: append(&log),
            log,
            directory,
            reader: None,
            round: 0,
            used: BTreeMap::new(),
            owed: BTreeSet::new(),
            again: BTreeMap::new(),
            unsaved: Vec::new(),
            current: Vec::new(),
            deleted: Vec::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let positions = Positions::load(&self.directory.path().join("positions")).expect("positions");
        let (follower, lines) = Follower::start(4096).expect("follower");
        let saved = positions.of(&self.log);
        let is_first = saved.is_empty();
        follower.resume(Target::local(&self.log), saved);
        let mut reader = Reader { follower, lines, positions, rotations: 0 };
        // Beginnings are known as soon as the file is opened, before any line.
        let mut begun = Vec::new();
        wait_for("the log to be opened", || {
            begun.extend(reader.follower.opened());
            !begun.is_empty()
        });
        reader.positions.opened(begun);
        if is_first {
            reader.positions.save().expect("save");
        }
        self.reader = Some(reader);
    }

    fn step(&mut self, step: Step) {
        self.round += 1;
        match step {
            Step::Write(number) => (0..number).for_each(|line| self.write(line)),
            Step::Rotate => {
                fs::rename(&self.log, self.rotated()).expect("rename");
                self.new_file();
            }
            Step::CopyTruncate => {
                // A file of which nothing was read yet leaves nothing to recognise its copy by.
                self.take_first_of_current();
                fs::copy(&self.log, self.rotated()).expect("copy");
                self.truncate();
            }
            Step::Truncate => {
                self.catch_up_or_lose();
                self.truncate();
            }
            Step::DeleteAndCreate => {
                if self.reader.is_none() {
                    self.catch_up_or_lose();
                }
                self.deleted.append(&mut self.current);
                fs::remove_file(&self.log).expect("remove");
                self.new_file();
            }
            Step::Save => self.save(),
            Step::Restart if self.reader.is_none() => self.start(),
            Step::Restart => self.stop(),
            Step::Crash => self.crash(),
        }
    }

    fn rotated(&self) -> PathBuf {
        self.log.with_extension(format!("log.{}", self.round))
    }

    fn write(&mut self, line: u8) {
        let text = format!("round {} line {line}", self.round);
        self.writer.write_all(format!("{text}\n").as_bytes()).expect("write");
        self.owed.insert(text.clone());
        self.current.push(text);
    }

    fn new_file(&mut self) {
        self.writer = append(&self.log);
        self.current.clear();
        if let Some(reader) = &mut self.reader {
            // A name that lives shorter than a look at it takes was never there for anybody.
            reader.rotations += 1;
            let wanted = reader.rotations;
            let counters = reader.follower.counters();
            wait_for("the new file to be opened", || counters.rotations.load(Ordering::Relaxed) == wanted);
        }
    }

    fn truncate(&mut self) {
        self.writer.set_len(0).expect("truncate");
        self.current.clear();
    }

    /// What nobody kept is lost to everybody: a running reader is given the time to read it first.
    fn catch_up_or_lose(&mut self) {
        let unused: Vec<String> =
            self.current.iter().filter(|line| !self.used.contains_key(*line)).cloned().collect();
        if self.reader.is_some() {
            for line in &unused {
                self.take_until(line);
            }
        } else {
            self.owed.retain(|line| !unused.contains(line));
        }
    }

    fn take_first_of_current(&mut self) {
        if let (Some(first), Some(_)) = (self.current.first().cloned(), &self.reader) {
            self.take_until(&first);
        }
    }

    fn take_until(&mut self, line: &str) {
        let start = Instant::now();
        while !self.used.contains_key(line) {
            assert!(start.elapsed() < Duration::from_secs(20), "waited in vain for {line}");
            if !self.take_one() {
                std::thread::yield_now();
            }
        }
    }

    fn take_one(&mut self) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        let Ok(line) = reader.lines.try_recv() else { return false };
        reader.positions.opened(reader.follower.opened());
        reader.positions.note(&line);
        let text = String::from_utf8(line.bytes).expect("text");
        *self.used.entry(text.clone()).or_default() += 1;
        self.unsaved.push(text);
        true
    }

    fn save(&mut self) {
        while self.take_one() {}
        let Some(reader) = &mut self.reader else { return };
        reader.positions.opened(reader.follower.opened());
        reader.positions.save().expect("save");
        self.unsaved.clear();
    }

    fn stop(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        reader.follower.stop();
        self.save();
        self.reader = None;
    }

    fn crash(&mut self) {
        if self.reader.take().is_none() {
            return;
        }
        let unused: Vec<&String> =
            self.deleted.iter().filter(|line| !self.used.contains_key(*line)).collect();
        self.owed.retain(|line| !unused.contains(&line));
        for line in self.unsaved.drain(..) {
            *self.again.entry(line).or_default() += 1;
        }
    }

    fn finish(mut self) -> Result<(), TestCaseError> {
        if self.reader.is_none() {
            self.start();
        }
        self.stop();
        for line in &self.owed {
            prop_assert!(self.used.contains_key(line), "lost: {line}");
        }
        for (line, times) in &self.used {
            let allowed = 1 + self.again.get(line).copied().unwrap_or(0);
            prop_assert!(*times <= allowed, "{line} came {times} times");
        }
        Ok(())
    }
}

/// Waits for the condition, not for a time.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn no_line_is_lost_and_none_doubled_over_restarts(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.finish()?;
    }
}
