//! `cargo xtask dist`: packages for Debian and for distributions with RPM, and what a container needs, from the release
//! build. With `--check` the packages are installed into a fresh Debian root, upgraded, used, and removed; with
//! `--boot` the deb into one that is booted (both: root, network).

mod boot;
mod check;
mod debian;
mod rpm;

use crate::{cross, project, shell};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Options of `dist`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Install the package in a fresh root, use it there, and remove it (root; debootstrap is installed if missing).
    #[arg(long)]
    check: bool,
    /// Boot a fresh root with its own service manager in QEMU, and play the life of the installed service (root).
    #[arg(long)]
    boot: bool,
    /// Build the program without shared libraries, for systems whose C library is older or another (needs musl-gcc).
    #[arg(long = "static")]
    is_static: bool,
    /// With --static: for this processor and without packages (aarch64 needs Debian's gcc-aarch64-linux-gnu).
    #[arg(long, requires = "is_static", value_parser = ["x86_64", "aarch64"])]
    arch: Option<String>,
    /// Pack this program instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs the sub-command.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(processor) = &options.arch {
        crate::say!("{}", standing_alone(processor)?.display());
        return Ok(ExitCode::SUCCESS);
    }
    let binary = options.binary.clone().map_or_else(build, Ok)?;
    let packages = pack(&binary, env!("CARGO_PKG_VERSION"))?;
    let alone = options.is_static.then(|| standing_alone(std::env::consts::ARCH)).transpose()?;
    let image = container(alone.as_ref().unwrap_or(&binary))?;
    let made = [Some(&packages.deb), Some(&packages.rpm), Some(&image), alone.as_ref()];
    made.into_iter().flatten().for_each(|path| crate::say!("{}", path.display()));
    if options.check || options.boot {
        let newer = pack(&binary, concat!(env!("CARGO_PKG_VERSION"), ".1"))?;
        if options.check {
            check::in_fresh_root(&packages, &newer)?;
        }
        if options.boot {
            boot::in_virtual_machine(&packages, &newer)?;
        }
        fs::remove_file(newer.deb)?;
        fs::remove_file(newer.rpm)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--release", "--locked", "--package", "rstscope"]))?;
    Ok(project::target().join("release/rstscope"))
}

/// Builds the program so that it needs nothing of the system but the kernel; gives its place.
fn standing_alone(processor: &str) -> Result<PathBuf> {
    let built = cross::build(processor, "rstscope")?;
    let name = format!("dist/rstscope-{}-{processor}-static", env!("CARGO_PKG_VERSION"));
    let place = project::target().join(name);
    put(&built, &place, 0o755)?;
    Ok(place)
}

/// One version as packages.
struct Packages {
    deb: PathBuf,
    rpm: PathBuf,
}

fn pack(binary: &Path, version: &str) -> Result<Packages> {
    let folder = project::target().join("dist");
    let stage = folder.join("deb");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let generated = folder.join("generated");
    shell::run(Command::new(binary).arg("generate").arg(&generated))?;
    install(binary, &generated, &stage)?;
    let libc = debian::libc(&stage)?;
    let rpm = rpm::pack(&stage, &folder, version, &libc)?;
    let deb = debian::pack(&stage, &folder, version, &libc)?;
    Ok(Packages { deb, rpm })
}

/// Puts together what an image is built from, around a program that may need nothing else; gives the folder.
fn container(binary: &Path) -> Result<PathBuf> {
    let folder = project::target().join("dist/container");
    put(binary, &folder.join("rstscope"), 0o755)?;
    for (file, name) in [
        ("tracer/src/config/defaults.toml", "rstscope.toml"),
        ("tracer/packaging/Containerfile", "Containerfile"),
        ("tracer/packaging/daemonset.yaml", "daemonset.yaml"),
    ] {
        put(&project::root().join(file), &folder.join(name), 0o644)?;
    }
    Ok(folder)
}

/// `(file, place, mode)`, files from `tracer/packaging` or the project.
const FILES: &[(&str, &str, u32)] = &[
    ("tracer/packaging/rstscope.service", "lib/systemd/system/rstscope.service", 0o644),
    ("tracer/src/config/defaults.toml", "etc/rstscope/rstscope.toml", 0o644),
    (
        "tracer/packaging/rstscope-systemd-239.service",
        "usr/share/doc/rstscope/rstscope-systemd-239.service",
        0o644,
    ),
    ("tracer/packaging/alerts.yml", "usr/share/doc/rstscope/alerts.yml", 0o644),
    ("tracer/packaging/dashboard.json", "usr/share/doc/rstscope/dashboard.json", 0o644),
    ("tracer/packaging/Containerfile", "usr/share/doc/rstscope/Containerfile", 0o644),
    ("tracer/packaging/daemonset.yaml", "usr/share/doc/rstscope/daemonset.yaml", 0o644),
    ("tracer/packaging/copyright", "usr/share/doc/rstscope/copyright", 0o644),
    ("CHANGELOG.md", "usr/share/doc/rstscope/changelog", 0o644),
    ("docs/verdict.schema.json", "usr/share/doc/rstscope/verdict.schema.json", 0o644),
];

/// Completions under the names that the shells look for.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/rstscope"),
    ("zsh", "usr/share/zsh/vendor-completions/_rstscope"),
    ("fish", "usr/share/fish/vendor_completions.d/rstscope.fish"),
];

/// Puts everything where the package will have it.
fn install(binary: &Path, generated: &Path, stage: &Path) -> Result<()> {
    put(binary, &stage.join("usr/bin/rstscope"), 0o755)?;
    for (file, place, mode) in FILES {
        put(&project::root().join(file), &stage.join(place), *mode)?;
    }
    for (shell, place) in COMPLETIONS {
        put(&generated.join("completions").join(shell), &stage.join(place), 0o644)?;
    }
    for page in fs::read_dir(generated.join("man"))? {
        let page = page?;
        put(&page.path(), &stage.join("usr/share/man/man1").join(page.file_name()), 0o644)?;
    }
    let compressed = [stage.join("usr/share/man/man1"), stage.join("usr/share/doc/rstscope/changelog")];
    shell::run(Command::new("gzip").args(["--recursive", "--best", "--no-name"]).args(compressed))
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}
