//! Reports on what is no recording: captures and stores, with redaction, bundles and packets, as a user makes them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use rstscope::model::Verdict;
use rstscope::model::verdict::Impact;
use rstscope::model::{Losses, Utc};
use rstscope::report::{FileSource, Origin, Source as _};
use rstscope::store::{Row, Run, Store, Stretch, pack};
use serde_json::Value;

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
    path.to_str().unwrap().to_owned()
}

fn rstscope(arguments: &[&str]) -> Output {
    Command::cargo_bin("rstscope").unwrap().args(arguments).output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = rstscope(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Arguments that name a capture with its log.
fn capture(name: &str) -> Vec<String> {
    let (packets, log) =
        (fixture(&format!("captures/{name}.pcap")), fixture(&format!("captures/{name}.log")));
    vec![packets, "--error-log".to_owned(), log, "--zone".to_owned(), "UTC".to_owned()]
}

/// Runs `command` on a capture with its log.
fn on_capture(command: &str, name: &str, more: &[&str]) -> String {
    let capture = capture(name);
    let fixed = capture.iter().map(String::as_str);
    stdout(&std::iter::once(command).chain(fixed).chain(more.iter().copied()).collect::<Vec<_>>())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_report_on_a_capture_has_the_verdicts_of_pcap() {
    for name in ["forged-near-speaks", "client-abort-static", "upstream-killed-unread", "drop-syn"] {
        let judged = on_capture("pcap", name, &["--format", "json"]);
        let mut judged: Vec<Value> = judged.lines().map(json).collect();
        let page = json(&on_capture("report", name, &["--format", "json", "--top", "100"]));
        let mut reported = page["verdicts"].as_array().unwrap().clone();
        assert!(!reported.is_empty(), "{name}");
        let time = |verdict: &Value| verdict["id"].to_string();
        judged.sort_by_key(time);
        reported.sort_by_key(time);
        // Of like incidents a report shows one in full.
        assert!(reported.iter().all(|verdict| judged.contains(verdict)), "{name}");
        let rows = page["sections"].as_array().unwrap().iter().find(|section| section["id"] == "all");
        let rows = rows.map_or(1, |all| all["blocks"][0]["rows"].as_array().unwrap().len());
        assert_eq!(rows, judged.len(), "{name}");
    }
}

#[test]
fn a_report_on_a_capture_claims_no_kernel() {
    let text = on_capture("report", "forged-near-speaks", &["--top", "1"]);
    for kernel in ["tcp_reset)", "inet_sock_set_state", "tcp_send_reset", "every hook ran", "not captured ["]
    {
        assert!(!text.contains(kernel), "{kernel}: {text}");
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("It was not sent by Nginx because in the capture it comes from"), "{words}");
    assert!(words.contains("A capture carries no processes"), "{words}");
    // The line is the log's own, and stands behind what happened in its second.
    assert!(words.contains("[error] 444#444: *1 recv() failed (104: Connection reset by peer)"), "{words}");
    let ladder = &text[text.find("step by step").unwrap()..];
    assert!(ladder.find("SYN").unwrap() < ladder.find("error.log: recv()").unwrap(), "{ladder}");
}

#[test]
fn a_recorded_capture_replays_and_reports_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("a.rec");
    let record = record.to_str().unwrap();
    let judged = on_capture("pcap", "upstream-slow", &["--format", "json", "--record", record]);
    assert_eq!(stdout(&["replay", record, "--format", "json"]), judged);
    let verdicts = |page: &str| json(page)["verdicts"].clone();
    let of_capture = on_capture("report", "upstream-slow", &["--format", "json"]);
    assert_eq!(verdicts(&stdout(&["report", record, "--format", "json"])), verdicts(&of_capture));
}

#[test]
fn the_other_end_is_seen_in_a_capture_beside_it() {
    let beside = fixture("captures/forged-far-silent.upstream.pcap");
    let text = on_capture("report", "forged-far-silent", &["--beside", &beside]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("The same connection in the capture taken at the other end"), "{words}");
}

#[test]
fn a_bundle_of_a_capture_holds_replays_and_hides_what_was_redacted() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("a.tar.zst");
    let bundle = bundle.to_str().unwrap();
    on_capture("report", "client-abort-static", &["--bundle", bundle, "--redact", "client,uri"]);
    let checked = stdout(&["verify", bundle]);
    assert!(checked.contains("came out the same") && checked.contains("everything holds"), "{checked}");
    assert!(checked.contains("ok       packets.pcapng"), "{checked}");
    let text = on_capture("report", "client-abort-static", &["--redact", "client,uri"]);
    assert!(text.contains("240.0.0.1") && !text.contains("10.77.0.10"), "{text}");
}

#[test]
fn a_damaged_capture_is_reported_on_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.pcap");
    let whole = fs::read(fixture("captures/forged-near-speaks.pcap")).unwrap();
    fs::write(&cut, &whole[..whole.len() - 7]).unwrap();
    let text = stdout(&["report", cut.to_str().unwrap()]);
    assert!(text.contains("is cut off in the middle of a packet"), "{text}");
    fs::write(&cut, b"\xd4\xc3\xb2\xa1rubbish").unwrap();
    assert_eq!(rstscope(&["report", cut.to_str().unwrap()]).status.code(), Some(7));
    let log = rstscope(&["report", &fixture("captures/drop-syn.pcap"), "--error-log", "/nonexistent"]);
    assert_eq!(log.status.code(), Some(7));
}

/// A store as the daemon keeps it: the verdicts of a recording with what stands behind them.
fn whole_store(folder: &Path, recording: &str) -> String {
    let file = BufReader::new(fs::File::open(recording).unwrap());
    let (mut rows, mut origin) = (Vec::new(), Origin::default());
    let mut source = FileSource::new(recording.to_owned(), file);
    source
        .each(&mut origin, &mut |entry| {
            let dossier = entry.dossier().and_then(|dossier| pack(&dossier));
            rows.push(Row::of(&entry.verdict).unwrap().with(dossier));
        })
        .unwrap();
    let path = folder.join("whole.db");
    let mut store = Store::create(&path).unwrap();
    store.insert(&rows).unwrap();
    let (began, ended) = origin.observed[0];
    let losses = Losses { by_handover: [("channel".to_owned(), 3)].into() };
    let (version, host) = ("0.0.1".to_owned(), origin.last_host);
    store.insert_run(&Run { began, version, host }).unwrap();
    store
        .insert_stretch(&Stretch { began, ended, run: began, connections: 1000, changes: 0, losses })
        .unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_store_has_the_steps_packets_and_log_lines_of_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let recording = &fixture("recordings/07-info.rec");
    let store = whole_store(folder.path(), recording);
    // The command that writes the packets names the file.
    let sections = |file: &str| {
        let page = stdout(&["report", file, "--format", "json"]).replace(file, "FILE");
        json(&page)["sections"].clone()
    };
    let (live, stored) = (sections(recording), sections(&store));
    let named = |sections: &Value, id: &str| {
        sections.as_array().unwrap().iter().find(|section| section["id"] == id).cloned().unwrap()
    };
    for id in ["by-cause", "incidents", "all", "host"] {
        assert_eq!(named(&live, id), named(&stored, id), "{id}");
    }
    let losses = named(&stored, "losses").to_string();
    assert!(losses.contains("channel: 3 events lost"), "{losses}");
    let observed = named(&stored, "observation").to_string();
    assert!(observed.contains("rstscope 0.0.1") && observed.contains("1000"), "{observed}");
    let packets = |file: &str| {
        let output = rstscope(&["report", file, "--format", "pcapng", "--include-harmless"]);
        assert!(output.status.success());
        output.stdout.windows(4).filter(|bytes| *bytes == [6, 0, 0, 0]).count()
    };
    assert_eq!(packets(recording), packets(&store));
    let bundle = folder.path().join("a.tar.zst");
    stdout(&["report", &store, "--bundle", bundle.to_str().unwrap()]);
    let checked = stdout(&["verify", bundle.to_str().unwrap()]);
    assert!(checked.contains("packets.pcapng"), "{checked}");
}

#[test]
fn windows_of_a_store_are_compared_by_their_own_connections_gaps_and_losses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("verdicts.db");
    let mut store = Store::create(&path).unwrap();
    let text = fs::read_to_string(fixture("recordings/07-info.ndjson")).unwrap();
    let mut verdicts = text.lines().map(|line| serde_json::from_str::<Verdict>(line).unwrap());
    let first = verdicts.find(|verdict| verdict.impact == Impact::RequestFailed).unwrap();
    let day = |hour: i64| 1_790_000_000_000_000_000 + hour * 3_600_000_000_000;
    let rfc = |hour: i64| jiff::Timestamp::from_nanosecond(day(hour).into()).unwrap();
    for (hour, connections, lost) in [(0, 1000, 0), (1, 1000, 0), (3, 4000, 0), (4, 4000, 7)] {
        let losses = Losses { by_handover: [("channel".to_owned(), lost)].into() };
        let (began, ended) = (Utc(day(hour)), Utc(day(hour + 1)));
        store
            .insert_stretch(&Stretch { began, ended, run: Utc(day(0)), connections, changes: 1, losses })
            .unwrap();
    }
    let rows = (0..40).map(|number| Row {
        id: format!("01JNA8VQ3W6T4Z0E5R7Y{number:06}"),
        time: day(if number < 20 { 0 } else { 3 }) + number * 1_000_000_000,
        ..Row::of(&first).unwrap()
    });
    let rows = rows.map(|row| {
        let time = jiff::Timestamp::from_nanosecond(row.time.into()).unwrap();
        Row { json: row.json.replace(&first.time, &format!("{time:.9}")).replace(&first.id, &row.id), ..row }
    });
    store.insert(&rows.collect::<Vec<_>>()).unwrap();
    let window = |from: i64, to: i64| format!("{}..{}", rfc(from), rfc(to));
    let (before, after) = (window(0, 2), window(2, 5));
    let path = path.to_str().unwrap();
    let said = stdout(&["compare", path, "--before", &before, "--after", &after]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("Fewer incidents: 20 incidents before, 20 after."), "{said}");
    assert!(said.contains("0.25 times the rate before") && said.contains("per connection"), "{said}");
    for reservation in [
        "7 events were lost in the window after",
        "Of the 3 h 0 min of the window after 2 h 0 min were observed",
        "started, reloaded or stopped 2 times in the window before",
    ] {
        assert!(said.contains(reservation), "{reservation}: {said}");
    }
}

/// A store with the verdicts of a recording.
fn store(folder: &Path) -> String {
    let text = fs::read_to_string(fixture("recordings/07-info.ndjson")).unwrap();
    let verdicts = text.lines().map(|line| serde_json::from_str::<Verdict>(line).unwrap());
    let rows: Vec<Row> = verdicts.map(|verdict| Row::of(&verdict).unwrap()).collect();
    let path = folder.join("verdicts.db");
    Store::create(&path).unwrap().insert(&rows).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_store_gives_the_same_counts_as_the_verdicts_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let verdicts = fixture("recordings/07-info.ndjson");
    let answer = |file: &str| json(&stdout(&["report", file, "--format", "json"]))["sections"][0].clone();
    assert_eq!(answer(&store), answer(&verdicts));
}

#[test]
fn a_bundle_of_a_store_holds_is_redacted_and_says_that_nothing_was_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let bundle = folder.path().join("a.tar.zst");
    let bundle = bundle.to_str().unwrap();
    for redact in [&[][..], &["--redact", "client,uri,host"]] {
        let arguments =
            [&["report", &store, "--party", "middlebox", "--bundle", bundle][..], redact].concat();
        stdout(&arguments);
        let checked = stdout(&["verify", bundle]);
        assert!(
            checked.contains("everything that can be checked holds")
                && checked.contains("nothing was replayed"),
            "{checked}"
        );
        assert_eq!(checked.contains("redacted "), !redact.is_empty(), "{checked}");
    }
    let plain = stdout(&["report", &store, "--include-harmless"]);
    let hidden = stdout(&["report", &store, "--include-harmless", "--redact", "client,uri"]);
    assert!(plain.contains("10.77.0.") && plain.contains("/fault"), "{plain}");
    assert!(!hidden.contains("10.77.0.") && !hidden.contains("/fault"), "{hidden}");
    assert!(hidden.contains("(store)"), "{hidden}");
    let first = |text: &str| text.lines().next().map(str::to_owned);
    assert_eq!(first(&plain), first(&hidden));
}
