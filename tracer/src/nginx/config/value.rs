//! Values of directives: times, listen and server addresses. Names are looked up in the `/etc/hosts` of the process
//! only; nothing is asked on the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A time as `ngx_parse_time` reads it, in milliseconds: `60`, `60s`, `1m30s`, `500ms`.
pub fn milliseconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..length)?.parse().ok()?;
        rest = &rest[length..];
        let (unit, factor) = unit(rest)?;
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = rest[unit..].trim_start();
    }
    Some(total)
}

/// Length of the unit at the start of `text`, and its milliseconds.
fn unit(text: &str) -> Option<(usize, u64)> {
    const UNITS: [(&str, u64); 8] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
        ("M", 2_592_000_000),
        ("y", 31_536_000_000),
    ];
    if text.is_empty() {
        return Some((0, 1000));
    }
    UNITS.iter().find(|(name, _)| text.starts_with(name)).map(|(name, factor)| (name.len(), *factor))
}

/// What an address in the configuration turns out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Literal, or a name found in `/etc/hosts`.
    Known(Vec<SocketAddr>),
    /// `unix:/path`.
    Unix,
    /// A name that only DNS could tell, or a variable.
    Unknown,
}

/// The table of `/etc/hosts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    entries: Vec<(IpAddr, String)>,
}

impl Hosts {
    /// Reads the text of `/etc/hosts`.
    pub fn read(text: &str) -> Self {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or(""));
        let entries = lines.flat_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
            words.filter_map(move |name| Some((ip?, name.to_owned()))).collect::<Vec<_>>()
        });
        Self { entries: entries.collect() }
    }

    fn find(&self, name: &str) -> Vec<IpAddr> {
        let matching = self.entries.iter().filter(|(_, known)| known.eq_ignore_ascii_case(name));
        let mut found: Vec<IpAddr> = matching.map(|(ip, _)| *ip).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// An upstream address: `host`, `host:port`, `[v6]:port`, `unix:/path`.
pub fn upstream(text: &str, default_port: u16, hosts: &Hosts) -> Address {
    if text.starts_with("unix:") {
        return Address::Unix;
    }
    let Some((host, port)) = split_port(text, default_port) else { return Address::Unknown };
    let ips = match host.trim_matches(['[', ']']).parse() {
        Ok(ip) => vec![ip],
        Err(_) => hosts.find(host),
    };
    if ips.is_empty() {
        return Address::Unknown;
    }
    Address::Known(ips.into_iter().map(|ip: IpAddr| SocketAddr::new(ip.to_canonical(), port)).collect())
}

/// An address to listen on: `80`, `*:80`, `127.0.0.1`, `[::]:80`, `localhost:80`, `unix:/path`.
pub fn listen(text: &str, hosts: &Hosts) -> Address {
    if let Ok(port) = text.parse() {
        return Address::Known(vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)]);
    }
    match text.strip_prefix("*:") {
        Some(port) => port.parse().map_or(Address::Unknown, |port| {
            Address::Known(vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)])
        }),
        None => upstream(text, 80, hosts),
    }
}

fn split_port(text: &str, default_port: u16) -> Option<(&str, u16)> {
    if text.contains('$') || text.is_empty() {
        return None;
    }
    if let Some(end) = text.find(']') {
        let port = text[end + 1..].strip_prefix(':').map_or(Some(default_port), |port| port.parse().ok());
        return Some((&text[..=end], port?));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((text, default_port));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((text, default_port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_units() {
        for (text, expected) in
            [("60", 60_000), ("60s", 60_000), ("1m30s", 90_000), ("500ms", 500), ("1h 5m", 3_900_000)]
        {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
        for text in ["", "s", "5x", "$var", "99999999999999999999"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }

    #[test]
    fn addresses() {
        let hosts = Hosts::read("127.0.0.1 localhost # local\n10.1.0.5\tapp app.example\n::1 localhost\n");
        let known =
            |text: &str| Address::Known(text.split(' ').map(|one| one.parse().expect("address")).collect());
        assert_eq!(upstream("10.0.0.1", 80, &hosts), known("10.0.0.1:80"));
        assert_eq!(upstream("[2001:db8::1]:81", 80, &hosts), known("[2001:db8::1]:81"));
        assert_eq!(upstream("APP:9000", 80, &hosts), known("10.1.0.5:9000"));
        assert_eq!(upstream("localhost:1", 80, &hosts), known("127.0.0.1:1 [::1]:1"));
        assert_eq!(upstream("elsewhere:1", 80, &hosts), Address::Unknown);
        assert_eq!(upstream("unix:/run/a.sock", 80, &hosts), Address::Unix);
        assert_eq!(listen("8080", &hosts), known("0.0.0.0:8080"));
        assert_eq!(listen("*:81", &hosts), known("0.0.0.0:81"));
        assert_eq!(listen("[::]:80", &hosts), known("[::]:80"));
        assert_eq!(listen("127.0.0.1", &hosts), known("127.0.0.1:80"));
    }
}
