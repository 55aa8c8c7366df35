//! What goes into a virtual machine: this program as its init, the tracer, Nginx and the network tools with the
//! libraries they load, the kernel's modules.

use super::archive::Archive;
use super::modules::Module;
use super::programs::Source;
use crate::project;
use anyhow::{Context, Result};
use std::path::Path;

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

/// The programs of ours: this one as it runs inside, and the tracer.
pub struct Ours<'a> {
    /// The first program.
    pub init: &'a Path,
    /// The tracer.
    pub tracer: &'a Path,
}

/// The first file system.
pub fn build(ours: &Ours<'_>, source: &Source, modules: &[Module]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.console();
    for folder in EMPTY {
        archive.folder(folder);
    }
    archive.file("/etc/passwd", USERS.as_bytes());
    archive.file("/etc/group", GROUPS.as_bytes());
    add(&mut archive, source, ours.init, "/init")?;
    add(&mut archive, source, ours.tracer, TRACER)?;
    for program in PROGRAMS {
        add(&mut archive, source, &source.find(program)?, &format!("/usr/bin/{program}"))?;
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
fn add(archive: &mut Archive, source: &Source, file: &Path, place: &str) -> Result<()> {
    let content = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    archive.file(place, &content);
    for (place, library) in source.libraries(file)? {
        archive.file(&place, &std::fs::read(&library)?);
    }
    Ok(())
}
