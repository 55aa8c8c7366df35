//! Whether maps that are open already can be used without any capability. Kernels before 6.0 want `CAP_BPF` for every
//! call of `bpf()` where `kernel.unprivileged_bpf_disabled` is set; found out by trying, in a thread without any.

use std::fs::File;
use std::io::ErrorKind;
use std::thread;

use aya::maps::{MapData, MapError};
use caps::CapSet;

/// False where the kernel refuses, or where it could not be found out.
pub fn maps_need_no_capability() -> bool {
    thread::spawn(|| caps::clear(None, CapSet::Effective).is_ok() && asks_for_nothing())
        .join()
        .unwrap_or(false)
}

/// Asks about a descriptor that is no map: a kernel that wants a capability refuses before it looks.
fn asks_for_nothing() -> bool {
    let Ok(file) = File::open("/dev/null") else { return false };
    match MapData::from_fd(file.into()) {
        Err(MapError::SyscallError(error)) => error.io_error.kind() != ErrorKind::PermissionDenied,
        Err(_) | Ok(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_leaves_this_thread_as_it_is() {
        let before = caps::read(None, CapSet::Effective).unwrap();
        let _either = maps_need_no_capability();
        assert_eq!(caps::read(None, CapSet::Effective).unwrap(), before);
    }
}
