//! Recognising Nginx's connections, and the other ends of them on this host.

use rstscope_ebpf::abi::{Conn, Endpoint, Forgetful, ListenAddress, ListenPort, side};

use super::globals::config;
use super::maps::{ENDPOINTS, LISTEN_ADDRESSES, LISTEN_PORTS, UPSTREAM_FILTER, keep};
use super::sock::{Identity, netns_wanted};

/// Whether Nginx listens on this local address and port. The address is asked for only where it matters.
#[inline(always)]
pub fn is_listener(netns: u32, port: u16, addr: impl FnOnce() -> [u8; 16]) -> bool {
    let key = ListenPort { netns, port, pad: 0 };
    // SAFETY: the value is a byte.
    match unsafe { LISTEN_PORTS.get(key) } {
        None => false,
        Some(1) => true,
        // SAFETY: the value is a byte.
        Some(_) => unsafe { LISTEN_ADDRESSES.get(ListenAddress { port: key, addr: addr() }) }.is_some(),
    }
}

/// Whether Nginx connects to this address and port.
#[inline(always)]
pub fn is_endpoint(addr: &[u8; 16], port: u16) -> bool {
    // SAFETY: the value is a byte.
    unsafe { ENDPOINTS.get(Endpoint { addr: *addr, port, pad: 0 }) }.is_some()
}

/// Remembers an address that Nginx connects to.
#[inline(always)]
pub fn learn_endpoint(addr: &[u8; 16], port: u16) {
    if !is_endpoint(addr, port) {
        keep(Forgetful::Endpoints, &ENDPOINTS, &Endpoint { addr: *addr, port, pad: 0 }, &1);
    }
}

/// Whether `--upstream` lets this address through.
#[inline(always)]
pub fn upstream_wanted(addr: &[u8; 16], port: u16) -> bool {
    if config!(upstream_filter) == 0 {
        return true;
    }
    filter_has(addr, port) || filter_has(addr, 0)
}

#[inline(always)]
fn filter_has(addr: &[u8; 16], port: u16) -> bool {
    // SAFETY: the value is a byte.
    unsafe { UPSTREAM_FILTER.get(Endpoint { addr: *addr, port, pad: 0 }) }.is_some()
}

/// Which side a socket is that the connection table may or may not know.
#[inline(always)]
pub fn of(id: &Identity, conn: Option<&Conn>) -> u8 {
    if let Some(conn) = conn {
        return conn.side;
    }
    if !netns_wanted(id.netns) {
        return side::NONE;
    }
    if is_listener(id.netns, id.local_port, || id.local) {
        return side::CLIENT;
    }
    if is_endpoint(&id.local, id.local_port) {
        return side::UPSTREAM_PEER;
    }
    if same_host(id) && is_listener(id.netns, id.remote_port, || id.remote) {
        return side::CLIENT_PEER;
    }
    side::NONE
}

/// Which side a tuple without a full socket is: a `TIME_WAIT` socket, or a segment nobody knows.
/// A connection that Nginx opened is recognised by the address it went to.
#[inline(always)]
pub fn of_tuple(id: &Identity) -> u8 {
    let side = of(id, None);
    if side != side::NONE || !netns_wanted(id.netns) {
        return side;
    }
    if is_endpoint(&id.remote, id.remote_port) { side::UPSTREAM } else { side::NONE }
}

/// Both ends have the same address, or are loopback addresses.
#[inline(always)]
fn same_host(id: &Identity) -> bool {
    id.local == id.remote || (is_loopback(&id.local) && is_loopback(&id.remote))
}

#[inline(always)]
fn is_loopback(addr: &[u8; 16]) -> bool {
    let mapped_v4 = addr[10] == 0xff && addr[11] == 0xff;
    if mapped_v4 { addr[12] == 127 } else { addr[0] == 0 && addr[15] == 1 }
}
