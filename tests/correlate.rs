//! `rstscope correlate` with the recordings of two hosts, as a user runs it: those of `rstscope trace`, and those that
//! daemons keep beside their stores. The recordings are those of two observers in the lab (`--two-ends`).

#![expect(clippy::expect_used, reason = "a test may fail")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// What every SQLite file begins with.
const STORE: &[u8] = b"SQLite format 3\0";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ends").join(name)
}

/// Exit code, standard output and standard error.
fn correlated(near: &Path, far: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::cargo_bin("rstscope").expect("the binary");
    let output = command.arg("correlate").args([near, far]).args(["--format", "json"]).output();
    let output = output.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A store, and beside it the recording of a daemon in files of a third each, the last of which was being written.
fn store(folder: &Path, recording: &Path) -> PathBuf {
    let text = fs::read_to_string(recording).expect("the fixture");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (header, steps) = lines.split_first().expect("a header");
    let segments = folder.join("verdicts.recording");
    fs::create_dir_all(&segments).expect("a folder");
    for (number, part) in (1..).zip(steps.chunks(steps.len().div_ceil(3))) {
        let content = format!("{header}{}00000000 {{\"now\":1", part.concat());
        fs::write(segments.join(format!("20261122015804-{number:06}.rec")), content).expect("written");
    }
    let store = folder.join("verdicts.db");
    fs::write(&store, STORE).expect("written");
    store
}

#[test]
fn stores_are_correlated_by_what_their_daemons_recorded() {
    let (near, far) = (fixture("nginx.rec"), fixture("upstream.rec"));
    let (code, recorded, told) = correlated(&near, &far);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(recorded.matches(r#""certainty":"proven""#).count(), 3, "{recorded}");
    assert!(told.contains("3 raised"), "{told}");
    let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let stores = (store(here.path(), &near), store(there.path(), &far));
    assert_eq!(correlated(&stores.0, &stores.1), (code, recorded.clone(), told.clone()));
    assert_eq!(correlated(&near, &stores.1).1, recorded, "a recording and a store go together");
}

#[test]
fn a_store_alone_is_refused_with_what_it_lacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("verdicts.db");
    fs::write(&store, STORE).expect("written");
    let (code, shown, told) = correlated(&store, &fixture("upstream.rec"));
    assert_eq!((code, shown.as_str()), (Some(7), ""), "{told}");
    assert!(told.contains("verdicts.recording") && told.contains("[recording]"), "{told}");
}
