//! `rstscope pcap` as a user runs it, on captures of the lab: what it says of each, where it says it, and how it
//! ends on files that are no captures. `RSTSCOPE_BLESS=1 cargo test --test pcap` writes what it says now.

#![expect(clippy::expect_used, reason = "a test may fail")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/captures")
}

fn pcap(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("rstscope").expect("the binary");
    command.current_dir(folder()).args(["pcap", "--zone", "UTC", "--color", "never"]).args(arguments);
    command
}

/// The capture of a fixture; those of many scenarios are compressed.
fn capture(name: &str) -> String {
    let compressed = format!("{name}.pcap.gz");
    if folder().join(&compressed).exists() { compressed } else { format!("{name}.pcap") }
}

/// What decides about each verdict, one line each; nothing that changes with the words.
fn judged(name: &str, arguments: &[&str]) -> String {
    let (capture, log) = (capture(name), format!("{name}.log"));
    let common = [capture.as_str(), "--error-log", &log, "--format", "json", "--include-harmless"];
    let output = pcap(&[&common, arguments].concat()).output().expect("it runs");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    let verdicts = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    verdicts.map(|verdict| outline(&verdict)).collect()
}

fn outline(verdict: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let fields = ["kind", "party", "cause", "certainty", "impact"].map(|field| text(&verdict[field]));
    let line = text(&verdict["log"]["message"]);
    format!(
        "{} {} | {line}\n",
        fields.join(" "),
        text(&verdict["connection"]["remote"]).split(':').next_back().unwrap_or("-")
    )
}

#[test]
fn captures_of_the_lab_are_judged_as_before() {
    let mut names: Vec<String> = fs::read_dir(folder())
        .expect("the fixtures")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let said: String = judged(&name, &[]).lines().map(|line| ported(line) + "\n").collect();
        let expected = folder().join(format!("{name}.expected"));
        if std::env::var_os("RSTSCOPE_BLESS").is_some() {
            fs::write(&expected, &said).expect("written");
        }
        assert_eq!(said, fs::read_to_string(&expected).expect("the expectation"), "{name}");
    }
}

#[test]
fn both_ends_of_a_whole_bench_of_the_lab_are_judged_as_before() {
    for name in ["lab-0", "lab-1", "lab-2"] {
        let (log, near, far) = (format!("{name}.log"), capture(name), format!("{name}.upstream.pcap.gz"));
        let mut command = Command::cargo_bin("rstscope").expect("the binary");
        command.current_dir(folder()).args(["correlate", &near, &far, "--error-log", &log, "--zone", "UTC"]);
        let output = command.args(["--format", "json", "--include-harmless"]).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines = text.lines().map(|line| outline(&serde_json::from_str(line).expect("a record")));
        let said: String = lines.map(|line| ported(line.trim_end()) + "\n").collect();
        let expected = folder().join(format!("{name}.both.expected"));
        if std::env::var_os("RSTSCOPE_BLESS").is_some() {
            fs::write(&expected, &said).expect("written");
        }
        assert_eq!(said, fs::read_to_string(&expected).expect("the expectation"), "{name}");
    }
}

/// Ephemeral ports say nothing.
fn ported(line: &str) -> String {
    line.split(' ')
        .map(|word| if word.parse::<u32>().is_ok_and(|port| port > 10_000) { "ephemeral" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Verdicts of two captures; every time of the second is moved on by so many seconds.
fn correlated(name: &str, ahead: u32) -> (String, String) {
    correlated_with(name, ahead, |_| true)
}

/// The same, with those frames of the second that its filter keeps.
fn correlated_with(name: &str, ahead: u32, keeps: impl Fn(&[u8]) -> bool) -> (String, String) {
    let whole = fs::read(folder().join(format!("{name}.upstream.pcap"))).expect("the fixture");
    let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().expect("four bytes"));
    let (mut far, mut at) = (whole[..24].to_vec(), 24);
    while at < whole.len() {
        let end = at + 16 + usize::try_from(number(at + 8)).expect("a length");
        if keeps(&whole[at + 16..end]) {
            far.extend((number(at) + ahead).to_le_bytes());
            far.extend(&whole[at + 4..end]);
        }
        at = end;
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), far).expect("written");
    let mut command = Command::cargo_bin("rstscope").expect("the binary");
    let log = format!("{name}.log");
    let near = format!("{name}.pcap");
    command.current_dir(folder()).args(["correlate", &near]).arg(file.path());
    command.args(["--error-log", &log, "--zone", "UTC", "--format", "json"]);
    let output = command.output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().map(|line| outline(&serde_json::from_str(line).expect("a record")));
    (lines.collect(), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn the_other_end_raises_what_one_capture_cannot_prove() {
    let weak = judged("drop-syn", &[]);
    assert!(!weak.contains("proven"), "{weak}");
    assert!(
        correlated("drop-syn", 0).0.contains("middlebox middlebox_drop proven"),
        "{:?}",
        correlated("drop-syn", 0)
    );
    let weak = judged("upstream-forgot-kept", &[]);
    assert_eq!(weak.matches("upstream_restarted weak").count(), 2, "{weak}");
    let (strong, _) = correlated("upstream-forgot-kept", 0);
    assert_eq!(strong.matches("upstream_restarted strong").count(), 2, "{strong}");
}

/// A frame of a capture of all interfaces (`LINKTYPE_LINUX_SLL2`) with a TCP segment that carries SYN, FIN or RST.
fn begins_or_ends(frame: &[u8]) -> bool {
    let address = if frame[..2] == [0x86, 0xdd] { 40 } else { 20 };
    frame.get(20 + address + 13).is_some_and(|flags| flags & 0b111 != 0)
}

#[test]
fn a_capture_with_a_filter_shows_nothing_by_what_it_lacks() {
    for name in ["drop-syn", "forged-far-silent"] {
        let whole = correlated(name, 0).0;
        assert!(whole.contains(" proven") || whole.contains(" strong"), "{whole}");
        let filtered = correlated_with(name, 0, begins_or_ends).0;
        assert_eq!(filtered, judged(name, &[]), "{name}: as without the second capture");
    }
}

#[test]
fn the_clocks_of_two_captures_need_not_agree() {
    let (same, told) = correlated("forged-near-speaks", 0);
    assert!(told.contains("the clock of the second capture is +0.0"), "{told}");
    let (shifted, told) = correlated("forged-near-speaks", 1_000);
    assert!(told.contains("the clock of the second capture is +1000000.0"), "{told}");
    assert_eq!(same, shifted);
    assert_eq!(same.matches("middlebox_forged_reset proven").count(), 2, "{same}");
}

#[test]
fn roles_that_are_named_are_not_guessed() {
    let named = [
        "forged-near-speaks.pcap",
        "--nginx",
        "10.77.2.2,[fd00:77:2::2]:8001",
        "--upstream",
        "10.77.5.10:8080",
    ];
    let output = pcap(&named).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!told.contains("worked out from the traffic"), "{told}");
    let output = pcap(&named[..1]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("worked out from the traffic"), "{told}");
    assert!(told.contains("a capture carries no processes"), "{told}");
}

#[test]
fn standard_input_and_gzip_give_the_same() {
    use std::io::Write as _;
    let plain = fs::read(folder().join("forged-near-speaks.pcap")).expect("the fixture");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).expect("compressed");
    let zipped = encoder.finish().expect("compressed");
    let said = |input: Vec<u8>| {
        let output = pcap(&["-", "--format", "json"]).write_stdin(input).output().expect("it runs");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().map(|line| outline(&serde_json::from_str(line).expect("a record"))).collect::<String>()
    };
    let expected = said(plain);
    assert!(expected.contains("middlebox_forged_reset"), "{expected}");
    assert_eq!(said(zipped), expected);
}

#[test]
fn what_is_no_capture_is_refused_by_name() {
    let refused = pcap(&["forged-near-speaks.log"]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(7));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("forged-near-speaks.log is neither pcap nor pcapng"), "{told}");
    assert_eq!(pcap(&["nothing.pcap"]).output().expect("it runs").status.code(), Some(7));
    assert_eq!(pcap(&["--nginx", "web", "drop-syn.pcap"]).output().expect("it runs").status.code(), Some(2));
}

#[test]
fn a_capture_that_is_cut_off_is_judged_as_far_as_it_goes() {
    let mut capture = fs::read(folder().join("forged-near-speaks.pcap")).expect("the fixture");
    capture.truncate(capture.len() - 7);
    let output = pcap(&["-", "--format", "json"]).write_stdin(capture).output().expect("it runs");
    assert_eq!(output.status.code(), Some(7));
    assert!(!output.stdout.is_empty());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("is cut off in the middle of a packet"), "{told}");
}
