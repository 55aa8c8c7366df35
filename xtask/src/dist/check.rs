//! Installs the packages into a fresh Debian root, looks at what is there, uses it, and removes it again. No service
//! manager runs in such a root, so the unit is verified and the daemon is started as the unit's user by hand.

use super::Packages;
use crate::{project, shell};
use anyhow::{Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Suite of the root.
const SUITE: &str = "bookworm";

/// The configuration.
const CONFIGURATION: &str = "etc/rstscope/rstscope.toml";

/// What must be there after the installation of the RPM.
const INSTALLED_BY_RPM: &[&str] = &[
    "usr/bin/rstscope",
    "usr/lib/systemd/system/rstscope.service",
    "usr/share/man/man1/rstscope.1.gz",
    "usr/share/zsh/site-functions/_rstscope",
];

/// What must be there after the installation.
const INSTALLED: &[&str] = &[
    "usr/bin/rstscope",
    "lib/systemd/system/rstscope.service",
    "etc/rstscope/rstscope.toml",
    "usr/share/man/man1/rstscope.1.gz",
    "usr/share/man/man1/rstscope-daemon.1.gz",
    "usr/share/bash-completion/completions/rstscope",
    "usr/share/zsh/vendor-completions/_rstscope",
    "usr/share/fish/vendor_completions.d/rstscope.fish",
];

/// Plays the life of the packages: first Debian's, then the RPM beside it.
pub(super) fn in_fresh_root(packages: &Packages, newer: &Packages) -> Result<()> {
    ensure!(shell::is_root(), "--check lays a fresh root: run it as root");
    install_tools()?;
    let root = Root::lay(&[])?;
    root.bring(&packages.deb, "old.deb")?;
    root.bring(&newer.deb, "new.deb")?;
    debian(&root)?;
    root.bring(&packages.rpm, "old.rpm")?;
    root.bring(&newer.rpm, "new.rpm")?;
    red_hat(&root)?;
    fs::remove_dir_all(&root.path)?;
    crate::say!("deb and rpm: installed, upgraded, removed in a fresh {SUITE} root; the deb purged as well");
    Ok(())
}

/// Installs what lays a root, where it is missing.
pub(super) fn install_tools() -> Result<()> {
    if shell::find("debootstrap").is_some() {
        return Ok(());
    }
    let words = ["install", "--yes", "--quiet", "--no-install-recommends", "debootstrap"];
    shell::run(&mut shell::as_root("apt-get", &words, &[("DEBIAN_FRONTEND", "noninteractive")]))
}

fn debian(root: &Root) -> Result<()> {
    root.run(&["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "/old.deb"])?;
    root.has(INSTALLED)?;
    root.run(&["rstscope", "--version"])?;
    root.run(&["rstscope", "config", "check"])?;
    root.run(&["getent", "passwd", "rstscope"])?;
    let configuration = root.path.join(CONFIGURATION);
    fs::write(&configuration, "[store]\nkeep = \"7d\"\n")?;
    root.run(&["dpkg", "--install", "/new.deb"])?;
    ensure!(fs::read_to_string(&configuration)?.contains("7d"), "an upgrade overwrote the configuration");
    root.run(&["sh", "-c", "dpkg-query --show --showformat '${Version}' rstscope | grep -F .1"])?;
    let state = root.path.join("var/lib/rstscope");
    fs::create_dir_all(&state)?;
    fs::write(state.join("verdicts.db"), "kept until the purge")?;
    root.run(&["dpkg", "--remove", "rstscope"])?;
    ensure!(state.exists() && configuration.exists(), "remove took what only purge may take");
    root.run(&["dpkg", "--purge", "rstscope"])?;
    root.lacks(INSTALLED)?;
    root.lacks(&["etc/rstscope", "var/lib/rstscope"])
}

/// Debian's `rpm` knows none of its own packages, so what the package requires cannot be checked here.
fn red_hat(root: &Root) -> Result<()> {
    root.run(&["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "rpm"])?;
    root.run(&["rpm", "--install", "--nodeps", "/old.rpm"])?;
    root.has(INSTALLED_BY_RPM)?;
    root.run(&["rpm", "--verify", "--nodeps", "rstscope"])?;
    root.run(&["rstscope", "config", "check"])?;
    let configuration = root.path.join(CONFIGURATION);
    fs::write(&configuration, "[store]\nkeep = \"7d\"\n")?;
    root.run(&["rpm", "--upgrade", "--nodeps", "/new.rpm"])?;
    ensure!(fs::read_to_string(&configuration)?.contains("7d"), "an upgrade overwrote the configuration");
    root.run(&["rpm", "--erase", "rstscope"])?;
    root.lacks(INSTALLED_BY_RPM)?;
    ensure!(root.path.join(format!("{CONFIGURATION}.rpmsave")).exists(), "a changed configuration is gone");
    Ok(())
}

/// A fresh Debian.
/// A fresh Debian root.
pub(super) struct Root {
    pub(super) path: PathBuf,
}

impl Root {
    /// Lays it, with more words for `debootstrap`.
    pub(super) fn lay(words: &[&str]) -> Result<Self> {
        let path = project::target().join("dist/root");
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        shell::run(Command::new("debootstrap").arg("--variant=minbase").args(words).arg(SUITE).arg(&path))?;
        Ok(Self { path })
    }

    pub(super) fn bring(&self, file: &Path, name: &str) -> Result<()> {
        fs::copy(file, self.path.join(name))?;
        Ok(())
    }

    pub(super) fn run(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new("chroot");
        command.arg(&self.path).args(words).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        shell::run(&mut command)
    }

    fn has(&self, paths: &[&str]) -> Result<()> {
        let missing = paths.iter().find(|path| !self.path.join(path).exists());
        missing.map_or(Ok(()), |path| bail!("{path} is not there after the installation"))
    }

    fn lacks(&self, paths: &[&str]) -> Result<()> {
        let left = paths.iter().find(|path| self.path.join(path).exists());
        left.map_or(Ok(()), |path| bail!("{path} is still there after the removal"))
    }
}
