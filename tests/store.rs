//! The store as a black box: a writer that is killed at any moment, and what `rstscope query` and `rstscope show`
//! make of the verdicts of the lab. No root.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its store has failed")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rstscope::model::Verdict;
use rstscope::store::{Filter, Retention, Row, Store, Writer};
use rustix::process::{Pid, Signal, kill_process};

/// Tells the test program to be the writer, and where.
const WRITE_TO: &str = "RSTSCOPE_TEST_WRITE_TO";
/// Lives of the writer.
const LIVES: usize = 8;

/// Verdicts that the lab gave live.
fn recorded() -> Vec<Verdict> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings/06-info.ndjson");
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Not a test of its own: the program that is killed. Says every verdict once the store has acknowledged it.
#[test]
fn writer_that_is_killed() {
    let Ok(path) = std::env::var(WRITE_TO) else { return };
    let verdict = recorded().remove(0);
    let store = Store::create(Path::new(&path)).unwrap();
    let life = std::process::id();
    let stored: rstscope::store::Stored = Box::new(|verdict, stored| {
        if stored {
            println!("acknowledged {}", verdict.id);
        }
    });
    let writer = Writer::start(store, Retention { age: None, bytes: Some(8 << 20) }, stored, || ()).unwrap();
    for number in 0_u64.. {
        let id = format!("01K{life:09}{number:014}");
        writer.hand_over(Arc::new(Verdict { id, ..verdict.clone() }), None);
    }
}

#[test]
fn whatever_was_acknowledged_survives_kill_9_and_nothing_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("verdicts.db");
    let mut acknowledged = 0;
    for life in 0..LIVES {
        let said = one_life(&path, 40 + 97 * life);
        let mut store = Store::create(&path).unwrap();
        assert_eq!(store.verify().unwrap(), None);
        // Retention takes the oldest; the latest that were acknowledged must be there to the last one.
        for id in said.iter().rev().take(500) {
            assert!(store.by_id(id).unwrap().is_some(), "{id} was acknowledged in life {life} and is gone");
        }
        acknowledged += said.len();
        store.insert(&[Row::of(&recorded()[1]).unwrap()]).unwrap();
    }
    assert!(acknowledged > LIVES * 40, "{acknowledged}");
}

/// Lets a writer live until it has acknowledged `enough`, kills it, and gives all it has acknowledged.
fn one_life(path: &Path, enough: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_that_is_killed", "--nocapture"])
        .env(WRITE_TO, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut line = String::new();
    while said.len() < enough && out.read_line(&mut line).unwrap() > 0 {
        said.extend(line.trim().strip_prefix("acknowledged ").map(str::to_owned));
        line.clear();
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    // What it said before it died and was not read yet; the last line may be cut.
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
    said.extend(whole.lines().filter_map(|line| line.strip_prefix("acknowledged ")).map(str::to_owned));
    said
}

fn filled(folder: &Path) -> (PathBuf, Vec<Verdict>) {
    let path = folder.join("verdicts.db");
    let verdicts = recorded();
    let rows: Vec<Row> = verdicts.iter().map(|verdict| Row::of(verdict).unwrap()).collect();
    Store::create(&path).unwrap().insert(&rows).unwrap();
    (path, verdicts)
}

fn rstscope(store: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = assert_cmd::Command::cargo_bin("rstscope").unwrap();
    let output = command.args(arguments).arg("--store").arg(store).env("TZ", "UTC").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn queries_answer_by_every_column_in_three_forms() {
    let folder = tempfile::tempdir().unwrap();
    let (path, verdicts) = filled(folder.path());
    let all = rstscope(&path, &["query", "--format", "json", "--include-harmless", "--limit", "0"]).1;
    assert_eq!(all.lines().count(), verdicts.len());
    let of_upstream =
        rstscope(&path, &["query", "--party", "upstream", "--format", "json", "--limit", "0"]).1;
    let read: Vec<Verdict> = of_upstream.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!read.is_empty() && read.iter().all(|verdict| verdict.party.slug() == "upstream"));
    assert!(read.iter().all(|verdict| verdicts.contains(verdict)));
    let cause = read[0].cause.slug();
    let (code, text, _) = rstscope(&path, &["query", "--cause", cause]);
    assert_eq!(code, Some(0));
    assert!(text.lines().all(|line| line.contains(cause) && line.contains("UPSTREAM")), "{text}");
    let csv = rstscope(&path, &["query", "--format", "csv", "--limit", "3"]).1;
    assert_eq!((csv.lines().count(), csv.matches("\r\n").count()), (4, 4));
    let count = rstscope(&path, &["query", "--party", "upstream", "--count"]).1;
    assert_eq!(count.trim(), read.len().to_string());
    let nothing = rstscope(&path, &["query", "--since", "2199-01-01T00:00:00Z"]);
    assert_eq!((nothing.0, nothing.1.as_str()), (Some(0), ""));
    assert!(nothing.2.contains("nothing is stored that fits"));
}

#[test]
fn the_latest_are_shown_and_the_rest_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (path, verdicts) = filled(folder.path());
    let (_, shown, said) =
        rstscope(&path, &["query", "--include-harmless", "--limit", "2", "--format", "json"]);
    assert_eq!(shown.lines().count(), 2);
    assert!(said.contains(&format!("the latest 2 of {}", verdicts.len())), "{said}");
    let last: Verdict = serde_json::from_str(shown.lines().last().unwrap()).unwrap();
    assert_eq!(Some(&last.time), verdicts.iter().map(|verdict| &verdict.time).max());
}

#[test]
fn show_gives_one_verdict_in_full_by_its_id_or_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let (path, verdicts) = filled(folder.path());
    let verdict = &verdicts[0];
    let (code, text, _) = rstscope(&path, &["show", &verdict.id.to_lowercase()]);
    assert_eq!(code, Some(0));
    for piece in &verdict.evidence {
        assert!(text.contains(&*piece.code), "{} is not in {text}", piece.code);
    }
    let (_, json, _) = rstscope(&path, &["show", &verdict.id[..25], "--json"]);
    assert_eq!(&serde_json::from_str::<Verdict>(&json).unwrap(), verdict);
    let (code, _, said) = rstscope(&path, &["show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no stored verdict"), "{said}");
}

#[test]
fn what_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.db");
    let (code, _, said) = rstscope(&absent, &["query"]);
    assert_eq!(code, Some(7));
    assert!(said.contains("there is no store at"), "{said}");
    std::fs::write(&absent, "not a database at all, but long enough to be looked at").unwrap();
    assert_eq!(rstscope(&absent, &["query"]).0, Some(7));
    assert_eq!(std::fs::read(&absent).unwrap().len(), 54);
    let (path, _) = filled(&folder.path().join("full"));
    assert_eq!(Store::open(&path).unwrap().count(&Filter::default()).unwrap(), recorded().len() as u64);
    let (code, _, said) = rstscope(&path, &["query", "--party", "server"]);
    assert_eq!(code, Some(2), "{said}");
}
