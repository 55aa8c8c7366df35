//! Boots a Debian root with a real service manager in QEMU, installs the package there and plays the life of the
//! service: start, verdicts, kill -9, freeze, reload, upgrade, purge. The unit's sandbox is only there real.

use super::Packages;
use super::check::{Root, install_tools};
use crate::shell;
use crate::vm::architecture::AMD64;
use crate::vm::machine;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What is in the root beside a minimal Debian.
const BESIDE: &str = "systemd,systemd-sysv,dbus,nginx-light,iproute2,nftables,curl,procps,adduser,initramfs-tools,\
                      linux-image-cloud-amd64";
/// What plays, and the unit that starts it.
const PLAY: &str = include_str!("boot/play.sh");
const UNIT: &str = "[Unit]\nAfter=multi-user.target nginx.service\n\n[Service]\nType=oneshot\nExecStart=/play.sh\n\n\
                    [Install]\nWantedBy=multi-user.target\n";
/// Size of the disk.
const DISK: &str = "1500M";
/// Longer than it takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(12);
/// Begins every line of the play on the serial line.
const MARK: &str = "PLAY ";

/// Boots and plays.
pub(super) fn in_virtual_machine(packages: &Packages, newer: &Packages) -> Result<()> {
    install_tools()?;
    let root = Root::lay(&[&format!("--include={BESIDE}")])?;
    root.bring(&packages.deb, "old.deb")?;
    root.bring(&newer.deb, "new.deb")?;
    fs::write(root.path.join("etc/systemd/system/play.service"), UNIT)?;
    fs::write(root.path.join("play.sh"), PLAY)?;
    fs::set_permissions(root.path.join("play.sh"), fs::Permissions::from_mode(0o755))?;
    root.run(&["systemctl", "enable", "play.service"])?;
    let disk = root.path.with_extension("img");
    shell::run(Command::new("truncate").args(["--size", "0"]).arg(&disk))?;
    shell::run(Command::new("truncate").args(["--size", DISK]).arg(&disk))?;
    shell::run(Command::new("mkfs.ext4").args(["-q", "-d"]).arg(&root.path).arg(&disk))?;
    let console = boot(&root.path, &disk)?;
    judge(&console)?;
    fs::remove_file(&disk)?;
    fs::remove_dir_all(&root.path)?;
    Ok(())
}

/// What the machine said until it switched itself off, or was stopped.
fn boot(root: &Path, disk: &Path) -> Result<String> {
    let console = disk.with_extension("console");
    let line = "console=ttyS0 root=/dev/vda rw panic=-1 random.trust_cpu=on quiet";
    let mut machine = machine::qemu(&AMD64, &only(root, "vmlinuz-")?, &only(root, "initrd.img-")?, line)?;
    machine.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
    machine.args(["-serial", &machine::serial(&console)]);
    // A play that was stopped lacks its last line, which is judged.
    let _by_itself = machine::to_its_end(&mut machine, LIMIT)?;
    Ok(String::from_utf8_lossy(&fs::read(&console)?).into_owned())
}

fn only(root: &Path, start: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(root.join("boot"))?.filter_map(Result::ok);
    let mut found = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    Ok(found.next().with_context(|| format!("the root has no {start}*"))?.path())
}

/// Shows every step; an error where one failed or the play did not come to its end.
fn judge(console: &str) -> Result<()> {
    // The prompt of the login may stand before it.
    let said = console.lines().filter_map(|line| Some(line.split_once(MARK)?.1.trim_end()));
    let said: Vec<&str> = said.collect();
    for line in &said {
        crate::say!("  {line}");
    }
    let failed: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("failed ")).collect();
    if !failed.is_empty() {
        bail!("{} on a booted machine; it said:\n{console}", failed.join("; "));
    }
    ensure!(said.contains(&"finished"), "the machine did not come to its end; it said:\n{console}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_and_a_play_without_an_end_are_errors() {
        assert!(judge("[ 1.0] x\nvm login: PLAY ok a\r\nPLAY finished\r\n").is_ok());
        assert!(judge("PLAY ok a\nPLAY failed b\nPLAY finished\n").is_err());
        assert!(judge("PLAY ok a\n").is_err());
    }
}
