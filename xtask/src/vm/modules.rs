//! The kernel modules that the lab needs, unpacked and in an order in which they can be loaded.
//!
//! A module says itself which others it needs (`depends=` in its `.modinfo` section), so no index is needed.

use super::kernels::walk;
use crate::shell;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the lab asks the kernel for. A name that a kernel lacks is built in there, or not needed.
const WANTED: &[&str] = &[
    "veth",
    "inet_diag",
    "tcp_diag",
    "nf_tables",
    "nft_counter",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_reject",
    "nft_limit",
];

/// A module, ready to be loaded.
#[derive(Debug)]
pub struct Module {
    /// Name with underscores.
    pub name: String,
    /// Its object file, unpacked.
    pub object: Vec<u8>,
}

/// What is wanted and what the machine needs beside that, in the order in which it is to be loaded.
pub fn collect(folder: &Path, also: &[&str]) -> Result<Vec<Module>> {
    let mut files = Vec::new();
    walk(folder, &mut files);
    let files: BTreeMap<String, PathBuf> =
        files.into_iter().filter_map(|file| Some((name(&file)?, file))).collect();
    let mut modules = Vec::new();
    for wanted in also.iter().chain(WANTED) {
        add(wanted, &files, &mut modules)?;
    }
    Ok(modules)
}

/// Those it needs first, then the module itself.
fn add(name: &str, files: &BTreeMap<String, PathBuf>, modules: &mut Vec<Module>) -> Result<()> {
    let Some(file) = files.get(name) else { return Ok(()) };
    if modules.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let object = unpack(file)?;
    for needed in needs(&object) {
        add(&needed, files, modules)?;
    }
    modules.push(Module { name: name.to_owned(), object });
    Ok(())
}

/// `nft-reject.ko.xz` is `nft_reject`.
fn name(file: &Path) -> Option<String> {
    let file = file.file_name()?.to_str()?;
    Some(file.split_once(".ko")?.0.replace('-', "_"))
}

fn unpack(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|end| end.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(std::fs::read(file)?),
    };
    let output = Command::new(shell::need(program)?).arg("-dc").arg(file).output()?;
    anyhow::ensure!(output.status.success(), "{program} cannot unpack {}", file.display());
    Ok(output.stdout)
}

fn needs(object: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(start) = object.windows(key.len()).position(|window| window == key) else { return Vec::new() };
    let list: Vec<u8> = object[start + key.len()..].iter().copied().take_while(|byte| *byte != 0).collect();
    let list = String::from_utf8_lossy(&list).replace('-', "_");
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_those_it_needs() {
        assert_eq!(
            needs(b"\x7fELF\0license=GPL\0depends=nf_tables,nf-reject\0x"),
            ["nf_tables", "nf_reject"]
        );
        assert!(needs(b"\0license=GPL\0depends=\0").is_empty());
    }

    #[test]
    fn names_are_those_of_the_kernel() {
        assert_eq!(name(Path::new("/m/nf-reject.ko.xz")).as_deref(), Some("nf_reject"));
        assert_eq!(name(Path::new("/m/veth.ko")).as_deref(), Some("veth"));
        assert_eq!(name(Path::new("/m/modules.dep")), None);
    }
}
