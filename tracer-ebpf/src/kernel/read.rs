//! Reading kernel memory at offsets resolved from BTF. A member this kernel lacks reads as zero.
//!
//! There are two ways, and programs that exist in both are written once, over `Memory`:
//! `Typed`, plain loads that the verifier checks against the type it knows, and `Checked`, loads by a helper that
//! fails instead of faulting. Typed loads cost a nanosecond and are allowed under every lockdown; checked ones reach
//! everything, the bytes of packets too, and cost ten.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_skc_to_tcp_sock,
};
use core::mem::MaybeUninit;
use rstscope_ebpf::abi::MISSING;

use super::globals::config;

/// A structure of the kernel.
pub trait Memory: Copy {
    /// A structure at this address.
    fn at(address: *const u8) -> Self;

    /// Its address.
    fn address(self) -> *const u8;

    /// Reads a member.
    fn get<T: Word>(self, offset: u32) -> T;

    /// Reads a member straight into its place, which is zero so far; the stack is too small to go through it.
    fn get_into<T: Word>(self, target: &mut T, offset: u32);

    /// The structure that a pointer member names.
    fn follow(self, offset: u32) -> Self;

    /// The `struct tcp_sock` of a full socket.
    fn tcp(self) -> Option<Self>;

    /// The running task.
    fn current_task() -> Self;

    /// The same structure in the form that reaches everything, the bytes of packets too; `None` where that is forbidden.
    fn checked(self) -> Option<Checked>;

    /// Whether there is nothing.
    #[inline(always)]
    fn is_null(self) -> bool {
        self.address().is_null()
    }
}

/// What is read at once. Typed loads must not span members, so each is one load, or as many as there are words.
pub trait Word: Copy {
    /// What stands for a member that is not there.
    const ZERO: Self;

    /// One load for each word.
    ///
    /// # Safety
    ///
    /// `from` is an address that the verifier knows.
    unsafe fn load(from: *const u8) -> Self;
}

macro_rules! word {
    ($($integer:ty)+) => {
        $(impl Word for $integer {
            const ZERO: Self = 0;

            #[inline(always)]
            unsafe fn load(from: *const u8) -> Self {
                // SAFETY: as promised by the caller; volatile, so that neighbours are not merged into one load.
                unsafe { core::ptr::read_volatile(from.cast()) }
            }
        })+
    };
}

word! { u8 u16 u32 u64 usize }

impl Word for [u8; 4] {
    const ZERO: Self = [0; 4];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: as promised by the caller.
        unsafe { u32::load(from) }.to_ne_bytes()
    }
}

impl Word for [u8; 16] {
    const ZERO: Self = [0; 16];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        let word = |at: usize| {
            // SAFETY: as promised by the caller.
            unsafe { u32::load(from.wrapping_add(at)) }
        };
        // SAFETY: four words are sixteen bytes, all of them valid.
        unsafe { core::mem::transmute::<[u32; 4], Self>([word(0), word(4), word(8), word(12)]) }
    }
}

/// A structure whose type the verifier knows: an argument of a `tp_btf` program, or what such a one points to.
#[derive(Clone, Copy)]
pub struct Typed(*const u8);

impl Memory for Typed {
    #[inline(always)]
    fn at(address: *const u8) -> Self {
        Self(address)
    }

    #[inline(always)]
    fn address(self) -> *const u8 {
        self.0
    }

    #[inline(always)]
    fn get<T: Word>(self, offset: u32) -> T {
        if offset == MISSING {
            return T::ZERO;
        }
        // SAFETY: the verifier compares address and offset, a constant to it, with the type.
        unsafe { T::load(self.0.wrapping_add(offset as usize)) }
    }

    #[inline(always)]
    fn get_into<T: Word>(self, target: &mut T, offset: u32) {
        if offset != MISSING {
            *target = self.get(offset);
        }
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        Self(self.get::<usize>(offset) as *const u8)
    }

    #[inline(always)]
    fn tcp(self) -> Option<Self> {
        // SAFETY: the verifier knows that this is a socket; anything but a full TCP socket gives null.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) };
        if tcp.is_null() { None } else { Some(Self(tcp.cast())) }
    }

    #[inline(always)]
    fn current_task() -> Self {
        // SAFETY: no arguments; returns a valid task.
        Self(unsafe { bpf_get_current_task_btf() }.cast())
    }

    #[inline(always)]
    fn checked(self) -> Option<Checked> {
        if config!(reads_memory) == 0 {
            return None;
        }
        Some(Checked(self.0))
    }
}

/// A structure at an address that means nothing to the verifier.
#[derive(Clone, Copy)]
pub struct Checked(*const u8);

impl Memory for Checked {
    #[inline(always)]
    fn at(address: *const u8) -> Self {
        Self(address)
    }

    #[inline(always)]
    fn address(self) -> *const u8 {
        self.0
    }

    /// The helper fills the target with zeros when it fails (`bpf_probe_read_kernel_common`), so its result is not
    /// looked at: a branch here is one for each member, and the verifiers of older kernels walk every combination.
    #[inline(always)]
    fn get<T: Word>(self, offset: u32) -> T {
        if offset == MISSING {
            return T::ZERO;
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper checks the address and fails instead of faulting; it writes every byte of the target,
        // and zero is a value of every word.
        unsafe {
            let _zero_on_failure = bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                self.0.wrapping_add(offset as usize).cast(),
            );
            value.assume_init()
        }
    }

    #[inline(always)]
    fn get_into<T: Word>(self, target: &mut T, offset: u32) {
        if offset == MISSING {
            return;
        }
        // SAFETY: the helper checks the address, and writes every byte of the target, zeros on failure.
        unsafe {
            let _zero_on_failure = bpf_probe_read_kernel(
                (&raw mut *target).cast(),
                size_of::<T>() as u32,
                self.0.wrapping_add(offset as usize).cast(),
            );
        }
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        Self(self.get::<usize>(offset) as *const u8)
    }

    #[inline(always)]
    fn tcp(self) -> Option<Self> {
        Some(self)
    }

    #[inline(always)]
    fn current_task() -> Self {
        // SAFETY: no arguments; returns a valid task.
        Self(unsafe { bpf_get_current_task() } as *const u8)
    }

    #[inline(always)]
    fn checked(self) -> Option<Checked> {
        Some(self)
    }
}

/// Makes every byte of `target` zero, see `copy`.
#[inline(always)]
pub fn clear<T: Copy>(target: *mut T) {
    let words = words::<T>();
    for at in 0..words {
        // SAFETY: inside the target.
        unsafe { target.cast::<u64>().add(at).write_volatile(0) };
    }
}

/// Copies what is too large for a few instructions. Volatile, because the compiler would make a call of it, to a
/// function of its own, and beside such a function the verifiers before 6.3 take every number for precise and no two
/// states for equal: a program of 3,000 instructions then exceeds their limit of a million.
#[inline(always)]
pub fn copy<T: Copy>(target: *mut T, source: *const T) {
    let words = words::<T>();
    for at in 0..words {
        // SAFETY: inside both; the source is a `T` that nothing moves.
        unsafe { target.cast::<u64>().add(at).write_volatile(source.cast::<u64>().add(at).read_volatile()) };
    }
}

/// Words of eight bytes in a `T`.
const fn words<T>() -> usize {
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    size_of::<T>() / 8
}

/// Reads eight bits of a bit-field that may begin inside a byte (`mcast_hops` before 6.8), counted from the start
/// of the structure, least significant first.
#[inline(always)]
pub fn byte_at_bit<M: Memory>(base: M, bit: u32) -> u8 {
    (base.get::<u16>(byte(bit)) >> (bit % 8)) as u8
}

/// Reads one bit, counted from the start of the structure.
#[inline(always)]
pub fn bit<M: Memory>(base: M, bit: u32) -> bool {
    base.get::<u8>(byte(bit)) >> (bit % 8) & 1 == 1
}

#[inline(always)]
const fn byte(bit: u32) -> u32 {
    if bit == MISSING { MISSING } else { bit / 8 }
}
