//! The `bpf(2)` calls that aya has no form of for programs it did not load: loading and attaching one that does
//! nothing, and running one many times.
//!
//! Structures are the leading members of `union bpf_attr` (`include/uapi/linux/bpf.h`).

use anyhow::{Context, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_CGROUP_SKB: u32 = 8;
const BPF_CGROUP_INET_INGRESS: u32 = 0;

/// `r0 = 1; exit`.
const EMPTY: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    input_size: u32,
    output_size: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration_ns: u32,
    context: [u64; 3],
}

/// A `cgroup_skb` program that does nothing.
pub fn empty_program() -> Result<OwnedFd> {
    let licence = c"GPL";
    let mut load = Load {
        kind: BPF_PROG_TYPE_CGROUP_SKB,
        instructions: EMPTY.len() as u32,
        code: EMPTY.as_ptr() as u64,
        licence: licence.as_ptr() as u64,
        ..Load::default()
    };
    let fd = call(BPF_PROG_LOAD, &mut load).context("cannot load an empty program")?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    target: u32,
    place: u32,
    flags: u32,
    more: [u64; 4],
}

/// Lets a `cgroup_skb` program see every packet that sockets below this cgroup receive, while the result lives.
pub fn attach_ingress(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut link = Link {
        program: u32::try_from(program.as_raw_fd())?,
        target: u32::try_from(cgroup.as_raw_fd())?,
        place: BPF_CGROUP_INET_INGRESS,
        ..Link::default()
    };
    let fd = call(BPF_LINK_CREATE, &mut link).context("cannot attach an empty program")?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs a program `repeat` times on this frame; the mean time of one run, as the kernel measured it.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<Duration> {
    let mut run = TestRun {
        program: u32::try_from(program.as_raw_fd())?,
        input_size: frame.len() as u32,
        input: frame.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    };
    call(BPF_PROG_TEST_RUN, &mut run).context("the kernel does not run the program for a test")?;
    Ok(Duration::from_nanos(u64::from(run.duration_ns)))
}

fn call<T>(command: libc::c_long, attributes: &mut T) -> Result<libc::c_int> {
    // SAFETY: the attributes are of the size given, and what they point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(result as libc::c_int)
}

/// An Ethernet frame with an ordinary TCP segment: IPv4, ACK and PSH, some data.
pub fn data_segment() -> Vec<u8> {
    let mut frame = vec![0; 14];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame.extend([0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 2, 1, 10, 77, 2, 2]);
    frame.extend([0x9c, 0x40, 0x1f, 0x40, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend([b'x'; 20]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_has_the_length_it_says() {
        let frame = data_segment();
        assert_eq!(frame.len() - 14, usize::from(frame[17]));
        assert_eq!(frame[14 + 20 + 13], 0x18);
    }
}
