//! Which host is Nginx: as named by flags, or worked out from who accepts and who connects on, with the reason
//! in words. A guess is always said to be one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::Side;
use crate::output::layout::count;
use crate::timeline::listens_on;

use super::census::{Census, Listener};

/// Addresses that are listed in the words of a guess.
const LISTED: usize = 6;

/// What the user named. Port zero stands for every port.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Listen addresses of Nginx.
    pub nginx: Vec<SocketAddr>,
    /// Its upstreams.
    pub upstreams: Vec<SocketAddr>,
}

/// Who is who.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    /// Listen addresses of Nginx.
    pub listeners: BTreeSet<SocketAddr>,
    /// Its upstreams.
    pub upstreams: BTreeSet<SocketAddr>,
    /// Its hosts.
    pub hosts: BTreeSet<IpAddr>,
    /// How it was worked out, where it was not named.
    pub guess: Vec<String>,
    /// A listener of Nginx whose port nobody answers on is told only if it was named or is the only one there.
    pub named: bool,
}

/// A host that both accepts and connects.
struct Proxy {
    host: IpAddr,
    accepted: u64,
    connected: u64,
    says_nginx: bool,
    forwards: bool,
}

impl Roles {
    /// Roles by name, completed from the traffic.
    pub fn new(named: &Named, census: &Census) -> Self {
        let mut roles =
            Self { named: !named.nginx.is_empty() || !named.upstreams.is_empty(), ..Self::default() };
        if roles.named {
            roles.by_name(named, census);
        } else {
            roles.by_traffic(census);
        }
        roles
    }

    /// Which of the two ends is Nginx, and on which half of a request.
    pub fn of(&self, opener: SocketAddr, listener: SocketAddr) -> Option<(usize, Side)> {
        let has = |set: &BTreeSet<SocketAddr>, address| set.iter().any(|known| serves(*known, address));
        match () {
            () if has(&self.upstreams, listener) => Some((0, Side::Upstream)),
            () if has(&self.listeners, listener) => Some((1, Side::Client)),
            () if self.hosts.contains(&opener.ip()) && !self.hosts.contains(&listener.ip()) => {
                Some((0, Side::Upstream))
            }
            () => None,
        }
    }

    fn by_name(&mut self, named: &Named, census: &Census) {
        self.listeners.extend(&named.nginx);
        self.upstreams.extend(&named.upstreams);
        self.hosts.extend(named.nginx.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()));
        if named.nginx.is_empty() {
            let ours = |address: &SocketAddr| named.upstreams.iter().any(|known| serves(*known, *address));
            let connecting = census.listeners.iter().filter(|(address, _)| ours(address));
            self.hosts.extend(connecting.flat_map(|(_, seen)| seen.clients.iter()));
            self.accepting_hosts(census);
            let listeners = listed(self.listeners.iter());
            let hosts = listed(self.hosts.iter());
            self.guess.push(format!(
                "Nginx is {hosts}, which connects to the upstreams named; it listens on {listeners}"
            ));
        } else if self.hosts.is_empty() {
            let listeners = census
                .listeners
                .keys()
                .filter(|address| named.nginx.iter().any(|known| serves(*known, **address)));
            self.hosts = listeners.map(SocketAddr::ip).collect();
        }
    }

    /// Everything that hosts of Nginx accept on is a listener, unless it is an upstream.
    fn accepting_hosts(&mut self, census: &Census) {
        let upstream = |address: &SocketAddr| self.upstreams.iter().any(|known| serves(*known, *address));
        let accepting = census.listeners.iter().filter(|(_, seen)| seen.accepted > 0 || seen.speaks);
        let ours = accepting
            .map(|(address, _)| *address)
            .filter(|address| self.hosts.contains(&address.ip()) && !upstream(address));
        let ours: Vec<SocketAddr> = ours.collect();
        self.listeners.extend(ours);
    }

    fn by_traffic(&mut self, census: &Census) {
        if self.by_place(census) {
            return;
        }
        if let Some(proxy) = proxy(census) {
            self.hosts.insert(proxy.host);
            self.upstreams = connected_from(census, proxy.host);
            self.accepting_hosts(census);
            let mut hints = String::new();
            if proxy.says_nginx {
                hints.push_str("; its responses say \"Server: nginx\"");
            }
            if proxy.forwards {
                hints.push_str("; its requests carry what a proxy adds, or error.log names where they go");
            }
            self.guess.push(format!(
                "Nginx is {}: it accepted {} and opened {} to other hosts{hints}; it listens on {} and its upstreams are {}",
                proxy.host,
                count(proxy.accepted, "connection"),
                proxy.connected,
                listed(self.listeners.iter()),
                listed(self.upstreams.iter())
            ));
            return;
        }
        self.one_sided(census);
    }

    /// The capturing host accepts from others and connects on, under whatever addresses it has.
    fn by_place(&mut self, census: &Census) -> bool {
        let here = |ip: &IpAddr| census.local.contains(ip) || (ip.is_loopback() && !census.local.is_empty());
        let (ours, theirs): (Vec<_>, Vec<_>) =
            census.listeners.iter().partition(|(address, _)| here(&address.ip()));
        let from_outside = |seen: &Listener| seen.clients.iter().any(|client| !here(client));
        let (accepting, inside): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|(_, seen)| from_outside(seen) && !seen.logged);
        let reached = theirs.into_iter().filter(|(_, seen)| seen.clients.iter().any(here));
        let upstreams: BTreeSet<SocketAddr> = reached.chain(inside).map(|(address, _)| *address).collect();
        if accepting.is_empty() || upstreams.is_empty() {
            return false;
        }
        self.listeners = accepting.iter().map(|(address, _)| **address).collect();
        self.hosts = self.listeners.iter().map(SocketAddr::ip).collect();
        self.guess.push(format!(
            "the capture was taken on the host of Nginx, which accepts from others and connects on: it listens on {} and its upstreams are {}",
            listed(self.listeners.iter()),
            listed(upstreams.iter())
        ));
        self.upstreams = upstreams;
        true
    }

    /// No host both accepts and connects: only one half of the requests passed here.
    fn one_sided(&mut self, census: &Census) {
        let forwarded = Listener::is_upstream;
        let proxies =
            census.listeners.values().filter(|seen| forwarded(seen)).flat_map(|seen| seen.clients.iter());
        self.hosts = proxies.copied().collect();
        // Whoever adds such fields once is the proxy on its other connections, too.
        let only_proxies = |seen: &Listener| !seen.clients.is_empty() && seen.clients.is_subset(&self.hosts);
        let (upstream, client): (Vec<_>, Vec<_>) = census
            .listeners
            .iter()
            .partition(|(_, seen)| forwarded(seen) || (only_proxies(seen) && !seen.says_nginx));
        self.upstreams = upstream.iter().map(|(address, _)| **address).collect();
        let answered = client.iter().any(|(_, seen)| seen.accepted > 0);
        let heard = |seen: &Listener| !answered || seen.accepted > 0 || seen.speaks;
        self.listeners =
            client.iter().filter(|(_, seen)| heard(seen)).map(|(address, _)| **address).collect();
        if !self.upstreams.is_empty() {
            let upstreams = listed(self.upstreams.iter());
            self.guess
                .push(format!("{upstreams} is an upstream of Nginx: requests to it carry what a proxy adds, or error.log names it"));
        }
        if !self.listeners.is_empty() {
            let listeners = listed(self.listeners.iter());
            self.guess.push(format!(
                "{listeners} is Nginx: it is connected to, and no host here both accepts and connects on; if it is an upstream, say so with --upstream"
            ));
        }
    }
}

/// Whether a named address stands for this one.
fn serves(known: SocketAddr, address: SocketAddr) -> bool {
    let any_port = known.port() == 0 && (known.ip().is_unspecified() || known.ip() == address.ip());
    any_port || listens_on(known, address)
}

/// The host that looks most like a proxy: connections accepted and opened, then its words.
fn proxy(census: &Census) -> Option<Proxy> {
    let mut hosts: BTreeMap<IpAddr, Proxy> = BTreeMap::new();
    let new = |host| Proxy { host, accepted: 0, connected: 0, says_nginx: false, forwards: false };
    for (address, seen) in &census.listeners {
        let host = hosts.entry(address.ip()).or_insert_with(|| new(address.ip()));
        host.accepted += seen.accepted.max(u64::from(seen.speaks));
        host.says_nginx |= seen.says_nginx;
        for client in seen.clients.iter().filter(|client| **client != address.ip()) {
            let host = hosts.entry(*client).or_insert_with(|| new(*client));
            host.connected += 1;
            host.forwards |= seen.is_upstream();
        }
    }
    let proxies = hosts.into_values().filter(|host| host.accepted > 0 && host.connected > 0);
    proxies.max_by_key(|host| {
        (host.says_nginx || host.forwards, host.accepted.min(host.connected), host.accepted)
    })
}

fn connected_from(census: &Census, host: IpAddr) -> BTreeSet<SocketAddr> {
    let reached = census
        .listeners
        .iter()
        .filter(|(address, seen)| seen.clients.contains(&host) && address.ip() != host);
    reached.map(|(address, _)| *address).collect()
}

fn listed(entries: impl ExactSizeIterator<Item = impl ToString>) -> String {
    let (total, mut names) = (entries.len(), Vec::new());
    names.extend(entries.take(LISTED).map(|entry| entry.to_string()));
    match total {
        0 => "none".to_owned(),
        total if total > LISTED => format!("{} and {} more", names.join(", "), total - LISTED),
        _ => names.join(", "),
    }
}
