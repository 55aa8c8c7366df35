//! Sequence numbers: a refused SYN, a FIN before the RST, and resets that guessed.
//! That an accepted RST carries the exact next number proves nothing: the kernel takes no other.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Packet, TcpFlags, TcpState};

/// Weaver's `RST_SEQ_CHANGE`: resets with different numbers this close together.
const BURST: Duration = Duration::from_secs(2);

/// Adds the sequence findings.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    findings.extend(syn_refused(case));
    findings.extend(fin_before(case));
    findings.extend(resets_refused(case));
}

/// RFC 9293, section 3.10.7.3: a reset in `SYN_SENT` is acceptable if it acknowledges the SYN.
fn syn_refused(case: &Case) -> Option<Finding> {
    let event = case.incident.reset_received()?;
    if case.state() != TcpState::SynSent {
        return None;
    }
    let ack = event.packet.as_ref().map(|packet| packet.ack);
    let detail = match ack {
        Some(ack) => format!("The SYN was answered by a RST that acknowledges exactly this SYN (ack {ack})"),
        None => "The SYN was answered by a RST that the kernel took for an answer to this SYN".to_owned(),
    };
    Some(Finding::supporting("syn_refused", Origins::NO_SOCKET, detail))
}

fn fin_before(case: &Case) -> Option<Finding> {
    case.incident.reset_received()?;
    let state = case.state();
    state.peer_closed().then(|| {
        let detail = format!("The peer's FIN had come before the RST (state {})", state.name());
        Finding::supporting("fin_before", Origins::PEER, detail).valued(&state.name())
    })
}

/// A bare RST with a number that Nginx's end may have acknowledged.
fn is_answer(case: &Case, packet: &Packet) -> bool {
    let Some(socket) = case.socket() else { return false };
    let behind = socket.rcv_nxt.wrapping_sub(packet.seq);
    !packet.flags.has(TcpFlags::ACK) && u64::from(behind) <= socket.bytes_received + 1
}

fn resets_refused(case: &Case) -> Option<Finding> {
    let accepted = case.reset_packet()?;
    let close = case.incident.refused().filter(|event| event.time.distance(case.time()) <= BURST);
    let refused: Vec<&Packet> = close.filter_map(|event| event.packet.as_ref()).collect();
    // A kernel without the socket answers each segment with the number that this one acknowledges, which may be an old one.
    let guesses =
        [accepted].into_iter().chain(refused.iter().copied()).any(|packet| !is_answer(case, packet));
    let numbers: BTreeSet<u32> = refused.iter().map(|packet| packet.seq).chain([accepted.seq]).collect();
    (numbers.len() >= 2 && guesses && !case.is_reset_ahead()).then(|| {
        let detail = format!(
            "{} resets with different sequence numbers came within 2 s and the kernel refused all but one: a sender that guesses",
            numbers.len()
        );
        Finding::supporting("resets_refused", Origins::DEVICE, detail).valued(&numbers.len())
    })
}
