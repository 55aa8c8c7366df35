//! `rstscope report` as a user runs it: every form from recordings of the lab, selections, refusals.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use pcap_file::pcapng::Block;
use serde_json::Value;

fn recording(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings").join(name)
}

fn report(file: &Path, arguments: &[&str]) -> Output {
    Command::cargo_bin("rstscope").unwrap().arg("report").arg(file).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The verdicts of a recording that make `wanted` true.
fn verdicts(name: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let text = fs::read_to_string(recording(name).with_extension("ndjson")).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(wanted).collect()
}

fn forged() -> String {
    let proven =
        |verdict: &Value| verdict["cause"] == "middlebox_forged_reset" && verdict["certainty"] == "proven";
    let found = verdicts("07-info.rec", proven);
    found[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_first_screen_names_the_culprit_of_a_forged_reset() {
    let text = stdout(&report(&recording("07-info.rec"), &["--id", &forged()]));
    let screen: Vec<&str> = text.lines().take(24).flat_map(str::split_whitespace).collect();
    let screen = screen.join(" ");
    for words in
        ["Something between Nginx and", "A device on the path", "proven (1 decisive piece", "network team"]
    {
        assert!(screen.contains(words), "{words}: {screen}");
    }
    assert!(text.contains("<== the fault is here: a device"), "{text}");
    assert!(text.contains("It was not sent by the upstream because"), "{text}");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains("the peer goes on after the end"), "{text}");
}

#[test]
fn the_steps_are_drawn_from_whom_they_came() {
    let of = |cause: &str| {
        let text = stdout(&report(&recording("lab-01-error.rec"), &["--cause", cause, "--top", "20"]));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let forged = of("middlebox_forged_reset");
    assert!(forged.contains("|<-D .|") && forged.contains("in the name of the end beyond it"), "{forged}");
    // An ICMP error is sent in the name of its sender, and is no segment of TCP.
    let rejected = of("middlebox_reject");
    assert!(rejected.contains("ICMP error that quotes the segment"), "{rejected}");
    assert!(!rejected.contains("10.77.3.2:0 to"), "{rejected}");
    let portless = of("nginx_resource_limit");
    assert!(portless.contains("it got no local port, so no SYN was sent"), "{portless}");
}

#[test]
fn packets_are_numbered_as_a_viewer_does_and_a_command_writes_them() {
    let text = stdout(&report(&recording("07-info.rec"), &["--id", &forged()]));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("captured; its time is that of the event, frame 1"), "{words}");
    let command = format!("07-info.rec --id {} -o packets.pcapng", forged());
    assert!(words.replace("| ", "").contains(&command), "{words}");
    assert!(text.contains("(whether the clock was synchronised is not known)"), "{text}");
    let output = report(&recording("07-info.rec"), &["--id", &forged(), "--format", "pcapng"]);
    let comments = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(comments.contains(&format!("Incident {}, frame 1 of its 3", forged())), "{comments}");
}

#[test]
fn a_window_counts_every_incident_once() {
    let incidents = verdicts("00-error.rec", |verdict| {
        verdict["impact"] != "harmless" && verdict["consequence_of"].is_null()
    });
    let page = stdout(&report(&recording("00-error.rec"), &["--format", "json"]));
    let page: Value = serde_json::from_str(&page).unwrap();
    let section = |id: &str| {
        let sections = page["sections"].as_array().unwrap();
        sections.iter().find(|section| section["id"] == id).unwrap().clone()
    };
    let rows = section("all")["blocks"][0]["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), incidents.len());
    let ids: Vec<&str> = rows.iter().map(|row| row[7].as_str().unwrap()).collect();
    assert!(incidents.iter().all(|verdict| ids.contains(&verdict["id"].as_str().unwrap())));
    let causes = section("by-cause")["blocks"][0]["rows"].as_array().unwrap().clone();
    let sum: usize = causes.iter().map(|row| row[2].as_str().unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(sum, incidents.len());
}

#[test]
fn verdicts_alone_give_the_same_answer_as_their_recording() {
    let recorded = recording("00-error.rec");
    let answer = |file: &Path| {
        let page = stdout(&report(file, &["--format", "json", "--cause", "upstream_process_exit"]));
        let page: Value = serde_json::from_str(&page).unwrap();
        (page["sections"][2].clone(), page["verdicts"].clone())
    };
    assert_eq!(answer(&recorded).1, answer(&recorded.with_extension("ndjson")).1);
}

#[test]
fn selections_narrow_and_are_stated() {
    let file = recording("00-error.rec");
    let text = stdout(&report(&file, &["--party", "client", "--upstream", "10.77.5.46:8080"]));
    let stated = |name: &str, value: &str| {
        text.lines().any(|line| line.starts_with(name) && line.split_whitespace().nth(1) == Some(value))
    };
    assert!(stated("Parties", "client") && stated("Upstreams", "10.77.5.46:8080"), "{text}");
    let none = stdout(&report(&file, &["--since", "2030-01-01T00:00:00Z"]));
    assert!(none.contains("No incident is in this selection."), "{none}");
}

#[test]
fn the_name_of_the_file_tells_the_form_and_only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    for (name, begins) in [
        ("a.html", "<!DOCTYPE html>"),
        ("a.md", "# "),
        ("a.json", "{\"schema\":\"rstscope.report/1\""),
        ("a.txt", "42"),
    ] {
        let path = directory.path().join(name);
        let output = report(&recording("00-error.rec"), &["-o", path.to_str().unwrap()]);
        assert!(output.status.success() && output.stdout.is_empty());
        assert!(fs::read_to_string(&path).unwrap().starts_with(begins), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn what_cannot_be_reported_is_refused_by_name() {
    let missing = report(Path::new("/nonexistent.rec"), &[]);
    assert_eq!(missing.status.code(), Some(7));
    let other = report(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"), &[]);
    assert_eq!(other.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&other.stderr).contains("nor a recording"), "{other:?}");
    let id = report(&recording("00-error.rec"), &["--id", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    assert_eq!(id.status.code(), Some(1));
    let since = report(&recording("00-error.rec"), &["--since", "yesterday"]);
    assert_eq!(since.status.code(), Some(2));
}

#[test]
fn the_packets_of_every_verdict_are_in_the_capture_once() {
    let output = report(&recording("07-info.rec"), &["--format", "pcapng", "--include-harmless"]);
    assert!(output.status.success());
    let mut reader = pcap_file::pcapng::PcapNgReader::new(&output.stdout[..]).unwrap();
    let (mut names, mut packets, mut rebuilt) = (Vec::new(), 0_u64, 0_usize);
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => names.push(format!("{:?}", interface.options)),
            Block::EnhancedPacket(packet) if names[packet.interface_id as usize].contains("rebuilt") => {
                rebuilt += 1;
            }
            Block::EnhancedPacket(_) => packets += 1,
            _ => {}
        }
    }
    let verdicts = verdicts("07-info.rec", |_| true);
    let uncaptured = |verdict: &&Value| {
        let reset = &verdict["reset"];
        reset["ttl"].is_null() && !reset["flags"].is_null() && !reset["seq"].is_null()
    };
    assert_eq!(rebuilt, verdicts.iter().filter(uncaptured).count());
    assert!(rebuilt > 0);
    let mut numbers: Vec<u64> = verdicts
        .iter()
        .flat_map(|verdict| verdict["packets"].as_array().unwrap().clone())
        .map(|number| number.as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(packets >= 30, "{packets}");
    assert_eq!(numbers, (0..packets).collect::<Vec<_>>());
}
