//! Where the connection was when it failed: in Nginx's terms, and in the stages of Cloudflare Radar
//! (radar glossary, "TCP resets and timeouts"). What the failure did to the request.

use crate::join;
use crate::model::verdict::{Cause, Impact, Kind, Phase, Stage};
use crate::model::{Event, EventKind, MessageClass, MessageKind, Side, Socket, TcpState};
use crate::timeline::Subject;

use super::case::Case;
use super::ending;

/// Silence after which an upstream connection counts as pooled, milliseconds.
const POOLED_MS: u32 = 500;
/// Silence after which a client connection counts as between requests, milliseconds.
const BETWEEN_REQUESTS_MS: u32 = 1_000;

/// `ECONNRESET`: a RST came.
const RESET: i32 = 104;
/// `EPIPE`: a RST came after the FIN (`tcp_reset`).
const BROKEN_PIPE: i32 = 32;

/// What happened.
pub fn kind(case: &Case) -> Kind {
    match &case.incident.subject {
        Subject::Line(_) => return Kind::LogOnly,
        Subject::Listener(..) => return Kind::ListenOverflow,
        Subject::Connection(_) => {}
    }
    let connecting = case.state() == TcpState::SynSent;
    match case.incident.principal().map(|event| &event.kind) {
        Some(EventKind::ResetReceived) if case.incident.reset_received().is_some() && connecting => {
            Kind::Refused
        }
        Some(EventKind::ResetReceived) if case.incident.reset_received().is_some() => Kind::ResetReceived,
        Some(EventKind::ResetReceived | EventKind::ResetSent { .. } | EventKind::ResetSeen { .. }) => {
            Kind::ResetSent
        }
        Some(EventKind::Closed { .. }) => closed(case),
        _ => other_end(case),
    }
}

fn closed(case: &Case) -> Kind {
    let error = case.error();
    let refused = case.state() == TcpState::SynSent && !matches!(error, 0 | 110);
    // What the other end did is only then how this one ended if it was heard of here.
    let ended = case.peer_exit().is_some() && error != 0;
    match () {
        () if refused => Kind::Refused,
        () if case.state() == TcpState::CloseWait || ended => Kind::ClosedEarly,
        () if matches!(error, RESET | BROKEN_PIPE) => Kind::ResetReceived,
        () if case.worker_exit().is_some() || case.shut_down().is_some() => Kind::ClosedEarly,
        () => Kind::Timeout,
    }
}

fn other_end(case: &Case) -> Kind {
    match case.line.and_then(|line| line.record.errno) {
        Some(111) => Kind::Refused,
        Some(RESET | BROKEN_PIPE) => Kind::ResetReceived,
        _ => Kind::ClosedEarly,
    }
}

/// Where the connection was.
pub fn phase(case: &Case) -> Phase {
    let action = case.line.and_then(|line| line.record.action.as_deref()).unwrap_or("");
    match case.state() {
        TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => return Phase::Connecting,
        _ if case.meets_idle_close() => return Phase::Request,
        TcpState::TimeWait => return Phase::Closed,
        state if state.we_closed() => return Phase::Closing,
        _ => {}
    }
    if action.contains("SSL handshaking") {
        return Phase::TlsHandshake;
    }
    // Bytes of a head are no response yet: Nginx answers with an error page of its own.
    if !case.is_client() && action.contains("reading response header") {
        return Phase::Waiting;
    }
    match (case.socket(), case.side()) {
        (Some(_), Some(Side::Upstream)) if case.is_tunnel() => Phase::Response,
        (Some(socket), Some(Side::Client)) => client_phase(case, socket),
        (Some(socket), _) => upstream_phase(case, socket, in_request(case)),
        (None, _) => phase_of_action(case, action),
    }
}

fn client_phase(case: &Case, socket: &Socket) -> Phase {
    match () {
        () if socket.bytes_received == 0 => Phase::Request,
        () if case.upstream_has_not_answered() => Phase::Waiting,
        () if case.outstanding() > 0 => Phase::Response,
        () if case.is_tunnel() => Phase::Response,
        () if socket.owes_answer() => Phase::Waiting,
        () if !case.effects.is_empty() || is_at_work(case) => Phase::Response,
        () if case.state().peer_closed() => Phase::Closing,
        () if socket.idle_ms().is_some_and(|idle| idle >= BETWEEN_REQUESTS_MS) => Phase::Idle,
        () => Phase::Response,
    }
}

/// A log says that a request was under way when the client's RST came.
fn is_at_work(case: &Case) -> bool {
    case.incident.reset_received().is_some() && (case.is_at_work_by_line() || case.is_at_work_by_access())
}

/// The RST came when Nginx did not read, because its own client took no more.
fn is_not_read(case: &Case, socket: &Socket) -> bool {
    case.incident.reset_received().is_some() && socket.unread > 0
}

/// A line about anything but a reset of a pooled connection means that a request was in progress.
fn in_request(case: &Case) -> bool {
    case.line.is_some_and(|line| !join::pooled_probe(line.record)) && !told_by_the_master(case)
}

/// The master's line about a worker that ended names no request.
fn told_by_the_master(case: &Case) -> bool {
    case.line_class() == Some(MessageClass::WorkerExit)
}

fn upstream_phase(case: &Case, socket: &Socket, in_request: bool) -> Phase {
    match () {
        () if socket.bytes_sent == 0 && socket.bytes_received == 0 => Phase::Request,
        () if case.awaits_answer() && (socket.unsent > 0 || socket.unacked > 0) => Phase::Request,
        () if case.awaits_answer() => Phase::Waiting,
        () if in_request || case.is_held_up() || is_not_read(case, socket) => Phase::Response,
        () if socket.idle_ms().is_some_and(|idle| idle >= POOLED_MS) => Phase::Idle,
        () if case.went_unnoticed() => Phase::Idle,
        () => Phase::Response,
    }
}

fn phase_of_action(case: &Case, action: &str) -> Phase {
    let action = match &case.incident.subject {
        Subject::Line(record) => record.action.as_deref().unwrap_or(""),
        _ => action,
    };
    match () {
        () if matches!(case.incident.subject, Subject::Listener(..)) => Phase::Connecting,
        () if action.contains("SSL handshaking") => Phase::TlsHandshake,
        () if action.contains("connecting") => Phase::Connecting,
        () if action.contains("sending request") => Phase::Request,
        () if action.contains("response header") => Phase::Waiting,
        () if action.contains("reading upstream") || action.contains("sending to client") => Phase::Response,
        () if case.sent_reason() == Some("NO_SOCKET") => Phase::Connecting,
        () if case.sent_reason() == Some("TCP_TIMEWAIT_SOCKET") => Phase::Closed,
        () => Phase::Request,
    }
}

/// The stage by what this host received, as Radar counts it.
pub fn stage(case: &Case) -> Stage {
    let Some(socket) = case.socket() else { return Stage::None };
    match (case.connecting(), socket.data_segments_in) {
        (true, _) => Stage::PostSyn,
        (false, 0) => Stage::PostAck,
        (false, 1) => Stage::PostPsh,
        (false, _) => Stage::Later,
    }
}

/// What it did to the request.
pub fn impact(case: &Case, slug: Cause, phase: Phase) -> Impact {
    if case.caused_by.is_some() && slug == Cause::ClientAbort && !case.is_client() {
        return Impact::Harmless;
    }
    match slug {
        Cause::ClientIdleReset | Cause::ClientLateReset | Cause::ClientHandshakeReset => Impact::Harmless,
        // The overflow is told once, as the listener's; what its clients meet afterwards is its consequence.
        Cause::NginxListenOverflow if told_of_the_listener(case) => Impact::Harmless,
        Cause::NginxListenOverflow => Impact::ConnectionOnly,
        Cause::NginxNotListening if !case.was_established() => Impact::ConnectionOnly,
        _ if is_subrequest(case) => Impact::Unknown,
        _ if let Some(impact) = ending::impact(case) => impact,
        Cause::UpstreamKeepaliveRace => race(case),
        _ if reset_when_reused(case) => race(case),
        _ if !case.is_client() && answer_too_late(case) => Impact::Harmless,
        _ if only_the_farewell_was_lost(case) => Impact::Harmless,
        Cause::NginxWorkerExit if !case.is_client() && case.awaits_answer() => Impact::RequestFailed,
        _ if case.is_client() && case.is_tunnel() && case.outstanding() == 0 => Impact::ConnectionOnly,
        _ if case.is_acknowledged_by_reset() || case.may_be_frames() => Impact::Unknown,
        Cause::NginxClosedUnread if case.meets_idle_close() => Impact::RequestFailed,
        _ if slug == Cause::InsufficientEvidence && case.is_of_no_connection() => Impact::Unknown,
        Cause::NginxWorkerExit if case.is_client() && may_be_done(case) => Impact::Unknown,
        _ if case.is_client() => client(case, phase, slug),
        _ => upstream(case, phase),
    }
}

/// All that had been sent to the client had arrived, and it asked for nothing since: a response that pauses looks like one
/// that is complete.
fn may_be_done(case: &Case) -> bool {
    case.effects.is_empty() && case.socket().is_some_and(|socket| !socket.is_owed())
}

/// A mirror, an authorization, a part of a page: whether the client's request suffers is not said.
fn is_subrequest(case: &Case) -> bool {
    let record = match &case.incident.subject {
        Subject::Line(record) => Some(&**record),
        _ => case.line.map(|line| line.record),
    };
    record.is_some_and(|record| record.subrequest.is_some())
}

/// This is one of the connections of a listener whose overflow is told by itself.
fn told_of_the_listener(case: &Case) -> bool {
    matches!(case.incident.subject, Subject::Connection(_))
        && case.overflows.iter().any(|note| note.side.is_nginx())
}

/// Nginx had closed, everything before its FIN had arrived, and the kernel gave up on the FIN: a peer that had gone
/// while the connection was idle.
fn only_the_farewell_was_lost(case: &Case) -> bool {
    const FIN: u32 = 1;
    const TIMED_OUT: i32 = 110;
    let given_up = case.incident.closed().is_some() && case.error() == TIMED_OUT;
    let rest = |socket: &Socket| socket.unacked <= FIN && socket.unsent == 0;
    given_up && case.line.is_none() && case.state().we_closed() && case.socket().is_some_and(rest)
}

/// The upstream answered a connection that Nginx had closed before, for a reason told elsewhere.
fn answer_too_late(case: &Case) -> bool {
    case.line.is_none()
        && case.incident.reset_received().is_none()
        && matches!(case.sent_reason(), Some("TCP_ABORT_ON_DATA" | "TCP_TIMEWAIT_SOCKET"))
}

/// A RST met a request on a connection that had served another before.
fn reset_when_reused(case: &Case) -> bool {
    let reused =
        |socket: &Socket| socket.bytes_received > 0 && case.awaits_answer() && served_before(case, socket);
    let received = !case.is_client() && case.incident.reset_received().is_some();
    received && !case.is_tunnel() && !case.state().we_closed() && case.socket().is_some_and(reused)
}

/// What had come was another request's answer, not the begin of this one's, nor a TLS handshake: it came before the
/// request, or, where the times do not tell, the request was sent long after the connection was opened.
fn served_before(case: &Case, socket: &Socket) -> bool {
    const HANDSHAKE_MS: u128 = 500;
    const CONNECT_MS: u128 = 20;
    let Some(opened) = socket.opened else { return true };
    let sent = u128::from(socket.last_sent_ms.unwrap_or(0));
    let waited = case.time().since(opened).as_millis().saturating_sub(sent);
    let round_trips = u128::from(socket.srtt_us / 500);
    if speaks_tls(case) {
        return waited >= HANDSHAKE_MS + round_trips;
    }
    socket.awaits_answer() || waited >= CONNECT_MS + round_trips
}

/// The line names the upstream by a scheme with TLS.
fn speaks_tls(case: &Case) -> bool {
    const SCHEMES: [&str; 3] = ["https://", "grpcs://", "suwsgi://"];
    let url = case.line.and_then(|line| line.record.upstream_url.as_deref()).unwrap_or("");
    SCHEMES.iter().any(|scheme| url.starts_with(scheme))
}

/// A failed pooled connection costs no try; only a request that may not be repeated fails
/// (`ngx_http_upstream_next`, since 1.9.13).
fn race(case: &Case) -> Impact {
    let Some(line) = case.line else { return Impact::Unknown };
    let request = line.record.request.as_deref().unwrap_or("");
    let repeats = !["POST ", "LOCK ", "PATCH "].iter().any(|method| request.starts_with(method));
    // `connect() failed (104)`: nothing of the request had been sent yet, so any method is repeated.
    let untouched = line.record.kind == MessageKind::CONNECT_FAILED;
    match (request.is_empty(), repeats || untouched) {
        (true, _) => Impact::Unknown,
        (false, true) => Impact::RequestRetried,
        (false, false) => Impact::RequestFailed,
    }
}

fn client(case: &Case, phase: Phase, slug: Cause) -> Impact {
    // A capture shows that nothing was left to say. What the client sent after Nginx had closed may cost it the response.
    let met_data = |event: &Event| match &event.kind {
        EventKind::ResetSeen { answers, .. } => answers.as_ref().is_some_and(|it| it.payload_len > 0),
        _ => false,
    };
    let done = case.incident.reset_seen().is_some_and(|event| !met_data(event))
        && case.outstanding() == 0
        && case.socket().is_some_and(|socket| !socket.owes_answer());
    match (phase, slug) {
        (Phase::Idle, _) => Impact::Harmless,
        (Phase::Closing | Phase::Closed, Cause::NginxClosedUnread | Cause::NginxTimeoutReset) if done => {
            Impact::Harmless
        }
        (Phase::Response, _) | (Phase::Closing, Cause::ClientAbort) => Impact::ResponseTruncated,
        (Phase::Waiting, _) | (Phase::Request, Cause::NginxClosedUnread | Cause::NginxWorkerExit) => {
            Impact::RequestFailed
        }
        (Phase::Request | Phase::Connecting, _) => Impact::ConnectionOnly,
        _ => Impact::Unknown,
    }
}

fn upstream(case: &Case, phase: Phase) -> Impact {
    let line = case.line.is_some() && !told_by_the_master(case);
    let noticed = line || matches!(case.incident.subject, Subject::Line(_));
    let waited = case.awaits_answer();
    match phase {
        Phase::Idle | Phase::Closing | Phase::Closed if !noticed && !waited => Impact::Harmless,
        Phase::Closing | Phase::Closed if !noticed && case.incident.reset_received().is_some() => {
            Impact::Harmless
        }
        Phase::Response if noticed => Impact::ResponseTruncated,
        _ if noticed && speaks_of_no_request(case) => Impact::Unknown,
        _ if noticed => Impact::RequestFailed,
        _ => Impact::Unknown,
    }
}

fn speaks_of_no_request(case: &Case) -> bool {
    match &case.incident.subject {
        Subject::Line(record) => record.class() == MessageClass::WorkerExit || record.request.is_none(),
        _ => false,
    }
}
