//! Raw ICMP sockets in the namespaces where Nginx runs, for the filter that reads their messages in the kernel
//! (`icmp_error`). Nothing is ever received from them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use aya::programs::SocketFilter;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with, sockopt};

use super::load::{Probe, ProbeError};
use super::namespace::{self, NamespaceError, inside};

/// The filter and its hook.
pub const ICMP_ERROR: &str = "icmp_error";
/// The map from cookies to namespaces.
const SOCKETS: &str = "ICMP_SOCKETS";

/// One raw socket.
#[derive(Debug)]
pub(super) struct RawSocket {
    /// Closing it ends the filter.
    fd: OwnedFd,
    cookie: u64,
}

/// The sockets that are open, by namespace.
pub(super) type RawSockets = BTreeMap<u32, Vec<RawSocket>>;

impl Probe {
    /// Lets ICMP errors of the namespace `netns`, which is at `path`, be seen.
    pub fn watch_icmp(&mut self, netns: u32, path: &Path) -> Result<(), IcmpError> {
        if self.icmp.contains_key(&netns) || !self.runs(ICMP_ERROR) {
            return Ok(());
        }
        let sockets = inside(path, "open raw ICMP sockets", open)?;
        for socket in &sockets {
            self.hash::<u64, u32>(SOCKETS)?
                .insert(socket.cookie, netns, 0)
                .map_err(|source| ProbeError::Map { name: SOCKETS, source })?;
            let program = self.ebpf.program(ICMP_ERROR).ok_or(ProbeError::NoMap(ICMP_ERROR))?;
            let filter: &SocketFilter = program.try_into().map_err(IcmpError::Filter)?;
            filter.attach(&socket.fd).map_err(IcmpError::Filter)?;
        }
        self.icmp.insert(netns, sockets);
        Ok(())
    }

    /// Closes the sockets of namespaces in which no Nginx runs any more: they would keep them alive.
    pub fn forget_icmp(&mut self, inhabited: &BTreeSet<u32>) -> Result<(), ProbeError> {
        let own = namespace::own();
        let (stay, gone) = std::mem::take(&mut self.icmp)
            .into_iter()
            .partition::<RawSockets, _>(|(netns, _)| inhabited.contains(netns) || *netns == own);
        self.icmp = stay;
        for socket in gone.into_values().flatten() {
            let _ours_alone = self.hash::<u64, u32>(SOCKETS)?.remove(&socket.cookie);
        }
        Ok(())
    }
}

/// Why ICMP errors of a namespace are not seen.
#[derive(Debug, thiserror::Error)]
pub enum IcmpError {
    /// The sockets could not be opened there.
    #[error(transparent)]
    Sockets(#[from] NamespaceError),
    /// A map refused them.
    #[error(transparent)]
    Map(#[from] ProbeError),
    /// The filter could not be attached.
    #[error("cannot filter raw ICMP sockets: {0}")]
    Filter(aya::programs::ProgramError),
}

/// One for each family; a host without IPv6 has only the first.
fn open() -> io::Result<Vec<RawSocket>> {
    let mut sockets = vec![raw(AddressFamily::INET, ipproto::ICMP)?];
    match raw(AddressFamily::INET6, ipproto::ICMPV6) {
        Ok(socket) => sockets.push(socket),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

fn raw(family: AddressFamily, protocol: Protocol) -> io::Result<RawSocket> {
    let fd = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    let cookie = sockopt::socket_cookie(&fd)?;
    Ok(RawSocket { fd, cookie })
}
