//! Where the programs inside a virtual machine come from: this machine, or Debian's packages for another processor,
//! unpacked into a folder.

use super::architecture::Architecture;
use super::kernels::home;
use crate::debian::{self, Apt};
use crate::shell;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What has the programs that the lab calls.
const PACKAGES: &[&str] = &["nginx", "iproute2", "nftables", "dash", "libgcc-s1"];
const SUITE: &str = "bookworm";
const FOLDERS: &[&str] = &["usr/sbin", "usr/bin", "sbin", "bin"];

/// Where programs and their libraries are taken from.
pub enum Source {
    /// This machine.
    Here,
    /// A folder with the file system of a Debian, for a processor with this name in its folders of libraries.
    Root(PathBuf, &'static str),
}

impl Source {
    /// Programs for this processor.
    pub fn of(architecture: &Architecture) -> Result<Self> {
        if architecture.is_ours() {
            return Ok(Self::Here);
        }
        let root = home().join("programs").join(architecture.debian);
        debian::once(&root, || {
            let apt = Apt::prepare("debian", SUITE, architecture.debian)?;
            apt.unpack_with_dependencies(PACKAGES, &root)
        })
        .context("programs for another processor")?;
        Ok(Self::Root(root, architecture.rust))
    }

    /// A program.
    pub fn find(&self, program: &str) -> Result<PathBuf> {
        match self {
            Self::Here => shell::need(program),
            Self::Root(root, _) => first(root, FOLDERS.iter().map(|folder| format!("{folder}/{program}"))),
        }
    }

    /// What a program loads: the files, by their places inside.
    pub fn libraries(&self, program: &Path) -> Result<BTreeMap<String, PathBuf>> {
        match self {
            Self::Here => {
                // A static program has nothing to load, and ldd says so by failing.
                let listed = shell::read(Command::new("ldd").arg(program)).unwrap_or_default();
                Ok(listed_files(&listed).map(|file| (file.clone(), file.into())).collect())
            }
            Self::Root(root, processor) => {
                let mut found = BTreeMap::new();
                follow(root, processor, program, &mut found)?;
                Ok(found)
            }
        }
    }
}

/// The files in what ldd prints: `libc.so.6 => /lib/libc.so.6 (0x…)`, `/lib64/ld-linux.so.2 (0x…)`.
fn listed_files(listed: &str) -> impl Iterator<Item = String> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned)
}

/// Adds the interpreter and the libraries of a program, and theirs.
fn follow(root: &Path, processor: &str, program: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let told = shell::read(Command::new("readelf").args(["--wide", "--dynamic", "--segments"]).arg(program))?;
    for name in needed(&told) {
        let places = ["lib", "usr/lib"].map(|folder| format!("{folder}/{processor}-linux-gnu/{name}"));
        let file = match name.strip_prefix('/') {
            Some(interpreter) => first(root, [interpreter.to_owned()])?,
            None => first(root, places)?,
        };
        let place = Path::new("/").join(file.strip_prefix(root)?).to_string_lossy().into_owned();
        if found.insert(place, file.clone()).is_none() {
            follow(root, processor, &file, found)?;
        }
    }
    Ok(())
}

/// `Shared library: [libc.so.6]` and `[Requesting program interpreter: /lib/ld-linux-aarch64.so.1]` of readelf.
fn needed(told: &str) -> impl Iterator<Item = &str> {
    ["Shared library: [", "[Requesting program interpreter: "].into_iter().flat_map(move |label| {
        told.lines().filter_map(move |line| line.split_once(label)?.1.split_once(']').map(|(name, _)| name))
    })
}

/// The first of these places that has a file. A link with an absolute target leads out of the folder, and is none.
fn first(root: &Path, places: impl IntoIterator<Item = String>) -> Result<PathBuf> {
    let places: Vec<String> = places.into_iter().collect();
    let found = places.iter().map(|place| root.join(place)).find(|file| is_within(root, file));
    found.with_context(|| format!("none of {} is in {}", places.join(", "), root.display()))
}

fn is_within(root: &Path, file: &Path) -> bool {
    let real = file.canonicalize().and_then(|file| Ok((file, root.canonicalize()?)));
    real.is_ok_and(|(file, root)| file.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(listed_files(listed).collect::<Vec<_>>(), ["/lib/libc.so.6", "/lib64/ld.so.2"]);
    }

    #[test]
    fn libraries_and_the_interpreter_are_read_from_readelf() {
        let told = "      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]\n \
                    0x0000000000000001 (NEEDED)             Shared library: [libcrypt.so.1]\n \
                    0x000000000000000e (SONAME)             Library soname: [x.so]\n";
        assert_eq!(needed(told).collect::<Vec<_>>(), ["libcrypt.so.1", "/lib/ld-linux-aarch64.so.1"]);
    }
}
