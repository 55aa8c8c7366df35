//! Reading kernel memory at offsets resolved from BTF. A member this kernel lacks reads as zero.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use rstscope_ebpf::abi::{MISSING, Record};

/// A pointer into the kernel; never dereferenced directly.
pub type Kernel = *const u8;

/// Reads a `T` at `base + offset`; zero if the member does not exist or the read fails.
///
/// The helper fills the target with zeros when it fails (`bpf_probe_read_kernel_common`), so its result is not looked
/// at: a branch here is one for each member, and the verifiers of older kernels walk every combination.
#[inline(always)]
pub fn read<T: Copy + Default>(base: Kernel, offset: u32) -> T {
    if offset == MISSING {
        return T::default();
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address and fails instead of faulting; it writes every byte of the target,
    // and zero is a value of every integer and array of integers read here.
    unsafe {
        let _zero_on_failure = bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(offset as usize).cast(),
        );
        value.assume_init()
    }
}

/// Reads a member straight into its place in a record that is zero so far; the stack is too small to go through it.
#[inline(always)]
pub fn read_into<T: Copy + Default>(target: &mut T, base: Kernel, offset: u32) {
    if offset == MISSING {
        return;
    }
    // SAFETY: the helper checks the address, and writes every byte of the target, zeros on failure.
    unsafe {
        let _zero_on_failure = bpf_probe_read_kernel(
            (&raw mut *target).cast(),
            size_of::<T>() as u32,
            base.wrapping_add(offset as usize).cast(),
        );
    }
}

/// As many zeros as the largest thing that is cleared.
static ZEROS: [u8; size_of::<Record>()] = [0; size_of::<Record>()];

/// Makes every byte of `target` zero. Done by the helper: see `copy`.
#[inline(always)]
pub fn clear<T: Copy>(target: *mut T) {
    const { assert!(size_of::<T>() <= size_of::<Record>()) };
    copy(target, (&raw const ZEROS).cast());
}

/// Copies what is too large for a few instructions. The compiler would make a loop in a function of its own,
/// and beside such a function the verifiers before 6.3 take every number for precise and no two states for equal:
/// a program of 3,000 instructions then exceeds their limit of a million.
#[inline(always)]
pub fn copy<T: Copy>(target: *mut T, source: *const T) {
    // SAFETY: the target is a `T`, the verifier checks that, too; the source is a `T` that nothing moves.
    let _always_readable =
        unsafe { bpf_probe_read_kernel(target.cast(), size_of::<T>() as u32, source.cast()) };
}

/// Reads a pointer member.
#[inline(always)]
pub fn read_pointer(base: Kernel, offset: u32) -> Kernel {
    read::<usize>(base, offset) as Kernel
}

/// Reads eight bits of a bit-field that may begin inside a byte (`mcast_hops` before 6.8), counted from the start
/// of the structure, least significant first.
#[inline(always)]
pub fn read_byte_at_bit(base: Kernel, bit: u32) -> u8 {
    if bit == MISSING {
        return 0;
    }
    (read::<u16>(base, bit / 8) >> (bit % 8)) as u8
}

/// Reads one bit, counted from the start of the structure.
#[inline(always)]
pub fn read_bit(base: Kernel, bit: u32) -> bool {
    if bit == MISSING {
        return false;
    }
    read::<u8>(base, bit / 8) >> (bit % 8) & 1 == 1
}
