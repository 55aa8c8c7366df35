//! The packets of a report as a pcapng file (draft-ietf-opsawg-pcapng): what hooks captured, each packet once, as it was.
//!
//! A packet has its headers only, and says so by its lengths. Comments are in plain words; the verdict and each piece of
//! its evidence stand as custom options with the decisive packet.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use pcap_file::DataLink;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::name_resolution::{Ipv4Record, Ipv6Record, NameResolutionBlock, Record};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock as _, PcapNgWriter, RawBlock};
use pcap_file::{Endianness, PcapError};
use serde_json::json;

use crate::engine::Captured;
use crate::judge::Role;
use crate::model::verdict::{ConnectionSide, Weight};
use crate::model::{HostFacts, Packet, Verdict};
use crate::output::sanitize;

use super::source::{Entry, Origin};

/// Private enterprise number of custom options: the one RFC 5612 keeps for examples, as rstscope has none of its own.
pub const ENTERPRISE: u32 = 32_473;
/// `opt_custom` with a UTF-8 string that may be copied.
const CUSTOM_UTF8: u16 = 2988;
/// `opt_comment`.
const COMMENT: u16 = 1;
/// Type of an Enhanced Packet Block.
const ENHANCED_PACKET: u32 = 6;
/// Bytes of a block beside its body: type and twice its length.
const BLOCK_FRAME: u32 = 12;
/// Longest value of an option, bytes, below what its length field can say.
const MOST_OPTION: usize = 65_000;
/// Longest header that is captured, `abi::record::HEADER_BYTES`.
const SNAPLEN: u32 = 112;
/// Packets of one file at most.
const MOST: usize = 200_000;
/// Longest text of an option, characters; an option holds 65535 bytes.
const MOST_TEXT: usize = 4000;

/// Packets of a report with what is to be said of them.
#[derive(Debug, Default)]
pub struct Capture {
    packets: BTreeMap<u32, Noted>,
    /// Upstream and client addresses, by their role.
    upstreams: BTreeSet<IpAddr>,
    clients: BTreeSet<IpAddr>,
    own: BTreeSet<IpAddr>,
    /// Packets for which there was no room.
    pub left_out: u64,
    /// Incidents without a packet.
    pub without: u64,
}

/// A packet and what is to be said of it.
#[derive(Debug)]
struct Noted {
    captured: Captured,
    comments: Vec<String>,
    options: Vec<String>,
}

impl Capture {
    /// Takes the packets of an incident.
    pub fn add(&mut self, entry: &Entry) {
        self.name(&entry.verdict);
        let packets = entry.dossier.as_ref().map(|dossier| dossier.packets.as_slice()).unwrap_or_default();
        if packets.is_empty() {
            self.without += 1;
        }
        let deciding = deciding(&entry.verdict, packets);
        for captured in packets {
            self.take(&entry.verdict, captured, deciding == Some(captured.index));
        }
    }

    /// Packets in the file.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    fn take(&mut self, verdict: &Verdict, captured: &Captured, deciding: bool) {
        if captured.packet.raw.is_empty() {
            return;
        }
        if !self.packets.contains_key(&captured.index) && self.packets.len() >= MOST {
            self.left_out += 1;
            return;
        }
        let noted = self.packets.entry(captured.index).or_insert_with(|| Noted {
            captured: captured.clone(),
            comments: Vec::new(),
            options: Vec::new(),
        });
        noted.comments.push(comment(verdict, captured, deciding));
        noted.options.extend(options(verdict, captured, deciding));
    }

    fn name(&mut self, verdict: &Verdict) {
        for end in [&verdict.connection, &verdict.peer_connection].into_iter().flatten() {
            let ip = |address: &str| address.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
            let remotes =
                if end.side == ConnectionSide::Client { &mut self.clients } else { &mut self.upstreams };
            remotes.extend(ip(&end.remote));
            self.own.extend(ip(&end.local));
        }
    }

    /// The file.
    pub fn file(&self, origin: &Origin, made: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, origin, made).map_err(|error| match error {
            PcapError::IoError(error) => error,
            other => io::Error::other(other),
        })?;
        Ok(bytes)
    }

    fn write(&self, out: &mut Vec<u8>, origin: &Origin, made: &str) -> Result<(), PcapError> {
        let mut writer = PcapNgWriter::with_section_header(out, self.section(origin, made))?;
        let host = origin.last_host.as_deref();
        let mut interfaces = BTreeMap::new();
        for noted in self.packets.values() {
            let key = (noted.captured.netns, noted.captured.packet.ifindex);
            if !interfaces.contains_key(&key) {
                writer.write_block(&interface(key, host).into_block())?;
                let number = u32::try_from(interfaces.len()).unwrap_or(u32::MAX);
                interfaces.insert(key, number);
            }
        }
        if let Some(names) = self.names(host) {
            writer.write_block(&names.into_block())?;
        }
        let mut packets: Vec<&Noted> = self.packets.values().collect();
        packets.sort_by_key(|noted| (noted.captured.time, noted.captured.index));
        for noted in packets {
            let key = (noted.captured.netns, noted.captured.packet.ifindex);
            let number = interfaces.get(&key).copied().unwrap_or(0);
            writer.write_raw_block(&packet(noted, number))?;
        }
        Ok(())
    }

    fn section(&self, origin: &Origin, made: &str) -> SectionHeaderBlock<'static> {
        let host = origin.last_host.as_deref();
        let kernel = host.map(|host| text(&format!("Linux {} on {}", host.kernel, host.host)));
        let comment = format!(
            "Evidence capture made by rstscope {} at {made}. Packets are those that kernel hooks saw and that belong to an \
             incident: IP and TCP headers only, no payload. Packets that no hook captured are not in this file.",
            env!("CARGO_PKG_VERSION")
        );
        let left_out = if self.left_out > 0 {
            format!(" {} packets more were left out, the file holds at most {MOST}.", self.left_out)
        } else {
            String::new()
        };
        let comment = format!("{comment}{left_out}");
        let application = Cow::Owned(format!("rstscope {}", env!("CARGO_PKG_VERSION")));
        let mut options = vec![
            SectionHeaderOption::Comment(Cow::Owned(comment)),
            SectionHeaderOption::UserApplication(application),
        ];
        options.extend(kernel.map(|kernel| SectionHeaderOption::OS(Cow::Owned(kernel))));
        SectionHeaderBlock { endianness: Endianness::Little, options, ..SectionHeaderBlock::default() }
    }

    /// Names by role, so that a reader sees who is who. Only addresses that have one role get a name.
    fn names(&self, host: Option<&HostFacts>) -> Option<NameResolutionBlock<'static>> {
        let nginx = host.map_or_else(|| "nginx".to_owned(), |host| format!("nginx-{}", label(&host.host)));
        let mut own = self.own.clone();
        own.extend(host.iter().flat_map(|host| &host.local_addresses));
        let used: BTreeSet<IpAddr> = self
            .packets
            .values()
            .flat_map(|noted| [noted.captured.packet.source.ip(), noted.captured.packet.destination.ip()])
            .collect();
        let one = |address: &IpAddr| {
            let roles = [&own, &self.upstreams, &self.clients].map(|set| set.contains(address));
            let name = match roles {
                [true, false, false] => nginx.clone(),
                [false, true, false] => format!("upstream-{}", label(&address.to_string())),
                [false, false, true] => format!("client-{}", label(&address.to_string())),
                _ => return None,
            };
            Some(record(*address, name))
        };
        let records: Vec<Record<'static>> = used.iter().filter_map(one).collect();
        (!records.is_empty()).then(|| NameResolutionBlock { records, options: Vec::new() })
    }
}

/// A name of letters, digits and hyphens (RFC 1123, section 2.1).
fn label(text: &str) -> String {
    let label: String = text
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
        .collect();
    let label = label.trim_matches('-');
    label.chars().take(48).collect()
}

fn record(address: IpAddr, name: String) -> Record<'static> {
    let names = vec![Cow::Owned(name)];
    match address {
        IpAddr::V4(ip) => Record::Ipv4(Ipv4Record { ip_addr: Cow::Owned(ip.octets().to_vec()), names }),
        IpAddr::V6(ip) => Record::Ipv6(Ipv6Record { ip_addr: Cow::Owned(ip.octets().to_vec()), names }),
    }
}

fn interface((netns, index): (u32, u32), host: Option<&HostFacts>) -> InterfaceDescriptionBlock<'static> {
    let known = host.and_then(|host| {
        host.system.interfaces.iter().find(|one| one.index == index && (one.netns == netns || netns == 0))
    });
    let loopback = (index == 1).then(|| "lo".to_owned());
    let name = known.map(|one| text(&one.name)).or(loopback).unwrap_or_else(|| format!("ifindex-{index}"));
    let namespace = if netns == 0 { "not known".to_owned() } else { netns.to_string() };
    let description = format!(
        "interface {index} of network namespace {namespace}; cgroup_skb/ingress and tracepoints, headers only"
    );
    let options = vec![
        InterfaceDescriptionOption::IfName(Cow::Owned(name)),
        InterfaceDescriptionOption::IfDescription(Cow::Owned(description)),
        InterfaceDescriptionOption::IfTsResol(9),
    ];
    InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen: SNAPLEN, options }
}

/// An Enhanced Packet Block. Written by hand, as `pcap-file` lets nobody make custom options.
fn packet(noted: &Noted, interface: u32) -> RawBlock<'static> {
    let raw = &noted.captured.packet.raw;
    let time = u64::try_from(noted.captured.time.0).unwrap_or(0);
    let mut body = Vec::with_capacity(raw.len() + 256);
    let head = [
        interface,
        (time >> 32) as u32,
        (time & 0xffff_ffff) as u32,
        u32::try_from(raw.len()).unwrap_or(0),
        original_len(&noted.captured.packet),
    ];
    body.extend(head.iter().flat_map(|number| number.to_le_bytes()));
    padded(&mut body, raw);
    option(&mut body, COMMENT, None, &noted.comments.join(" | "));
    for value in &noted.options {
        option(&mut body, CUSTOM_UTF8, Some(ENTERPRISE), value);
    }
    body.extend([0; 4]); // opt_endofopt
    let length = u32::try_from(body.len()).unwrap_or(0).saturating_add(BLOCK_FRAME);
    RawBlock { type_: ENHANCED_PACKET, initial_len: length, body: Cow::Owned(body), trailer_len: length }
}

/// Code, length, number of the enterprise where there is one, and text, filled up to 32 bits.
fn option(body: &mut Vec<u8>, code: u16, enterprise: Option<u32>, value: &str) {
    let mut bytes: Vec<u8> = enterprise.iter().flat_map(|number| number.to_le_bytes()).collect();
    let room = MOST_OPTION - bytes.len();
    let end = value.floor_char_boundary(room.min(value.len()));
    bytes.extend(&value.as_bytes()[..end]);
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(body, &bytes);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Length on the wire: headers as captured and the payload that the IP length field tells of.
fn original_len(packet: &Packet) -> u32 {
    u32::try_from(packet.raw.len()).unwrap_or(0).saturating_add(packet.payload_len)
}

/// The packet on which the verdict turns.
fn deciding(verdict: &Verdict, packets: &[Captured]) -> Option<u32> {
    let alive = |piece: &crate::model::verdict::Evidence| {
        piece.code == "peer_alive" && piece.weight == Weight::Decisive
    };
    let first = if verdict.evidence.iter().any(alive) { Some(Role::Afterwards) } else { None };
    let order =
        [first, Some(Role::ResetReceived), Some(Role::Answered), Some(Role::Dropped), Some(Role::AtOtherEnd)];
    order
        .into_iter()
        .flatten()
        .find_map(|role| packets.iter().find(|packet| packet.role == role))
        .map(|packet| packet.index)
}

fn comment(verdict: &Verdict, captured: &Captured, deciding: bool) -> String {
    let packet = &captured.packet;
    let what = match captured.role {
        Role::SynAck => "opened the connection; its TTL is the baseline for the peer's distance",
        Role::Dropped => "was dropped because the listener was full",
        Role::ResetReceived => "was accepted by the kernel and ended the connection",
        Role::ResetRefused => "was refused by the kernel: not inside the window",
        Role::IcmpError => "quotes a segment of the connection that its sender did not take",
        Role::Answered => "was answered with a RST by this host (the RST itself was not captured)",
        Role::Afterwards => "came from the peer after the connection was dead",
        Role::AtOtherEnd => "arrived at the other end of the connection, on this host",
    };
    let time =
        if captured.exact { "" } else { " Its time is that of the event, the capture's own is not known." };
    let decides = if deciding {
        format!(" This packet decides: {}.", verdict.summary.trim_end_matches('.'))
    } else {
        String::new()
    };
    text(&format!(
        "{} from {} to {}, TTL {}: {what}.{time} Incident {}: {}, {}, {}.{decides}",
        packet.flags.names(),
        packet.source,
        packet.destination,
        packet.ttl,
        verdict.id,
        verdict.party,
        verdict.cause,
        verdict.certainty
    ))
}

/// The verdict and each piece of evidence with the packet that decides, the role with every packet, as JSON.
fn options(verdict: &Verdict, captured: &Captured, deciding: bool) -> Vec<String> {
    let mut options = vec![
        json!({"rstscope": "packet", "incident": verdict.id, "index": captured.index, "role": captured.role})
            .to_string(),
    ];
    if !deciding {
        return options;
    }
    options.push(
        json!({
            "rstscope": "verdict", "schema": verdict.schema, "id": verdict.id, "time": verdict.time,
            "party": verdict.party, "cause": verdict.cause, "certainty": verdict.certainty,
            "kind": verdict.kind, "summary": text(&verdict.summary),
        })
        .to_string(),
    );
    options.extend(verdict.evidence.iter().map(|piece| {
        json!({
            "rstscope": "evidence", "id": verdict.id, "code": piece.code, "weight": piece.weight,
            "detail": text(&piece.detail), "value": piece.value, "baseline": piece.baseline,
        })
        .to_string()
    }));
    options
}

/// Text that a packet viewer can show as one line.
fn text(text: &str) -> String {
    sanitize::line(text, MOST_TEXT).into_owned()
}
