//! A device on the path that makes up packets: it watches one connection pass through, and sends segments in an
//! end's name with the header it is told. Source address, hop limit, identification, flags and distance from the
//! exact sequence number are free.

use anyhow::{Context, Result, bail};
use etherparse::{
    IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, SlicedPacket, TcpHeader, TcpOptionElement,
    TransportSlice,
};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From a packet until it must have been looked at.
const NOTICED: Duration = Duration::from_secs(2);
/// Between two looks.
const GLANCE: Duration = Duration::from_millis(2);

/// Longest packet looked at, bytes.
const LONGEST: usize = 65_536;

/// The latest segment from here to there.
#[derive(Clone, Copy)]
struct Latest {
    /// Sequence number that the next one would carry.
    next: u32,
    /// What it acknowledges.
    ack: u32,
    /// Its timestamps option, `TSval` and `TSecr`.
    clock: Option<(u32, u32)>,
}

type Flows = HashMap<(SocketAddr, SocketAddr), Latest>;

/// What passed through this host since the watch began.
#[derive(Default, Clone)]
pub struct Watch(Arc<Mutex<Flows>>);

/// A segment to be made up.
pub struct Forgery {
    /// In whose name.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// TTL or hop limit when it leaves here.
    pub hops: u8,
    /// IPv4 identification.
    pub identification: u16,
    /// Letters out of `SAFRP`.
    pub flags: String,
    /// Added to the exact sequence number.
    pub offset: u32,
    /// Window as on the wire.
    pub window: u16,
    /// Bytes of data behind the header.
    pub payload: usize,
    /// The timestamps are those of the latest segment in that name.
    pub copies_clock: bool,
}

impl Watch {
    /// Begins to watch everything that passes.
    pub fn start() -> Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: a plain system call; the descriptor is owned at once.
        let socket = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, i32::from(protocol))
        };
        let socket = owned(socket).context("cannot open a packet socket")?;
        let watch = Self::default();
        let flows = watch.clone();
        std::thread::spawn(move || {
            let mut packet = vec![0; LONGEST];
            while let Ok(length) = rustix::io::read(&socket, &mut packet) {
                flows.note(&packet[..length]);
            }
        });
        Ok(watch)
    }

    fn note(&self, packet: &[u8]) -> Option<()> {
        let sliced = SlicedPacket::from_ip(packet).ok()?;
        let (from, to) = ends(sliced.net.as_ref()?)?;
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return None };
        let length = tcp.payload().len() as u32 + u32::from(tcp.syn()) + u32::from(tcp.fin());
        let next = tcp.sequence_number().wrapping_add(length);
        let ends = (SocketAddr::new(from, tcp.source_port()), SocketAddr::new(to, tcp.destination_port()));
        let clock = tcp.options_iterator().filter_map(Result::ok).find_map(|option| match option {
            TcpOptionElement::Timestamp(value, echo) => Some((value, echo)),
            _ => None,
        });
        self.flows().insert(ends, Latest { next, ack: tcp.acknowledgment_number(), clock });
        Some(())
    }

    /// Numbers after the latest segment between these ends; on a busy machine it is looked at a moment after it passed.
    fn last(&self, ends: (SocketAddr, SocketAddr)) -> Result<Latest> {
        let begin = Instant::now();
        loop {
            if let Some(latest) = self.flows().get(&ends).copied() {
                return Ok(latest);
            }
            if begin.elapsed() > NOTICED {
                bail!("nothing of that connection has passed");
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn flows(&self) -> std::sync::MutexGuard<'_, Flows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes up a segment and sends it; answers its sequence number.
    pub fn inject(&self, forgery: &Forgery) -> Result<String> {
        let Latest { next, ack: expected, .. } = self.last((forgery.to, forgery.from))?;
        let mut tcp = TcpHeader::new(
            forgery.from.port(),
            forgery.to.port(),
            expected.wrapping_add(forgery.offset),
            forgery.window,
        );
        for letter in forgery.flags.chars() {
            match letter {
                'R' => tcp.rst = true,
                'F' => tcp.fin = true,
                'P' => tcp.psh = true,
                'S' => tcp.syn = true,
                'A' => (tcp.ack, tcp.acknowledgment_number) = (true, next),
                other => bail!("no such flag: {other}"),
            }
        }
        if forgery.copies_clock
            && let Some((value, echo)) = self.last((forgery.from, forgery.to))?.clock
        {
            let clock = TcpOptionElement::Timestamp(value, echo);
            tcp.set_options(&[TcpOptionElement::Noop, TcpOptionElement::Noop, clock])?;
        }
        send(forgery, tcp)?;
        Ok(expected.wrapping_add(forgery.offset).to_string())
    }
}

fn ends(net: &NetSlice<'_>) -> Option<(IpAddr, IpAddr)> {
    match net {
        NetSlice::Ipv4(ip) => Some((ip.header().source_addr().into(), ip.header().destination_addr().into())),
        NetSlice::Ipv6(ip) => Some((ip.header().source_addr().into(), ip.header().destination_addr().into())),
        NetSlice::Arp(_) => None,
    }
}

fn send(forgery: &Forgery, mut tcp: TcpHeader) -> Result<()> {
    let (mut packet, data) = (Vec::new(), vec![b'x'; forgery.payload]);
    let length = tcp.header_len_u16() + data.len() as u16;
    match (forgery.from.ip(), forgery.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut ip = Ipv4Header::new(length, forgery.hops, IpNumber::TCP, from.octets(), to.octets())?;
            ip.identification = forgery.identification;
            tcp.checksum = tcp.calc_checksum_ipv4(&ip, &data)?;
            ip.header_checksum = ip.calc_header_checksum();
            ip.write(&mut packet)?;
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ip = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: length,
                next_header: IpNumber::TCP,
                hop_limit: forgery.hops,
                source: from.octets(),
                destination: to.octets(),
            };
            tcp.checksum = tcp.calc_checksum_ipv6(&ip, &data)?;
            ip.write(&mut packet)?;
        }
        _ => bail!("the ends are of different families"),
    }
    tcp.write(&mut packet)?;
    packet.extend(data);
    send_raw(forgery.to, &packet)
}

/// Through a socket of its own, see [`Raw`].
pub fn send_raw(to: SocketAddr, packet: &[u8]) -> Result<()> {
    Raw::open(to)?.send(to, packet)
}

/// A socket that takes whole packets, IP header included (raw(7)).
pub struct Raw(OwnedFd);

impl Raw {
    /// Opens one for the family of this address.
    pub fn open(to: SocketAddr) -> Result<Self> {
        let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: a plain system call; the descriptor is owned at once.
        let socket = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
        Ok(Self(owned(socket).context("cannot open a raw socket")?))
    }

    /// Sends a packet.
    pub fn send(&self, to: SocketAddr, packet: &[u8]) -> Result<()> {
        // The port of a raw IPv6 address must be zero or the protocol.
        let to = SocketAddr::new(to.ip(), 0);
        rustix::net::sendto(&self.0, packet, rustix::net::SendFlags::empty(), &to)
            .map_err(io::Error::from)?;
        Ok(())
    }
}

fn owned(descriptor: i32) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else has it.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    debug_assert_eq!(owned.as_raw_fd(), descriptor);
    Ok(owned)
}
