//! Bundles, their check, redaction and comparison, as a user runs them on recordings of the lab.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn recording(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings").join(name)
}

fn rstscope(arguments: &[&str]) -> Output {
    Command::cargo_bin("rstscope").unwrap().args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a bundle of a recording.
fn bundle(folder: &Path, input: &Path, arguments: &[&str]) -> PathBuf {
    let path = folder.join("a.tar.zst");
    let fixed = ["report", input.to_str().unwrap(), "--bundle", path.to_str().unwrap()];
    let output = rstscope(&[&fixed[..], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

/// The files of a bundle.
fn files(bundle: &Path) -> BTreeMap<String, Vec<u8>> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(fs::File::open(bundle).unwrap()).unwrap();
    let mut archive = tar::Archive::new(decoder);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    files
}

/// Packs files again as they are, whatever the manifest says of them.
fn repack(path: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let rest = files.iter().filter(|(name, _)| *name != "manifest.json" && *name != "session.rec");
    let last = files.iter().filter(|(name, _)| *name == "session.rec");
    pack(path, files.get_key_value("manifest.json").into_iter().chain(rest).chain(last));
}

fn pack<'a>(path: &Path, files: impl Iterator<Item = (&'a String, &'a Vec<u8>)>) {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let bytes = archive.into_inner().unwrap();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    fs::write(path, ruzstd::encoding::compress_to_vec(bytes.as_slice(), level)).unwrap();
}

#[test]
fn a_bundle_holds_and_replays_to_the_same_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path(), &recording("07-info.rec"), &["--include-harmless"]);
    let checked = rstscope(&["verify", path.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", text(&checked));
    let stored = fs::read_to_string(recording("07-info.ndjson")).unwrap();
    let told = text(&checked);
    assert!(
        told.contains(&format!("replay   {} verdicts came out the same", stored.lines().count())),
        "{told}"
    );
    let files = files(&path);
    assert_eq!(String::from_utf8(files["verdicts.ndjson"].clone()).unwrap(), stored);
    assert_eq!(files["session.rec"], fs::read(recording("07-info.rec")).unwrap());
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let wanted = [
        "host.json",
        "manifest.json",
        "packets.pcapng",
        "report.html",
        "report.json",
        "report.md",
        "report.txt",
        "session.rec",
        "verdicts.ndjson",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn a_changed_file_a_missing_one_and_another_verdict_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path(), &recording("07-info.rec"), &[]);
    let whole = files(&path);
    let check = |files: &BTreeMap<String, Vec<u8>>| {
        repack(&path, files);
        let output = rstscope(&["verify", path.to_str().unwrap()]);
        (output.status.code(), text(&output))
    };
    assert_eq!(check(&whole).0, Some(0));
    let mut changed = whole.clone();
    changed.get_mut("report.html").unwrap()[100] ^= 1;
    let (code, told) = check(&changed);
    assert!(code == Some(1) && told.contains("CHANGED  report.html"), "{told}");
    let mut missing = whole.clone();
    missing.remove("packets.pcapng");
    let (code, told) = check(&missing);
    assert!(code == Some(1) && told.contains("MISSING  packets.pcapng"), "{told}");
    let mut other = whole.clone();
    let verdicts = String::from_utf8(other["verdicts.ndjson"].clone()).unwrap();
    other.insert("verdicts.ndjson".to_owned(), verdicts.replacen("proven", "weak", 1).into_bytes());
    other.insert("more.txt".to_owned(), Vec::new());
    let (code, told) = check(&other);
    assert!(code == Some(1) && told.contains("1 did not:") && told.contains("UNNAMED  more.txt"), "{told}");
}

/// A manifest that agrees with the files again, as a forger would write it.
fn rehashed(files: &mut BTreeMap<String, Vec<u8>>) {
    let mut manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    for listed in manifest["files"].as_array_mut().unwrap() {
        let bytes = &files[listed["name"].as_str().unwrap()];
        listed["bytes"] = bytes.len().into();
        let digits: Vec<String> = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        listed["sha256"] = digits.concat().into();
    }
    files.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap());
}

fn replaced(files: &mut BTreeMap<String, Vec<u8>>, name: &str, from: &str, to: &str) {
    let text = String::from_utf8(files[name].clone()).unwrap();
    assert!(text.contains(from), "{from}");
    files.insert(name.to_owned(), text.replace(from, to).into_bytes());
}

#[test]
fn a_bundle_about_one_incident_says_that_the_whole_session_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path(), &recording("07-info.rec"), &["--cause", "middlebox_forged_reset"]);
    let told = text(&rstscope(&["verify", path.to_str().unwrap()]));
    assert!(told.contains("note     The recording in it is that of the whole session"), "{told}");
    assert!(told.contains("everything holds"), "{told}");
}

#[test]
fn a_forgery_whose_sums_agree_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path(), &recording("07-info.rec"), &[]);
    let whole = files(&path);
    let verify = || {
        let output = rstscope(&["verify", path.to_str().unwrap()]);
        (output.status.code(), text(&output))
    };

    let mut verdicts = whole.clone();
    replaced(&mut verdicts, "verdicts.ndjson", "middlebox_forged_reset", "upstream_abort");
    rehashed(&mut verdicts);
    let first = ["manifest.json", "session.rec"];
    let rest = verdicts.iter().filter(|(name, _)| !first.contains(&name.as_str()));
    pack(&path, first.iter().filter_map(|name| verdicts.get_key_value(*name)).chain(rest));
    let (code, told) = verify();
    assert!(code == Some(1) && told.contains("do not stand before the recording"), "{told}");
    repack(&path, &verdicts);
    let (code, told) = verify();
    assert!(code == Some(1) && told.contains("REPLAY") && told.contains("did not:"), "{told}");

    let mut page = whole.clone();
    replaced(&mut page, "report.html", "A device on the path", "Nobody at all");
    rehashed(&mut page);
    repack(&path, &page);
    let (code, told) = verify();
    assert!(code == Some(1) && told.contains("PARTS    not what the recording gives: report.html"), "{told}");

    let mut fewer = whole.clone();
    let lines = String::from_utf8(fewer["verdicts.ndjson"].clone()).unwrap();
    let (left_out, rest) = lines.split_once('\n').unwrap();
    fewer.insert("verdicts.ndjson".to_owned(), rest.as_bytes().to_vec());
    rehashed(&mut fewer);
    repack(&path, &fewer);
    let (code, told) = verify();
    let id = serde_json::from_str::<Value>(left_out).unwrap()["id"].as_str().unwrap().to_owned();
    assert!(code == Some(1) && told.contains(&format!("1 did not: {id}")), "{told}");

    let mut copied = whole.clone();
    copied.insert("session.rec".to_owned(), whole["verdicts.ndjson"].clone());
    rehashed(&mut copied);
    repack(&path, &copied);
    let (code, told) = verify();
    assert!(code == Some(1) && told.contains("it is no recording"), "{told}");

    repack(&path, &whole);
    let (code, told) = verify();
    assert!(code == Some(0) && told.contains("Nothing here is signed"), "{told}");
    assert!(told.contains("made anew from the recording, the same byte for byte"), "{told}");
}

#[test]
fn what_is_no_bundle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar.zst");
    let whole = fs::read(bundle(folder.path(), &recording("00-error.rec"), &[])).unwrap();
    for bytes in
        [&b""[..], b"no bundle", &whole[..whole.len() / 2], &fs::read(recording("00-error.rec")).unwrap()]
    {
        fs::write(&path, bytes).unwrap();
        let output = rstscope(&["verify", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(7), "{} bytes: {}", bytes.len(), text(&output));
    }
    repack(&path, &BTreeMap::from([("other.txt".to_owned(), Vec::new())]));
    assert_eq!(rstscope(&["verify", path.to_str().unwrap()]).status.code(), Some(7));
}

/// Everything in the verdicts of a recording that redaction has to hide.
fn secrets(name: &str) -> Vec<String> {
    let stored = fs::read_to_string(recording(name).with_extension("ndjson")).unwrap();
    let mut secrets = Vec::new();
    for line in stored.lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        for end in ["connection", "peer_connection"].map(|field| &verdict[field]) {
            if end["side"] == "client" {
                let remote = end["remote"].as_str().unwrap();
                secrets.push(remote.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned());
            }
        }
        let request = verdict["log"]["request"].as_str().unwrap_or_default();
        secrets.extend(request.split(' ').nth(1).filter(|uri| uri.len() > 2).map(str::to_owned));
        secrets.extend(verdict["log"]["client"].as_str().map(str::to_owned));
    }
    secrets.sort();
    secrets.dedup();
    secrets
}

#[test]
fn nothing_that_was_redacted_is_in_any_part_and_the_packets_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(
        folder.path(),
        &recording("07-info.rec"),
        &["--include-harmless", "--redact", "client,uri,host"],
    );
    let checked = rstscope(&["verify", path.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(text(&checked).contains("addresses were replaced"), "{}", text(&checked));
    let secrets = secrets("07-info.rec");
    assert!(secrets.len() > 20, "{secrets:?}");
    for (name, bytes) in files(&path) {
        let part = String::from_utf8_lossy(&bytes).into_owned();
        for secret in &secrets {
            let alone = |at: usize| {
                let neighbour =
                    |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || ":.<".contains(c));
                let before = part[..at].chars().next_back();
                let after = part[at + secret.len()..].chars().next();
                !neighbour(before) && !after.is_some_and(|c| c.is_ascii_alphanumeric())
            };
            let found = part.match_indices(secret.as_str()).find(|(at, _)| alone(*at));
            assert_eq!(found.map(|(at, _)| &part[at.saturating_sub(30)..at]), None, "{secret} in {name}");
        }
        if name == "packets.pcapng" {
            // Addresses of clients in headers: 10.77.0.x and fd00:77::x.
            for client in [&[10, 77, 0][..], &[0xfd, 0, 0, 0x77, 0, 0, 0, 0]] {
                assert!(!bytes.windows(client.len()).any(|window| window == client), "{client:?}");
            }
        }
    }
}

#[test]
fn an_incident_is_found_by_its_id_in_a_redacted_recording() {
    let stored = fs::read_to_string(recording("07-info.ndjson")).unwrap();
    let verdict: Value =
        stored.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).nth(3).unwrap();
    let id = verdict["id"].as_str().unwrap();
    let file = recording("07-info.rec");
    let output =
        rstscope(&["report", file.to_str().unwrap(), "--id", id, "--redact", "client", "--format", "json"]);
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(page["verdicts"][0]["time"], verdict["time"]);
    assert_eq!(page["verdicts"][0]["cause"], verdict["cause"]);
    assert_ne!(page["verdicts"][0]["connection"]["remote"], verdict["connection"]["remote"]);
}

fn compare(arguments: &[&str]) -> (Option<i32>, String) {
    let output = rstscope(&[&["compare"], arguments].concat());
    let words = text(&output) + &String::from_utf8_lossy(&output.stderr);
    // Where lines break is not what matters.
    (output.status.code(), words.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn a_repair_a_relapse_and_nothing_at_all_are_told_apart() {
    let (many, none) = (recording("00-error.rec"), recording("02-error.rec"));
    let (many, none) = (many.to_str().unwrap(), none.to_str().unwrap());
    let connections = ["--connections-before", "1000", "--connections-after", "1000"];
    let (_, fewer) = compare(&[&[many, none], &connections[..]].concat());
    assert!(fewer.contains("Fewer incidents: 42 incidents before, 0 after"), "{fewer}");
    assert!(fewer.contains("0.00 times the rate before (95 % interval 0.00 to 0.092)"), "{fewer}");
    let (_, more) = compare(&[&[none, many], &connections[..]].concat());
    assert!(more.contains("More incidents: 0 incidents before, 42 after"), "{more}");
    let (_, same) = compare(&[&[many, many], &connections[..]].concat());
    assert!(same.contains("No evidence of a change"), "{same}");
    assert!(same.contains("1.00 times the rate before"), "{same}");
}

#[test]
fn windows_of_one_file_are_cut_by_time_and_reservations_are_stated() {
    let file = recording("00-error.ndjson");
    let file = file.to_str().unwrap();
    let cut = "2026-11-21T10:41:20Z";
    let (code, told) = compare(&[file, "--before", &format!("..{cut}"), "--after", &format!("{cut}..")]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("so there is no rate to compare"), "{told}");
    assert!(told.contains("What was lost in the window before is not known"), "{told}");
    let recorded = recording("00-error.rec");
    let recorded = recorded.to_str().unwrap();
    let (_, told) = compare(&[recorded, "--before", &format!("..{cut}"), "--after", &format!("{cut}..")]);
    assert!(told.contains("per time observed (traffic is not known and may have changed)"), "{told}");
    assert_eq!(compare(&[file]).0, Some(2));
    assert_eq!(compare(&[file, "--before", "x", "--after", ".."]).0, Some(2));
    assert_eq!(compare(&["/nonexistent", "/nonexistent"]).0, Some(7));
}
