//! Installs Debian packages without starting their services.
//!
//! A freshly installed nginx would be started at once and take port 80. Debian's own way to forbid that is
//! `policy-rc.d`; ours exists only while the installation runs, and one that is already there is left alone.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Stdio;

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs packages; does nothing, not even an update, for an empty list.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if shell::find("apt-get").is_none() {
        bail!("apt-get is not here: install by hand what provides {}", packages.join(" "));
    }
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    shell::run(&mut shell::as_root("apt-get", &["update", "--quiet"], &quiet))?;
    let _policy = NoServices::begin()?;
    let words = ["install", "--yes", "--quiet", "--no-install-recommends"];
    shell::run(&mut shell::as_root("apt-get", &[&words, packages].concat(), &quiet))
}

/// While it lives, package scripts start no service; removed on every way out, failure included.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        crate::say!("+ write {POLICY} (exit 101: no service is started) and remove it afterwards");
        let guard = Self { ours: true };
        let mut writer = shell::as_root("install", &["-m", "0755", "/dev/stdin", POLICY], &[])
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot write {POLICY}"))?;
        if let Some(mut stdin) = writer.stdin.take() {
            std::io::Write::write_all(&mut stdin, b"#!/bin/sh\nexit 101\n")?;
        }
        if !writer.wait()?.success() {
            bail!("cannot write {POLICY}");
        }
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        let mut remove = shell::as_root("rm", &["-f", POLICY], &[]);
        if let Err(error) = shell::run(&mut remove) {
            crate::out::complain(format_args!("warning: {POLICY} is left behind: {error:#}"));
        }
    }
}
