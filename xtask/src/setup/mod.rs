//! `cargo xtask setup`: brings a fresh Debian 12 to where the project builds and its lab runs.
//!
//! It looks first, installs only what is missing, shows every command before it runs, and can be run again
//! at any time. It starts no service and changes no file outside the package managers' own places.

mod apt;
mod need;
mod rust;

use anyhow::{Result, bail};
use need::{Cure, Need};
use std::process::ExitCode;

/// Options of `setup`, shared by the commands that run it first.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct Options {
    /// Only say what is there and what is missing; exit 1 when something is missing.
    #[arg(long)]
    pub check: bool,
    /// Install nothing: list what is missing and stop with exit 1.
    #[arg(long)]
    pub no_install: bool,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let needs = need::survey();
    for need in &needs {
        crate::say!("{need}");
    }
    let missing: Vec<&Need> = needs.iter().filter(|need| need.found.is_none()).collect();
    let no_install = options.check || options.no_install;
    tools(no_install);
    if missing.is_empty() {
        crate::say!("everything is installed");
        return Ok(ExitCode::SUCCESS);
    }
    if no_install {
        list(&missing);
        return Ok(ExitCode::FAILURE);
    }
    install(&missing)?;
    verify()?;
    Ok(ExitCode::SUCCESS)
}

/// Programs that only some tests need; without them those tests are skipped, and counted as that.
pub fn tools(no_install: bool) {
    let tools = need::tools();
    let missing: Vec<&Need> = tools.iter().filter(|need| need.found.is_none()).collect();
    if missing.is_empty() {
        return;
    }
    list(&missing);
    if no_install {
        crate::say!("tests that need these will be skipped");
    } else if let Err(error) = install(&missing) {
        crate::say!("tests that need these will be skipped: {error:#}");
    }
}

/// Set-up as the first step of another command: quiet when nothing is missing.
pub fn ensure(no_install: bool) -> Result<()> {
    let needs = need::survey();
    let missing: Vec<&Need> = needs.iter().filter(|need| need.found.is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    list(&missing);
    if no_install {
        bail!(
            "{} things are missing and --no-install was given; `cargo xtask setup` installs them",
            missing.len()
        );
    }
    install(&missing)?;
    verify()
}

fn list(missing: &[&Need]) {
    crate::say!("missing:");
    for need in missing {
        crate::say!("  {:<14} {} (install: {})", need.name, need.purpose, need.cure);
    }
}

/// Packages come first: the linker is built with what they bring.
fn install(missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|need| match need.cure {
            Cure::Packages(names) => names,
            Cure::Toolchain | Cure::Linker => &[],
        })
        .copied()
        .collect();
    apt::install(&packages)?;
    if missing.iter().any(|need| need.cure == Cure::Toolchain) {
        rust::install_toolchain()?;
    }
    if missing.iter().any(|need| need.cure == Cure::Linker) {
        rust::install_linker()?;
    }
    Ok(())
}

fn verify() -> Result<()> {
    let left: Vec<&str> =
        need::survey().iter().filter(|need| need.found.is_none()).map(|need| need.name).collect();
    if left.is_empty() {
        crate::say!("everything is installed");
        return Ok(());
    }
    bail!("still missing after the installation: {}", left.join(", "))
}
