//! The packets of an incident as a table, with the commands that write them to a file, and the header of its RST beside
//! what was expected of the peer. What was not captured is not made up.

use crate::engine::{Captured, Dossier};
use crate::judge::Role;
use crate::model::verdict::{Direction, Reset};
use crate::model::{Packet, Utc, Verdict};

use super::document::{Block, Column, Section, Table, fields, paragraph};
use super::frames::{self, Frames};
use super::setting::Setting;

/// What was kept of the packets, and how to have them.
pub fn packets(
    verdict: &Verdict,
    dossier: Option<&Dossier>,
    frames: &Frames,
    setting: &Setting<'_>,
) -> Vec<Block> {
    if frames.count() == 0 {
        return vec![paragraph(
            "None is kept: only a recording, a store or a capture carries packets, and only those that were seen.",
        )];
    }
    let packets = dossier.map(|dossier| dossier.packets.as_slice()).unwrap_or_default();
    let mut rows: Vec<(usize, Vec<String>)> = packets
        .iter()
        .filter_map(|one| Some((frames.of(one)?, row(frames.of(one)?, one, setting))))
        .collect();
    rows.extend(frames.of_rebuilt().map(|frame| (frame, rebuilt(frame, verdict, dossier))));
    rows.sort_by_key(|(frame, _)| *frame);
    rows.dedup_by_key(|(frame, _)| *frame);
    let columns = ["Time (UTC)", "From and to", "TCP", "IP", "Came in by"].map(Column::words);
    let mut blocks = vec![Block::Table(Table {
        caption:
            "Frames of the file that the first command below writes; its numbers are those of a packet viewer"
                .to_owned(),
        columns: std::iter::once(Column::number("Frame")).chain(columns).collect(),
        rows: rows.into_iter().map(|(_, row)| row).collect(),
        searchable: false,
    })];
    let lines = setting.commands(&verdict.id);
    blocks.push(if lines.is_empty() {
        paragraph("To write them to a file: rstscope report on the recording of the session, with --id and -o packets.pcapng.")
    } else {
        Block::Lines { source: "To write these packets to a file, and everything of this incident to another".to_owned(), lines }
    });
    blocks
}

fn row(frame: usize, one: &Captured, setting: &Setting<'_>) -> Vec<String> {
    let packet = &one.packet;
    let arrival = setting.arrival(one.netns, packet).unwrap_or_else(|| "not known".to_owned());
    let time = if one.exact { one.time.rfc3339() } else { format!("{} (of the event)", one.time.rfc3339()) };
    if one.role == Role::IcmpError {
        let ends = format!("{} to {}", packet.source.ip(), packet.destination.ip());
        let what = format!("ICMP error that quotes the segment with seq {}", packet.seq);
        return vec![frame.to_string(), time, ends, what, ip(packet), arrival];
    }
    vec![
        frame.to_string(),
        time,
        format!("{} to {}", packet.source, packet.destination),
        format!(
            "{} seq {} ack {} win {}, options {}",
            packet.flags.names(),
            packet.seq,
            packet.ack,
            packet.window,
            listed(&packet.options)
        ),
        ip(packet),
        arrival,
    ]
}

fn rebuilt(frame: usize, verdict: &Verdict, dossier: Option<&Dossier>) -> Vec<String> {
    let time = frames::rebuilt_at(verdict, dossier).map(Utc::rfc3339).unwrap_or_default();
    let flags = verdict.reset.as_ref().and_then(|reset| reset.flags.clone()).unwrap_or_default();
    vec![
        frame.to_string(),
        time,
        String::new(),
        format!("{flags}, not captured: rebuilt from what its kernel said"),
        String::new(),
        String::new(),
    ]
}

fn ip(packet: &Packet) -> String {
    let id = packet.ip_id.map(|id| format!(", ID {id}")).unwrap_or_default();
    let whole = match packet.dont_fragment {
        Some(true) => ", DF set",
        Some(false) => ", DF not set",
        None => "",
    };
    format!("TTL {}{id}{whole}, TOS {:#04x}, length {}", packet.ttl, packet.tos, length(packet))
}

/// Length of the IP packet on the wire: the headers as captured and the payload that the IP length field tells of.
pub fn length(packet: &Packet) -> u32 {
    u32::try_from(packet.raw.len()).unwrap_or(0).saturating_add(packet.payload_len)
}

fn listed(options: &[String]) -> String {
    if options.is_empty() { "none".to_owned() } else { options.join(", ") }
}

/// Header fields of the RST beside what was expected, and who sent it; `None` where neither is known.
pub fn reset(verdict: &Verdict, packets: &[Captured]) -> Option<Section> {
    let reset = verdict.reset.as_ref()?;
    let known =
        [("Reason named by the kernel", reset.reason.clone()), ("Sender seen on this host", sender(reset))];
    let says = known.iter().any(|(_, value)| value.is_some());
    let has_header = reset.flags.is_some() || reset.seq.is_some() || reset.ttl.is_some();
    let table = has_header.then(|| Block::Table(table(reset, packets)));
    let nat = has_header.then(|| {
        paragraph(
            "Addresses and numbers are those that this host's TCP saw. What a translation of addresses (NAT) made of them \
             on the way is not known.",
        )
    });
    let blocks: Vec<Block> = table.into_iter().chain(says.then(|| fields(known))).chain(nat).collect();
    let title = if has_header { "Header of the reset" } else { "Who ended it at the other end" };
    (!blocks.is_empty()).then(|| Section::new("reset", title, blocks))
}

/// What is said of a field of a packet.
type Said<'a> = dyn Fn(&Packet) -> String + 'a;

fn table(reset: &Reset, packets: &[Captured]) -> Table {
    let of = |role| packets.iter().find(|one| one.role == role).map(|one| &one.packet);
    let (rst, syn_ack) = (of(Role::ResetReceived), of(Role::SynAck));
    let both = |value: &dyn Fn(&Packet) -> String| [rst.map(value), syn_ack.map(value)];
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let of_syn_ack = |value: &dyn Fn(&Packet) -> String| syn_ack.map(value);
    let is_ipv6 = rst.or(syn_ack).is_some_and(|packet| packet.source.is_ipv6());
    let id =
        |id: Option<u16>| if is_ipv6 { Some("none in IPv6".to_owned()) } else { number(id.map(u32::from)) };
    let mut rows = vec![
        row_of("Flags", reset.flags.clone(), of_syn_ack(&|one| one.flags.names())),
        row_of(
            "Sequence number, and the one expected next (rcv_nxt)",
            number(reset.seq),
            number(reset.expected_seq),
        ),
        row_of("Distance from rcv_nxt", reset.seq_offset.map(|offset| offset.to_string()), None),
        row_of("Acknowledgment number", number(reset.ack), of_syn_ack(&|one| one.ack.to_string())),
        row_of("Window", number(reset.window), of_syn_ack(&|one| one.window.to_string())),
        row_of(
            "TTL or hop limit",
            number(reset.ttl.map(u32::from)),
            number(reset.baseline_ttl.map(u32::from)),
        ),
        row_of("IP identification", id(reset.ip_id), syn_ack.and_then(|one| id(one.ip_id))),
        row_of(
            "TCP options",
            reset.options.as_ref().map(|options| listed(options)),
            of_syn_ack(&|one| listed(&one.options)),
        ),
    ];
    if rst.is_some() {
        let more: [(&str, &Said<'_>); 4] = [
            ("Don't fragment (DF)", &|one| {
                one.dont_fragment.map_or("none in IPv6", |set| if set { "set" } else { "not set" }).to_owned()
            }),
            ("TOS or traffic class", &|one| format!("{:#04x}", one.tos)),
            ("Length of the IP packet, bytes", &|one| length(one).to_string()),
            ("MAC address it came from", &|one| mac(one)),
        ];
        rows.extend(more.iter().map(|(name, value)| {
            let [seen, expected] = both(value);
            row_of(name, seen.filter(|seen| !seen.is_empty()), expected)
        }));
    }
    let baseline = if syn_ack.is_some() { "SYN-ACK" } else { "Expected" };
    let way = match reset.direction {
        Direction::Received => "received",
        Direction::Sent => "sent",
    };
    Table {
        caption: format!("Header of the RST ({way}) beside what this connection let expect"),
        columns: vec![Column::words("Field"), Column::words("RST"), Column::words(baseline)],
        rows,
        searchable: false,
    }
}

/// The address of an interface; loopback has none.
fn mac(packet: &Packet) -> String {
    packet.source_mac.filter(|mac| mac.is_unicast()).map(|mac| mac.to_string()).unwrap_or_default()
}

fn row_of(name: &str, seen: Option<String>, expected: Option<String>) -> Vec<String> {
    vec![name.to_owned(), seen.unwrap_or_else(|| "not known".to_owned()), expected.unwrap_or_default()]
}

fn sender(reset: &Reset) -> Option<String> {
    let sender = reset.sender.as_ref()?;
    let exe = sender.exe.as_ref().map(|exe| format!(", {exe}")).unwrap_or_default();
    let exit = sender.exit.as_ref().map(|exit| format!(", {exit}")).unwrap_or_default();
    Some(format!("pid {} ({}{exe}){exit}", sender.pid, sender.comm))
}

#[cfg(test)]
mod tests {
    use crate::output::samples;

    #[test]
    fn a_connection_that_ended_without_a_reset_has_no_header_of_one() {
        let mut verdict = samples::upstream_abort();
        let reset = verdict.reset.as_mut().unwrap();
        (reset.flags, reset.seq, reset.ttl, reset.reason) = (None, None, None, None);
        reset.sender = None;
        assert_eq!(super::reset(&verdict, &[]), None);
        verdict.reset.as_mut().unwrap().reason = Some("TCP_STATE".to_owned());
        assert_eq!(super::reset(&verdict, &[]).unwrap().title, "Who ended it at the other end");
        assert_eq!(super::reset(&samples::upstream_abort(), &[]).unwrap().title, "Header of the reset");
    }
}
