//! A RST in the name of Nginx's end, as a capture shows it: whether that end can have sent it, and what stood
//! open when it came. The kernel that sent it was not asked, so nothing here names its reason.

use std::time::Duration;

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Baseline, Event, EventKind, Packet, Socket, TcpFlags, TcpState};
use crate::output::layout::count;

use super::{hop, life};

/// Least delay of something that was not under way.
const PATIENCE: Duration = Duration::from_millis(200);
/// Silence after which a reset is one of a timer: Nginx's are whole seconds in practice.
const TIMER_MS: u32 = 900;

/// Adds the findings about a RST of Nginx's end.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    if case.incident.reset_received().is_some() {
        return;
    }
    let Some(event) = case.incident.reset_seen() else { return };
    let EventKind::ResetSeen { baseline, ts_recent, answers } = &event.kind else { return };
    let (Some(packet), Some(socket)) = (&event.packet, &event.socket) else { return };
    findings.extend(went_on(case, event, (packet, socket), *ts_recent));
    findings.extend(baseline.map(|baseline| distance(packet, baseline)));
    findings.extend(clock(packet, *ts_recent));
    findings.extend(answers.as_deref().and_then(|answered| answer(packet, answered, socket)));
    findings.extend(left_before(case, socket));
    findings.extend(outstanding(case, socket));
}

fn distance(packet: &Packet, baseline: Baseline) -> Finding {
    let off = hop::difference(packet.ttl, baseline.ttl);
    let (ttl, source) = (packet.ttl, hop::source_name(baseline.source));
    if off == 0 {
        let detail = format!(
            "The RST in Nginx's name has TTL {ttl}, which is as many hops as {source} ({})",
            baseline.ttl
        );
        let equal = Finding::supporting("hop_equal", Origins::NGINX, detail).against(Origins::DEVICE);
        return equal.compared(&ttl, &baseline.ttl);
    }
    let detail = format!(
        "The RST in Nginx's name has TTL {ttl}, {} off {source} ({}): it started elsewhere",
        count(u64::from(off), "hop"),
        baseline.ttl
    );
    let differs = Finding::supporting("hop_differs", Origins::DEVICE, detail).against(Origins::NGINX);
    differs.compared(&ttl, &baseline.ttl)
}

fn clock(packet: &Packet, recent: Option<u32>) -> Option<Finding> {
    let (value, recent) = (packet.timestamps?.value, recent?);
    let continues = value.wrapping_sub(recent).cast_signed() >= 0;
    continues.then(|| {
        let detail =
            format!("The RST carries the running clock of Nginx's end: TSval {value} follows {recent}");
        Finding::supporting("timestamps_continue", Origins::NGINX, detail).compared(&value, &recent)
    })
}

/// Nginx's end spoke on after "its" RST, without a new handshake.
fn went_on(
    case: &Case,
    event: &Event,
    (reset, socket): (&Packet, &Socket),
    recent: Option<u32>,
) -> Option<Finding> {
    let later = case.incident.aftermath.iter().filter_map(|later| Some((later.time, later.packet.as_ref()?)));
    let unbroken = later.take_while(|(_, packet)| !packet.flags.has(TcpFlags::SYN));
    let mut own =
        unbroken.filter(|(_, packet)| packet.source == reset.source && !packet.flags.has(TcpFlags::RST));
    let (time, packet) = own.find(|(time, packet)| {
        let after = time.since(event.time);
        let end = packet.seq.wrapping_add(packet.payload_len);
        let new = packet.payload_len > 0 && end.wrapping_sub(reset.seq).cast_signed() > 0;
        let repeated = packet.payload_len > 0 && packet.timestamps.is_some() && after >= PATIENCE;
        let later = !life::was_sent_before(packet, Some(reset), recent);
        later && ((new && after >= life::reordering(socket)) || repeated)
    })?;
    let detail = format!(
        "{} ms after the RST in its name Nginx's end went on: {} bytes at sequence {}, the RST had {}",
        time.since(event.time).as_millis(),
        packet.payload_len,
        packet.seq,
        reset.seq
    );
    Some(Finding::decisive("nginx_alive", Origins::DEVICE, detail).against(Origins::NGINX))
}

/// The segment that the RST answers: a SYN, or data that came after Nginx's end had closed.
fn answer(packet: &Packet, answered: &Packet, socket: &Socket) -> Option<Finding> {
    if answered.flags.has(TcpFlags::SYN) && socket.state == TcpState::SynRecv {
        let detail =
            format!("The SYN was answered by a RST that acknowledges exactly this SYN (ack {})", packet.ack);
        return Some(Finding::supporting("syn_refused", Origins::NGINX, detail));
    }
    (socket.state.we_closed() && answered.payload_len > 0).then(|| {
        let detail = format!(
            "A segment with {} bytes came after Nginx's end had sent its FIN, and the RST answers exactly that segment",
            answered.payload_len
        );
        Finding::supporting("late_data", Origins::NGINX, detail).valued(&answered.payload_len)
    })
}

/// The client was the first to close.
fn left_before(case: &Case, socket: &Socket) -> Option<Finding> {
    let left = case.is_client() && socket.state.peer_closed();
    left.then(|| {
        let detail = format!("The client's FIN had come before the RST (state {})", socket.state.name());
        Finding::supporting("fin_before", Origins::CLIENT_FIRST, detail)
    })
}

fn outstanding(case: &Case, socket: &Socket) -> Option<Finding> {
    if case.connecting() || socket.state.we_closed() {
        return None;
    }
    let silent = socket.idle_ms().unwrap_or(0);
    if silent >= TIMER_MS {
        let detail = format!("Nothing had moved for {silent} ms when the RST came");
        return Some(Finding::supporting("reset_after_silence", Origins::NGINX, detail).valued(&silent));
    }
    let detail = format!(
        "The peer's last {} bytes in all had come {silent} ms before, and need not have been read",
        socket.bytes_received
    );
    (socket.bytes_received > 0)
        .then(|| Finding::supporting("unread_possible", Origins::NGINX, detail).valued(&silent))
}
