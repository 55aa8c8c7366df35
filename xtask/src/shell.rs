//! Runs other programs: finds them, shows what is run, and turns a bad exit into an error that names the command.
//!
//! No shell is involved, so nothing is quoted or expanded.

use crate::project;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Finds a program on `PATH`, in the system folders an ordinary user's `PATH` lacks, or in cargo's own folder.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo = cargo_home().map(|home| home.join("bin"));
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(cargo)
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

/// The program's path, or an error that says how to get it.
pub fn need(program: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("{program} is not installed: run `cargo xtask setup`"))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

/// Cargo of the pinned toolchain where rustup has it, and the one that runs us otherwise; at the project's root,
/// with cargo's own programs on `PATH`, where the build looks for the linker.
pub fn cargo() -> Command {
    let shim = find("cargo").filter(|_| has_pinned_toolchain());
    let ours = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(shim.clone().map_or(ours, PathBuf::into_os_string));
    if shim.is_some() {
        command.env("RUSTUP_TOOLCHAIN", project::EBPF_TOOLCHAIN);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(cargo_home().map(|home| home.join("bin")));
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("PATH", path);
    }
    command.current_dir(project::root());
    command
}

fn has_pinned_toolchain() -> bool {
    let ask =
        |rustup| read(Command::new(rustup).args(["which", "--toolchain", project::EBPF_TOOLCHAIN, "cargo"]));
    find("rustup").is_some_and(|rustup| ask(rustup).is_ok())
}

/// Are we root?
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs as root: itself when we are root, through `sudo` otherwise.
pub fn as_root(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = if is_root() { Command::new("env") } else { Command::new("sudo") };
    if !is_root() {
        command.arg("env");
    }
    command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(program).args(arguments);
    command
}

/// Shows the command, runs it with our own terminal, and fails when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    crate::say!("+ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{shown}` ended with {status}")
}

/// Runs the command quietly and gives its output when it succeeded.
pub fn read(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    let environment = command
        .get_envs()
        .filter(|(name, _)| *name != "PATH")
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy())));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy);
    environment.chain(words.map(std::borrow::Cow::into_owned)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_with_its_environment() {
        let mut command = Command::new("cargo");
        command.env("LLVM_PREFIX", "/usr/lib/llvm-22").args(["install", "bpf-linker"]);
        assert_eq!(show(&command), "LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker");
    }

    #[test]
    fn failure_names_the_command_and_its_complaint() {
        let error = read(Command::new("ls").arg("/nonexistent-folder")).unwrap_err().to_string();
        assert!(error.starts_with("`ls /nonexistent-folder` ended with"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_not_found() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
