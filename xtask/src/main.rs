//! Set-up, checks, lab and packaging: what cargo alone cannot do.
//!
//! This file only names the sub-commands; each lives in a module of its own.

mod out;
mod project;
mod setup;
mod shell;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, checks and lab of rstscope")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, checking and the lab need (Debian 12).
    Setup(setup::Options),
}

fn main() -> ExitCode {
    let done = match Options::parse().task {
        Task::Setup(options) => setup::run(&options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            out::complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
