//! Recordings of the lab, replayed: every verdict is the one that was given on the real kernel, byte for byte.
//! `RSTSCOPE_BLESS=1` writes the verdicts of this version beside the recordings, for review as a difference.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings")
}

fn recordings() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|name| name == "rec")).collect();
    files.sort();
    files
}

/// A recording of many scenarios.
fn rich() -> PathBuf {
    folder().join("06-info.rec")
}

fn verdicts(recording: &Path) -> Vec<Value> {
    let text = fs::read_to_string(recording.with_extension("ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn replay(file: &Path, arguments: &[&str]) -> Output {
    Command::cargo_bin("rstscope").unwrap().arg("replay").arg(file).args(arguments).output().unwrap()
}

fn all(file: &Path) -> Output {
    replay(file, &["--format", "json", "--include-harmless"])
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The first line in which two texts differ.
fn difference(one: &str, other: &str) -> Option<String> {
    let (mut ones, mut others) = (one.lines(), other.lines());
    (1..).find_map(|number| match (ones.next(), others.next()) {
        (None, None) => Some(None),
        (one, other) if one == other => None,
        (one, other) => Some(Some(format!("line {number}\n  stored: {one:?}\n  now:    {other:?}"))),
    })?
}

#[test]
fn the_lab_replayed_gives_the_same_verdicts() {
    let recordings = recordings();
    assert!(recordings.len() >= 4, "{recordings:?}");
    let mut count = 0;
    for recording in recordings {
        let output = all(&recording);
        assert!(output.status.success(), "{}: {}", recording.display(), errors(&output));
        let stored = recording.with_extension("ndjson");
        if std::env::var_os("RSTSCOPE_BLESS").is_some() {
            fs::write(&stored, &output.stdout).unwrap();
        }
        let (stored, now) = (fs::read_to_string(&stored).unwrap(), String::from_utf8(output.stdout).unwrap());
        assert_eq!(difference(&stored, &now), None, "{}", recording.display());
        count += now.lines().count();
    }
    assert!(count >= 200, "{count} verdicts");
}

#[test]
fn every_verdict_of_a_recording_can_be_explained() {
    let recording = rich();
    for verdict in verdicts(&recording) {
        let id = verdict["id"].as_str().unwrap();
        let output = replay(&recording, &["--format", "json", "--explain", id]);
        assert!(output.status.success(), "{}", errors(&output));
        let explanation: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(explanation["verdict"], verdict);
        assert!(!explanation["steps"].as_array().unwrap().is_empty(), "{id}");
        assert_eq!(explanation["supported"].as_bool().unwrap(), verdict["party"] != "unknown", "{id}");
    }
}

#[test]
fn an_explanation_names_rule_and_detectors() {
    let recording = rich();
    let verdict = verdicts(&recording).into_iter().find(|verdict| verdict["certainty"] == "proven").unwrap();
    let output = replay(&recording, &["--explain", verdict["id"].as_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let decisive = verdict["evidence"][0]["code"].as_str().unwrap();
    assert!(text.contains(&format!("for it, decisive: {decisive} (")), "{text}");
    for title in
        ["1. What belonged", "2. What the detectors", "3. Which rule", "4. How certain", "5. What else"]
    {
        assert!(text.contains(title), "{title}: {text}");
    }
    let unknown = replay(&recording, &["--explain", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(errors(&unknown).contains("has the id 01ARZ3NDEKTSV4RRFFQ69G5FAV"), "{}", errors(&unknown));
}

#[test]
fn selection_and_output_work_as_in_a_trace() {
    let recording = rich();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("verdicts.ndjson");
    let output =
        replay(&recording, &["--format", "json", "--only", "upstream", "--output", file.to_str().unwrap()]);
    let expected = verdicts(&recording)
        .into_iter()
        .filter(|verdict| verdict["party"] == "upstream" && verdict["impact"] != "harmless");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown.lines().count(), expected.count());
    assert!(!shown.is_empty());
    assert_eq!(fs::read_to_string(file).unwrap(), shown);
    let stats = directory.path().join("stats.json");
    let text = String::from_utf8(replay(&recording, &["--stats", stats.to_str().unwrap()]).stdout).unwrap();
    assert!(text.contains("\nsummary"), "{text}");
    let stats: Value = serde_json::from_str(&fs::read_to_string(stats).unwrap()).unwrap();
    assert_eq!(stats["schema"], "rstscope.stats/1");
}

#[test]
fn a_cut_recording_gives_what_could_be_read_and_exit_code_7() {
    let recording = rich();
    let bytes = fs::read(&recording).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("cut.rec");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let output = all(&cut);
    assert_eq!(output.status.code(), Some(7));
    assert!(errors(&output).contains("the file ends in the middle of it"), "{}", errors(&output));
    let (whole, half) = (all(&recording).stdout, output.stdout);
    let (whole, half) = (String::from_utf8(whole).unwrap(), String::from_utf8(half).unwrap());
    let same = whole.lines().zip(half.lines()).take_while(|(one, other)| one == other).count();
    assert!(same * 3 > whole.lines().count(), "only {same} verdicts are the same");
}

#[test]
fn other_files_and_newer_recordings_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let missing = all(&directory.path().join("missing.rec"));
    assert_eq!(missing.status.code(), Some(7));
    let own_source = all(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    assert_eq!(own_source.status.code(), Some(7));
    assert!(errors(&own_source).contains("is not a recording of rstscope"), "{}", errors(&own_source));
    let newer = directory.path().join("newer.rec");
    // The checksum is that of this very text.
    fs::write(&newer, "6879093d {\"schema\":\"rstscope.recording/2\",\"version\":\"9.0.0\"}\n").unwrap();
    let newer = all(&newer);
    assert_eq!(newer.status.code(), Some(7));
    assert!(errors(&newer).contains("made by rstscope 9.0.0"), "{}", errors(&newer));
}
