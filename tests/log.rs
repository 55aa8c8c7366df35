//! `rstscope log` and `rstscope explain` as a user runs them: files, standard input, formats, exit codes.

#![expect(clippy::expect_used, reason = "helpers of tests may fail loudly")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;

use assert_cmd::Command;
use rustix::process::{Pid, Signal, kill_process};

const LINE: &str = "2026/11/20 06:43:33 [error] 31#31: *7 connect() failed (111: Connection refused) while connecting to \
    upstream, client: 10.0.0.9, server: _, request: \"GET /a HTTP/1.1\", upstream: \"http://10.0.0.2:8080/a\", host: \"h\"";

fn rstscope(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("rstscope"));
    command.args(args);
    command
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a file in a fresh directory");
    path.display().to_string()
}

fn json(command: &mut Command) -> serde_json::Value {
    let output = command.output().expect("rstscope runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn several_files_make_one_report_in_the_order_of_time() {
    let directory = tempfile::tempdir().unwrap();
    let new = write(directory.path(), "error.log", &format!("{LINE}\n"));
    let old = write(directory.path(), "error.log.1", &format!("{}\n", LINE.replace("11/20", "11/19")));
    let report = json(&mut rstscope(&["log", "--format", "json", "--zone", "UTC", &new, &old]));
    assert_eq!(report["schema"], "rstscope.log/1");
    assert_eq!(report["incidents"], 2);
    assert_eq!(report["source"]["files"], serde_json::json!([old, new]));
    assert_eq!(report["topics"][0]["cause"], "upstream_refused");
    assert_eq!(report["topics"][0]["certainty"], "weak");
    assert_eq!(report["time_line"]["from"], "2026-11-19T06:43:33Z");
}

#[test]
fn standard_input_time_limits_and_access_log() {
    let directory = tempfile::tempdir().unwrap();
    let access = write(directory.path(), "access.log", "{\"status\":502}\n{\"status\":200}\n");
    let mut command =
        rstscope(&["log", "--format", "json", "--zone", "UTC", "--since", "2026/11/20 00:00:00"]);
    command.args(["--access-log", &access, "-"]);
    command.write_stdin(format!("{LINE}\n{}\n", LINE.replace("11/20", "11/19")));
    let report = json(&mut command);
    assert_eq!((&report["incidents"], &report["lines_outside"]), (&1.into(), &1.into()));
    assert_eq!(report["access"]["statuses"]["502"], 1);
}

#[test]
fn one_record_per_line() {
    let mut command = rstscope(&["log", "--records", "--zone", "UTC", "-"]);
    let output = command.write_stdin(format!("{LINE}\n\nnonsense")).output().unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["line"], &lines[0]["errno"]), (&1.into(), &111.into()));
    assert_eq!((&lines[2]["line"], &lines[2]["kind"]), (&3.into(), &"unreadable".into()));
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_others_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let good = write(directory.path(), "error.log", &format!("{LINE}\n"));
    let output = rstscope(&["log", "/nonexistent/error.log", &good]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read /nonexistent/error.log"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 incident"));
}

#[test]
fn a_wrong_time_is_refused_by_name() {
    let output = rstscope(&["log", "--since", "yesterday", "-"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--since"));
}

#[test]
fn a_line_is_explained() {
    let output = rstscope(&["explain", LINE]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("10.0.0.2:8080") && text.contains("ECONNREFUSED") && text.contains("no proof"),
        "{text}"
    );
}

#[test]
fn a_compressed_standard_input_is_read() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(format!("{LINE}\n").as_bytes()).unwrap();
    let mut command = rstscope(&["log", "--format", "json", "--zone", "UTC", "-"]);
    let report = json(command.write_stdin(packed.finish().unwrap()));
    assert_eq!((&report["incidents"], &report["source"]["interrupted"]), (&1.into(), &false.into()));
}

#[test]
fn an_endless_input_is_reported_on_while_it_runs_and_on_ctrl_c() {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("rstscope"))
        .args(["log", "--format", "json", "--zone", "UTC", "--every", "1s", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It stays open: nothing but the signal ends the input.
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut report = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    writeln!(input, "{LINE}").unwrap();
    let interim = report();
    assert_eq!((&interim["incidents"], &interim["source"]["interrupted"]), (&1.into(), &false.into()));
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let last = report();
    assert_eq!((&last["incidents"], &last["source"]["interrupted"]), (&1.into(), &true.into()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(input);
}
