//! Makes the cookies of connections where tracepoint programs cannot (before 5.12), just before they are needed.
//!
//! `sock_ops` at the root cgroup v2. A connect is announced after its change to `SYN_SENT` was traced, in the same
//! system call, so the connection is followed from here; an accepted one just before it becomes ESTABLISHED.
//! Nothing is changed: the reply that some operations ask for is left as it is.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;

use super::inet_sock_set_state::connecting;
use crate::kernel::read::{Checked, Memory};
use crate::kernel::task;

/// Operations of `include/uapi/linux/bpf.h`.
const TCP_CONNECT: u32 = 3;
const PASSIVE_ESTABLISHED: u32 = 5;

#[sock_ops]
fn sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        TCP_CONNECT => connect(&ctx),
        PASSIVE_ESTABLISHED => {
            make_cookie(&ctx);
        }
        _ => {}
    }
    1
}

#[inline(always)]
fn make_cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the context is valid.
    unsafe { bpf_get_socket_cookie(ctx.ops.cast()) }
}

#[inline(always)]
fn connect(ctx: &SockOpsContext) {
    // `bpf_get_current_pid_tgid` came to this type of program later.
    let pid = task::pid(Checked::current_task());
    if !task::is_nginx(pid) {
        return;
    }
    let cookie = make_cookie(ctx);
    // SAFETY: the field is a socket or null; the helper returns null for anything but a TCP socket.
    let sk = unsafe {
        let sk = (*ctx.ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return;
        }
        Checked::at(bpf_skc_to_tcp_sock(sk.cast()).cast())
    };
    if !sk.is_null() {
        connecting(sk, cookie, pid);
    }
}
