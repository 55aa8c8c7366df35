//! Files are written, rotated, truncated and deleted as Nginx and logrotate do it, and every line must arrive once.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::open::open_in_root;
use super::positions::{Check, Position};
use super::{Follower, LINE_LIMIT, Start, TailedLine, Target};

fn append(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).expect("log file")
}

fn write_line(file: &mut File, text: &str) {
    file.write_all(format!("{text}\n").as_bytes()).expect("write");
}

/// Waits for the condition, not for a time.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

fn next_line(receiver: &mut Receiver<TailedLine>) -> TailedLine {
    let mut found = None;
    wait_for("a line", || match receiver.try_recv() {
        Ok(line) => {
            found = Some(line);
            true
        }
        Err(TryRecvError::Empty) => {
            std::thread::sleep(Duration::from_millis(1));
            false
        }
        Err(TryRecvError::Disconnected) => panic!("the follower is gone"),
    });
    found.expect("received")
}

fn texts(receiver: &mut Receiver<TailedLine>, number: usize) -> Vec<String> {
    (0..number).map(|_| String::from_utf8(next_line(receiver).bytes).expect("text")).collect()
}

struct Log {
    _directory: tempfile::TempDir,
    path: PathBuf,
    follower: Follower,
    lines: Receiver<TailedLine>,
}

fn follow(before: &str, start: Start) -> Log {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("error.log");
    if !before.is_empty() {
        fs::write(&path, before).expect("write");
    }
    let (follower, mut lines) = Follower::start(1024).expect("follower");
    follower.add(Target::local(&path), start);
    // A second file tells when the first one has been opened: commands are taken in order.
    let marker = directory.path().join("marker");
    fs::write(&marker, "marker\n").expect("write");
    follower.add(Target::local(&marker), Start::Beginning);
    let mut log = Vec::new();
    while log.last().is_none_or(|line: &TailedLine| line.bytes != b"marker") {
        log.push(next_line(&mut lines));
    }
    assert!(start == Start::Beginning || log.len() == 1, "old lines were delivered");
    Log { _directory: directory, path, follower, lines }
}

/// The copy of an older file may be found after the file that was opened later, and stands last then.
#[test]
fn what_came_in_between_is_read_although_the_copy_of_an_older_file_stands_last() {
    let directory = tempfile::tempdir().expect("directory");
    let (path, copy) = (directory.path().join("error.log"), directory.path().join("error.log.1"));
    drop(append(&path));
    fs::write(&copy, "old\n").expect("a copy");
    let position = |file: &Path, before: &[u8]| {
        let (_, identity) = open_in_root(Path::new("/"), file).expect("a file");
        Position {
            path: path.display().to_string(),
            device: identity.device,
            inode: identity.inode,
            offset: before.len() as u64,
            check: Check::of(before),
            in_long_line: false,
            saved_ms: 0,
        }
    };
    let saved = vec![position(&path, b""), position(&copy, b"old\n")];
    // While nobody reads: lines, then copytruncate.
    fs::write(directory.path().join("error.log.2"), "new 1\nnew 2\n").expect("a copy");
    let (follower, mut lines) = Follower::start(64).expect("follower");
    follower.resume(Target::local(&path), saved);
    let line = next_line(&mut lines);
    assert_eq!((line.bytes.as_slice(), line.is_old), (&b"new 1"[..], true));
    assert_eq!(texts(&mut lines, 1), ["new 2"]);
}

#[test]
fn only_new_lines_with_their_offsets() {
    let mut log = follow("old\n", Start::End);
    let mut file = append(&log.path);
    write_line(&mut file, "one");
    file.write_all(b"tw").expect("write");
    let line = next_line(&mut log.lines);
    assert_eq!((&line.bytes[..], line.offset, line.is_cut), (&b"one"[..], 4, false));
    file.write_all(b"o\n").expect("write");
    let line = next_line(&mut log.lines);
    assert_eq!((&line.bytes[..], line.offset), (&b"two"[..], 8));
    assert!(line.arrival.0 > 0);
}

#[test]
fn a_renamed_file_is_read_on() {
    let mut log = follow("old\n", Start::End);
    let mut old = append(&log.path);
    fs::rename(&log.path, log.path.with_extension("log.1")).expect("rename");
    write_line(&mut old, "still to the old one");
    let mut new = append(&log.path);
    write_line(&mut new, "to the new one");
    let mut found = texts(&mut log.lines, 2);
    found.sort();
    assert_eq!(found, ["still to the old one", "to the new one"]);
    write_line(&mut old, "a worker that has not reopened yet");
    assert_eq!(texts(&mut log.lines, 1), ["a worker that has not reopened yet"]);
    assert_eq!(log.follower.counters().rotations.load(Ordering::Relaxed), 1);
}

#[test]
fn a_file_truncated_and_grown_past_its_old_end_is_read_from_the_beginning() {
    let mut log = follow("a line that was there before\n", Start::End);
    let mut file = append(&log.path);
    file.set_len(0).expect("truncate");
    write_line(&mut file, "first of a file that is longer than the old one was");
    assert_eq!(texts(&mut log.lines, 1), ["first of a file that is longer than the old one was"]);
    assert_eq!(log.follower.counters().truncations.load(Ordering::Relaxed), 1);
}

#[test]
fn a_file_that_comes_late_is_read_from_its_beginning() {
    let mut log = follow("", Start::End);
    wait_for("the problem to be told", || {
        log.follower.problems().iter().any(|text| text.contains("does not exist"))
    });
    write_line(&mut append(&log.path), "first");
    assert_eq!(texts(&mut log.lines, 1), ["first"]);
    wait_for("the problem to be gone", || log.follower.problems().is_empty());
}

#[test]
fn a_long_line_is_cut_and_the_next_one_is_whole() {
    let mut log = follow("", Start::End);
    let mut file = append(&log.path);
    write_line(&mut file, &"x".repeat(3 * LINE_LIMIT));
    write_line(&mut file, "next");
    let line = next_line(&mut log.lines);
    assert_eq!((line.bytes.len(), line.is_cut), (LINE_LIMIT, true));
    let line = next_line(&mut log.lines);
    assert_eq!((&line.bytes[..], line.offset), (&b"next"[..], 3 * LINE_LIMIT as u64 + 1));
}

#[test]
fn what_is_no_file_is_refused_with_a_reason() {
    let directory = tempfile::tempdir().expect("directory");
    let link = directory.path().join("error.log");
    std::os::unix::fs::symlink("/dev/stderr", &link).expect("link");
    let (follower, _lines) = Follower::start(8).expect("follower");
    follower.add(Target::local(&link), Start::End);
    wait_for("the reason", || {
        follower.problems().iter().any(|text| text.contains("standard output or error"))
    });
}

#[test]
fn links_are_resolved_inside_the_root() {
    let root = tempfile::tempdir().expect("directory");
    fs::create_dir_all(root.path().join("data")).expect("directory");
    std::os::unix::fs::symlink("/data/e.log", root.path().join("error.log")).expect("link");
    write_line(&mut append(&root.path().join("data/e.log")), "inside");
    let (follower, mut lines) = Follower::start(8).expect("follower");
    let target = Target { root: root.path().to_owned(), path: PathBuf::from("/error.log") };
    follower.add(target, Start::Beginning);
    let line = next_line(&mut lines);
    assert_eq!((&line.bytes[..], &*line.file), (&b"inside"[..], "/error.log"));
}

#[test]
fn one_file_under_two_names_is_read_once() {
    let mut log = follow("", Start::End);
    let mut file = append(&log.path);
    write_line(&mut file, "one");
    assert_eq!(texts(&mut log.lines, 1), ["one"]);
    let link = log.path.with_extension("link");
    std::os::unix::fs::symlink(&log.path, &link).expect("link");
    log.follower.add(Target::local(&link), Start::Beginning);
    write_line(&mut file, "two");
    assert_eq!(texts(&mut log.lines, 1), ["two"]);
    log.follower.forget(Target::local(&log.path));
    log.follower.stop();
    assert_eq!(log.lines.blocking_recv().map(|line| line.bytes), None);
}

#[test]
fn the_same_file_through_another_root_is_read_on() {
    let base = tempfile::tempdir().expect("directory");
    let roots = [base.path().join("1"), base.path().join("2")];
    let volume = base.path().join("volume");
    for root in &roots {
        fs::create_dir_all(root).expect("directory");
    }
    let mut file = append(&volume);
    fs::hard_link(&volume, roots[0].join("e.log")).expect("link");
    let target = |root: &PathBuf| Target { root: root.clone(), path: PathBuf::from("/e.log") };
    let (mut follower, mut lines) = Follower::start(8).expect("follower");
    follower.add(target(&roots[0]), Start::Beginning);
    write_line(&mut file, "before");
    assert_eq!(texts(&mut lines, 1), ["before"]);
    fs::remove_dir_all(&roots[0]).expect("remove");
    fs::hard_link(&volume, roots[1].join("e.log")).expect("link");
    follower.add(target(&roots[1]), Start::Beginning);
    write_line(&mut file, "after");
    assert_eq!(texts(&mut lines, 1), ["after"]);
    follower.stop();
    assert_eq!(lines.blocking_recv().map(|line| line.bytes), None);
}

#[test]
fn a_slow_receiver_delays_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("error.log");
    let expected: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    fs::write(&path, expected.join("\n") + "\n").expect("write");
    let (follower, mut lines) = Follower::start(2).expect("follower");
    follower.add(Target::local(&path), Start::Beginning);
    wait_for("the channel to be full", || follower.counters().delays.load(Ordering::Relaxed) > 0);
    assert_eq!(texts(&mut lines, 500), expected);
}

#[test]
fn stopping_delivers_what_was_written_before() {
    let mut log = follow("", Start::End);
    write_line(&mut append(&log.path), "last words");
    log.follower.stop();
    assert_eq!(log.lines.blocking_recv().map(|line| line.bytes), Some(b"last words".to_vec()));
    assert_eq!(log.lines.blocking_recv(), None);
}

/// What can happen to a log file.
#[derive(Debug, Clone)]
enum Step {
    Write(u8),
    Rotate,
    CopyTruncate,
    DeleteAndCreate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u8..20).prop_map(Step::Write),
        1 => Just(Step::Rotate),
        1 => Just(Step::CopyTruncate),
        1 => Just(Step::DeleteAndCreate),
    ];
    prop::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Every line arrives exactly once. What is truncated away before it could be read would be lost for anybody,
    /// so the test lets the reader catch up before it truncates, and only then.
    #[test]
    fn no_line_is_lost_or_doubled(steps in steps()) {
        let mut log = follow("", Start::End);
        let mut writer = append(&log.path);
        wait_for("the first file", || log.follower.problems().is_empty());
        let (mut written, mut received, mut rotations) = (Vec::new(), Vec::new(), 0);
        for (round, step) in steps.iter().enumerate() {
            match step {
                Step::Write(number) => {
                    for line in 0..*number {
                        let text = format!("round {round} line {line}");
                        write_line(&mut writer, &text);
                        written.push(text);
                    }
                }
                Step::Rotate => {
                    fs::rename(&log.path, log.path.with_extension(format!("log.{round}"))).expect("rename");
                    writer = append(&log.path);
                }
                Step::CopyTruncate => {
                    received.extend(texts(&mut log.lines, written.len() - received.len()));
                    writer.set_len(0).expect("truncate");
                }
                Step::DeleteAndCreate => {
                    fs::remove_file(&log.path).expect("remove");
                    writer = append(&log.path);
                }
            }
            if matches!(step, Step::Rotate | Step::DeleteAndCreate) {
                // A name that lives shorter than a look at it takes was never there for anybody.
                rotations += 1;
                wait_for("the new file to be opened", || {
                    log.follower.counters().rotations.load(Ordering::Relaxed) == rotations
                });
            }
        }
        received.extend(texts(&mut log.lines, written.len() - received.len()));
        log.follower.stop();
        prop_assert_eq!(log.lines.blocking_recv().map(|line| line.bytes), None);
        written.sort();
        received.sort();
        prop_assert_eq!(received, written);
    }
}
