//! `cargo xtask bench`: what watching costs and how fast logs are read, measured beside other ways of doing the same.
//!
//! A command for people, never part of the tests: its numbers depend on the machine and on what else it does.
#![expect(clippy::cast_precision_loss, reason = "times and counts that are shown with three digits")]

mod bpf;
mod kernel;
mod log;
pub mod paired;
mod programs;
mod report;
mod scene;
mod traffic;
mod watcher;
pub mod wrk;

use crate::attend::{flood, volume};
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `bench`.
#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(clap::Subcommand, Debug)]
enum Subject {
    /// Time of the kernel programs per run and connection, and Nginx's throughput with and without them (root).
    Kernel(KernelOptions),
    /// How fast `rstscope log` reads, beside grep and a regular expression, and its memory on an endless log.
    Log(log::LogOptions),
    /// Nginx's speed, and the daemon's memory and counts, while 50,000 RSTs a second leave the host (root).
    Flood(flood::Options),
    /// The daemon's memory and the times of questions with millions of verdicts in the store (root; 5 kB of disk each).
    Store(volume::Options),
}

/// Options of `bench kernel`.
#[derive(clap::Args, Debug)]
pub struct KernelOptions {
    /// Seconds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 2)]
    seconds: u64,
    /// How often the ways of watching take turns; six at least for a range.
    #[arg(long, value_name = "N", default_value_t = 12)]
    rounds: usize,
    /// Only the time of the programs.
    #[arg(long)]
    programs_only: bool,
    /// Write docs/performance.md.
    #[arg(long)]
    write_docs: bool,
    /// A tracer that is built already.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.subject {
        Subject::Kernel(options) => kernel::run(options),
        Subject::Log(options) => log::run(options),
        Subject::Flood(options) => flood::run(options),
        Subject::Store(options) => volume::run(options),
    }
}
