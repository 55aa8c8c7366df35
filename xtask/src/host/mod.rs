//! `cargo xtask host`: `rstscope doctor`, its self-test, and the ways to a log that need a real Nginx.
//!
//! Each check is a black box: a real Nginx with a configuration, the program's exit code and JSON.

mod doctor;
mod logs;
mod server;

use crate::{lab, shell};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// One check: its name, and what it does with the program.
type Check = (&'static str, fn(&Path) -> Result<()>);

const CHECKS: [Check; 8] = [
    ("doctor finds every bad setting of a real nginx", doctor::bad_settings),
    ("doctor finds none of them when the settings are good", doctor::good_settings),
    ("doctor without root says what it could not see", doctor::without_root),
    ("doctor --self-test sees every event", doctor::self_test),
    ("trace --syslog joins lines that a real nginx sends", logs::syslog),
    ("trace --syslog takes datagrams of a real nginx", logs::syslog_udp),
    ("trace names the pipe that a real nginx logs to and reads the file beside it", logs::pipe),
    ("trace --positions gives every line of a rotated log once over restarts", logs::positions),
];

/// Options of `host`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Use this program instead of building one.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Only checks whose name contains this.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    anyhow::ensure!(shell::is_root(), "it makes network namespaces: run it as root");
    let only = options.only.as_deref().unwrap_or_default();
    let mut failed = 0;
    for (name, result) in results(options.binary.clone(), only)? {
        match result {
            Ok(()) => crate::say!("ok {name}"),
            Err(error) => {
                crate::say!("FAILED {name}: {error:#}");
                failed += 1;
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Number of checks.
pub fn count() -> usize {
    CHECKS.len()
}

/// Every check with its result; builds the program unless one is given.
pub fn results(binary: Option<PathBuf>, only: &str) -> Result<Vec<(&'static str, Result<()>)>> {
    lab::prepare();
    let binary = match binary {
        Some(binary) => binary,
        None => lab::build()?,
    };
    let chosen = CHECKS.iter().filter(|(name, _)| name.contains(only));
    Ok(chosen.map(|(name, check)| (*name, check(&binary))).collect())
}

/// Runs the program; gives exit code, standard output, standard error.
fn output(command: &mut Command) -> Result<(i32, String, String)> {
    let shown = shell::show(command);
    let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    let code = output.status.code().with_context(|| format!("`{shown}` was killed"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((code, text(&output.stdout), text(&output.stderr)))
}
