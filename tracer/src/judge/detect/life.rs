//! Whether the peer lives on after "its" reset. A host that aborted a connection has nothing more to say on
//! it (Weaver, Sommer, Paxson 2009: `RST_SEQ_DATA`). Our own kernel tells: it answers the peer's next segment
//! with a reset for a connection it no longer has, and that segment is the witness.

use std::time::Duration;

use crate::judge::case::{Case, TOLD_LATE};
use crate::judge::finding::{Finding, Origins};
use crate::model::{Event, EventKind, Packet, Socket, TcpFlags, TcpState};

use super::hop;

/// Least time by which segments may overtake each other on any path.
const REORDERING: Duration = Duration::from_millis(10);

/// Adds the findings about the peer's life after the reset.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    findings.extend(peer_alive(case));
    findings.extend(both_ends(case));
    findings.extend(far_end(case));
    findings.extend(alive_there(case));
}

fn peer_alive(case: &Case) -> Option<Finding> {
    let reset = case.incident.reset_received()?;
    let socket = case.socket()?;
    if case.connecting() {
        return taken_after_all(case, reset);
    }
    let sequence = reset.packet.as_ref().map_or(socket.rcv_nxt, |packet| packet.seq);
    let unbroken = case.incident.aftermath.iter().take_while(|event| !has(event, TcpFlags::SYN));
    let spoken = unbroken.filter_map(|event| Some((event, event.packet.as_ref()?)));
    let mut spoken = spoken.filter(|(_, packet)| same_distance(packet, socket));
    let is_late = |event: &Event| event.time.since(reset.time) >= reordering(socket);
    let contradicting = |(event, packet): &(&Event, &Packet)| {
        is_late(event)
            && !was_sent_before(packet, reset.packet.as_ref(), socket.ts_recent)
            && contradicts(packet, sequence, event.time.since(reset.time), socket)
    };
    let answering = |(event, packet): &(&Event, &Packet)| {
        !is_late(event)
            && (contradicts(packet, sequence, Duration::ZERO, socket) || took_request(packet, reset, socket))
            && is_answer_all_the_same(case, reset, socket)
    };
    let (event, packet) = spoken.clone().find(contradicting).or_else(|| spoken.find(answering))?;
    let after = event.time.since(reset.time).as_millis();
    let detail = if packet.payload_len == 0 && end_of(packet) == sequence {
        format!(
            "{after} ms after the RST, which says that no socket took the request, the peer acknowledged it"
        )
    } else {
        format!(
            "{after} ms after the RST the peer went on: a segment {} with sequence {} and {} bytes, beyond the RST's sequence {sequence}",
            packet.flags.names(),
            packet.seq,
            packet.payload_len
        )
    };
    let alive = Finding::supporting("peer_alive", Origins::DEVICE, detail);
    let decides = is_late(event) && !may_be_its_filters(reset, socket);
    Some(alive.decisive_if(decides).compared(&end_of(packet), &sequence))
}

/// The SYN that a RST refused was taken: its SYN-ACK follows. Two hosts behind one address may both have answered.
fn taken_after_all(case: &Case, reset: &Event) -> Option<Finding> {
    let refused = reset.packet.as_ref()?;
    let is_taken = |packet: &Packet| {
        let both = packet.flags.has(TcpFlags::SYN) && packet.flags.has(TcpFlags::ACK);
        both && packet.ack == refused.ack && packet.source == refused.source
    };
    let answer = case.incident.aftermath.iter().find(|event| event.packet.as_ref().is_some_and(is_taken))?;
    let after = answer.time.since(reset.time).as_millis();
    let detail = format!("{after} ms after the RST came the SYN-ACK to the same SYN: a listener took it");
    Some(Finding::supporting("peer_alive", Origins::DEVICE, detail))
}

/// No reordering explains the answer that comes at once: a reset by a living socket carries its last number, and one
/// without a socket says that the request, the only segment it can answer, was not taken. The packet filter of the peer's
/// host sends the same, so this never decides.
fn is_answer_all_the_same(case: &Case, reset: &Event, socket: &Socket) -> bool {
    let Some(packet) = reset.packet.as_ref().filter(|packet| same(packet, socket)) else { return false };
    let sent_once = socket.data_segments_out == 1 && socket.bytes_received == 0 && socket.retransmits == 0;
    !case.is_client()
        && !case.is_capture()
        && case.awaits_answer()
        && (packet.flags.has(TcpFlags::ACK) || sent_once)
}

/// It acknowledges what a bare RST says no socket took.
fn took_request(packet: &Packet, reset: &Event, socket: &Socket) -> bool {
    let bare = reset.packet.as_ref().is_some_and(Packet::is_stateless_reset);
    let acknowledges =
        packet.flags.is_plain() && packet.flags.has(TcpFlags::ACK) && packet.ack == socket.snd_nxt;
    bare && acknowledges && socket.unacked > 0
}

/// The packet filter of the peer's own host rejects a segment by a bare RST from where the peer is, and its socket
/// lives on (`nf_send_reset`). Where the peer's socket has a TTL of its own, such a RST shows another one.
fn may_be_its_filters(reset: &Event, socket: &Socket) -> bool {
    reset.packet.as_ref().is_none_or(|packet| packet.is_stateless_reset() && same(packet, socket))
}

/// The RST is as far away as the peer, or nobody can tell.
fn same(packet: &Packet, socket: &Socket) -> bool {
    socket.baseline.is_none_or(|baseline| {
        hop::difference(packet.ttl, baseline.ttl) == 0 || hop::has_own_ttl(packet, socket, baseline.ttl)
    })
}

/// What comes sooner may only have been overtaken by the RST on the way: a stateless reset quotes our own
/// acknowledgment, so data the peer had sent before may lie beyond its number. On a path whose delay varies that is as
/// much as the round trip itself, or more.
pub fn reordering(socket: &Socket) -> Duration {
    REORDERING + Duration::from_micros(u64::from(socket.srtt_us) * 2)
}

fn has(event: &Event, flag: u8) -> bool {
    event.packet.as_ref().is_some_and(|packet| packet.flags.has(flag))
}

fn same_distance(packet: &Packet, socket: &Socket) -> bool {
    packet.ttl == 0 || socket.baseline.is_none_or(|baseline| hop::difference(packet.ttl, baseline.ttl) == 0)
}

/// Its clock says that it left its end not after what had come from there by then (`recent`), or not after the RST itself:
/// it was delayed, or captured a second time elsewhere.
pub fn was_sent_before(packet: &Packet, reset: Option<&Packet>, recent: Option<u32>) -> bool {
    let value = |packet: &Packet| packet.timestamps.map(|stamps| stamps.value);
    let Some(left) = value(packet) else { return false };
    let not_after = |known: u32| left.wrapping_sub(known).cast_signed() <= 0;
    recent.is_some_and(not_after) || reset.and_then(value).is_some_and(not_after)
}

/// New sequence space beyond the RST, or data repeated, by its clock, later than any reordering explains.
fn contradicts(packet: &Packet, sequence: u32, after: Duration, socket: &Socket) -> bool {
    if packet.flags.has(TcpFlags::RST) {
        return false;
    }
    let patience = Duration::from_millis(200).max(Duration::from_micros(u64::from(socket.srtt_us) * 3));
    let beyond = after_in_sequence(end_of(packet), sequence);
    // A bare FIN beside the RST is how some stacks close; later it is a living peer that closes.
    let repeated = packet.payload_len > 0 && packet.timestamps.is_some();
    (beyond && packet.payload_len > 0) || (after > patience && (beyond || repeated))
}

/// Sequence number behind the segment; SYN and FIN count one each (RFC 9293, section 3.4).
fn end_of(packet: &Packet) -> u32 {
    packet.seq.wrapping_add(packet.payload_len).wrapping_add(u32::from(packet.flags.has(TcpFlags::FIN)))
}

fn after_in_sequence(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() > 0
}

/// The upstream's end is on this host and received a reset that Nginx's kernel did not send. The packet filters of this
/// host, which no tracer sees, are between the two as well.
fn far_end(case: &Case) -> Option<Finding> {
    let theirs = case.far_end_reset()?;
    let end = case.end()?;
    if case.is_far_end_reset_from_here() {
        let detail = "The upstream's end is on this host; it received a RST in Nginx's name from as far away as Nginx's packets, and \
                      Nginx's kernel had sent none: a packet filter of this host";
        return Some(Finding::supporting("far_end_reset", Origins::FILTER, detail.to_owned()));
    }
    let detail = format!(
        "The upstream's end is on this host; it received a RST in Nginx's name {} ms before Nginx's end was over, and Nginx's kernel had sent none",
        end.time.since(theirs).as_millis()
    );
    Some(Finding::supporting("far_end_reset", Origins::DEVICE, detail).decisive_if(case.is_complete()))
}

/// Both ends are on this host, both received a reset, neither sent one.
fn both_ends(case: &Case) -> Option<Finding> {
    const SAME_MOMENT: Duration = Duration::from_secs(1);
    let ours = case.incident.reset_received()?;
    let theirs = case
        .peer
        .iter()
        .find(|event| matches!(event.kind, EventKind::ResetReceived) && event.packet.is_some())?;
    let last = ours.time.max(theirs.time).after(TOLD_LATE);
    let sent = |event: &Event| {
        let EventKind::ResetSent { local, .. } = event.kind else { return false };
        let received = if Some(local) == case.tuple().map(|tuple| tuple.local) { theirs } else { ours };
        event.time <= last && !is_other_than_answer(event, received)
    };
    let silent = case.peer_reset().is_none_or(|event| !sent(event))
        && !case.incident.own.iter().chain(&case.incident.aftermath).any(sent)
        && !case.peer.iter().any(|event| sent(event));
    (silent && ours.time.distance(theirs.time) <= SAME_MOMENT).then(|| {
        let place = theirs.elsewhere.as_ref().map_or_else(
            || "Both ends of the connection are on this host".to_owned(),
            |there| format!("The other end of the connection is on {}", there.host),
        );
        let detail = format!("{place}; both ends received a RST, and neither kernel sent one");
        let decisive = case.is_complete() && case.host.sees_answers();
        Finding::supporting("both_ends_reset", Origins::DEVICE, detail).decisive_if(decisive)
    })
}

/// A kernel that has no socket answers a segment with an ACK by a bare RST (RFC 9293, section 3.10.7.1), so the RST with an
/// ACK that came is another one.
fn is_other_than_answer(answer: &Event, received: &Event) -> bool {
    answer.answers_segment() && has(answer, TcpFlags::ACK) && has(received, TcpFlags::ACK)
}

/// The other end is on this host, its socket lived on after the RST in its name, and its kernel had sent none. Whether a
/// device sent it or the packet filter of that end is not known.
fn alive_there(case: &Case) -> Option<Finding> {
    let reset = case.incident.reset_received().filter(|event| event.packet.is_some())?;
    let lives = |event: &&&Event| {
        let open = event.socket.as_ref().is_some_and(|socket| socket.state != TcpState::Close);
        let ends = matches!(event.kind, EventKind::ResetReceived | EventKind::Closed { .. });
        event.elsewhere.is_none() && ends && open && event.time > reset.time
    };
    let later = case.peer.iter().find(lives)?;
    let sent = |event: &Event| {
        matches!(event.kind, EventKind::ResetSent { .. }) && event.time <= reset.time.after(TOLD_LATE)
    };
    let silent = case.peer_reset().is_none() && !case.peer.iter().any(|event| sent(event));
    let seen = case.is_complete() && case.host.sees_answers() && case.host.has_hook("tcp_send_reset");
    (silent && seen && !case.is_capture()).then(|| {
        let detail = format!(
            "The other end is on this host: its socket was still there {} ms after the RST in its name, and its kernel had sent none",
            later.time.since(reset.time).as_millis()
        );
        Finding::supporting("alive_there", Origins::DEVICE, detail)
    })
}
