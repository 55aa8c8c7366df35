//! Packages of Debian's archive, of any suite and architecture, downloaded and unpacked under the target folder:
//! with a state of apt's own, so that nothing on the machine is installed or changed.

use crate::{project, shell};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIRROR: &str = "http://deb.debian.org";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with one suite and one architecture.
pub struct Apt {
    folder: PathBuf,
    architecture: &'static str,
}

impl Apt {
    /// Fetches the index; `archive` is `debian` or `debian-security`, `architecture` as Debian names it.
    pub fn prepare(archive: &str, suite: &str, architecture: &'static str) -> Result<Self> {
        let folder = project::target().join("vm/apt").join(format!("{suite}-{architecture}"));
        for part in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        std::fs::write(folder.join("status"), "")?;
        let source =
            format!("deb [arch={architecture} signed-by={KEYRING}] {MIRROR}/{archive} {suite} main\n");
        std::fs::write(folder.join("sources.list"), source)?;
        let apt = Self { folder, architecture };
        shell::run(apt.command("apt-get").args(["--quiet=2", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, place) in [
            ("Dir::State", ""),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            command.arg("-o").arg(format!("{option}={}", self.folder.join(place).display()));
        }
        // Run by root, apt would download as a user who may not write into our folder.
        for option in ["Dir::Etc::sourceparts=-", "APT::Sandbox::User=root"] {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("APT::Architecture={}", self.architecture));
        command
    }

    /// Names of all packages that begin like this.
    pub fn names(&self, start: &str) -> Result<Vec<String>> {
        let names = shell::read(self.command("apt-cache").args(["pkgnames", start]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Unpacks these packages, and nothing that they depend on, into a folder.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        shell::run(self.command("apt-get").args(["download", "--quiet"]).args(packages).current_dir(into))?;
        extract(into, into)
    }

    /// Unpacks these packages and everything that they depend on into a folder.
    pub fn unpack_with_dependencies(&self, packages: &[&str], into: &Path) -> Result<()> {
        let words = ["install", "--download-only", "--yes", "--quiet", "--no-install-recommends"];
        shell::run(self.command("apt-get").args(words).args(packages))?;
        extract(&self.folder.join("cache/archives"), into)
    }
}

/// Takes the files out of every package in a folder, and removes the packages.
fn extract(packages: &Path, into: &Path) -> Result<()> {
    for file in entries(packages).filter(|file| file.extension().is_some_and(|end| end == "deb")) {
        shell::read(Command::new("dpkg-deb").arg("-x").arg(&file).arg(into))?;
        std::fs::remove_file(file)?;
    }
    Ok(())
}

/// Fills a folder once: what was filled completely before is left as it is.
pub fn once(folder: &Path, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    if folder.join("complete").exists() {
        return Ok(());
    }
    drop(std::fs::remove_dir_all(folder));
    std::fs::create_dir_all(folder)?;
    fill()?;
    Ok(std::fs::write(folder.join("complete"), "")?)
}

/// What lies in a folder.
pub fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_not_filled_to_the_end_is_filled_again() {
        let folder = std::env::temp_dir().join(format!("rstscope-once-{}", std::process::id()));
        assert!(once(&folder, || anyhow::bail!("interrupted")).is_err());
        assert!(once(&folder, || Ok(std::fs::write(folder.join("file"), "1")?)).is_ok());
        assert!(once(&folder, || anyhow::bail!("not called")).is_ok());
        assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "1");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
