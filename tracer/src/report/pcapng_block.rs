//! Blocks of a pcapng file: interfaces, and packets with comment and custom options. Says nothing of its own about a
//! packet.

use std::borrow::Cow;

use pcap_file::DataLink;
use pcap_file::pcapng::RawBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use crate::model::{HostFacts, Utc};
use crate::output::sanitize;

use super::setting;

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

/// What an Enhanced Packet Block is written of.
pub struct Block<'a> {
    /// When it was.
    pub time: Utc,
    /// Number of its interface.
    pub interface: u32,
    /// Headers, from the IP header on.
    pub raw: &'a [u8],
    /// Length on the wire, bytes.
    pub original: u32,
    /// In plain words.
    pub comment: &'a str,
    /// Custom options, as JSON.
    pub options: &'a [String],
}

/// The interface on which packets came in.
pub fn interface((netns, index): (u32, u32), host: Option<&HostFacts>) -> InterfaceDescriptionBlock<'static> {
    let known = host.and_then(|host| setting::interface_name(host, netns, index));
    let loopback = (index == 1).then(|| "lo".to_owned());
    if let Some(capture) = host.and_then(|host| host.capture.as_ref()) {
        let description = format!("packets of {}, headers only", capture.files.join(", "));
        return described("capture".to_owned(), line(&description));
    }
    let name = known.map(line).or(loopback).unwrap_or_else(|| format!("ifindex-{index}"));
    let namespace = if netns == 0 { "not known".to_owned() } else { netns.to_string() };
    let description = format!(
        "interface {index} of network namespace {namespace}; cgroup_skb/ingress and tracepoints, headers only"
    );
    described(name, description)
}

/// The interface of packets that nobody captured.
pub fn rebuilt_interface() -> InterfaceDescriptionBlock<'static> {
    let description = "not captured: RSTs that a kernel of this host sent, rebuilt from what its socket said; TTL is the \
                       host's setting, IP identification and TCP options are not known";
    described("rebuilt".to_owned(), description.to_owned())
}

fn described(name: String, description: String) -> InterfaceDescriptionBlock<'static> {
    let options = vec![
        InterfaceDescriptionOption::IfName(Cow::Owned(name)),
        InterfaceDescriptionOption::IfDescription(Cow::Owned(description)),
        InterfaceDescriptionOption::IfTsResol(9),
    ];
    InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen: SNAPLEN, options }
}

/// An Enhanced Packet Block. Written by hand, as `pcap-file` lets nobody make custom options.
pub fn block(block: &Block<'_>) -> RawBlock<'static> {
    let raw = block.raw;
    let time = u64::try_from(block.time.0).unwrap_or(0);
    let mut body = Vec::with_capacity(raw.len() + 256);
    let head = [
        block.interface,
        (time >> 32) as u32,
        (time & 0xffff_ffff) as u32,
        u32::try_from(raw.len()).unwrap_or(0),
        block.original,
    ];
    body.extend(head.iter().flat_map(|number| number.to_le_bytes()));
    padded(&mut body, raw);
    option(&mut body, COMMENT, None, block.comment);
    for value in block.options {
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

/// Text that a packet viewer can show as one line.
fn line(text: &str) -> String {
    const MOST_TEXT: usize = 1000;
    sanitize::line(text, MOST_TEXT).into_owned()
}
