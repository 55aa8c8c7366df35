//! The kernel programs: one file per tracepoint in `programs`, what they share in `kernel`.
//!
//! They keep state per connection, and write to the ring buffer only what healthy traffic does not do.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The compiler offers the atomics of this target in no other way: it has adding alone, and that without the old value.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics), expect(internal_features, reason = "see above"))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        clippy::inline_always,
        clippy::needless_pass_by_value,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "a function of its own is a subprogram to the verifier; entry points get their context by value; \
                  sequence numbers and ticks are compared modulo their width"
    )
)]

#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// `bpf_probe_read_kernel` and friends are for GPL programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
