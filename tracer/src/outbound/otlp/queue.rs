//! What waits to be sent, on disk: one file per request, named by its number and what is in it, so that it outlives
//! the daemon. The oldest go when there is no room, and are counted by whoever asked for room.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What a file holds, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Verdicts.
    Logs,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Logs, Self::Metrics];

    /// Name in file names, paths and metrics.
    pub(super) fn slug(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// One request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    number: u64,
    /// Records in it: verdicts, or metrics.
    pub(super) records: u64,
    /// What it holds.
    pub(super) signal: Signal,
}

impl Item {
    fn name(self) -> String {
        format!("{:016}-{}.{}", self.number, self.records, self.signal.slug())
    }

    fn parse(name: &str) -> Option<Self> {
        let (stem, ending) = name.split_once('.')?;
        let (number, records) = stem.split_once('-')?;
        let signal = Signal::ALL.into_iter().find(|signal| signal.slug() == ending)?;
        Some(Self { number: number.parse().ok()?, records: records.parse().ok()?, signal })
    }
}

/// The queue. One process at a time has it.
#[derive(Debug)]
pub(super) struct Queue {
    folder: PathBuf,
    most: u64,
    /// In the order in which they came, each with its size in bytes.
    items: std::collections::VecDeque<(Item, u64)>,
    bytes: u64,
    next: u64,
    /// Why the disk did not take the latest request.
    problem: Option<io::Error>,
}

impl Queue {
    /// Opens what an earlier daemon left, or an empty one; `most` bytes may wait.
    pub(super) fn open(folder: &Path, most: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut items = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(Item::parse) {
                Some(item) => items.push((item, entry.metadata()?.len())),
                // What was being written when the daemon was killed.
                None => remove(&entry.path()),
            }
        }
        items.sort_by_key(|(item, _)| item.number);
        let bytes = items.iter().map(|(_, bytes)| bytes).sum();
        let next = items.last().map_or(0, |(item, _)| item.number + 1);
        Ok(Self { folder: folder.to_owned(), most, items: items.into(), bytes, next, problem: None })
    }

    /// Adds a request. Gives what is lost for it, the oldest first; the request itself, where the disk takes it not.
    pub(super) fn push(&mut self, signal: Signal, records: u64, body: &[u8]) -> Vec<Item> {
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let mut gone = Vec::new();
        let item = Item { number: self.next, records, signal };
        if size > self.most {
            return vec![item];
        }
        while self.bytes.saturating_add(size) > self.most {
            let Some(oldest) = self.first() else { break };
            self.remove(oldest);
            gone.push(oldest);
        }
        self.next += 1;
        self.problem = self.write(item, body).err();
        if self.problem.is_some() {
            gone.push(item);
            return gone;
        }
        self.items.push_back((item, size));
        self.bytes += size;
        gone
    }

    /// Only a whole file gets its name, so that a kill leaves none that is cut.
    fn write(&self, item: Item, body: &[u8]) -> io::Result<()> {
        // It was there when this was opened; somebody may have removed it.
        fs::create_dir_all(&self.folder)?;
        let unfinished = self.folder.join("unfinished");
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(body)?;
            file.sync_data()
        });
        let named = written.and_then(|()| fs::rename(&unfinished, self.folder.join(item.name())));
        if named.is_err() {
            remove(&unfinished);
        }
        named
    }

    /// The oldest.
    pub(super) fn first(&self) -> Option<Item> {
        self.items.front().map(|(item, _)| *item)
    }

    /// What is in it.
    pub(super) fn read(&self, item: Item) -> io::Result<Vec<u8>> {
        fs::read(self.folder.join(item.name()))
    }

    /// Forgets it, whether it was sent or not.
    pub(super) fn remove(&mut self, item: Item) {
        if let Some(at) = self.items.iter().position(|(other, _)| *other == item) {
            self.bytes -= self.items.remove(at).map_or(0, |(_, bytes)| bytes);
            remove(&self.folder.join(item.name()));
        }
    }

    /// Why the disk takes nothing.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(|error| format!("{}: {error}", self.folder.display()))
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A file that cannot be removed is sent once more after a restart.
fn remove(path: &Path) {
    let _gone = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_outlives_the_daemon_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), 1000).unwrap();
        assert_eq!(queue.push(Signal::Logs, 3, b"one"), []);
        assert_eq!(queue.push(Signal::Metrics, 40, b"two"), []);
        drop(queue);
        fs::write(folder.path().join("unfinished"), "cut").unwrap();
        let mut queue = Queue::open(folder.path(), 1000).unwrap();
        assert_eq!(queue.bytes(), 6);
        assert!(!folder.path().join("unfinished").exists());
        let first = queue.first().unwrap();
        assert_eq!((first.signal, first.records), (Signal::Logs, 3));
        assert_eq!(queue.read(first).unwrap(), b"one");
        queue.remove(first);
        queue.push(Signal::Logs, 1, b"three");
        let rest: Vec<_> = std::iter::from_fn(|| {
            let item = queue.first()?;
            let body = queue.read(item).unwrap();
            queue.remove(item);
            Some(body)
        })
        .collect();
        assert_eq!(rest, [&b"two"[..], b"three"]);
        assert_eq!((queue.bytes(), fs::read_dir(folder.path()).unwrap().count()), (0, 0));
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), 10).unwrap();
        for records in 1..=3 {
            let gone = queue.push(Signal::Logs, records, b"1234");
            let expected: &[u64] = if records == 3 { &[1] } else { &[] };
            assert_eq!(gone.iter().map(|item| item.records).collect::<Vec<_>>(), expected);
        }
        assert!(queue.bytes() <= 10);
        let lost = queue.push(Signal::Logs, 9, b"more than ever fits");
        assert_eq!(lost.iter().map(|item| item.records).collect::<Vec<_>>(), [9]);
        assert_eq!(queue.first().unwrap().records, 2, "what cannot fit takes nobody's place");
    }

    #[test]
    fn what_a_folder_does_not_take_is_lost_with_what_went_for_it_and_nothing_else() {
        let records = |lost: Vec<Item>| lost.iter().map(|item| item.records).collect::<Vec<_>>();
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("queue");
        let mut queue = Queue::open(&place, 10).unwrap();
        assert!(records(queue.push(Signal::Logs, 1, b"12345678")).is_empty());
        fs::remove_dir_all(&place).unwrap();
        fs::write(&place, "no folder").unwrap();
        assert_eq!(records(queue.push(Signal::Logs, 2, b"1234")), [1, 2]);
        assert_eq!((queue.bytes(), queue.first()), (0, None));
        assert!(queue.problem().unwrap().starts_with(&*place.to_string_lossy()));
        fs::remove_file(&place).unwrap();
        let lost = queue.push(Signal::Logs, 3, b"1234");
        assert!(lost.is_empty(), "a folder that was removed is made again");
        assert_eq!((queue.first().map(|item| item.records), queue.problem()), (Some(3), None));
    }
}
