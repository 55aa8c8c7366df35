//! The records the kernel programs write and user space reads.
#![no_std]
