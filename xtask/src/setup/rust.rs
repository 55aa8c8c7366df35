//! The Rust side of the set-up: the sources of `core`, and bpf-linker.
//!
//! Two sources are known for the toolchain: rustup, and the `rustc-web` packages of Debian's security suite,
//! which are built with the very LLVM that `llvm-22-dev` brings. The second is taken where the first is
//! absent or refuses. Nothing is ever updated: `--no-self-update` keeps rustup itself as it is.

use super::apt;
use crate::project::{BPF_LINKER_VERSION, EBPF_TOOLCHAIN, LLVM_MAJOR};
use crate::shell;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const DEBIAN_COMPILER: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "rust-web-src", "libstd-rust-web-dev"];
const COMPONENTS: &[&str] = &["rust-src", "clippy", "rustfmt"];

/// Where a usable compiler with the sources of `core` lies: rustup's pinned one first, then Debian's.
pub fn find_sources() -> Option<String> {
    pinned_sources().or_else(debian_sources)
}

fn pinned_sources() -> Option<String> {
    let compiler = pinned_compiler()?;
    let sources = sources_of(&compiler)?;
    has_pinned_components().then(|| sources.display().to_string())
}

/// The compiler of the pinned toolchain. rustup may be told not to install by itself, so a toolchain that
/// is not there is simply a command that fails.
fn pinned_compiler() -> Option<PathBuf> {
    if let Some(rustup) = shell::find("rustup") {
        let path =
            shell::read(Command::new(rustup).args(["which", "--toolchain", EBPF_TOOLCHAIN, "rustc"])).ok()?;
        return Some(PathBuf::from(path.trim()));
    }
    let compiler = shell::find("rustc")?;
    let version = shell::read(Command::new(&compiler).arg("--version")).ok()?;
    (version.split_whitespace().nth(1) == Some(EBPF_TOOLCHAIN)).then_some(compiler)
}

fn has_pinned_components() -> bool {
    let Some(rustup) = shell::find("rustup") else { return true };
    ["cargo-clippy", "rustfmt"].iter().all(|program| {
        shell::read(Command::new(&rustup).args(["which", "--toolchain", EBPF_TOOLCHAIN, program])).is_ok()
    })
}

fn debian_sources() -> Option<String> {
    let compiler = Path::new(DEBIAN_COMPILER);
    let llvm = llvm_major(&shell::read(Command::new(compiler).arg("-vV")).ok()?)?;
    if llvm != LLVM_MAJOR {
        return None;
    }
    sources_of(compiler).map(|path| format!("{} (Debian)", path.display()))
}

/// A mismatch of LLVM ends in an unreadable linker error, so it is looked at before.
fn llvm_major(verbose_version: &str) -> Option<u32> {
    let line = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

fn sources_of(compiler: &Path) -> Option<PathBuf> {
    let sysroot = shell::read(Command::new(compiler).args(["--print", "sysroot"])).ok()?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    sources.join("core/src/lib.rs").exists().then_some(sources)
}

/// bpf-linker in the pinned version, and able to start: it needs LLVM's shared library at run time.
pub fn find_linker() -> Option<String> {
    let linker = shell::find("bpf-linker")?;
    let version = shell::read(Command::new(&linker).arg("--version")).ok()?;
    is_pinned_linker(&version).then(|| linker.display().to_string())
}

fn is_pinned_linker(version: &str) -> bool {
    version.split_whitespace().nth(1) == Some(BPF_LINKER_VERSION)
}

/// Installs the pinned toolchain from rustup, or Debian's where that does not work.
pub fn install_toolchain() -> Result<()> {
    let Some(rustup) = shell::find("rustup") else {
        crate::say!("rustup is not here: taking Debian's compiler for the kernel programs");
        return apt::install(DEBIAN_PACKAGES);
    };
    let Err(error) = shell::run(&mut toolchain_command(&rustup)) else { return Ok(()) };
    crate::say!("{error:#}: taking Debian's compiler for the kernel programs");
    apt::install(DEBIAN_PACKAGES)
}

/// A toolchain that is there gets its missing components; one that is not is installed with them.
fn toolchain_command(rustup: &Path) -> Command {
    let mut command = Command::new(rustup);
    if pinned_compiler().is_some() {
        command.args(["component", "add", "--toolchain", EBPF_TOOLCHAIN]).args(COMPONENTS);
        return command;
    }
    command.args(["toolchain", "install", EBPF_TOOLCHAIN, "--profile", "minimal", "--no-self-update"]);
    for component in COMPONENTS {
        command.args(["-c", component]);
    }
    command
}

/// Builds bpf-linker against Debian's LLVM.
pub fn install_linker() -> Result<()> {
    let Some(cargo) = shell::find("cargo") else { bail!("cargo is not on PATH") };
    let prefix = format!("/usr/lib/llvm-{LLVM_MAJOR}");
    let feature = format!("llvm-{LLVM_MAJOR}");
    shell::run(
        Command::new(cargo)
            .env("LLVM_PREFIX", prefix)
            .env("RUSTUP_TOOLCHAIN", linker_toolchain())
            .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--force"])
            .args(["--no-default-features", "--features", &feature, "--locked"]),
    )
}

/// The pinned toolchain where it is there, the one that runs us otherwise.
fn linker_toolchain() -> String {
    let ours = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_default();
    if pinned_compiler().is_some() { EBPF_TOOLCHAIN.to_owned() } else { ours }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_compiler_is_read_from_its_version() {
        let text =
            "rustc 1.95.0 (59807616e 2026-04-14)\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        assert_eq!(llvm_major(text), Some(22));
        assert_eq!(llvm_major("rustc 1.0.0\n"), None);
    }

    #[test]
    fn only_the_pinned_linker_counts() {
        assert!(is_pinned_linker(&format!("bpf-linker {BPF_LINKER_VERSION}\n")));
        assert!(!is_pinned_linker("bpf-linker 0.9.1\n"));
        assert!(!is_pinned_linker(""));
    }
}
