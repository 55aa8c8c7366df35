//! Replaces clients, URIs and host names by pseudonyms, in the input of a report: everything made of it then agrees.
//!
//! Works on the JSON of a recording or of verdicts, twice: once to learn who is who, once to replace. An address is
//! kept only if it is known to be the host's own or an upstream's. Pseudonyms of addresses keep their network
//! (IPv4 /24, IPv6 /64) and come from ranges that no host has (RFC 1112 section 4, RFC 3849).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::packet_bytes;

/// Length of the checksum in front of a line of a recording, and the space behind it.
const CHECKSUM: usize = 9;
/// Shorter texts are not looked for inside other texts.
const LEAST: usize = 4;
/// Fields that hold text of people and programs; others hold slugs and numbers.
const TEXTS: [&str; 23] = [
    "line",
    "place",
    "message",
    "action",
    "file",
    "request",
    "subrequest",
    "upstream",
    "upstream_url",
    "host",
    "referrer",
    "server",
    "client",
    "summary",
    "detail",
    "why",
    "why_not",
    "text",
    "change",
    "value",
    "baseline",
    "where",
    "problems",
];

/// What is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Addresses of clients
    Client,
    /// Request URIs, referrers and the URIs of upstreams
    Uri,
    /// Names of hosts: the observer's, and those of requests and server blocks
    Host,
}

impl fmt::Display for What {
    /// As `--redact` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Uri => "uri",
            Self::Host => "host",
        })
    }
}

/// Pseudonyms given so far.
#[derive(Debug, Default)]
pub struct Redactor {
    what: BTreeSet<What>,
    /// Addresses that are not a client's.
    kept: BTreeSet<IpAddr>,
    networks: BTreeMap<IpAddr, u32>,
    hosts_of_network: BTreeMap<IpAddr, u32>,
    addresses: BTreeMap<IpAddr, IpAddr>,
    uris: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
}

/// The redacted input.
#[derive(Debug)]
pub struct Redacted {
    /// In the form of the input.
    pub bytes: Vec<u8>,
    /// What was replaced, in sentences.
    pub statement: Vec<String>,
}

/// Redacts a recording or verdicts as JSON lines. Lines that are neither end a recording and are left out of verdicts.
pub fn redact(input: &[u8], what: &[What]) -> Redacted {
    let mut redactor = Redactor { what: what.iter().copied().collect(), ..Redactor::default() };
    let is_recording = input.first().is_some_and(|first| *first != b'{');
    for line in input.split(|byte| *byte == b'\n') {
        if let Some(value) = parse(line, is_recording) {
            redactor.learn(&value);
        }
    }
    let mut bytes = Vec::with_capacity(input.len());
    let mut left_out = 0;
    for line in input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Some(mut value) = parse(line, is_recording) else {
            left_out += 1;
            if is_recording {
                break;
            }
            continue;
        };
        redactor.replace(&mut value, None);
        write(&mut bytes, &value, is_recording);
    }
    Redacted { bytes, statement: redactor.statement(left_out) }
}

fn parse(line: &[u8], is_recording: bool) -> Option<Value> {
    if !is_recording {
        return serde_json::from_slice(line).ok();
    }
    let (checksum, json) = line.split_at_checked(CHECKSUM)?;
    let whole = checksum == format!("{:08x} ", crc32fast::hash(json)).as_bytes();
    whole.then(|| serde_json::from_slice(json).ok()).flatten()
}

fn write(out: &mut Vec<u8>, value: &Value, is_recording: bool) {
    let json = value.to_string();
    if is_recording {
        out.extend(format!("{:08x} ", crc32fast::hash(json.as_bytes())).as_bytes());
    }
    out.extend(json.as_bytes());
    out.push(b'\n');
}

impl Redactor {
    /// Learns which addresses are not a client's, and which texts are to be looked for.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                self.learn_object(fields);
                fields.values().for_each(|value| self.learn(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.learn(value)),
            _ => {}
        }
    }

    fn learn_object(&mut self, fields: &Map<String, Value>) {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        match text("side") {
            Some("upstream" | "upstream_peer") => self.keep([text("local"), text("remote")]),
            Some("client") => self.keep([text("local"), None]),
            Some("client_peer") => self.keep([text("remote"), None]),
            _ => {}
        }
        for name in ["local_addresses", "upstreams", "listeners"] {
            fields.get(name).into_iter().for_each(|value| self.keep_all(value));
        }
        for name in ["request", "subrequest"] {
            let target = text(name).and_then(|line| line.split(' ').nth(1));
            if let Some(uri) = target {
                self.uri(uri);
            }
        }
        for name in ["upstream_url", "upstream", "referrer"] {
            if let Some(uri) = text(name).and_then(path_of) {
                self.uri(uri);
            }
        }
        // A directive of the configuration and the blocks around it.
        if let (Some(place), Some(directive)) = (text("place"), text("text")) {
            let words = place.split([' ', ',']).chain(path_of(directive));
            words.filter(|word| word.contains('/')).for_each(|word| self.uri(word));
        }
        for name in ["host", "server"] {
            if let Some(host) = text(name) {
                self.name(host);
            }
        }
        if let Some(host) = text("referrer").and_then(authority_of) {
            self.name(host);
        }
    }

    fn keep(&mut self, addresses: [Option<&str>; 2]) {
        let parsed = addresses.into_iter().flatten().filter_map(|text| text.parse::<SocketAddr>().ok());
        self.kept.extend(parsed.map(|address| address.ip().to_canonical()));
    }

    /// Every address in a list, however deep.
    fn keep_all(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                let ip = text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse());
                self.kept.extend(ip.map(|ip: IpAddr| ip.to_canonical()));
            }
            Value::Array(items) => items.iter().for_each(|item| self.keep_all(item)),
            _ => {}
        }
    }

    fn uri(&mut self, uri: &str) {
        if self.what.contains(&What::Uri) && uri.len() > 1 && !self.uris.contains_key(uri) {
            let pseudonym = format!("/uri-{}", self.uris.len() + 1);
            self.uris.insert(uri.to_owned(), pseudonym);
        }
    }

    fn name(&mut self, host: &str) {
        let address = host.parse::<IpAddr>().is_ok() || host.parse::<SocketAddr>().is_ok();
        let known = self.names.contains_key(host) || host.is_empty() || host == "_" || address;
        if self.what.contains(&What::Host) && !known {
            let pseudonym = format!("host-{}", self.names.len() + 1);
            self.names.insert(host.to_owned(), pseudonym);
        }
    }

    /// Replaces in every text of `value`, which is the value of the field `name`.
    fn replace(&mut self, value: &mut Value, name: Option<&str>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    self.replace(value, Some(name));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace(item, name)),
            Value::String(text) if name == Some("raw") => {
                if let Some(bytes) = packet_bytes::rewritten(text, |ip| self.address(ip)) {
                    *text = bytes;
                }
            }
            Value::String(text) => *text = self.text(text, name),
            _ => {}
        }
    }

    fn text(&mut self, text: &str, name: Option<&str>) -> String {
        let mut text = text.to_owned();
        if name.is_some_and(|name| TEXTS.contains(&name)) {
            text = looked_for(&text, &self.uris, name);
            text = looked_for(&text, &self.names, name);
        }
        if self.what.contains(&What::Client) { self.addresses_in(&text) } else { text }
    }

    /// Every address in a text that is not kept.
    fn addresses_in(&mut self, text: &str) -> String {
        let part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(part) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c| !part(c)).unwrap_or(from.len());
            let (token, after) = from.split_at(end);
            out.push_str(before);
            out.push_str(&self.token(token));
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn token(&mut self, token: &str) -> String {
        let bare = token.trim_end_matches([':', '.']);
        let tail = &token[bare.len()..];
        if let Ok(address) = bare.parse::<SocketAddr>() {
            return format!("{}{tail}", SocketAddr::new(self.address(address.ip()), address.port()));
        }
        match bare.parse::<IpAddr>() {
            Ok(ip) => format!("{}{tail}", self.address(ip)),
            Err(_) => token.to_owned(),
        }
    }

    /// The pseudonym of an address, or itself.
    fn address(&mut self, ip: IpAddr) -> IpAddr {
        let canonical = ip.to_canonical();
        let general = canonical.is_unspecified() || canonical.is_loopback();
        if !self.what.contains(&What::Client) || general || self.kept.contains(&canonical) {
            return ip;
        }
        if let Some(known) = self.addresses.get(&canonical) {
            return *known;
        }
        let network = network(canonical);
        let next = u32::try_from(self.networks.len()).unwrap_or(u32::MAX);
        let number = *self.networks.entry(network).or_insert(next);
        let host = self.hosts_of_network.entry(network).or_insert(0);
        *host += 1;
        let pseudonym = pseudonym(canonical, number, *host);
        self.addresses.insert(canonical, pseudonym);
        pseudonym
    }

    fn statement(&self, left_out: u64) -> Vec<String> {
        let mut said = Vec::new();
        if self.what.contains(&What::Client) {
            said.push(format!(
                "{} addresses were replaced: all but those of the host itself and of upstreams. Pseudonyms of IPv4 are in \
                 240.0.0.0/4, of IPv6 in 2001:db8::/32; addresses of one /24 or /64 stay in one. Headers of packets have \
                 them, too, with checksums adjusted.",
                self.addresses.len()
            ));
        }
        if self.what.contains(&What::Uri) {
            said.push(format!("{} URIs were replaced.", self.uris.len()));
        }
        if self.what.contains(&What::Host) {
            said.push(format!("{} names of hosts were replaced.", self.names.len()));
        }
        said.push("The same value has the same pseudonym in every part. Incidents made from a redacted recording have other ids.".to_owned());
        said.push(
            "MAC addresses of neighbours, process names, ports and times were not replaced.".to_owned(),
        );
        if left_out > 0 {
            said.push(format!("{left_out} lines could not be read and were left out."));
        }
        said
    }
}

/// The longest first, so that a URI is not replaced within a longer one.
fn looked_for(text: &str, known: &BTreeMap<String, String>, name: Option<&str>) -> String {
    if name.is_some_and(|name| matches!(name, "host" | "server")) {
        return known.get(text).cloned().unwrap_or_else(|| text.to_owned());
    }
    let mut found: Vec<(&String, &String)> =
        known.iter().filter(|(value, _)| value.len() >= LEAST && text.contains(value.as_str())).collect();
    found.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    let short = known
        .iter()
        .filter(|(value, _)| value.len() < LEAST && text.split([' ', '"']).any(|word| word == *value));
    found.extend(short);
    let mut text = text.to_owned();
    // In two steps, so that what one replacement writes is not found by the next.
    for (number, (value, _)) in found.iter().enumerate() {
        text = text.replace(value.as_str(), &format!("\u{0}{number}\u{0}"));
    }
    for (number, (_, pseudonym)) in found.iter().enumerate() {
        text = text.replace(&format!("\u{0}{number}\u{0}"), pseudonym);
    }
    text
}

/// Path and query of `http://host/path?query`.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.find('/').and_then(|at| rest.get(at..))
}

/// Host of `http://host/path`.
fn authority_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', ':']).next()
}

fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

fn pseudonym(ip: IpAddr, network: u32, host: u32) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::from_bits(0xf000_0000 | (network & 0x000f_ffff) << 8 | host & 0xff).into(),
        IpAddr::V6(_) => {
            let prefix = 0x2001_0db8_u128 << 96;
            Ipv6Addr::from_bits(prefix | u128::from(network) << 64 | u128::from(host)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [What; 3] = [What::Client, What::Uri, What::Host];

    fn verdict() -> String {
        serde_json::json!({
            "host": "edge1", "party": "client", "cause": "client_abort",
            "summary": "Client 198.51.100.7:4242 went away, request \"GET /secret?q=1 HTTP/1.1\"",
            "connection": {"side": "client", "local": "192.0.2.1:443", "remote": "198.51.100.7:4242"},
            "peer_connection": {"side": "upstream", "local": "192.0.2.1:5000", "remote": "10.0.0.2:8080"},
            "log": {"client": "198.51.100.7", "request": "GET /secret?q=1 HTTP/1.1", "host": "shop.example",
                "upstream": "http://10.0.0.2:8080/secret?q=1", "server": "_"},
            "missing": [{"code": "other_end", "why": "198.51.100.7:4242 is another host than 198.51.100.9"}],
        })
        .to_string()
            + "\n"
    }

    #[test]
    fn nothing_of_what_is_redacted_is_left_and_the_rest_stays() {
        let redacted = redact(verdict().as_bytes(), &ALL);
        let text = String::from_utf8(redacted.bytes).unwrap();
        for gone in ["198.51.100", "secret", "edge1", "shop.example"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["summary"], "Client 240.0.0.1:4242 went away, request \"GET /uri-1 HTTP/1.1\"");
        assert_eq!(value["connection"]["remote"], "240.0.0.1:4242");
        assert_eq!(value["log"]["client"], "240.0.0.1");
        assert_eq!(value["log"]["upstream"], "http://10.0.0.2:8080/uri-1");
        assert_eq!(value["missing"][0]["why"], "240.0.0.1:4242 is another host than 240.0.0.2");
        assert_eq!((&value["party"], &value["cause"]), (&"client".into(), &"client_abort".into()));
        assert_eq!(redacted.statement.len(), 5);
    }

    #[test]
    fn only_what_is_asked_for_is_replaced() {
        let text = String::from_utf8(redact(verdict().as_bytes(), &[What::Host]).bytes).unwrap();
        assert!(
            text.contains("198.51.100.7") && text.contains("/secret?q=1") && !text.contains("edge1"),
            "{text}"
        );
    }

    #[test]
    fn pseudonyms_keep_networks_apart_and_together() {
        let mut redactor = Redactor { what: [What::Client].into(), ..Redactor::default() };
        let mut of = |text: &str| redactor.addresses_in(text);
        assert_eq!(of("10.1.1.5, 10.1.1.6 and 10.1.2.5"), "240.0.0.1, 240.0.0.2 and 240.0.1.1");
        assert_eq!(
            of("[2001:db8:9::1]:80 127.0.0.1 ::1 0.0.0.0"),
            "[2001:db8:0:2::1]:80 127.0.0.1 ::1 0.0.0.0"
        );
        assert_eq!(of("at 12:30:01, version 1.2, deadbeef."), "at 12:30:01, version 1.2, deadbeef.");
    }
}
