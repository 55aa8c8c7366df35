//! `rstscope daemon` and `rstscope config`: their flags.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::exit::Exit;
use super::trace::{exit_code, notice, refuse};
use crate::config::{self, ConfigError};
use crate::daemon::{self, DaemonError};

/// Flags of `rstscope daemon`.
#[derive(Debug, Clone, Args)]
pub struct DaemonArgs {
    /// The configuration; without one at the usual place, the defaults hold
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Flags of `rstscope config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What `rstscope config` does.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with a configuration
    Check(DaemonArgs),
    /// Print what holds, defaults included
    Print(DaemonArgs),
    /// Print the default configuration, every key explained
    Defaults,
}

/// Runs `rstscope daemon`.
pub fn run(args: &DaemonArgs) -> anyhow::Result<Exit> {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(error) => return Ok(refused(&error)),
    };
    match daemon::run(&args.config, &config) {
        Ok(()) => Ok(Exit::Success),
        Err(DaemonError::Session(error)) => Ok(refuse(&error, exit_code(&error))),
        Err(DaemonError::Store(error)) => Ok(refuse(&error, Exit::Output)),
        Err(error) => Ok(refuse(&error, Exit::Failure)),
    }
}

/// Runs `rstscope config`.
pub fn config(args: &ConfigArgs) -> anyhow::Result<Exit> {
    let path = match &args.command {
        ConfigCommand::Defaults => return print(config::DEFAULTS),
        ConfigCommand::Check(args) | ConfigCommand::Print(args) => &args.config,
    };
    let config = match config::load(path) {
        Ok(config) => config,
        Err(error) => return Ok(refused(&error)),
    };
    if matches!(args.command, ConfigCommand::Print(_)) {
        return print(&toml::to_string(&config).context("cannot write the configuration as TOML")?);
    }
    let there = if path.exists() { "is in order" } else { "does not exist; the defaults hold" };
    notice(&format!("{} {there}", path.display()));
    Ok(Exit::Success)
}

fn print(text: &str) -> anyhow::Result<Exit> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(Exit::Success),
    }
}

/// A file that cannot be read is an input; what stands in it is usage.
fn refused(error: &ConfigError) -> Exit {
    let exit = if matches!(error, ConfigError::Read { .. }) { Exit::Input } else { Exit::Usage };
    refuse(error, exit)
}
