//! Programs that need nothing of a system but its kernel, for this processor or another one: built against musl.
//!
//! For this processor `musl-gcc` compiles the C that crates bring along. For another one Debian's cross compiler does,
//! with the headers of that processor's `musl-dev`; the C library itself comes with Rust's target.

use crate::debian::{self, Apt};
use crate::{project, shell};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// How programs for another processor are compiled.
struct Cross {
    /// As Rust names the processor.
    processor: &'static str,
    /// As Debian names it.
    debian: &'static str,
    /// The compiler, and the package that has it.
    compiler: (&'static str, &'static str),
}

const CROSS: &[Cross] = &[Cross {
    processor: "aarch64",
    debian: "arm64",
    compiler: ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
}];

const SUITE: &str = "bookworm";

/// Builds the program of a package for this processor; gives its place.
pub fn build(processor: &str, package: &str) -> Result<PathBuf> {
    let target = format!("{processor}-unknown-linux-musl");
    let compile = compiler(processor, &target)?;
    let add = ["target", "add", "--toolchain", project::EBPF_TOOLCHAIN, &target];
    shell::run(Command::new("rustup").args(add))?;
    let words = ["build", "--release", "--locked", "--package", package, "--target", &target];
    shell::run(shell::cargo().args(words).envs(compile))?;
    Ok(project::target().join(target).join("release").join(package))
}

/// What tells cargo and the crates how to compile and link.
fn compiler(processor: &str, target: &str) -> Result<Vec<(String, String)>> {
    if processor == std::env::consts::ARCH {
        need("musl-gcc", "musl-tools")?;
        return Ok(Vec::new()); // Found by its name.
    }
    let Some(cross) = CROSS.iter().find(|cross| cross.processor == processor) else {
        bail!("nothing is known of how to build for {processor}");
    };
    let (compiler, package) = cross.compiler;
    need(compiler, package)?;
    let headers = project::target().join("vm/headers").join(cross.debian);
    debian::once(&headers, || {
        Apt::prepare("debian", SUITE, cross.debian)?.unpack(&["musl-dev".to_owned()], &headers)
    })?;
    let own = shell::read(Command::new(compiler).arg("-print-file-name=include"))?;
    let musl = headers.join("usr/include").join(format!("{processor}-linux-musl"));
    let flags = format!("-nostdinc -isystem {} -isystem {}", musl.display(), own.trim());
    let lower = target.replace('-', "_");
    let linker = format!("CARGO_TARGET_{}_LINKER", lower.to_uppercase());
    let set = [(linker, compiler), (format!("CC_{lower}"), compiler), (format!("CFLAGS_{lower}"), &flags)];
    Ok(set.map(|(name, value)| (name, value.to_owned())).to_vec())
}

fn need(program: &str, package: &str) -> Result<()> {
    shell::find(program)
        .map(drop)
        .with_context(|| format!("{program} is not here: apt-get install --no-install-recommends {package}"))
}
