//! Reading kernel memory at offsets resolved from BTF. A member this kernel lacks reads as zero.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use rstscope_ebpf::abi::MISSING;

/// A pointer into the kernel; never dereferenced directly.
pub type Kernel = *const u8;

/// Reads a `T` at `base + offset`; zero if the member does not exist or the read fails.
///
/// The helper fills the destination with zeros when it fails, so its result is not looked at: one branch
/// less per member, which the verifier would otherwise follow both ways.
#[inline(always)]
pub fn read<T: Copy + Default>(base: Kernel, offset: u32) -> T {
    if offset == MISSING {
        return T::default();
    }
    let mut value = MaybeUninit::<T>::zeroed();
    let from = base.wrapping_add(offset as usize);
    // SAFETY: the helper checks the address and writes exactly the value, or zeros; `T` is an integer or an
    // array of them (`Copy + Default`), for which zero is valid.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast());
        value.assume_init()
    }
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
