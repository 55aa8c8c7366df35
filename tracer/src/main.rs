//! The `rstscope` binary: parse, run, exit code. Everything else lives in the library.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rstscope::cli::{self, Cli, exit::Exit};
use rstscope::output::sanitize;

/// Longest error message shown.
const MOST_CHARS: usize = 2000;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let exit = cli::run(&cli).unwrap_or_else(|error| {
        let message = format!("{error:#}");
        // Standard error may be closed; the exit code still tells.
        let _closed = writeln!(std::io::stderr(), "rstscope: {}", sanitize::line(&message, MOST_CHARS));
        Exit::Failure
    });
    exit.into()
}
