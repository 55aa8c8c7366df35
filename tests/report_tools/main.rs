//! Reports read by the programs that people read them with: packets by tshark, pages by a real browser.
//!
//! A test whose program is not installed is counted as ignored, and its name says what is missing;
//! `cargo xtask setup` installs them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

mod browser;
mod hostile;
mod packets;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test and the programs it needs.
type Check = (&'static str, &'static [&'static str], fn() -> Result<(), Failed>);

const CHECKS: &[Check] = &[
    ("tshark reads every packet without a complaint", &["tshark"], packets::fields),
    ("tshark shows comments, names and interfaces", &["tshark"], packets::words),
    ("tshark reads packets with hostile text as ever", &["tshark"], packets::hostile),
    ("a page with hostile text runs nothing and asks for nothing", BROWSER, browser::hostile),
    ("a page of a hostile recording runs nothing and asks for nothing", BROWSER, browser::hostile_recording),
    ("a page is searched and its statement selected", BROWSER, browser::search),
    ("a page fits a narrow screen and is printed", BROWSER, browser::narrow_and_print),
];

const BROWSER: &[&str] = &["chromium", "chromedriver"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = CHECKS.iter().map(|(name, needs, check)| {
        let missing: Vec<&str> = needs.iter().copied().filter(|program| !is_installed(program)).collect();
        let name = if missing.is_empty() {
            (*name).to_owned()
        } else {
            format!("{name} (not installed: {})", missing.join(", "))
        };
        let check = *check;
        Trial::test(name, check).with_ignored_flag(!missing.is_empty())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn is_installed(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// A recording of the lab.
pub(crate) fn recording(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings").join(name)
}

/// Writes a report to a file of this name in `folder`.
pub(crate) fn report(
    input: &std::path::Path,
    folder: &std::path::Path,
    name: &str,
    arguments: &[&str],
) -> PathBuf {
    let path = folder.join(name);
    let mut command = assert_cmd::Command::cargo_bin("rstscope").unwrap();
    command.arg("report").arg(input).arg("-o").arg(&path).args(arguments).assert().success();
    path
}
