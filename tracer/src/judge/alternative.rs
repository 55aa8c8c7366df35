//! What else could have happened, and what speaks against it: a table from the cause found to the causes it is
//! easily mistaken for. An alternative that cannot be ruled out says so.

use crate::model::TcpState;
use crate::model::verdict::{Alternative, Cause, Party};

use super::record::host_text;
use super::rules::Look;
use super::unix::Unix;

use Cause as C;
use Party as P;

/// One row: found this, also considered that, and the words against it.
type Row = (&'static [Cause], Party, Cause, fn(&Look) -> String);

/// The alternatives of a cause, on the half of the request it is about.
pub fn alternatives(found: Cause, look: &Look) -> Vec<Alternative> {
    let elsewhere = if look.case.is_client() { Party::Upstream } else { Party::Client };
    let no_path = Unix::of(look.case).is_some();
    let rows = TABLE.iter().filter(|(causes, party, cause, _)| {
        let may_be = *party != elsewhere && !(no_path && *party == Party::Middlebox);
        causes.contains(&found) && *cause != found && may_be
    });
    rows.map(|(_, party, cause, why_not)| Alternative {
        party: *party,
        cause: *cause,
        why_not: why_not(look),
    })
    .collect()
}

/// Causes that a device is found to be behind.
const DEVICE: &[C] = &[C::MiddleboxForgedReset, C::MiddleboxIdleReset, C::MiddleboxBothEndsReset];
/// Causes by which packets vanish.
const LOST: &[C] = &[C::MiddleboxDrop, C::MiddleboxIdleDrop, C::MiddleboxMtuBlackhole];
/// Harmless ends by the client.
const HARMLESS: &[C] = &[C::ClientLateReset, C::ClientIdleReset, C::ClientHandshakeReset];
/// Ends of the upstream's process.
const EXIT: &[C] = &[C::UpstreamProcessExit, C::UpstreamOomKill];

const TABLE: &[Row] = &[
    (&[C::UpstreamAbort], P::Middlebox, C::MiddleboxForgedReset, not_a_device),
    (&[C::UpstreamAbort], P::Upstream, C::UpstreamProcessExit, not_an_exit),
    (&[C::UpstreamAbort], P::Upstream, C::UpstreamKeepaliveRace, not_a_race),
    (&[C::UpstreamKeepaliveRace], P::Middlebox, C::MiddleboxIdleReset, not_a_device),
    (&[C::UpstreamKeepaliveRace], P::Upstream, C::UpstreamAbort, |_| {
        "The connection ended within milliseconds of being used again after a silence, not while the request was worked on for longer".to_owned()
    }),
    (&[C::UpstreamRefused], P::Middlebox, C::MiddleboxReject, not_a_device),
    (&[C::UpstreamRefused], P::Upstream, C::UpstreamListenOverflow, |_| {
        "A full listener answers with a RST only if tcp_abort_on_overflow is set there, and then after the handshake".to_owned()
    }),
    (EXIT, P::Upstream, C::UpstreamAbort, |_| {
        "The process was seen ending; it did not close the connection itself".to_owned()
    }),
    (EXIT, P::Middlebox, C::MiddleboxForgedReset, seen_at),
    (&[C::UpstreamRestarted], P::Middlebox, C::MiddleboxForgedReset, not_a_device),
    (&[C::UpstreamRestarted], P::Upstream, C::UpstreamListenOverflow, not_an_overflow),
    (&[C::UpstreamClosedEarly], P::Upstream, C::UpstreamProcessExit, not_an_exit),
    (&[C::UpstreamClosedEarly], P::Upstream, C::UpstreamKeepaliveRace, not_a_race),
    (&[C::UpstreamClosedEarly], P::Middlebox, C::MiddleboxForgedReset, not_a_reset),
    (&[C::UpstreamSlow], P::Middlebox, C::MiddleboxDrop, |_| {
        "Every byte of the request was acknowledged".to_owned()
    }),
    (DEVICE, P::Upstream, C::UpstreamAbort, not_the_peer),
    (DEVICE, P::Upstream, C::UpstreamRestarted, not_the_peer),
    (DEVICE, P::Client, C::ClientAbort, not_the_peer),
    (&[C::MiddleboxReject], P::Upstream, C::UpstreamRefused, not_refused),
    (LOST, P::Upstream, C::UpstreamRestarted, host_down),
    (LOST, P::Upstream, C::UpstreamListenOverflow, not_an_overflow),
    (LOST, P::Middlebox, C::MiddleboxMtuBlackhole, not_the_mtu),
    (&[C::MiddleboxMtuBlackhole], P::Middlebox, C::MiddleboxDrop, host_down),
    (&[C::ClientAbort], P::Middlebox, C::MiddleboxForgedReset, not_a_device),
    (&[C::ClientAbort], P::Client, C::ClientLateReset, |_| "The exchange was not complete".to_owned()),
    (HARMLESS, P::Client, C::ClientAbort, not_an_abort),
    (HARMLESS, P::Middlebox, C::MiddleboxForgedReset, not_a_device),
    (&[C::ClientVanished], P::Middlebox, C::MiddleboxDrop, |_| {
        "Not ruled out: from here a client that is gone and a path that drops look alike".to_owned()
    }),
    (&[C::NginxClosedUnread], P::Nginx, C::NginxTimeoutReset, not_timed_out),
    (&[C::NginxClosedUnread], P::Client, C::ClientAbort, |_| "No RST of the client came before".to_owned()),
    (&[C::NginxTimeoutReset], P::Nginx, C::NginxClosedUnread, not_unread),
    (&[C::NginxWorkerExit], P::Nginx, C::NginxClosedUnread, not_unread_by_one_that_ended),
    (&[C::NginxListenOverflow, C::UpstreamListenOverflow], P::Middlebox, C::MiddleboxDrop, |_| {
        "The packets arrived and this host's kernel dropped them".to_owned()
    }),
    (&[C::InsufficientEvidence], P::Upstream, C::UpstreamAbort, not_destroyed),
    (&[C::InsufficientEvidence], P::Client, C::ClientAbort, not_destroyed),
    (&[C::InsufficientEvidence], P::Middlebox, C::MiddleboxForgedReset, not_destroyed),
];

fn not_an_abort(look: &Look) -> String {
    let is_told = look.case.line.is_some() || look.case.access.is_some();
    if look.has("nothing_outstanding") && look.case.state() == TcpState::Established && !is_told {
        return "Not ruled out: a response that pauses, or a tunnel, has nothing outstanding either"
            .to_owned();
    }
    "Nothing that the client had asked for was outstanding".to_owned()
}

fn not_timed_out(look: &Look) -> String {
    if look.has("linger_zero_reset") {
        return "SO_LINGER was zero, but data had moved just before and nothing says that a timer ran out"
            .to_owned();
    }
    if look.case.is_capture() {
        return not_ruled_out(look);
    }
    "SO_LINGER was not set to zero, so the reset was not asked for".to_owned()
}

fn not_unread(look: &Look) -> String {
    if look.has("linger_zero_reset") {
        return "SO_LINGER was set to zero: Nginx asked for the reset".to_owned();
    }
    not_ruled_out(look)
}

fn not_unread_by_one_that_ended(look: &Look) -> String {
    if look.has("worker_shut_down") {
        return "The connection ended with a FIN".to_owned();
    }
    "The worker was already ending; the kernel closed its sockets".to_owned()
}

fn not_destroyed(look: &Look) -> String {
    if look.has("local_kill") {
        return "A process of this host destroyed the socket; nothing came over the network".to_owned();
    }
    not_ruled_out(look)
}

fn not_ruled_out(_: &Look) -> String {
    "Not ruled out".to_owned()
}

fn not_refused(look: &Look) -> String {
    if look.case.incident.reset_received().is_some() {
        return not_the_peer(look);
    }
    "No RST came; the kernel took an ICMP error for the answer".to_owned()
}

fn not_a_device(look: &Look) -> String {
    let tell =
        |code: &str| look.findings.iter().find(|finding| finding.code == code).map(|f| f.detail.clone());
    if look.has("peer_process_reset") || look.has("peer_no_socket") || look.has("peer_process_exit") {
        return seen_at(look);
    }
    if let Some(detail) = tell("hop_differs") {
        return format!("Not ruled out: {detail}");
    }
    tell("hop_equal")
        .or_else(|| tell("timestamps_continue"))
        .or_else(|| tell("fin_before"))
        .unwrap_or_else(|| "Not ruled out: neither TTL nor form of the packet could be compared".to_owned())
}

fn seen_at(look: &Look) -> String {
    let place = look.case.peer.first().map_or_else(|| "on this host".to_owned(), |event| host_text(event));
    format!("The other end was seen {place}")
}

fn not_an_exit(look: &Look) -> String {
    if Unix::of(look.case).is_some() {
        return "Not ruled out: a process that ends closes its sockets; its own log, or its parent's, would tell".to_owned();
    }
    if look.case.peer_is_local() {
        "No process on this host that held the other end was seen ending".to_owned()
    } else {
        "Not ruled out: the upstream's processes are on another host".to_owned()
    }
}

/// Said where only the log speaks.
const UNSEEN: &str = "Not ruled out: the kernel's side of this connection was not seen";

fn not_a_reset(look: &Look) -> String {
    let fin = "The connection ended with a FIN in sequence, not with a RST";
    if look.case.socket().is_some() { fin } else { UNSEEN }.to_owned()
}

fn not_a_race(look: &Look) -> String {
    if look.case.socket().is_none() {
        return UNSEEN.to_owned();
    }
    match look.case.socket().and_then(crate::model::Socket::idle_before_last_send_ms) {
        Some(idle) => {
            format!("The request was sent {idle} ms after the last byte and the end did not follow at once")
        }
        None => "The connection had not served a request before".to_owned(),
    }
}

fn not_an_overflow(look: &Look) -> String {
    let answered = look.case.socket().is_some_and(|socket| socket.bytes_received > 0);
    if answered && !look.case.connecting() {
        return "The peer had sent data on this connection: it had been accepted".to_owned();
    }
    if look.case.peer_is_local() {
        "No listener on this host overflowed at that time".to_owned()
    } else {
        "Not ruled out: the upstream's listener cannot be seen from here".to_owned()
    }
}

fn not_the_peer(look: &Look) -> String {
    const PROOF: [&str; 9] = [
        "not_sent",
        "far_end_reset",
        "both_ends_reset",
        "alive_there",
        "peer_alive",
        "answered_too_soon",
        "hop_differs",
        "resets_refused",
        "stateless_form",
    ];
    let proof = PROOF.iter().find_map(|code| look.findings.iter().find(|finding| finding.code == *code));
    proof.map_or_else(|| "Not ruled out".to_owned(), |finding| finding.detail.clone())
}

fn host_down(look: &Look) -> String {
    if look.has("small_segments_arrive") {
        return "The peer acknowledged smaller segments sent after the lost ones".to_owned();
    }
    if look.has("peer_answers_others") {
        "The same address answered another connection in the meantime".to_owned()
    } else {
        "Not ruled out: the host itself may be down".to_owned()
    }
}

fn not_the_mtu(look: &Look) -> String {
    let full = look
        .case
        .socket()
        .is_some_and(|socket| !look.case.connecting() && socket.unacked >= socket.mss.max(1));
    if full {
        "Not ruled out: at least one full-sized segment is among what was lost".to_owned()
    } else {
        "What was lost is smaller than a full-sized segment".to_owned()
    }
}
