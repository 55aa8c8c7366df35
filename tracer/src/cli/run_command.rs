//! `rstscope run-command`: the helper that starts the daemon's command, once per line of standard input.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::exit::Exit;
use crate::guard;
use crate::outbound::command;

/// Flags of `rstscope run-command`.
#[derive(Debug, Clone, Args)]
pub struct RunCommandArgs {
    /// Longest time for one run, seconds
    pub seconds: u64,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub run: Vec<OsString>,
}

/// Runs `rstscope run-command`.
pub fn run(args: &RunCommandArgs) -> anyhow::Result<Exit> {
    guard::helper()?;
    let limit = Duration::from_secs(args.seconds);
    command::serve(io::stdin(), io::stdout(), &args.run, limit).context("the daemon has gone")?;
    Ok(Exit::Success)
}
