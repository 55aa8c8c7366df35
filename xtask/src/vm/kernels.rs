//! The kernels to test on, and how Debian's archive gives them: with a state of apt's own under the target
//! folder, so that nothing on the machine is installed or changed.

use crate::{project, shell};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One kernel: the newest package of this series in this suite.
#[derive(Debug)]
pub struct Kernel {
    /// Series, as `--kernel` names it.
    pub name: &'static str,
    archive: &'static str,
    suite: &'static str,
}

const fn kernel(name: &'static str, archive: &'static str, suite: &'static str) -> Kernel {
    Kernel { name, archive, suite }
}

/// Oldest first.
pub const KERNELS: &[Kernel] = &[
    kernel("5.10", "debian-security", "bullseye-security"),
    kernel("6.1", "debian", "bookworm"),
    kernel("6.12", "debian", "trixie"),
    kernel("6.16", "debian", "trixie-backports"),
    kernel("6.17", "debian", "trixie-backports"),
    kernel("6.18", "debian", "trixie-backports"),
    kernel("6.19", "debian", "trixie-backports"),
    kernel("7.0", "debian", "trixie-backports"),
    kernel("7.1", "debian", "trixie-backports"),
    kernel("7.2", "debian", "trixie-backports"),
    kernel("7.3", "debian", "trixie-backports"),
];

const MIRROR: &str = "http://deb.debian.org";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// From 7.x on the image and its modules are in packages of their own.
const PARTS: &[&str] = &["linux-image-", "linux-binary-", "linux-modules-"];
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel on this machine.
#[derive(Debug)]
pub struct Unpacked {
    /// The compressed image.
    pub image: PathBuf,
    /// Folder of its modules.
    pub modules: PathBuf,
}

/// Where everything of the matrix lies.
pub fn home() -> PathBuf {
    project::target().join("vm")
}

impl Kernel {
    /// Downloads and unpacks it, unless that was done before.
    pub fn fetch(&self) -> Result<Unpacked> {
        let folder = home().join("kernels").join(self.name);
        if !folder.join("complete").exists() {
            self.download(&folder).with_context(|| format!("kernel {}", self.name))?;
            std::fs::write(folder.join("complete"), "")?;
        }
        let find = |wanted: fn(&str) -> bool| {
            let mut files = Vec::new();
            walk(&folder, &mut files);
            files
                .into_iter()
                .find(|file| file.file_name().is_some_and(|name| wanted(&name.to_string_lossy())))
        };
        let image = find(|name| name.starts_with("vmlinuz")).context("the package has no image")?;
        let module = find(|name| name.starts_with("veth.ko")).context("the package has no modules")?;
        let modules = module.ancestors().find(|folder| folder.ends_with("kernel"));
        Ok(Unpacked { image, modules: modules.context("modules in an unknown place")?.to_owned() })
    }

    fn download(&self, folder: &Path) -> Result<()> {
        drop(std::fs::remove_dir_all(folder));
        std::fs::create_dir_all(folder)?;
        let apt = Apt::prepare(self)?;
        let release = self.newest(&apt)?;
        for part in PARTS {
            let package = format!("{part}{release}{FLAVOUR}");
            if apt.has(&package)? {
                shell::run(
                    apt.command("apt-get").args(["download", "--quiet", &package]).current_dir(folder),
                )?;
            }
        }
        for file in entries(folder).filter(|file| file.extension().is_some_and(|end| end == "deb")) {
            shell::read(Command::new("dpkg-deb").arg("-x").arg(&file).arg(folder))?;
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    /// The newest release of the series, without flavour.
    fn newest(&self, apt: &Apt) -> Result<String> {
        let names = shell::read(apt.command("apt-cache").args(["pkgnames", PARTS[0]]))?;
        let release = |line: &str| Some(line.strip_prefix(PARTS[0])?.strip_suffix(FLAVOUR)?.to_owned());
        let ours =
            |release: &String| release.strip_prefix(self.name).is_some_and(|rest| rest.starts_with('.'));
        let newest = names.lines().filter_map(release).filter(ours).max_by_key(|release| numbers(release));
        let Some(newest) = newest else { bail!("{} has no {}", self.suite, self.name) };
        Ok(newest)
    }
}

fn numbers(release: &str) -> Vec<u32> {
    release.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// apt with one suite and no influence on the machine.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn prepare(kernel: &Kernel) -> Result<Self> {
        let folder = home().join("apt").join(kernel.suite);
        for part in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        std::fs::write(folder.join("status"), "")?;
        let source = format!(
            "deb [arch=amd64 signed-by={KEYRING}] {MIRROR}/{} {} main\n",
            kernel.archive, kernel.suite
        );
        std::fs::write(folder.join("sources.list"), source)?;
        let apt = Self { folder };
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
        for option in ["Dir::Etc::sourceparts=-", "APT::Architecture=amd64", "APT::Sandbox::User=root"] {
            command.args(["-o", option]);
        }
        command
    }

    fn has(&self, package: &str) -> Result<bool> {
        let names = shell::read(self.command("apt-cache").args(["pkgnames", package]))?;
        Ok(names.lines().any(|name| name == package))
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Every file below a folder; links are not followed.
pub fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in entries(folder) {
        if path.is_dir() && !path.is_symlink() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert!(numbers("6.18.15+deb13") > numbers("6.18.9+deb13"));
        assert!(numbers("5.10.0-46") > numbers("5.10.0-9"));
    }

    #[test]
    fn every_kernel_is_there_once_and_oldest_first() {
        assert!(KERNELS.windows(2).all(|pair| numbers(pair[0].name) < numbers(pair[1].name)));
    }
}
