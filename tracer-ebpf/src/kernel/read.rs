//! Reading kernel memory at offsets resolved from BTF. A member this kernel lacks reads as zero.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use rstscope_ebpf::abi::MISSING;

/// A pointer into the kernel; never dereferenced directly.
pub type Kernel = *const u8;

/// Reads a `T` at `base + offset`; zero if the member does not exist or the read fails.
#[inline(always)]
pub fn read<T: Copy + Default>(base: Kernel, offset: u32) -> T {
    if offset == MISSING {
        return T::default();
    }
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast::<T>()) }.unwrap_or_default()
}

/// Reads a pointer member.
#[inline(always)]
pub fn read_pointer(base: Kernel, offset: u32) -> Kernel {
    read::<usize>(base, offset) as Kernel
}

/// Reads one bit, counted from the start of the structure.
#[inline(always)]
pub fn read_bit(base: Kernel, bit: u32) -> bool {
    if bit == MISSING {
        return false;
    }
    read::<u8>(base, bit / 8) >> (bit % 8) & 1 == 1
}
