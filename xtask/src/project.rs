//! Where the project lies, and the pins it shares with the build script.
//!
//! Nothing is searched for: the place is fixed when this program is compiled.

use std::path::{Path, PathBuf};

#[path = "../../tracer-ebpf/toolchain.rs"]
mod toolchain;

pub use toolchain::{BPF_LINKER_VERSION, EBPF_TOOLCHAIN, LLVM_MAJOR};

/// The folder that holds the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    member.parent().unwrap_or(member)
}

/// The folder cargo builds into.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
