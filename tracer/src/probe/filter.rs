//! Tells the kernel programs what is Nginx's: processes, listen sockets, upstream addresses, older connections.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuHashMap, PerCpuValues};
use rstscope_ebpf::abi::{
    Conn, Departed, DepartedKey, Endpoint, ListenAddress, ListenPort, NetnsCounts, OverflowKey,
    OverflowState, Slot, side,
};

use super::load::{Probe, ProbeError};
use crate::model::Side;

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;

/// Looks at an entry that the kernel writes meanwhile before it is given up.
const LOOKS: usize = 8;

/// A connection that existed before the start.
#[derive(Debug, Clone)]
pub struct Seed {
    /// Socket cookie, from `sock_diag`.
    pub cookie: u64,
    /// `Client` or `Upstream`.
    pub side: Side,
    /// The worker that holds it; zero if unknown.
    pub owner_pid: u32,
    /// `comm` of that worker.
    pub comm: String,
}

/// What a listener has dropped so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Network namespace.
    pub netns: u32,
    /// Listen port.
    pub port: u16,
    /// Packets.
    pub total: u64,
}

impl Probe {
    /// Makes `pids` Nginx's processes, beside those the kernel learned itself. Those in `gone` are forgotten.
    pub fn set_processes(&mut self, pids: &[u32], gone: &[u32]) -> Result<(), ProbeError> {
        let mut map = self.hash::<u32, u8>("NGINX")?;
        for pid in pids {
            put(&mut map, "NGINX", *pid, 1)?;
        }
        for pid in gone {
            let _may_have_exited_itself = map.remove(pid);
        }
        Ok(())
    }

    /// Forgets a listen socket of namespace `netns`: another program may take the port.
    pub fn remove_listener(&mut self, netns: u32, listener: SocketAddr) -> Result<(), ProbeError> {
        let port = ListenPort { netns, port: listener.port(), pad: 0 };
        let key = ListenAddress { port, addr: bytes(listener.ip()) };
        let _may_be_a_wildcard = self.hash::<ListenAddress, u8>("LISTEN_ADDRESSES")?.remove(&key);
        let _may_be_gone = self.hash::<ListenPort, u8>("LISTEN_PORTS")?.remove(&port);
        Ok(())
    }

    /// Adds listen sockets of namespace `netns`.
    pub fn add_listeners(&mut self, netns: u32, listeners: &[SocketAddr]) -> Result<(), ProbeError> {
        for listener in listeners {
            let port = ListenPort { netns, port: listener.port(), pad: 0 };
            let any = listener.ip().is_unspecified();
            if !any {
                let key = ListenAddress { port, addr: bytes(listener.ip()) };
                put(&mut self.hash::<ListenAddress, u8>("LISTEN_ADDRESSES")?, "LISTEN_ADDRESSES", key, 1)?;
            }
            let mut ports = self.hash::<ListenPort, u8>("LISTEN_PORTS")?;
            if any || ports.get(&port, 0).is_err() {
                put(&mut ports, "LISTEN_PORTS", port, u8::from(any))?;
            }
        }
        Ok(())
    }

    /// Adds addresses that Nginx connects to.
    pub fn add_upstreams(&mut self, upstreams: &[SocketAddr]) -> Result<(), ProbeError> {
        self.add_endpoints("ENDPOINTS", upstreams)
    }

    /// Makes `upstreams` the only ones to follow; port zero stands for every port.
    pub fn set_upstream_filter(&mut self, upstreams: &[SocketAddr]) -> Result<(), ProbeError> {
        self.add_endpoints("UPSTREAM_FILTER", upstreams)
    }

    fn add_endpoints(&mut self, name: &'static str, addresses: &[SocketAddr]) -> Result<(), ProbeError> {
        let mut map = self.hash::<Endpoint, u8>(name)?;
        for address in addresses {
            put(&mut map, name, Endpoint { addr: bytes(address.ip()), port: address.port(), pad: 0 }, 1)?;
        }
        Ok(())
    }

    /// Counts every TCP socket of these namespaces from now on, see `Probe::netns_counts`.
    pub fn count_namespaces(&mut self, namespaces: &[u32]) -> Result<(), ProbeError> {
        let name = "NETNS_COUNTS";
        let error = |source| ProbeError::Map { name, source };
        let cpus = aya::util::nr_cpus().map_err(|(_, error_)| error(MapError::IoError(error_)))?;
        let map = self.ebpf.map_mut(name).ok_or(ProbeError::NoMap(name))?;
        let mut map = PerCpuHashMap::<_, u32, NetnsCounts>::try_from(map).map_err(error)?;
        for netns in namespaces {
            if map.get(netns, 0).is_err() {
                let zero = PerCpuValues::try_from(vec![NetnsCounts::default(); cpus]);
                map.insert(netns, zero.map_err(|error_| error(MapError::IoError(error_)))?, 0)
                    .map_err(error)?;
            }
        }
        Ok(())
    }

    /// Makes connections that existed before the start known. They go to the hash table: only a program can take a slot
    /// beside others. What finds no room is counted.
    pub fn seed(&mut self, seeds: &[Seed]) -> Result<(), ProbeError> {
        let fresh = self.not_met(seeds)?;
        if fresh.is_empty() {
            return Ok(());
        }
        // The programs look there from the first one on.
        self.hold_more_conns(self.seeded + fresh.len() as u64)?;
        let name = "MORE_CONNS";
        let mut map = self.hash::<u64, Conn>(name)?;
        let (mut added, mut refused) = (0, 0);
        for seed in fresh {
            match map.insert(seed.cookie, conn(seed), BPF_NOEXIST) {
                Ok(()) => added += 1,
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::AlreadyExists => {}
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
                    refused += 1;
                }
                Err(source) => return Err(ProbeError::Map { name, source }),
            }
        }
        self.seeds_refused += refused;
        self.seeded += added;
        self.hold_more_conns(self.seeded)
    }

    /// Those that the programs have not met meanwhile, and so know better already.
    fn not_met<'a>(&mut self, seeds: &'a [Seed]) -> Result<Vec<&'a Seed>, ProbeError> {
        let slots = self.array::<Slot>("CONNS")?;
        let mask = u64::from(slots.len()) - 1;
        let is_new = |seed: &&Seed| {
            let slot = slots.get(&((seed.cookie & mask) as u32), 0);
            !slot.is_ok_and(|slot| slot.cookie == seed.cookie)
        };
        Ok(seeds.iter().filter(is_new).collect())
    }

    fn hold_more_conns(&mut self, count: u64) -> Result<(), ProbeError> {
        let name = "MORE_CONNS_HELD";
        let set = self.array::<u64>(name)?.set(Slot::HELD_FROM_BEFORE, count, 0);
        set.map_err(|source| ProbeError::Map { name, source })
    }

    /// The latest connection of a worker to an upstream that the upstream closed first, or Nginx after silence.
    pub fn departed(
        &mut self,
        pid: u32,
        upstream: SocketAddr,
        by_nginx: bool,
    ) -> Result<Option<Departed>, ProbeError> {
        let upstream = Endpoint { addr: bytes(upstream.ip()), port: upstream.port(), pad: 0 };
        let map = self.hash::<DepartedKey, Departed>("DEPARTED")?;
        let key = DepartedKey { pid, upstream, by_nginx: by_nginx.into() };
        let read = || match map.get(&key, 0) {
            Ok(departed) => Ok(Some(departed)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(ProbeError::Map { name: "DEPARTED", source }),
        };
        // The kernel writes the entry in place: half of one connection is told by a second look.
        let mut seen = read()?;
        for _ in 0..LOOKS {
            let again = read()?;
            if again == seen {
                return Ok(seen);
            }
            seen = again;
        }
        Ok(None)
    }

    /// What every listener that ever overflowed has dropped so far.
    pub fn dropped(&mut self) -> Result<Vec<Dropped>, ProbeError> {
        let map = self.hash::<OverflowKey, OverflowState>("OVERFLOWS")?;
        let dropped = |(key, state): (OverflowKey, OverflowState)| Dropped {
            netns: key.port.netns,
            port: key.port.port,
            total: state.total,
        };
        Ok(map.iter().filter_map(Result::ok).map(dropped).collect())
    }

    fn array<V: aya::Pod>(&mut self, name: &'static str) -> Result<Array<&mut MapData, V>, ProbeError> {
        let map = self.ebpf.map_mut(name).ok_or(ProbeError::NoMap(name))?;
        Array::try_from(map).map_err(|source| ProbeError::Map { name, source })
    }

    pub(super) fn hash<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<&mut MapData, K, V>, ProbeError> {
        let map = self.ebpf.map_mut(name).ok_or(ProbeError::NoMap(name))?;
        HashMap::try_from(map).map_err(|source| ProbeError::Map { name, source })
    }
}

fn put<K: aya::Pod, V: aya::Pod>(
    map: &mut HashMap<&mut MapData, K, V>,
    name: &'static str,
    key: K,
    value: V,
) -> Result<(), ProbeError> {
    map.insert(key, value, 0).map_err(|source| ProbeError::Map { name, source })
}

fn conn(seed: &Seed) -> Conn {
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().zip(seed.comm.bytes().take(15)) {
        *to = from;
    }
    let side = if seed.side == Side::Upstream { side::UPSTREAM } else { side::CLIENT };
    Conn { owner_pid: seed.owner_pid, side, preexisting: 1, comm, ..Conn::EMPTY }
}

/// The form of the kernel side: IPv4 as `::ffff:a.b.c.d`.
fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_mapped() {
        let v4 = bytes("10.1.2.3".parse().unwrap());
        assert_eq!(v4, bytes("::ffff:10.1.2.3".parse().unwrap()));
        assert_eq!(v4[12..], [10, 1, 2, 3]);
    }

    #[test]
    fn a_long_name_is_cut_to_what_the_kernel_keeps() {
        let seed =
            Seed { cookie: 1, side: Side::Client, owner_pid: 2, comm: "a-very-long-process-name".to_owned() };
        assert_eq!(&conn(&seed).comm, b"a-very-long-pro\0");
    }
}
