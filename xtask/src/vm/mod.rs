//! `cargo xtask vm`: the lab on other kernels, each in a virtual machine of its own.
//!
//! A machine's first program is this one; inside, the same scenarios are played with the same Nginx as on the
//! machine itself. Results are kept per kernel under the target folder, and `docs/kernels.md` is written from them.

pub mod architecture;
mod archive;
mod guest;
mod image;
mod kernels;
pub mod machine;
mod modules;
mod plan;
mod programs;
mod quick;
mod report;
mod tiers;

pub use guest::{Options as GuestOptions, run as guest};
pub use quick::test;

use crate::{cross, lab, project};
use anyhow::{Result, bail};
use architecture::Architecture;
use image::Ours;
use kernels::{KERNELS, Kernel, file_name};
use plan::{HOOKS_TEST, SCENARIOS};
use programs::Source;
use report::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// What makes lockdown as strict as it gets.
const LOCKDOWN: &str = "lockdown=confidentiality lsm=lockdown,bpf";

/// What is said of a kernel on which the lab cannot lay its network.
const WITHOUT_MODULES: &str = "Debian's archive has no modules of this kernel any more: the hooks were loaded and attached, no scenario was played";

/// Options of `vm`.
#[derive(clap::Args, Debug, Default)]
pub struct Options {
    /// Only this kernel; may be given more than once. `--list` shows them.
    #[arg(long, value_name = "NAME")]
    kernel: Vec<String>,
    /// Boot with lockdown=confidentiality.
    #[arg(long)]
    lockdown: bool,
    /// A tracer that is built already; once for each processor.
    #[arg(long, value_name = "FILE")]
    binary: Vec<PathBuf>,
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
    let mut cells = Vec::new();
    for kernel in chosen(&options.kernel)? {
        let binary = tracer(kernel.architecture, &options.binary)?;
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

/// The tracer for this processor: one that was given, or one that is built.
fn tracer(architecture: &Architecture, given: &[PathBuf]) -> Result<PathBuf> {
    for binary in given {
        if architecture.runs(binary)? {
            return Ok(binary.clone());
        }
    }
    if architecture.is_ours() { lab::build() } else { cross::build(architecture.rust, "rstscope") }
}

/// This program for that processor.
fn init(architecture: &Architecture) -> Result<PathBuf> {
    if architecture.is_ours() {
        Ok(std::env::current_exe()?)
    } else {
        cross::build(architecture.rust, "xtask")
    }
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
    let folder = kernels::home().join("runs").join(file_name(&name));
    std::fs::create_dir_all(&folder)?;
    let unpacked = kernel.fetch()?;
    let files = folder.join("initrd");
    let architecture = kernel.architecture;
    let ours = Ours { init: &init(architecture)?, tracer: binary };
    let modules = match &unpacked.modules {
        Some(folder) => modules::collect(folder, architecture.modules)?,
        None => Vec::new(),
    };
    std::fs::write(&files, image::build(&ours, &Source::of(architecture)?, &modules)?)?;
    let tests = match (&unpacked.modules, options.test.as_slice()) {
        (None, _) => vec![HOOKS_TEST.to_owned()],
        (_, []) => vec![SCENARIOS.join(",")],
        (_, tests) => tests.to_vec(),
    };
    let parameters = if options.lockdown { LOCKDOWN } else { "" };
    crate::say!("\n== kernel {name}");
    let outcome = machine::run(architecture, &unpacked, &files, parameters, &tests, &folder);
    std::fs::remove_file(&files)?;
    let mut cell = report::read(&name, &outcome?);
    if unpacked.modules.is_none() {
        cell.note(WITHOUT_MODULES);
    }
    if options.test.is_empty() {
        std::fs::write(result(&name), serde_json::to_string(&cell)?)?;
    }
    Ok(cell)
}

/// Where a result is kept.
fn result(name: &str) -> PathBuf {
    let folder = kernels::home().join("results");
    // A failure shows as soon as something is written there.
    drop(std::fs::create_dir_all(&folder));
    folder.join(format!("{}.json", file_name(name)))
}

/// The latest results, in the order of the table.
fn saved() -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for kernel in KERNELS {
        for name in [kernel.name.to_owned(), format!("{} lockdown", kernel.name)] {
            let file = result(&name);
            if file.exists() {
                cells.push(serde_json::from_str(&std::fs::read_to_string(file)?)?);
            }
        }
    }
    Ok(cells)
}
