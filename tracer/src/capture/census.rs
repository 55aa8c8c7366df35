//! Who accepts and who connects: counted while the packets pass, bounded, so that the ends of a proxied
//! request can be told apart afterwards. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use memchr::memmem;

use super::segment::{Bytes, Segment};

/// Listening addresses remembered.
const MOST: usize = 20_000;
/// Peers remembered per address.
const PEERS: usize = 64;
/// Addresses of one host remembered.
const LOCAL: usize = 4_096;
/// Bytes of a payload in which hints are looked for.
const LOOKED_AT: usize = 700;

/// What was seen of one listening address.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// SYNs to it.
    pub asked: u64,
    /// Handshakes it answered.
    pub accepted: u64,
    /// Who connected.
    pub clients: BTreeSet<IpAddr>,
    /// A response says `Server: nginx`.
    pub says_nginx: bool,
    /// Requests to it carry what a proxy adds.
    pub forwarded: bool,
    /// It speaks HTTP or TLS.
    pub speaks: bool,
    /// error.log names it as an upstream.
    pub logged: bool,
}

impl Listener {
    /// It is an upstream of some proxy, by what is said to it or of it.
    pub fn is_upstream(&self) -> bool {
        self.logged || (self.forwarded && !self.says_nginx)
    }
}

/// The census.
#[derive(Debug, Clone, Default)]
pub struct Census {
    /// By listening address.
    pub listeners: BTreeMap<SocketAddr, Listener>,
    /// Addresses of the host where the capture was taken, where the link layer says which way packets went.
    pub local: BTreeSet<IpAddr>,
    /// Addresses beyond the bound.
    pub beyond: u64,
}

impl Census {
    /// A SYN.
    pub fn asks(&mut self, from: SocketAddr, to: SocketAddr) {
        if let Some(listener) = self.listener(to) {
            listener.asked += 1;
            if listener.clients.len() < PEERS {
                listener.clients.insert(from.ip());
            }
        }
    }

    /// A SYN-ACK.
    pub fn accepts(&mut self, listener: SocketAddr) {
        if let Some(listener) = self.listener(listener) {
            listener.accepted += 1;
        }
    }

    /// Whether a connection to this address was accepted in the capture.
    pub fn listens(&self, address: SocketAddr) -> bool {
        self.listeners.get(&address).is_some_and(|listener| listener.accepted > 0)
    }

    /// A packet left the capturing host in this name.
    pub fn leaves(&mut self, source: IpAddr) {
        if self.local.len() < LOCAL {
            self.local.insert(source);
        }
    }

    /// error.log names these upstreams.
    pub fn logged(&mut self, upstreams: impl Iterator<Item = SocketAddr>) {
        for address in upstreams {
            if let Some(listener) = self.listeners.get_mut(&address) {
                listener.logged = true;
            }
        }
    }

    /// The first payload of an end.
    pub fn speaks(&mut self, segment: &Segment, bytes: &Bytes<'_>, by_opener: bool) {
        let text = &bytes.payload[..bytes.payload.len().min(LOOKED_AT)];
        let address = if by_opener { segment.destination } else { segment.source };
        let peer = if by_opener { segment.source } else { segment.destination };
        let (http, tls) = (is_http(text), text.starts_with(&[0x16, 3]));
        if !http && !tls {
            return;
        }
        let forwarded = by_opener && names_a_proxy(text);
        let says_nginx = !by_opener && memmem::find(text, b"\r\nServer: nginx").is_some();
        if let Some(listener) = self.listener(address) {
            listener.speaks = true;
            listener.forwarded |= forwarded;
            listener.says_nginx |= says_nginx;
            if listener.clients.len() < PEERS {
                listener.clients.insert(peer.ip());
            }
        }
    }

    fn listener(&mut self, address: SocketAddr) -> Option<&mut Listener> {
        if self.listeners.len() >= MOST && !self.listeners.contains_key(&address) {
            self.beyond += 1;
            return None;
        }
        Some(self.listeners.entry(address).or_default())
    }
}

fn is_http(text: &[u8]) -> bool {
    const STARTS: [&[u8]; 10] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"PATCH ",
        b"OPTIONS ",
        b"CONNECT ",
        b"HTTP/1.",
        b"PRI * HTTP/2",
    ];
    STARTS.iter().any(|start| text.starts_with(start))
}

/// Header fields that Nginx is configured to add, and the request form it uses towards upstreams by default.
fn names_a_proxy(text: &[u8]) -> bool {
    const FIELDS: [&[u8]; 3] = [b"\r\nX-Forwarded-For:", b"\r\nX-Real-IP:", b"\r\nX-Forwarded-Proto:"];
    let by_field = FIELDS.iter().any(|field| memmem::find(text, field).is_some());
    let line_end = memmem::find(text, b"\r\n").unwrap_or(0);
    let old = text.get(..line_end).is_some_and(|line| line.ends_with(b" HTTP/1.0"));
    by_field || (old && memmem::find(text, b"\r\nConnection: close").is_some())
}
