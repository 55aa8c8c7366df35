// The one place that pins what builds the eBPF object; included by `tracer/build.rs` and by `xtask`.
//
// Rule: the LLVM of rustc must be at most the LLVM of bpf-linker, and of the same major version.
// A newer rustc ends in nothing but `Invalid record` from the linker, so names that move
// ("nightly", "stable") are never used.

/// Toolchain for the eBPF object: stable, opened for `-Z build-std` by `RUSTC_BOOTSTRAP=1`.
pub const EBPF_TOOLCHAIN: &str = "1.95.0";

/// Version of bpf-linker that is installed by `cargo xtask setup`.
pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// Major version of the LLVM that bpf-linker is built against; Debian 12 carries `llvm-22-dev`.
pub const LLVM_MAJOR: u32 = 22;
