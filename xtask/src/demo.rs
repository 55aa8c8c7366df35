//! `cargo xtask demo`: from a fresh clone to verdicts one can read, with nothing else typed.
//!
//! Set-up, build, then the tour of the lab. It only orders these steps; the faults are the lab's.

use crate::{lab, project, setup, shell};
use anyhow::Result;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Options of `demo`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Install nothing: list what is missing and stop.
    #[arg(long)]
    no_install: bool,
    /// A tracer that is built already; skips set-up and build.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => prepare(options.no_install)?,
    };
    if shell::is_root() {
        return lab::tour::run(binary);
    }
    again_as_root(&binary)
}

fn prepare(no_install: bool) -> Result<PathBuf> {
    setup::ensure(no_install)?;
    shell::run(shell::cargo().args(["build", "--release", "--locked", "--package", "rstscope"]))?;
    Ok(project::target().join("release/rstscope"))
}

/// Only the tour needs root; set-up and build belong to the person who runs us.
fn again_as_root(binary: &std::path::Path) -> Result<ExitCode> {
    let mut command = Command::new(shell::need("sudo")?);
    command.arg(std::env::current_exe()?).args(["demo", "--binary"]).arg(binary);
    crate::say!("+ {}", shell::show(&command));
    let status = command.status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
