//! `rstscope trace` as a black box: what it refuses and how it ends. No Nginx, no lab; with or without root.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its program has failed")]

use assert_cmd::Command;

fn trace(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::cargo_bin("rstscope").unwrap().arg("trace").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let (code, message) = trace(arguments);
    assert_eq!(code, Some(2), "{message}");
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    refused(&["--nginx-port", "70000"], &["70000", "--nginx-port", "1 to 65535"]);
    refused(&["--upstream", "backend:80"], &["backend:80", "--upstream", "not resolved"]);
    refused(&["--only", "server"], &["server", "--only", "client, nginx, upstream, middlebox, unknown"]);
    refused(&["--duration", "0"], &["--duration", "30s, 5m, 1h"]);
    refused(&["--syslog", "tcp:1.1.1.1:1"], &["tcp:1.1.1.1:1", "--syslog", "udp:ADDR:PORT"]);
    refused(&["--pid", "0"], &["--pid", "positive number"]);
    refused(&["--format", "xml"], &["xml", "text", "json"]);
    refused(&["--frobnicate"], &["--frobnicate"]);
}

#[test]
fn help_names_every_flag_that_is_promised() {
    let output = Command::cargo_bin("rstscope").unwrap().args(["trace", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let flags = [
        "--nginx-port",
        "--upstream",
        "--error-log",
        "--pid",
        "--netns",
        "--duration",
        "--format",
        "--output",
        "--only",
        "--include-harmless",
        "--no-wait",
        "--positions",
        "--syslog",
    ];
    for flag in flags {
        assert!(help.contains(flag), "{flag} is not in the help");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_anything_starts() {
    let (code, message) = trace(&["--output", "/nonexistent/verdicts", "--no-wait"]);
    assert_eq!(code, Some(6), "{message}");
    assert!(message.contains("/nonexistent/verdicts"), "{message}");
}

/// As root the positions are looked at first; without, the capabilities are named before.
#[test]
fn positions_that_cannot_be_kept_are_named_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let damaged = directory.path().join("damaged");
    std::fs::write(&damaged, "no positions").unwrap();
    let is_root = rustix::process::geteuid().is_root();
    for (file, code) in [("/nonexistent/positions", 6), (damaged.to_str().unwrap(), 7)] {
        let (found, message) = trace(&["--positions", file, "--no-wait"]);
        assert_eq!(found, Some(if is_root { code } else { 4 }), "{message}");
        assert!(!is_root || message.contains(file), "{message}");
    }
}

/// As root there is no such Nginx; without, the capabilities are named first.
#[test]
fn without_nginx_or_without_privileges_the_exit_code_says_which() {
    let (code, message) = trace(&["--pid", "4194304", "--no-wait"]);
    if rustix::process::geteuid().is_root() {
        assert_eq!(code, Some(3), "{message}");
        assert!(message.contains("no Nginx is running"), "{message}");
    } else {
        assert_eq!(code, Some(4), "{message}");
        assert!(message.contains("CAP_BPF"), "{message}");
    }
}
