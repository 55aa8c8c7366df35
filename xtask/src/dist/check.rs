//! Installs the package into a fresh Debian root, looks at what is there, uses it, and removes it again. No service
//! manager runs in such a root, so the unit is verified and the daemon is started as the unit's user by hand.

use crate::{project, shell};
use anyhow::{Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Suite of the root.
const SUITE: &str = "bookworm";

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

/// Plays the life of a package.
pub fn in_fresh_root(package: &Path) -> Result<()> {
    ensure!(shell::is_root(), "--check lays a fresh root: run it as root");
    if shell::find("debootstrap").is_none() {
        let words = ["install", "--yes", "--quiet", "--no-install-recommends", "debootstrap"];
        shell::run(&mut shell::as_root("apt-get", &words, &[("DEBIAN_FRONTEND", "noninteractive")]))?;
    }
    let root = fresh_root()?;
    let file = root.join("rstscope.deb");
    fs::copy(package, &file)?;
    let inside = |words: &[&str]| {
        let mut command = Command::new("chroot");
        command.arg(&root).args(words).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    };
    shell::run(&mut inside(&[
        "apt-get",
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        "/rstscope.deb",
    ]))?;
    for path in INSTALLED {
        ensure!(root.join(path).exists(), "{path} is not there after the installation");
    }
    shell::run(&mut inside(&["rstscope", "--version"]))?;
    shell::run(&mut inside(&["rstscope", "config", "check"]))?;
    shell::run(&mut inside(&["getent", "passwd", "rstscope"]))?;
    // The same again is an upgrade: a changed configuration stays.
    let configuration = root.join("etc/rstscope/rstscope.toml");
    fs::write(&configuration, "[store]\nkeep = \"7d\"\n")?;
    shell::run(&mut inside(&["dpkg", "--install", "/rstscope.deb"]))?;
    ensure!(fs::read_to_string(&configuration)?.contains("7d"), "an upgrade overwrote the configuration");
    let state = root.join("var/lib/rstscope");
    fs::create_dir_all(&state)?;
    fs::write(state.join("verdicts.db"), "kept until the purge")?;
    shell::run(&mut inside(&["dpkg", "--remove", "rstscope"]))?;
    ensure!(state.exists() && configuration.exists(), "remove took what only purge may take");
    shell::run(&mut inside(&["dpkg", "--purge", "rstscope"]))?;
    for path in INSTALLED.iter().copied().chain(["etc/rstscope", "var/lib/rstscope"]) {
        if root.join(path).exists() {
            bail!("{path} is still there after the purge");
        }
    }
    fs::remove_dir_all(&root)?;
    crate::say!("installed, upgraded, removed and purged in a fresh {SUITE} root");
    Ok(())
}

fn fresh_root() -> Result<PathBuf> {
    let root = project::target().join("dist/root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    shell::run(Command::new("debootstrap").args(["--variant=minbase", SUITE]).arg(&root))?;
    Ok(root)
}
