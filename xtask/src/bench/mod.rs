//! `cargo xtask bench`: speed and cost, measured beside other ways of doing the same.
//!
//! A command for people, never part of the tests: its numbers depend on the machine and on what else it does.
mod log;

use anyhow::Result;
use std::process::ExitCode;

/// Options of `bench`.
#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(clap::Subcommand, Debug)]
enum Subject {
    /// How fast `rstscope log` reads, beside grep and a regular expression, and its memory on an endless log.
    Log(log::LogOptions),
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.subject {
        Subject::Log(options) => log::run(options),
    }
}
