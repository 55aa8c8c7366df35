//! The other end of the connection on this very host: the process or the kernel that sent the reset, seen
//! doing it. The strongest evidence there is, and only to be had where upstream or client run here.

use std::time::Duration;

use crate::judge::case::{Case, OverflowNote};
use crate::judge::finding::{Finding, Origins};
use crate::judge::record::{exit_text, host_text, process_text};
use crate::model::{Backlog, Event, EventKind, Side};
use crate::timeline::listens_on;

/// An overflow this long before the connection was opened, or after its end, still speaks of it.
const AROUND: Duration = Duration::from_secs(2);

/// Adds the findings about the other end.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    findings.extend(exit(case));
    findings.extend(reset(case));
    findings.extend(listener(case));
}

fn exit(case: &Case) -> Option<Finding> {
    let event = case.peer_exit()?;
    let exit = exit_text(event.task.exiting?);
    let detail = format!(
        "Process {} ({}) {} held the other end and was ending: {exit}{}",
        event.task.pid,
        process_text(case, event),
        host_text(event),
        if case.was_chosen_by_oom(event) { ", chosen by the OOM killer" } else { "" }
    );
    let found = Finding::supporting("peer_process_exit", Origins::EXIT, detail);
    Some(found.decisive_if(case.came_first(event)).valued(&exit))
}

fn reset(case: &Case) -> Option<Finding> {
    let event = case.peer_reset()?;
    let EventKind::ResetSent { reason, backlog, .. } = &event.kind else { return None };
    let reason = reason.as_deref().unwrap_or("not named by this kernel");
    if event.task.is_actor && !event.answers_segment() && event.task.exiting.is_none() {
        let unread = event.socket.as_ref().map_or(0, |socket| socket.unread);
        let detail = format!(
            "Process {} ({}) {} held the other end and reset it ({reason}, {unread} bytes unread)",
            event.task.pid,
            process_text(case, event),
            host_text(event)
        );
        let acted = Finding::supporting("peer_process_reset", Origins::APPLICATION, detail);
        return Some(acted.decisive_if(case.came_first(event)).valued(&reason));
    }
    // A SYN for a handshake under way is answered so, too (`tcp_check_req`).
    let refused_handshake = reason == "INVALID_SYN" && !event.answers_syn();
    if backlog.map_or(refused_handshake, Backlog::is_full) {
        let detail = format!(
            "The upstream's listener {} was full and answered with a RST (tcp_abort_on_overflow)",
            host_text(event)
        );
        // A kernel that names no reason may have dropped the handshake before, and met what came too late.
        let found = Finding::supporting("peer_listener_full", Origins::PEER_LISTENER, detail);
        return Some(found.decisive_if(refused_handshake));
    }
    let passive = event.answers_segment() && event.task.exiting.is_none();
    passive.then(|| answered(event, reason))
}

fn answered(event: &Event, reason: &str) -> Finding {
    let held = event.socket.is_some() || reason == "TCP_TIMEWAIT_SOCKET";
    let why = if held { "the other end had closed before" } else { "no socket of it knew the segment" };
    let detail = format!(
        "The other end is {}, and its kernel sent the RST itself ({reason}): {why}",
        host_text(event)
    );
    let origins = Origins::NO_SOCKET.and(Origins::APPLICATION);
    Finding::decisive("peer_no_socket", origins, detail).valued(&reason)
}

/// The upstream's listener is on this host and dropped this very connection, or one at that time. A connection that a
/// process reset had been accepted.
fn listener(case: &Case) -> Option<Finding> {
    let tuple = case.tuple()?;
    let accepted = case.peer_reset().is_some_and(|event| !event.answers_segment());
    let opened = case.socket().and_then(|socket| socket.opened).unwrap_or(case.incident.first);
    let meanwhile =
        |note: &OverflowNote| note.time.after(AROUND) >= opened && note.time <= case.time().after(AROUND);
    let connecting = case.connecting() || case.socket().is_some_and(|socket| socket.bytes_received == 0);
    let ours = |note: &&OverflowNote| {
        note.side == Side::UpstreamPeer
            && listens_on(note.listener, tuple.remote)
            // In another network namespace of this host, as a container's, it must not have been somebody else's packet.
            && (case.is_local(tuple.remote) || note.client.is_none_or(|client| client == tuple.local))
            && meanwhile(note)
    };
    let notes = || case.overflows.iter().filter(ours);
    if !connecting || accepted || case.is_client() {
        return None;
    }
    let exact = notes().find(|note| note.client == Some(tuple.local));
    let note = exact.or_else(|| notes().next_back())?;
    let detail = format!(
        "The upstream's listener {} on this host was full and dropped connections at that time",
        note.listener
    );
    let found = Finding::supporting("peer_listener_full", Origins::PEER_LISTENER, detail);
    Some(found.decisive_if(exact.is_some()))
}
