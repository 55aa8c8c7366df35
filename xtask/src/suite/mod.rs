//! `cargo xtask test`: everything that has to hold, in one command, counted on its last line.
//!
//! Every step runs, whatever the others say, except that nothing is tried without the tools.

mod libtest;
mod tidy;

use crate::{attend, host, lab, project, setup, shell, vm};
use anyhow::Result;
pub use libtest::Count;
use std::process::{Command, ExitCode};

/// Options of `test`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Install nothing: list what is missing and stop.
    #[arg(long)]
    no_install: bool,
    /// Leave the lab out; it is counted as skipped.
    #[arg(long)]
    no_lab: bool,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(options.no_install)?;
    setup::tools(options.no_install);
    let mut count = Count::default();
    for (name, mut command) in commands() {
        count.add_one(name, shell::run(&mut command));
    }
    count.add(libtest::run(&mut unit_tests()));
    for (name, problems) in tidy::check(project::root()) {
        count.add_one(name, problems);
    }
    count.add_one("the published schema is there and valid", lab::schema::Schema::check());
    count.add(host_results(options.no_lab));
    count.add(lab_results(options.no_lab));
    count.add(if options.no_lab { left_out() } else { attend::test() });
    count.add(if options.no_lab { Count::default() } else { vm::test() });
    crate::say!("{count}");
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// With Prometheus' tools here, the tests that need them run, too; without, they are counted as skipped.
fn unit_tests() -> Command {
    let mut tests = shell::cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    if ["promtool", "prometheus", "systemd-analyze"].into_iter().all(|tool| shell::find(tool).is_some()) {
        tests.args(["--", "--include-ignored"]);
    }
    tests
}

fn commands() -> Vec<(&'static str, Command)> {
    let command = |words: &[&str]| {
        let mut command = shell::cargo();
        command.args(words);
        command
    };
    let lints = ["--", "-D", "warnings"];
    let host = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked"];
    let kernel = ["clippy", "--quiet", "--package", "rstscope-ebpf", "--bins", "--release", "--locked"];
    let target = ["--target", "bpfel-unknown-none", "-Z", "build-std=core"];
    let mut kernel = command(&[&kernel[..], &target, &lints].concat());
    kernel.env("RUSTC_BOOTSTRAP", "1");
    kernel.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH));
    vec![
        ("format", command(&["fmt", "--all", "--check"])),
        ("lints", command(&[&host[..], &lints].concat())),
        ("lints of the kernel programs", kernel),
    ]
}

fn left_out() -> Count {
    crate::say!("the daemon's check is skipped: left out by --no-lab");
    Count { skipped: 1, ..Count::default() }
}

/// The checks that need a real Nginx, or how many of them were skipped and why.
fn host_results(left_out: bool) -> Count {
    if left_out || !shell::is_root() {
        let why = if left_out { "left out by --no-lab" } else { "they need root" };
        crate::say!("the checks with a real nginx are skipped: {why}");
        return Count { skipped: host::count(), ..Count::default() };
    }
    let mut count = Count::default();
    match host::results(None, "") {
        Ok(results) => results.into_iter().for_each(|(name, result)| count.add_one(name, result)),
        Err(error) => count.add_one("the checks with a real nginx", Err(error)),
    }
    count
}

/// The lab, or how much of it was skipped and why.
fn lab_results(left_out: bool) -> Count {
    let why = match (left_out, shell::is_root()) {
        (true, _) => "left out by --no-lab",
        (_, false) => "needs root",
        (false, true) => return played(),
    };
    crate::say!("the lab is skipped: {why}");
    Count { skipped: lab::count(), ..Count::default() }
}

fn played() -> Count {
    let mut count = match lab::test() {
        Ok((passed, failed, skipped)) => Count { passed, failed, skipped },
        Err(error) => {
            crate::say!("FAILED the lab: {error:#}");
            Count { failed: 1, ..Count::default() }
        }
    };
    count.add_one(lab::neighbour::NAME, lab::build().and_then(|binary| lab::neighbour::test(&binary)));
    count
}
