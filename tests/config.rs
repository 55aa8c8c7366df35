//! `rstscope config` and `rstscope daemon` as a black box, as far as they go without privileges and without Nginx.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its program has failed")]

use std::path::Path;

use assert_cmd::Command;

fn rstscope(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::cargo_bin("rstscope").unwrap().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn written(folder: &Path, text: &str) -> String {
    let path = folder.join("rstscope.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn the_defaults_are_in_order_and_printing_them_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (code, defaults, _) = rstscope(&["config", "defaults"]);
    assert_eq!(code, Some(0));
    let file = written(folder.path(), &defaults);
    assert_eq!(rstscope(&["config", "check", "--config", &file]).0, Some(0));
    let printed = rstscope(&["config", "print", "--config", &file]).1;
    let again = written(folder.path(), &printed);
    assert_eq!(rstscope(&["config", "print", "--config", &again]).1, printed);
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_what_was_meant_and_the_daemon_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "[store]\npth = \"/x\"\n");
    for arguments in [&["config", "check"][..], &["config", "print"], &["daemon"]] {
        let (code, _, said) = rstscope(&[arguments, &["--config", &file]].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("rstscope.toml:2") && said.contains("did you mean `path`?"), "{said}");
    }
    assert_eq!(rstscope(&["daemon", "--config", "/nonexistent/rstscope.toml"]).0, Some(7));
}

#[test]
fn without_a_daemon_tail_says_where_it_looked() {
    let (code, _, said) = rstscope(&["tail", "--socket", "/nonexistent/live.sock"]);
    assert_eq!(code, Some(7));
    assert!(said.contains("/nonexistent/live.sock"), "{said}");
}
