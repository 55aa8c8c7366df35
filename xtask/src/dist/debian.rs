//! What makes a folder a Debian package: control file, scripts, and `dpkg-deb`.

use crate::shell;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user that the unit runs as; made when it is missing, left when the package goes (files may still be its).
const POSTINST: &str = r#"#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if ! getent passwd rstscope >/dev/null; then
        adduser --system --group --quiet --home /var/lib/rstscope --no-create-home rstscope
    fi
    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
    fi
    if [ -x /usr/bin/deb-systemd-helper ]; then
        deb-systemd-helper unmask rstscope.service >/dev/null || true
        if deb-systemd-helper --quiet was-enabled rstscope.service; then
            deb-systemd-helper enable rstscope.service >/dev/null || true
        fi
    fi
    if [ -d /run/systemd/system ]; then
        if [ -n "$2" ]; then action=restart; else action=start; fi
        deb-systemd-invoke "$action" rstscope.service >/dev/null || true
    fi
fi
"#;

const PRERM: &str = r#"#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop rstscope.service >/dev/null || true
fi
"#;

/// The verdicts go only with `purge`.
const POSTRM: &str = r#"#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = purge ]; then
    if [ -x /usr/bin/deb-systemd-helper ]; then
        deb-systemd-helper purge rstscope.service >/dev/null || true
        deb-systemd-helper unmask rstscope.service >/dev/null || true
    fi
    rm -rf /var/lib/rstscope
    rmdir --ignore-fail-on-non-empty /etc/rstscope 2>/dev/null || true
fi
"#;

/// Packs the staged files; gives the package. `libc` is the oldest C library that will do.
pub fn pack(stage: &Path, folder: &Path, version: &str, libc: &str) -> Result<PathBuf> {
    let scripts = stage.join("DEBIAN");
    fs::create_dir_all(&scripts)?;
    for (name, text) in [("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)] {
        fs::write(scripts.join(name), text)?;
        fs::set_permissions(scripts.join(name), fs::Permissions::from_mode(0o755))?;
    }
    fs::write(scripts.join("conffiles"), "/etc/rstscope/rstscope.toml\n")?;
    let architecture = shell::read(Command::new("dpkg").arg("--print-architecture"))?;
    fs::write(scripts.join("control"), control(version, architecture.trim(), libc))?;
    let package = folder.join(format!("rstscope_{version}_{}.deb", architecture.trim()));
    let options = ["--root-owner-group", "-Zxz", "--build"];
    shell::run(Command::new("dpkg-deb").args(options).arg(stage).arg(&package))?;
    Ok(package)
}

fn control(version: &str, architecture: &str, libc: &str) -> String {
    format!(
        "Package: rstscope\nVersion: {version}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
         Maintainer: rstscope contributors <rstscope@example.invalid>\n\
         Depends: libc6 (>= {libc}), libgcc-s1, adduser, init-system-helpers (>= 1.54)\n\
         Suggests: nginx, prometheus\n\
         Description: says who reset this connection of Nginx, and why\n \
         Watches TCP in the kernel with eBPF, joins what it sees with Nginx's\n \
         error.log, and says for every incident whose doing it was (client,\n \
         nginx, upstream, middlebox), why, on what evidence, and what to change.\n"
    )
}

/// The newest version of the C library whose symbols the program uses.
pub fn libc(stage: &Path) -> Result<String> {
    let bytes = fs::read(stage.join("usr/bin/rstscope"))?;
    newest_libc(&bytes).context("the program names no version of the C library")
}

fn newest_libc(program: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let minor = |at: usize| {
        let digits = program[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        String::from_utf8(digits.copied().collect()).ok()?.parse::<u32>().ok()
    };
    let found = program.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    found.filter_map(|(at, _)| minor(at)).max().map(|minor| format!("2.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_decides_the_dependency() {
        assert_eq!(newest_libc(b"..GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.9\0"), Some("2.34".to_owned()));
        assert_eq!(newest_libc(b"nothing"), None);
    }

    #[test]
    fn the_control_file_ends_its_description_as_it_must() {
        let text = control("1.0", "amd64", "2.34");
        assert!(
            text.ends_with('\n')
                && text
                    .lines()
                    .skip_while(|line| !line.starts_with("Description"))
                    .skip(1)
                    .all(|line| line.starts_with(' '))
        );
    }
}
