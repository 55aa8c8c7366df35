//! What this host did itself, in the kernel's own words: resets Nginx's sockets sent and why, a full
//! listener, netfilter. Softirq resets say nothing about the running task, so only active ones name one.

use std::net::SocketAddr;
use std::time::Duration;

use crate::judge::case::{ABORTED, Case, OverflowNote};
use crate::judge::finding::{Finding, Origins};
use crate::model::{Backlog, Event, EventKind, MessageClass, Packet, Socket, TcpState};

use crate::output::layout::count;
use crate::timeline::listens_on;

use super::state;
use crate::judge::rules::TLS_ALERT_BYTES;

/// Adds the findings about this host's own doing.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    findings.extend(reset_on_loopback(case));
    findings.extend(dropped_here(case));
    findings.extend(worker_exiting(case));
    findings.extend(own_reset(case));
    findings.extend(listener_full(case));
    findings.extend(kernel_error(case));
    if case.incident.reset_received().is_none() {
        findings.extend(state::answers_others(case));
    }
}

/// netfilter's REJECT in OUTPUT answers on `lo` in the peer's name (measured; `nf_send_reset`).
fn reset_on_loopback(case: &Case) -> Option<Finding> {
    let packet = case.reset_packet()?;
    let known = !case.host.local_addresses.is_empty();
    // An address that this host got after the start: the peer itself answers on the loopback interface.
    let opened_here = |socket: &Socket| socket.syn_ack.as_ref().is_some_and(|packet| packet.on_loopback);
    let seen_here =
        |event: &&Event| event.elsewhere.is_none() && !matches!(event.kind, EventKind::OtherCapture(_));
    let peer_is_here = case.peer.iter().any(seen_here) || case.socket().is_some_and(opened_here);
    if packet.on_loopback && case.is_local(packet.source) {
        return rejected_between(case, packet);
    }
    (packet.on_loopback && known && !peer_is_here && !case.is_local(packet.source)).then(|| {
        let detail = format!(
            "The RST in the name of {} came in on the loopback interface, although that address is not one of this host's: netfilter here made it",
            packet.source
        );
        // Where no handshake was seen, this host may translate the address to one of its own, and nobody listens there.
        let opened = |socket: &Socket| !socket.preexisting && !case.connecting();
        let seen = case.is_client() || case.socket().is_some_and(opened);
        Finding::supporting("reset_on_loopback", Origins::FILTER, detail).decisive_if(seen)
    })
}

/// The kernel names netfilter as the reason for which it dropped packets of this connection, and nothing was heard of the
/// peer since: a packet that is dropped now and then is sent again, and explains nothing.
fn dropped_here(case: &Case) -> Option<Finding> {
    let socket = case.socket()?;
    let filtered = socket.filtered.filter(|_| case.incident.reset_received().is_none())?;
    let heard = [socket.last_received_ms, socket.last_ack_ms].into_iter().flatten().min();
    let waits = case.connecting() || case.outstanding() > 0 || case.awaits_answer();
    (waits && heard.is_none_or(|heard| filtered.ago_ms <= heard)).then(|| {
        let detail = format!(
            "Netfilter of this host dropped {} of this connection, the last {} ms before its end, and nothing came from the peer since",
            count(u64::from(filtered.packets), "packet"),
            filtered.ago_ms
        );
        Finding::decisive("dropped_here", Origins::FILTER, detail).valued(&filtered.packets)
    })
}

/// Both ends are on this host, the RST never left it, and the end in whose name it came lived on.
fn rejected_between(case: &Case, packet: &Packet) -> Option<Finding> {
    let later = |event: &&&Event| event.elsewhere.is_none() && case.is_after_reset(event);
    let event = case.peer.iter().find(later).filter(|_| case.peer_reset().is_none())?;
    let after = event.time.since(case.time()).as_millis();
    let detail = format!(
        "The RST in the name of {} came in on the loopback interface, and its socket on this host was still open {after} ms later: netfilter here made it",
        packet.source
    );
    Some(Finding::supporting("reset_on_loopback", Origins::FILTER, detail).decisive_if(case.is_complete()))
}

fn worker_exiting(case: &Case) -> Option<Finding> {
    let event = case.worker_exit()?;
    let exit = crate::judge::record::exit_text(event.task.exiting?);
    let oom = case.was_chosen_by_oom(event);
    let by = if oom { ", chosen by the OOM killer" } else { "" };
    let detail = format!(
        "Worker {} ({}) was ending ({exit}{by}) and the kernel closed its sockets",
        event.task.pid, event.task.comm
    );
    Some(Finding::decisive("worker_exiting", Origins::NGINX, detail).valued(&exit))
}

fn own_reset(case: &Case) -> Option<Finding> {
    let event = case.incident.reset_sent()?;
    if case.incident.reset_received().is_some() || case.worker_exit().is_some() {
        return None;
    }
    let reason = case.sent_reason();
    match reason {
        Some("TCP_ABORT_ON_MEMORY") => {
            Some(named("memory_pressure", reason, "too many orphaned sockets or too little TCP memory"))
        }
        Some("TCP_KEEPALIVE_TIMEOUT") => Some(Finding::supporting(
            "keepalive_unanswered",
            Origins::LOSS,
            "The kernel gave up after the peer left its TCP keepalive probes unanswered".to_owned(),
        )),
        Some("NO_SOCKET") if event.answers_syn() => {
            Some(named("no_listener", reason, "the SYN met no listener on this port"))
        }
        Some("TCP_ABORT_ON_DATA" | "TCP_TIMEWAIT_SOCKET") => Some(after_close(case, event, reason)),
        Some("TCP_ABORT_ON_CLOSE" | "TCP_STATE" | "TCP_DISCONNECT_WITH_DATA" | "TCP_ABORT_ON_LINGER")
        | None
            if !event.answers_segment() =>
        {
            active(case, event, reason)
        }
        _ => None,
    }
}

fn named(code: &'static str, reason: Option<&str>, why: &str) -> Finding {
    let detail = format!("The kernel sent the RST itself and names the reason: {why}");
    Finding::decisive(code, Origins::NGINX, detail).valued(&reason.unwrap_or("none"))
}

/// Whether a few bytes are more than a farewell is known only where it is known whether the connection carries TLS.
fn after_close(case: &Case, event: &Event, reason: Option<&str>) -> Finding {
    let bytes = event.packet.as_ref().map(|packet| packet.payload_len);
    let tls = case.is_tls();
    let clear = bytes.map_or(tls == Some(false), |bytes| bytes > TLS_ALERT_BYTES || tls.is_some());
    let segment = bytes.map_or_else(|| "Data".to_owned(), |bytes| format!("A segment with {bytes} bytes"));
    let detail =
        format!("{segment} came after Nginx had closed the connection, so the kernel answered with a RST");
    let late = Finding::supporting("data_after_close", Origins::NGINX, detail);
    let decisive = is_nginx_own(case) && (clear || !case.is_client());
    late.decisive_if(decisive).valued(&reason.unwrap_or("none"))
}

/// What a reset of Nginx's own tells whose doing it is. That Nginx is done with an upstream may be its client's wish,
/// which does not always end a connection (a stream of HTTP/2); only a line tells.
fn is_nginx_own(case: &Case) -> bool {
    use MessageClass::{ConfigLimit, InvalidRequest, InvalidResponse};
    let class = case.line_class();
    case.is_client() || class.is_some_and(|it| matches!(it, ConfigLimit | InvalidRequest | InvalidResponse))
}

fn active(case: &Case, event: &Event, reason: Option<&str>) -> Option<Finding> {
    let (task, socket) = (&event.task, event.socket.as_ref()?);
    if task.is_foreign() {
        let detail = format!(
            "Process {} ({}) on this host destroyed the socket; it is not Nginx",
            task.pid, task.comm
        );
        return Some(Finding::decisive("local_kill", Origins::OTHER_PROCESS, detail).valued(&task.comm));
    }
    let by =
        if task.is_actor { format!("worker {} ({})", task.pid, task.comm) } else { "the kernel".to_owned() };
    if socket.linger_zero {
        let detail = format!("{by} closed the socket with SO_LINGER set to zero: a reset on purpose");
        return Some(
            Finding::decisive("linger_zero_reset", Origins::NGINX, detail).valued(&reason.unwrap_or("none")),
        );
    }
    if reason == Some("TCP_ABORT_ON_CLOSE") {
        let detail = format!("{by} closed the socket with {} bytes received and not read", socket.unread);
        let found = Finding::supporting("closed_with_unread", Origins::NGINX, detail);
        return Some(found.decisive_if(is_nginx_own(case) && !socket.fin_received).valued(&socket.unread));
    }
    (socket.owner.is_none() && !socket.state.we_closed()).then(|| {
        let detail = format!("The listener was closed by {by} before the connection had been accepted");
        Finding::decisive("listener_closed", Origins::NGINX, detail)
    })
}

/// Before 6.10 `tcp_send_reset` passes no reason.
const NO_REASON: &str = "this kernel names no reason";

/// The listener's own numbers, or an overflow seen shortly before this connection's reset.
fn listener_full(case: &Case) -> Option<Finding> {
    if let Some(sum) = &case.incident.overflow {
        let overflow = &sum.latest;
        let detail = format!(
            "The listener {} had {} connections in its {} queue with a limit of {}; dropped: {}",
            overflow.listener,
            overflow.queue,
            crate::judge::record::queue_name(overflow.queue_kind),
            overflow.limit,
            sum.dropped
        );
        let origins = Origins::NGINX.and(Origins::PEER_LISTENER);
        return Some(
            Finding::decisive("listener_full", origins, detail).compared(&overflow.queue, &overflow.limit),
        );
    }
    let event = case.incident.reset_sent()?;
    let EventKind::ResetSent { local, backlog, .. } = &event.kind else { return None };
    if let Some(full) = backlog.filter(|backlog| backlog.is_full()) {
        return Some(full_when_it_answered(case, event, (*local, full)));
    }
    let reason = case.sent_reason();
    let peer = case.tuple().map(|tuple| tuple.remote);
    // A kernel that names no reason must have turned away this very client, or others beside the one that is named.
    let turned_away = |note: &OverflowNote| match reason {
        Some(named) => matches!(named, "INVALID_SYN" | "TCP_FLAGS"),
        None => event.answers_segment() && (note.client == peer || note.dropped > 1),
    };
    let ours =
        |note: &&OverflowNote| note.side.is_nginx() && listens_on(note.listener, *local) && turned_away(note);
    let note = case.overflows.iter().rev().find(ours)?;
    let ago = case.time().distance(note.time);
    let detail = format!(
        "The listener {} had overflowed {} ms before and its kernel reset this handshake ({})",
        note.listener,
        ago.as_millis(),
        reason.unwrap_or(NO_REASON)
    );
    // `INVALID_SYN` at the moment of an overflow is `tcp_abort_on_overflow`, unless it answers a SYN (`tcp_check_req`).
    let decided = reason == Some("INVALID_SYN") && !event.answers_syn() && ago <= Duration::from_secs(1);
    Some(Finding::supporting("listener_full", Origins::NGINX, detail).decisive_if(decided))
}

/// A listener without room answered a handshake with a RST. With this reason it is `tcp_abort_on_overflow`
/// (`tcp_check_req`); with another one, or with none, a handshake that was dropped before may have come too late.
fn full_when_it_answered(case: &Case, event: &Event, (listener, full): (SocketAddr, Backlog)) -> Finding {
    let reason = case.sent_reason();
    let detail = format!(
        "The listener {listener} had {} connections in its accept queue with a limit of {} when its kernel reset this \
         handshake ({})",
        full.queue,
        full.limit,
        reason.unwrap_or(NO_REASON)
    );
    let refused = reason == Some("INVALID_SYN") && !event.answers_syn();
    let found = Finding::supporting("listener_full", Origins::NGINX, detail).decisive_if(refused);
    found.compared(&full.queue, &full.limit)
}

/// The kernel ended the connection with an error and without a RST: ICMP, or its own limit.
fn kernel_error(case: &Case) -> Option<Finding> {
    let closed = case.incident.closed()?;
    // A time-out is the same fact as the missing acknowledgments, see `state`.
    let error = case.error();
    if matches!(error, 0 | 110) || case.incident.reset_received().is_some() {
        return None;
    }
    // A capture tells what a kernel would make of an ICMP message; that this one did so, the log tells.
    if case.is_capture() && case.line.and_then(|line| line.record.errno) != Some(error) {
        return None;
    }
    let name = crate::judge::record::errno_name(error);
    if error == ABORTED {
        let detail = format!(
            "The socket was aborted on this host (errno 103); the running task was {} ({})",
            closed.task.pid, closed.task.comm
        );
        return Some(Finding::decisive("local_kill", Origins::OTHER_PROCESS, detail));
    }
    let origins = match error {
        99 | 98 | 11 | 12 | 105 => Origins::NGINX,
        _ => Origins::DEVICE,
    };
    let what = if case.state() == TcpState::SynSent { "the attempt to connect" } else { "the connection" };
    let detail = format!("The kernel ended {what} with the error {name} ({error}), without any RST");
    Some(Finding::supporting("kernel_error", origins, detail).valued(&error))
}
