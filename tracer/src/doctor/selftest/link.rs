//! A pair of virtual Ethernet devices between two namespaces, by rtnetlink (`include/uapi/linux/rtnetlink.h`,
//! `if_link.h`, `veth.h`). Numbers are in host byte order, addresses in network byte order.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Index of the device in its namespace; the loopback device has 1.
const DEVICE: u32 = 2;
const LOOPBACK: u32 = 1;
/// Both ends are in one network of four addresses.
const PREFIX: u8 = 30;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const NLMSG_ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const ASK: u16 = 0x5;
/// `NLM_F_CREATE | NLM_F_EXCL`.
const CREATE: u16 = 0x600;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 1;

/// Creates the pair: one end here, the other in `peer`. Both are down and without address.
pub(super) fn create(peer: &File) -> io::Result<()> {
    let descriptor = peer.as_raw_fd().to_ne_bytes();
    let mut far = interface(DEVICE, 0);
    attribute(&mut far, IFLA_IFNAME, b"far0\0");
    attribute(&mut far, IFLA_NET_NS_FD, &descriptor);
    let mut data = Vec::new();
    attribute(&mut data, VETH_INFO_PEER, &far);
    let mut info = Vec::new();
    attribute(&mut info, IFLA_INFO_KIND, b"veth");
    attribute(&mut info, IFLA_INFO_DATA, &data);
    let mut body = interface(DEVICE, 0);
    attribute(&mut body, IFLA_IFNAME, b"near0\0");
    attribute(&mut body, IFLA_LINKINFO, &info);
    ask(RTM_NEWLINK, CREATE, &body)
}

/// Gives this namespace's end its address, and switches it and the loopback device on.
pub(super) fn configure(address: Ipv4Addr) -> io::Result<()> {
    add(address)?;
    for device in [LOOPBACK, DEVICE] {
        ask(RTM_NEWLINK, 0, &interface(device, IFF_UP))?;
    }
    Ok(())
}

/// Adds the address.
pub(super) fn add(address: Ipv4Addr) -> io::Result<()> {
    ask(RTM_NEWADDR, CREATE, &of_device(address))
}

/// Takes the address away: what is sent to it is dropped without an answer.
pub(super) fn remove(address: Ipv4Addr) -> io::Result<()> {
    ask(RTM_DELADDR, 0, &of_device(address))
}

/// `struct ifinfomsg`.
fn interface(index: u32, flags: u32) -> Vec<u8> {
    let words = [0, index, flags, flags];
    words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
}

/// `struct ifaddrmsg` with the address.
fn of_device(address: Ipv4Addr) -> Vec<u8> {
    let family = u8::try_from(libc::AF_INET).unwrap_or_default();
    let mut body = vec![family, PREFIX, 0, 0];
    body.extend(DEVICE.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &address.octets());
    attribute(&mut body, IFA_ADDRESS, &address.octets());
    body
}

/// `struct rtattr`, aligned to four bytes.
fn attribute(to: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(payload);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Sends one request and waits for its acknowledgement.
fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let mut message = Vec::new();
    message.extend(u32::try_from(body.len() + 16).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((ASK | flags).to_ne_bytes());
    // Sequence number and sender, which do not matter for a single request.
    message.extend([0; 8]);
    message.extend(body);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message, 0)?;
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, 0)?;
    acknowledged(&answer)
}

/// `struct nlmsgerr` behind the header: zero, or a negative error number.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Err(io::Error::other("rtnetlink gave no acknowledgement")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned() {
        let mut to = Vec::new();
        attribute(&mut to, 7, b"abcde");
        assert_eq!(to.len(), 12);
        assert_eq!((to[0], to[2], &to[4..9], &to[9..]), (9, 7, &b"abcde"[..], &[0, 0, 0][..]));
    }

    #[test]
    fn an_error_number_is_an_error() {
        let answer = |error: i32| {
            let mut bytes = vec![0; 16];
            bytes[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
            bytes.extend(error.to_ne_bytes());
            bytes
        };
        assert!(acknowledged(&answer(0)).is_ok());
        assert_eq!(acknowledged(&answer(-17)).unwrap_err().raw_os_error(), Some(17));
        assert!(acknowledged(b"").is_err());
    }
}
