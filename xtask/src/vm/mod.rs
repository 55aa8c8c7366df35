//! `cargo xtask vm`: the lab on other kernels, each in a virtual machine of its own.
//!
//! A machine's first program is this one; inside, the same scenarios are played with the same Nginx as on the
//! machine itself. Results are kept per kernel under the target folder, and `docs/kernels.md` is written from them.

mod archive;
mod guest;
mod image;
mod kernels;
pub mod machine;
mod modules;
mod plan;
mod quick;
mod report;
mod tiers;

pub use guest::{Options as GuestOptions, run as guest};
pub use quick::test;

use crate::{lab, project};
use anyhow::{Result, bail};
use kernels::{KERNELS, Kernel};
use plan::SCENARIOS;
use report::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// What makes lockdown as strict as it gets.
const LOCKDOWN: &str = "lockdown=confidentiality lsm=lockdown,bpf";

/// Options of `vm`.
#[derive(clap::Args, Debug, Default)]
pub struct Options {
    /// Only this kernel; may be given more than once. `--list` shows them.
    #[arg(long, value_name = "NAME")]
    kernel: Vec<String>,
    /// Boot with lockdown=confidentiality.
    #[arg(long)]
    lockdown: bool,
    /// A tracer that is built already.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Write docs/kernels.md from the latest results of every kernel.
    #[arg(long)]
    write_docs: bool,
    /// List kernels and scenarios and stop.
    #[arg(long)]
    list: bool,
    /// `hooks`, or a scenario of the lab; without any: hooks and the core scenarios.
    test: Vec<String>,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        let kernels = KERNELS.iter().map(|kernel| kernel.name);
        crate::say!("{}\n  {}", kernels.collect::<Vec<_>>().join("\n"), SCENARIOS.join("\n  "));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&options.kernel)?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => lab::build()?,
    };
    let mut cells = Vec::new();
    for kernel in chosen {
        let begin = Instant::now();
        let cell = one(kernel, options, &binary)?;
        report::print(&cell);
        crate::say!("{} took {} s", cell.name, begin.elapsed().as_secs());
        cells.push(cell);
    }
    if options.write_docs {
        let file = project::root().join("docs/kernels.md");
        std::fs::write(&file, report::document(&saved()?))?;
        crate::say!("{} is written", file.display());
    }
    let good = cells.iter().all(Cell::passed);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if let Some(name) = names.iter().find(|name| !KERNELS.iter().any(|kernel| kernel.name == **name)) {
        bail!("no kernel {name}; `cargo xtask vm --list` shows them");
    }
    let wanted = |kernel: &&Kernel| names.is_empty() || names.iter().any(|name| name == kernel.name);
    Ok(KERNELS.iter().filter(wanted).collect())
}

fn one(kernel: &Kernel, options: &Options, binary: &Path) -> Result<Cell> {
    let name = if options.lockdown { format!("{} lockdown", kernel.name) } else { kernel.name.to_owned() };
    let folder = kernels::home().join("runs").join(name.replace(' ', "-"));
    std::fs::create_dir_all(&folder)?;
    let unpacked = kernel.fetch()?;
    let files = folder.join("initrd");
    std::fs::write(&files, image::build(binary, &modules::collect(&unpacked.modules)?)?)?;
    let tests = if options.test.is_empty() { vec![SCENARIOS.join(",")] } else { options.test.clone() };
    let parameters = if options.lockdown { LOCKDOWN } else { "" };
    crate::say!("\n== kernel {name}");
    let outcome = machine::run(&unpacked, &files, parameters, &tests, &folder);
    std::fs::remove_file(&files)?;
    let cell = report::read(&name, &outcome?);
    if options.test.is_empty() {
        std::fs::write(
            results().join(format!("{}.json", name.replace(' ', "-"))),
            serde_json::to_string(&cell)?,
        )?;
    }
    Ok(cell)
}

/// Where results are kept.
fn results() -> PathBuf {
    let folder = kernels::home().join("results");
    // A failure shows as soon as something is written there.
    drop(std::fs::create_dir_all(&folder));
    folder
}

/// The latest results, in the order of the table.
fn saved() -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for kernel in KERNELS {
        for name in [kernel.name.to_owned(), format!("{}-lockdown", kernel.name)] {
            let file = results().join(format!("{name}.json"));
            if file.exists() {
                cells.push(serde_json::from_str(&std::fs::read_to_string(file)?)?);
            }
        }
    }
    Ok(cells)
}
