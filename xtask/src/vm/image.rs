//! What goes into a virtual machine: this program as its init, the tracer, Nginx and the network tools with the
//! libraries they load, the kernel's modules.

use super::archive::Archive;
use super::modules::Module;
use crate::{project, shell};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where init looks for its modules, in order.
pub const MODULES: &str = "/modules";
/// The tracer inside.
pub const TRACER: &str = "/usr/bin/rstscope";
/// Programs of the machine that the lab calls.
const PROGRAMS: &[&str] = &["nginx", "ip", "nft", "sh"];
/// Nginx looks up the user of its workers.
const USERS: &str = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\nwww-data:x:33:\n";
const EMPTY: &[&str] =
    &["/proc", "/sys", "/run", "/tmp", "/var/log/nginx", "/var/lib/nginx", "/etc/iproute2", "/etc/netns"];

/// The first file system.
pub fn build(tracer: &Path, modules: &[Module]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.console();
    for folder in EMPTY {
        archive.folder(folder);
    }
    archive.file("/etc/passwd", USERS.as_bytes());
    archive.file("/etc/group", GROUPS.as_bytes());
    add(&mut archive, &std::env::current_exe()?, "/init")?;
    add(&mut archive, tracer, TRACER)?;
    for program in PROGRAMS {
        let file = shell::need(program)?;
        add(&mut archive, &file, &format!("/usr/bin/{program}"))?;
    }
    let schema = project::root().join("docs/verdict.schema.json");
    archive.file(&schema.to_string_lossy(), &std::fs::read(&schema)?);
    archive.folder(MODULES);
    for (number, module) in modules.iter().enumerate() {
        archive.file(&format!("{MODULES}/{number:03}-{}", module.name), &module.object);
    }
    Ok(archive.finish())
}

/// A program and what it loads.
fn add(archive: &mut Archive, file: &Path, place: &str) -> Result<()> {
    let content = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    archive.file(place, &content);
    // A static program has nothing to load, and ldd says so by failing.
    let listed = shell::read(Command::new("ldd").arg(file)).unwrap_or_default();
    for library in libraries(&listed) {
        archive.file(&library.to_string_lossy(), &std::fs::read(&library)?);
    }
    Ok(())
}

/// The files in what ldd prints: `libc.so.6 => /lib/libc.so.6 (0x…)`, `/lib64/ld-linux.so.2 (0x…)`.
fn libraries(listed: &str) -> Vec<PathBuf> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(libraries(listed), [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld.so.2")]);
    }
}
