//! Who accepted a connection: `accept` with an address asks for the peer's name, in the process that accepts
//! (`inet_getname` and `inet6_getname` with `peer`), and so does Nginx. Once per connection, where
//! `tcp_rcv_space_adjust` comes with every read.
//!
//! `cgroup/getpeername4` and `getpeername6` at the root cgroup v2, from 5.8. Nothing is changed; the kernel takes
//! nothing but 1 for an answer.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::kernel::read::{Checked, Memory, Typed};
use crate::kernel::{conns, sock, task};

const GO_ON: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
fn getpeername4_typed(ctx: SockAddrContext) -> i32 {
    accepted::<Typed>(ctx.sock_addr)
}

#[cgroup_sock_addr(getpeername4)]
fn getpeername4(ctx: SockAddrContext) -> i32 {
    accepted::<Checked>(ctx.sock_addr)
}

#[cgroup_sock_addr(getpeername6)]
fn getpeername6_typed(ctx: SockAddrContext) -> i32 {
    accepted::<Typed>(ctx.sock_addr)
}

#[cgroup_sock_addr(getpeername6)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    accepted::<Checked>(ctx.sock_addr)
}

/// The task is read by `M`, the socket always by type.
#[inline(always)]
fn accepted<M: Memory>(ctx: *mut bpf_sock_addr) -> i32 {
    // SAFETY: the context is valid; the helper returns null for anything but a TCP socket.
    let tcp = unsafe { bpf_skc_to_tcp_sock((*ctx).__bindgen_anon_1.sk.cast()) };
    if !tcp.is_null()
        && let Some(conn) = conns::find(sock::cookie(Typed::at(tcp.cast())))
        && conn.owner_pid == 0
    {
        let task = M::current_task();
        conn.owner_pid = task::pid(task);
        task::leader_comm(task, &mut conn.comm);
    }
    GO_ON
}
