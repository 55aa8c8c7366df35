//! The same files as an RPM package, under the places that its distributions have.

use anyhow::{Context, Result};
use rpm::{BuildConfig, CompressionType, Dependency, FileOptions, PackageBuilder};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Places that differ from Debian's: the beginning there, and here.
const PLACES: &[(&str, &str)] = &[
    ("lib/systemd/", "usr/lib/systemd/"),
    ("usr/share/zsh/vendor-completions/", "usr/share/zsh/site-functions/"),
];

/// The user that the unit runs as; left when the package goes, because files may still be its.
const PRE: &str = "getent group rstscope >/dev/null || groupadd --system rstscope
getent passwd rstscope >/dev/null || useradd --system --gid rstscope --home-dir /var/lib/rstscope --no-create-home \
--shell /sbin/nologin rstscope
exit 0
";

const POST: &str = "if [ -d /run/systemd/system ]; then
    systemctl daemon-reload >/dev/null 2>&1 || :
    if [ $1 -eq 1 ]; then systemctl preset rstscope.service >/dev/null 2>&1 || :; fi
fi
";

const PREUN: &str = "if [ $1 -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now rstscope.service >/dev/null 2>&1 || :
fi
";

/// An upgrade starts the new version only where the old one ran.
const POSTUN: &str = "if [ -d /run/systemd/system ]; then
    systemctl daemon-reload >/dev/null 2>&1 || :
    if [ $1 -ge 1 ]; then systemctl try-restart rstscope.service >/dev/null 2>&1 || :; fi
fi
";

/// Packs the staged files; gives the package. `libc` is the oldest C library that will do.
pub fn pack(stage: &Path, folder: &Path, version: &str, libc: &str) -> Result<PathBuf> {
    let architecture = std::env::consts::ARCH;
    let summary = "Says who reset this connection of Nginx, and why";
    let mut builder = PackageBuilder::new("rstscope", version, "GPL-2.0-only", architecture, summary);
    builder
        .using_config(BuildConfig::v4().compression(CompressionType::Gzip))
        .description(
            "Watches TCP in the kernel with eBPF, joins what it sees with Nginx's error.log, and says for every \
             incident whose doing it was, why, on what evidence, and what to change.",
        )
        .requires(Dependency::any(format!("libc.so.6(GLIBC_{libc})(64bit)")))
        .requires(Dependency::any("libgcc_s.so.1()(64bit)"))
        .requires(Dependency::script_pre("shadow-utils"))
        .pre_install_script(PRE)
        .post_install_script(POST)
        .pre_uninstall_script(PREUN)
        .post_uninstall_script(POSTUN);
    let mut files = Vec::new();
    collect(stage, &mut files)?;
    files.sort();
    for file in files {
        let inside = file.strip_prefix(stage)?.to_str().context("a name that is no text")?.to_owned();
        let mode = u16::try_from(fs::metadata(&file)?.permissions().mode() & 0o777)?;
        let options = FileOptions::new(format!("/{}", place(&inside))).permissions(mode);
        let is_configuration = inside.starts_with("etc/");
        let options = if is_configuration { options.config().noreplace() } else { options };
        builder.with_file(&file, options)?;
    }
    let package = folder.join(format!("rstscope-{version}-1.{architecture}.rpm"));
    builder.build()?.write_file(&package)?;
    Ok(package)
}

fn place(inside: &str) -> String {
    let moved =
        PLACES.iter().find_map(|(there, here)| Some(format!("{here}{}", inside.strip_prefix(there)?)));
    moved.unwrap_or_else(|| inside.to_owned())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_where_these_distributions_look_for_them() {
        assert_eq!(place("lib/systemd/system/rstscope.service"), "usr/lib/systemd/system/rstscope.service");
        assert_eq!(
            place("usr/share/zsh/vendor-completions/_rstscope"),
            "usr/share/zsh/site-functions/_rstscope"
        );
        assert_eq!(place("etc/rstscope/rstscope.toml"), "etc/rstscope/rstscope.toml");
    }

    #[test]
    fn a_package_says_what_it_is_and_keeps_the_configuration() {
        let folder = std::env::temp_dir().join(format!("rstscope-rpm-{}", std::process::id()));
        let stage = folder.join("stage");
        for (path, text) in [("usr/bin/rstscope", "program"), ("etc/rstscope/rstscope.toml", "[store]\n")] {
            let path = stage.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let file = pack(&stage, &folder, "1.2.3", "2.34").unwrap();
        let package = rpm::Package::open(&file).unwrap();
        assert_eq!(package.metadata.get_version().unwrap(), "1.2.3");
        let entries = package.metadata.get_file_entries().unwrap();
        let configuration = entries.iter().find(|entry| entry.path().ends_with("rstscope.toml")).unwrap();
        assert!(configuration.flags().contains(rpm::FileFlags::CONFIG | rpm::FileFlags::NOREPLACE));
        fs::remove_dir_all(folder).unwrap();
    }
}
