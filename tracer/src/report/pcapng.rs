//! The packets of a report as a pcapng file (draft-ietf-opsawg-pcapng): what was captured, each packet once, as it was.
//!
//! A packet has its headers only, and says so by its lengths. Comments are in plain words; the verdict and each piece of
//! its evidence stand as custom options with the decisive packet. A RST that this host sent and no hook captured is
//! rebuilt, on an interface of its own that says so.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use pcap_file::pcapng::blocks::name_resolution::{Ipv4Record, Ipv6Record, NameResolutionBlock, Record};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock as _, PcapNgWriter, RawBlock};
use pcap_file::{Endianness, PcapError};
use serde_json::json;

use crate::engine::Captured;
use crate::judge::Role;
use crate::model::verdict::{ConnectionSide, Weight};
use crate::model::{HostFacts, Utc, Verdict};
use crate::output::layout::count;
use crate::output::{ndjson, sanitize};

use super::frames::{self, Frames};
use super::pcapng_block::{Block, block, interface, rebuilt_interface};
use super::rebuilt::{DEFAULT_TTL, rebuilt};
use super::selection::Selection;
use super::setting::Setting;
use super::source::{Entry, Origin};
use super::{headers, words};

/// Packets of one file at most.
const MOST: usize = 200_000;
/// Longest text of an option, characters; an option holds 65535 bytes.
const MOST_TEXT: usize = 4000;

/// Packets of a report with what is to be said of them.
#[derive(Debug, Default)]
pub struct Capture {
    /// By number and time: numbers are those of one session, and a store holds many.
    packets: BTreeMap<(u32, Utc), Noted>,
    rebuilt: Vec<Rebuilt>,
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

/// A RST that was not captured.
#[derive(Debug)]
struct Rebuilt {
    time: Utc,
    verdict: Box<Verdict>,
    deciding: bool,
    /// Its place among the packets of its incident, in words.
    place: String,
}

impl Capture {
    /// Takes the packets of an incident.
    pub fn add(&mut self, entry: &Entry) {
        self.name(&entry.verdict);
        let dossier = entry.dossier();
        let packets = dossier.as_ref().map(|dossier| dossier.packets.as_slice()).unwrap_or_default();
        if packets.is_empty() {
            self.without += 1;
        }
        let deciding = deciding(&entry.verdict, packets);
        let frames = Frames::of_incident(&entry.verdict, dossier.as_deref());
        for captured in packets {
            self.take(&entry.verdict, captured, deciding == Some(captured.index), &frames);
        }
        let time = frames::rebuilt_at(&entry.verdict, dossier.as_deref());
        self.rebuild(&entry.verdict, time, deciding.is_none(), &frames);
    }

    /// Packets in the file.
    pub fn len(&self) -> usize {
        self.packets.len() + self.rebuilt.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rebuild(&mut self, verdict: &Verdict, time: Option<Utc>, deciding: bool, frames: &Frames) {
        let (Some(time), Some(_)) = (time, rebuilt(verdict, DEFAULT_TTL)) else {
            return;
        };
        if self.rebuilt.len() >= MOST {
            self.left_out += 1;
            return;
        }
        let place = place(verdict, frames.of_rebuilt(), frames);
        self.rebuilt.push(Rebuilt { time, verdict: Box::new(verdict.clone()), deciding, place });
    }

    fn take(&mut self, verdict: &Verdict, captured: &Captured, deciding: bool, frames: &Frames) {
        if captured.packet.raw.is_empty() {
            return;
        }
        if !self.packets.contains_key(&(captured.index, captured.time)) && self.packets.len() >= MOST {
            self.left_out += 1;
            return;
        }
        let noted = self.packets.entry((captured.index, captured.time)).or_insert_with(|| Noted {
            captured: captured.clone(),
            comments: Vec::new(),
            options: Vec::new(),
        });
        let place = place(verdict, frames.of(captured), frames);
        noted.comments.push(comment(verdict, captured, deciding, &place));
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
        let beyond = u32::try_from(interfaces.len()).unwrap_or(u32::MAX);
        if !self.rebuilt.is_empty() {
            writer.write_block(&rebuilt_interface().into_block())?;
        }
        if let Some(names) = self.names(host) {
            writer.write_block(&names.into_block())?;
        }
        let of = |noted: &Noted| {
            let key = (noted.captured.netns, noted.captured.packet.ifindex);
            (noted.captured.time, noted.block(interfaces.get(&key).copied().unwrap_or(0)))
        };
        let ttl = ttl(host);
        let mut blocks: Vec<(Utc, RawBlock<'static>)> = self.packets.values().map(of).collect();
        let rebuilt = self.rebuilt.iter();
        blocks.extend(rebuilt.filter_map(|one| Some((one.time, one.block(beyond, ttl)?))));
        // What happened at one moment stays in the order of the capture.
        blocks.sort_by_key(|(time, _)| *time);
        blocks.iter().try_for_each(|(_, block)| writer.write_raw_block(block).map(|_written| ()))
    }

    fn section(&self, origin: &Origin, made: &str) -> SectionHeaderBlock<'static> {
        let host = origin.last_host.as_deref();
        let kernel = host.filter(|host| host.capture.is_none());
        let kernel = kernel.map(|host| text(&format!("Linux {} on {}", host.kernel, host.host)));
        let comment = format!(
            "Evidence capture made by rstscope {} at {made}. {}",
            env!("CARGO_PKG_VERSION"),
            origin_words(host)
        );
        let left_out = if self.left_out > 0 {
            format!(" {} packets more were left out, the file holds at most {MOST}.", self.left_out)
        } else {
            String::new()
        };
        let lost = origin.losses.as_ref().map(|losses| match losses.total() {
            0 => " Nothing is known to be lost in the session.".to_owned(),
            lost => format!(" {} were lost in the session, so packets may be missing.", count(lost, "event")),
        });
        let lost = lost.unwrap_or_else(|| " What was lost in the session is not known.".to_owned());
        let clock = Setting { origin, selection: &Selection::default() }.clock();
        let comment = format!("{comment}{left_out}{lost} Times are UTC, {clock}.");
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
            .chain(self.rebuilt.iter().flat_map(Rebuilt::ends))
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

impl Noted {
    fn block(&self, interface: u32) -> RawBlock<'static> {
        let packet = &self.captured.packet;
        let comment = self.comments.join(" | ");
        let time = self.captured.time;
        let original = headers::length(packet);
        block(&Block {
            time,
            interface,
            raw: &packet.raw,
            original,
            comment: &comment,
            options: &self.options,
        })
    }
}

impl Rebuilt {
    fn block(&self, interface: u32, ttl: u8) -> Option<RawBlock<'static>> {
        let raw = rebuilt(&self.verdict, ttl)?;
        let original = u32::try_from(raw.len()).unwrap_or(0);
        let mut options =
            vec![compact(&json!({"rstscope": "packet", "incident": self.verdict.id, "role": "rebuilt"}))];
        if self.deciding {
            options.extend(concluded(&self.verdict));
        }
        let comment = rebuilt_comment(&self.verdict, self.deciding, &self.place);
        let raw = raw.as_slice();
        Some(block(&Block {
            time: self.time,
            interface,
            raw,
            original,
            comment: &comment,
            options: &options,
        }))
    }

    fn ends(&self) -> Vec<IpAddr> {
        let ends = self.verdict.connection.iter().flat_map(|one| [&one.local, &one.remote]);
        ends.filter_map(|end| end.parse::<std::net::SocketAddr>().ok()).map(|end| end.ip()).collect()
    }
}

/// Where the packets come from, for the reader of the file.
fn origin_words(host: Option<&HostFacts>) -> String {
    match host.and_then(|host| host.capture.as_ref()) {
        Some(capture) => text(&format!(
            "Packets are those of {} that belong to an incident, cut behind the TCP header. All others are left out.",
            capture.files.join(", ")
        )),
        None => "Packets are those that kernel hooks saw and that belong to an incident: IP and TCP headers only, no \
                 payload. Packets that no hook captured are not in this file, but for RSTs that this host sent: they are \
                 rebuilt from the socket and stand on the interface named rebuilt."
            .to_owned(),
    }
}

/// The TTL with which the host sends, as far as it is known.
fn ttl(host: Option<&HostFacts>) -> u8 {
    let set = host.and_then(|host| host.system.sysctls.get("net.ipv4.ip_default_ttl"));
    set.and_then(|ttl| ttl.trim().parse().ok()).unwrap_or(DEFAULT_TTL)
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

/// Which packet of which incident it is: its number as the report and the file of that incident alone count.
fn place(verdict: &Verdict, frame: Option<usize>, frames: &Frames) -> String {
    let frame = frame.map(|frame| format!(", frame {frame} of its {}", frames.count())).unwrap_or_default();
    format!("Incident {}{frame}", verdict.id)
}

fn comment(verdict: &Verdict, captured: &Captured, deciding: bool, place: &str) -> String {
    let packet = &captured.packet;
    let in_a_capture = words::of_capture(verdict);
    let what = match captured.role {
        Role::ResetReceived if in_a_capture => "ended the connection",
        Role::ResetRefused if in_a_capture => "ended nothing: the connection went on",
        Role::SynAck => "opened the connection; its TTL is the baseline for the peer's distance",
        Role::Dropped => "was dropped because the listener was full",
        Role::ResetReceived => "was accepted by the kernel and ended the connection",
        Role::ResetRefused => "was refused by the kernel: not inside the window",
        Role::IcmpError => "quotes a segment of the connection that its sender did not take",
        Role::Answered => {
            "was answered with a RST by this host (the RST itself was not captured; the interface named rebuilt has it)"
        }
        Role::Afterwards => "came from the peer after the connection was dead",
        Role::AtOtherEnd => "arrived at the other end of the connection, on this host",
    };
    let time =
        if captured.exact { "" } else { " Its time is that of the event, the capture's own is not known." };
    let decides = decides(verdict, deciding);
    let mac = packet
        .source_mac
        .filter(|mac| mac.is_unicast())
        .map(|mac| format!(", from MAC {mac}"))
        .unwrap_or_default();
    text(&format!(
        "{} from {} to {}, TTL {}{mac}: {what}.{time} {place}: {}, {}, {}.{decides}",
        packet.flags.names(),
        packet.source,
        packet.destination,
        packet.ttl,
        verdict.party,
        verdict.cause,
        verdict.certainty
    ))
}

fn decides(verdict: &Verdict, deciding: bool) -> String {
    if !deciding {
        return String::new();
    }
    format!(" This packet decides: {}.", verdict.summary.trim_end_matches('.'))
}

fn rebuilt_comment(verdict: &Verdict, deciding: bool, place: &str) -> String {
    text(&format!(
        "NOT CAPTURED, rebuilt: a kernel of this host sent this RST. Addresses, flags and numbers are the socket's, or \
         follow from the segment that it answers (RFC 9293, section 3.10.7.1); TTL is the host's setting, IP \
         identification and options are not known. {place}: {}, {}, {}.{}",
        verdict.party,
        verdict.cause,
        verdict.certainty,
        decides(verdict, deciding)
    ))
}

/// The verdict and each piece of evidence with the packet that decides, the role with every packet, as JSON.
fn options(verdict: &Verdict, captured: &Captured, deciding: bool) -> Vec<String> {
    let (index, role) = (captured.index, captured.role);
    let packet = json!({"rstscope": "packet", "incident": verdict.id, "index": index, "role": role});
    let mut options = vec![compact(&packet)];
    if deciding {
        options.extend(concluded(verdict));
    }
    options
}

/// The verdict and each piece of its evidence.
fn concluded(verdict: &Verdict) -> Vec<String> {
    let mut options = vec![compact(&json!({
        "rstscope": "verdict", "schema": verdict.schema, "id": verdict.id, "time": verdict.time,
        "party": verdict.party, "cause": verdict.cause, "certainty": verdict.certainty,
        "kind": verdict.kind, "summary": verdict.summary,
    }))];
    options.extend(verdict.evidence.iter().map(|piece| {
        compact(&json!({
            "rstscope": "evidence", "id": verdict.id, "code": piece.code, "weight": piece.weight,
            "detail": piece.detail, "value": piece.value, "baseline": piece.baseline,
        }))
    }));
    options
}

/// JSON in which no character acts on a terminal, and none is lost.
fn compact(value: &serde_json::Value) -> String {
    let line = ndjson::line(value).unwrap_or_default();
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

/// Text that a packet viewer can show as one line.
fn text(text: &str) -> String {
    sanitize::line(text, MOST_TEXT).into_owned()
}
