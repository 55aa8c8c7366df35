//! The kernels to test on, and where Debian's archive has them.

use super::architecture::{AMD64, ARM64, Architecture};
use crate::debian::{self, Apt, entries};
use crate::project;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// One kernel: the newest package of this series in this suite.
#[derive(Debug)]
pub struct Kernel {
    /// As `--kernel` names it, and its column.
    pub name: &'static str,
    /// What it runs on.
    pub architecture: &'static Architecture,
    series: &'static str,
    archive: &'static str,
    suite: &'static str,
}

const fn amd64(series: &'static str, archive: &'static str, suite: &'static str) -> Kernel {
    Kernel { name: series, architecture: &AMD64, series, archive, suite }
}

/// Oldest first, other processors last.
pub const KERNELS: &[Kernel] = &[
    amd64("5.10", "debian-security", "bullseye-security"),
    amd64("6.1", "debian", "bookworm"),
    amd64("6.12", "debian", "trixie"),
    amd64("6.16", "debian", "trixie-backports"),
    amd64("6.17", "debian", "trixie-backports"),
    amd64("6.18", "debian", "trixie-backports"),
    amd64("6.19", "debian", "trixie-backports"),
    amd64("7.0", "debian", "trixie-backports"),
    amd64("7.1", "debian", "trixie-backports"),
    amd64("7.2", "debian", "trixie-backports"),
    amd64("7.3", "debian", "trixie-backports"),
    Kernel { name: "6.1 arm64", architecture: &ARM64, ..amd64("6.1", "debian", "bookworm") },
];

/// From 7.x on the image and its modules are in packages of their own.
const PARTS: &[&str] = &["linux-image-", "linux-binary-", "linux-modules-"];

/// A kernel on this machine.
#[derive(Debug)]
pub struct Unpacked {
    /// The compressed image.
    pub image: PathBuf,
    /// Folder of its modules; the archive keeps those of superseded releases for a shorter time than their images.
    pub modules: Option<PathBuf>,
}

/// Where everything of the matrix lies.
pub fn home() -> PathBuf {
    project::target().join("vm")
}

/// A name of a column as the name of a file.
pub fn file_name(name: &str) -> String {
    name.replace(' ', "-")
}

impl Kernel {
    /// Downloads and unpacks it, unless that was done before.
    pub fn fetch(&self) -> Result<Unpacked> {
        let folder = home().join("kernels").join(file_name(self.name));
        debian::once(&folder, || self.download(&folder)).with_context(|| format!("kernel {}", self.name))?;
        let find = |wanted: fn(&str) -> bool| {
            let mut files = Vec::new();
            walk(&folder, &mut files);
            files
                .into_iter()
                .find(|file| file.file_name().is_some_and(|name| wanted(&name.to_string_lossy())))
        };
        let image = find(|name| name.starts_with("vmlinuz")).context("the package has no image")?;
        let module = find(|name| name.starts_with("veth.ko"));
        let modules = module.as_deref().and_then(|module| {
            module.ancestors().find(|folder| folder.ends_with("kernel")).map(Path::to_owned)
        });
        Ok(Unpacked { image, modules })
    }

    fn download(&self, folder: &Path) -> Result<()> {
        let apt = Apt::prepare(self.archive, self.suite, self.architecture.debian)?;
        let names = apt.names("linux-")?;
        let release = self.newest(&names)?;
        let packages = PARTS.iter().map(|part| format!("{part}{release}{}", self.flavour()));
        let packages: Vec<String> = packages.filter(|package| names.contains(package)).collect();
        apt.unpack(&packages, folder)
    }

    fn flavour(&self) -> String {
        format!("-cloud-{}", self.architecture.debian)
    }

    /// The newest release of the series, without flavour.
    fn newest(&self, names: &[String]) -> Result<String> {
        let flavour = self.flavour();
        let release = |name: &String| Some(name.strip_prefix(PARTS[0])?.strip_suffix(&flavour)?.to_owned());
        let ours =
            |release: &String| release.strip_prefix(self.series).is_some_and(|rest| rest.starts_with('.'));
        let newest = names.iter().filter_map(release).filter(ours).max_by_key(|release| numbers(release));
        let Some(newest) = newest else { bail!("{} has no {}", self.suite, self.series) };
        Ok(newest)
    }
}

fn numbers(release: &str) -> Vec<u32> {
    release.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
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
    fn the_newest_release_of_series_and_architecture_is_taken() {
        let names =
            ["6.1.0-9-cloud-arm64", "6.1.0-50-cloud-arm64", "6.1.0-51-cloud-amd64", "6.12.9-cloud-arm64"];
        let names = names.map(|name| format!("linux-image-{name}"));
        let arm64 = KERNELS.iter().find(|kernel| kernel.name == "6.1 arm64").unwrap();
        assert_eq!(arm64.newest(&names).unwrap(), "6.1.0-50");
    }

    #[test]
    fn every_kernel_is_there_once_and_oldest_first() {
        let place = |kernel: &Kernel| (kernel.architecture.debian, numbers(kernel.series));
        assert!(KERNELS.windows(2).all(|pair| place(&pair[0]) < place(&pair[1])));
    }
}
