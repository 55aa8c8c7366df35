//! Builds the kernel programs and puts the object where `probe::load` embeds it.
//!
//! Cargo alone is enough once the toolchain is there. What is missing ends in one sentence that names
//! the one command that fixes it.

#[path = "../tracer-ebpf/toolchain.rs"]
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::{env, fs};

const OBJECT: &str = "rstscope-ebpf";
const FIX: &str = "run: cargo xtask setup";

/// A compiler for the BPF target.
struct Compiler {
    rustc: PathBuf,
    name: String,
}

fn main() -> ExitCode {
    watch();
    match build() {
        Ok(compiler) => {
            println!("cargo::rustc-env=RSTSCOPE_EBPF_COMPILER={compiler}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("cargo::error=cannot build the kernel programs: {problem}; {FIX}");
            ExitCode::FAILURE
        }
    }
}

fn watch() {
    for path in
        ["../tracer-ebpf/src", "../tracer-ebpf/Cargo.toml", "../tracer-ebpf/toolchain.rs", "../Cargo.lock"]
    {
        println!("cargo::rerun-if-changed={path}");
    }
    for name in ["RSTSCOPE_EBPF_RUSTC", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
}

fn build() -> Result<String, String> {
    let compiler = find_compiler()?;
    let llvm = llvm_of_rustc(&compiler.rustc)?;
    check_linker(&llvm)?;
    let out = PathBuf::from(var("OUT_DIR")?);
    let object = compile(&compiler, &out)?;
    fs::copy(&object, out.join(OBJECT)).map_err(|error| format!("copying {}: {error}", object.display()))?;
    Ok(format!("{} (LLVM {llvm})", compiler.name))
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

/// In order: a compiler named by hand, the pinned toolchain, the one that runs this build, Debian's `rustc-web`.
fn find_compiler() -> Result<Compiler, String> {
    if let Ok(path) = env::var("RSTSCOPE_EBPF_RUSTC") {
        return Ok(Compiler { name: path.clone(), rustc: path.into() });
    }
    let found = [
        pinned(),
        Some(PathBuf::from(var("RUSTC")?)),
        Some(PathBuf::from("/usr/lib/rust-web/bin/rustc")),
        Some("/usr/bin/rustc".into()),
    ];
    let Some(rustc) = found.into_iter().flatten().find(|rustc| usable(rustc)) else {
        return Err(format!(
            "no compiler with the source of core (rust-src) and LLVM {} was found, wanted is toolchain {}",
            toolchain::LLVM_MAJOR,
            toolchain::EBPF_TOOLCHAIN
        ));
    };
    let version = stdout(Command::new(&rustc).arg("--version"))?;
    Ok(Compiler { rustc, name: version.trim().to_owned() })
}

fn pinned() -> Option<PathBuf> {
    let path =
        stdout(Command::new("rustup").args(["which", "rustc", "--toolchain", toolchain::EBPF_TOOLCHAIN]))
            .ok()?;
    Some(path.trim().into())
}

fn usable(rustc: &Path) -> bool {
    let Ok(sysroot) = stdout(Command::new(rustc).args(["--print", "sysroot"])) else { return false };
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    source.exists() && llvm_of_rustc(rustc).is_ok_and(|llvm| major(&llvm) == Some(toolchain::LLVM_MAJOR))
}

fn llvm_of_rustc(rustc: &Path) -> Result<String, String> {
    let text = stdout(Command::new(rustc).arg("-vV"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    line.map(str::to_owned).ok_or_else(|| format!("{} does not tell its LLVM version", rustc.display()))
}

/// A linker whose LLVM is older than the compiler's ends in nothing but `Invalid record`.
/// bpf-linker does not tell its LLVM; the library it loads does. A static one is found out when linking.
fn check_linker(llvm_of_rustc: &str) -> Result<(), String> {
    let path = find_on_path("bpf-linker")
        .ok_or_else(|| format!("bpf-linker {} was not found on PATH", toolchain::BPF_LINKER_VERSION))?;
    let Ok(libraries) = stdout(Command::new("ldd").arg(&path)) else { return Ok(()) };
    let Some(llvm) = libraries.split_whitespace().find_map(|word| word.strip_prefix("libLLVM.so.")) else {
        return Ok(());
    };
    let (linker, rustc) = (numbers(llvm), numbers(llvm_of_rustc));
    if linker
        .iter()
        .zip(&rustc)
        .find(|(linker, rustc)| linker != rustc)
        .is_some_and(|(linker, rustc)| linker < rustc)
    {
        return Err(format!("bpf-linker uses LLVM {llvm}, older than rustc's LLVM {llvm_of_rustc}"));
    }
    Ok(())
}

fn find_on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn major(version: &str) -> Option<u32> {
    numbers(version).first().copied()
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.trim().parse().ok()).collect()
}

fn compile(compiler: &Compiler, out: &Path) -> Result<PathBuf, String> {
    let target = out.join("ebpf-target");
    let mut command = Command::new(var("CARGO")?);
    command
        .args([
            "build",
            "--locked",
            "--package",
            OBJECT,
            "--bins",
            "--release",
            "--target",
            "bpfel-unknown-none",
        ])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target)
        .current_dir("..")
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(compiler)?)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN");
    let output = command.output().map_err(|error| format!("starting cargo: {error}"))?;
    if output.status.success() {
        return Ok(target.join("bpfel-unknown-none/release").join(OBJECT));
    }
    Err(explain(&output))
}

/// Path prefixes are remapped, so that the object does not depend on where it was built.
fn flags(compiler: &Compiler) -> Result<String, String> {
    let architecture = var("CARGO_CFG_TARGET_ARCH")?;
    let sysroot = stdout(Command::new(&compiler.rustc).args(["--print", "sysroot"]))?;
    let workspace = fs::canonicalize("..").map_err(|error| format!("the workspace: {error}"))?;
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=/src", workspace.display()),
        format!("--remap-path-prefix={}=/rust", sysroot.trim()),
    ];
    if let Some(home) = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
    {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    Ok(flags.join("\u{1f}"))
}

fn explain(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    for line in text.lines() {
        println!("cargo::warning={line}");
    }
    let invalid = text.contains("Invalid record");
    let why =
        if invalid { "rustc's LLVM is newer than the linker's" } else { "the compiler's output is above" };
    why.to_owned()
}

fn stdout(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
