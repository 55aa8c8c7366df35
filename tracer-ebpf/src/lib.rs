//! The contract between the kernel programs and user space: records, map keys and values, globals.
//!
//! Only plain integers and byte arrays with explicit padding, so that both sides agree on every
//! byte without a `transmute`. Nothing here reads or interprets anything.
#![cfg_attr(target_arch = "bpf", no_std)]

pub mod abi;
