//! What was looked for and could not be had, and what of it lowers the certainty by one step.

use crate::model::verdict::{Cause, Kind, Missing};
use crate::model::{EventKind, Side, Socket, TcpState};
use crate::output::layout::count;
use crate::timeline::Subject;

use super::case::{Case, Joined};
use super::detect::request_acknowledged;
use super::rules::Ruling;

/// One thing that is missing.
pub struct Gap {
    /// For the record.
    pub missing: Missing,
    /// It lowers the certainty by one step.
    pub lowers: bool,
}

/// Codes of what can lower the certainty.
#[cfg(test)]
pub const LOWERING: &[&str] = &[
    "events_lost",
    "table_full",
    "preexisting",
    "packets_lost",
    "one_place",
    "kernel_reason",
    "one_line",
    "one_client",
    "client_reset",
    "reset_packet",
    "request_read",
    "response_end",
    "request_begin",
    "own_close",
    "connection_begin",
];

/// Everything missing.
pub fn gaps(case: &Case, ruling: Ruling, kind: Kind, leans_on_log: bool) -> Vec<Gap> {
    let mut gaps = Vec::new();
    gaps.extend(case.losses.as_ref().map(|losses| lowering("events_lost", losses.clone())));
    if case.evicted {
        gaps.push(lowering(
            "table_full",
            "The incident was judged before it had settled: too many at once".to_owned(),
        ));
    }
    gaps.extend(preexisting(case));
    gaps.extend(captured(case, ruling));
    gaps.extend(ambiguous_line(case, leans_on_log));
    gaps.extend(ambiguous_client(case));
    gaps.extend(ambiguous_leg(case, ruling));
    gaps.extend(doubtful_client(case, ruling));
    gaps.extend(wire(case));
    gaps.extend(unread(case, ruling));
    gaps.extend(unended(case, ruling));
    gaps.extend(unasked(case, ruling));
    gaps.extend(framed(case, ruling));
    gaps.extend(built(case));
    gaps.extend(other_end(case, kind));
    gaps.extend(log(case, kind, ruling));
    gaps.extend(life(case));
    if !matches!(case.incident.subject, Subject::Line(_)) {
        gaps.extend(hooks(case));
    }
    #[cfg(test)]
    super::tamper::gaps(&mut gaps);
    gaps
}

fn observer(case: &Case) -> &'static str {
    if case.is_capture() { "capture" } else { "tracer" }
}

fn lowering(code: &'static str, why: String) -> Gap {
    Gap { missing: Missing { code: code.into(), why }, lowers: true }
}

fn noted(code: &'static str, why: String) -> Gap {
    Gap { missing: Missing { code: code.into(), why }, lowers: false }
}

/// Counters of an old connection are the kernel's own and right; its handshake was not seen.
/// Where the kernel names its own act, age does not matter.
fn preexisting(case: &Case) -> Option<Gap> {
    let old = case.socket().is_some_and(|socket| socket.preexisting);
    let matters = (case.incident.reset_received().is_some() || case.incident.reset_seen().is_some())
        && case.peer_reset().is_none();
    (old && matters).then(|| {
        lowering(
            "preexisting",
            format!("The connection is older than the {}; its handshake was not seen", observer(case)),
        )
    })
}

/// What a capture cannot carry, and what this one has lost.
fn captured(case: &Case, ruling: Ruling) -> Vec<Gap> {
    use crate::model::verdict::Party;
    let Some(capture) = case.host.capture.as_ref() else { return Vec::new() };
    let mut gaps = vec![noted(
        "capture",
        "Packets carry no processes, no errors of sockets and no reasons of the kernel; only a tracer on the host sees those".to_owned(),
    )];
    let unseen = case.socket().map_or(0, |socket| socket.unseen);
    if unseen > 0 {
        let why = format!("The capture lacks {} of this connection", count(unseen.into(), "part"));
        gaps.push(lowering("packets_lost", why));
    } else if capture.dropped > 0 {
        let lost = count(capture.dropped, "packet");
        gaps.push(noted(
            "packets_lost",
            format!("The capturing system lost {lost} somewhere in the capture"),
        ));
    }
    if capture.several_places {
        let why = "The capture has packets from several places of the path: which came first, and from where, is not certain";
        gaps.push(lowering("one_place", why.to_owned()));
    }
    if case.incident.reset_seen().is_some() && ruling.party == Party::Nginx {
        let why = "On the wire unread data, a timer and the end of a worker look alike; the kernel of the Nginx host would name the reason";
        gaps.push(lowering("kernel_reason", why.to_owned()));
    }
    if case.incident.reset_seen().is_some() && ruling.party == Party::Client && case.is_tls().is_none() {
        let why = "Whether these few late bytes are a farewell of TLS cannot be seen without the payload";
        gaps.push(lowering("kernel_reason", why.to_owned()));
    }
    gaps
}

fn ambiguous_line(case: &Case, leans_on_log: bool) -> Option<Gap> {
    let candidates = case.line?.pair.candidates;
    let why = format!("The line could belong to any of {candidates} incidents of that worker at that moment");
    match (candidates > 1, leans_on_log) {
        (true, true) => Some(lowering("one_line", why)),
        (true, false) => Some(noted("one_line", why)),
        (false, _) => None,
    }
}

/// A client to which nothing was owed, and an upstream connection that waited for an answer: they are halves of one request
/// where HTTP/2 has several or where Nginx has spoken before (`100 Continue`), and only the moment says that they are.
fn by_moment(client: &Socket, after_us: u64) -> bool {
    const ONE_TURN_US: u64 = 1_000;
    !client.is_owed() && after_us > ONE_TURN_US
}

/// For a client's incident: the upstream connection that ended after it may have been another client's.
fn ambiguous_leg(case: &Case, ruling: Ruling) -> Option<Gap> {
    let abort = ruling.cause == Cause::ClientAbort && case.is_client() && case.incident.other_half.is_none();
    let told = |line: Joined| line.record.request.is_some() || line.record.upstream_url.is_some();
    let alone = !case.line.is_some_and(told);
    let (effect, client) = (case.effects.first()?, case.socket()?);
    let waited = effect.socket.as_ref().is_some_and(Socket::awaits_answer);
    let after = u64::try_from(effect.time.since(case.time()).as_micros()).unwrap_or(u64::MAX);
    (abort && alone && waited && by_moment(client, after)).then(|| {
        let why = "Nothing was on its way to this client: that the upstream connection which Nginx closed then was its request's is told by the moment alone; error.log at level info would tell";
        lowering("one_client", why.to_owned())
    })
}

fn ambiguous_client(case: &Case) -> Option<Gap> {
    let by = case.caused_by.as_ref()?;
    let candidates = by.candidates;
    let waited = case.socket().is_some_and(Socket::awaits_answer);
    if candidates == 1 && waited && by.socket.as_ref().is_some_and(|client| by_moment(client, by.after_us)) {
        let why = "Nothing was on its way to the client that went away at that moment: it may have been another's request";
        return Some(lowering("one_client", why.to_owned()));
    }
    (candidates > 1).then(|| {
        lowering(
            "one_client",
            format!("{candidates} clients of that worker went away at that moment; the nearest was taken"),
        )
    })
}

/// The client's incident may turn out to be the doing of a device between the client and Nginx.
fn doubtful_client(case: &Case, ruling: Ruling) -> Option<Gap> {
    let abort = ruling.cause == Cause::ClientAbort && !case.is_client();
    case.caused_by.as_ref().filter(|by| abort && by.doubtful).map(|_| {
        let why = "The RST in the client's name does not show that the client itself sent it: its own incident tells";
        lowering("client_reset", why.to_owned())
    })
}

fn wire(case: &Case) -> Vec<Gap> {
    let Some(event) = case.incident.reset_received() else { return Vec::new() };
    if event.packet.is_none() {
        let seen = case.peer_reset().into_iter().chain(case.peer_exit()).any(|event| case.came_first(event));
        let why = "No hook saw the packet of the RST, so its TTL and form are not known".to_owned();
        return vec![Gap { missing: Missing { code: "reset_packet".into(), why }, lowers: !seen }];
    }
    let baseline = event.socket.as_ref().and_then(|socket| socket.baseline);
    let local = case.peer_is_local();
    if baseline.is_some() || local {
        return Vec::new();
    }
    vec![noted("hop_baseline", "No TTL of this peer is known to compare the RST with".to_owned())]
}

/// A race with a request that had arrived looks like an application that read it and gave up at once.
fn unread(case: &Case, ruling: Ruling) -> Option<Gap> {
    let race = ruling.cause == Cause::UpstreamKeepaliveRace;
    (race && case.peer.is_empty() && request_acknowledged(case)).then(|| {
        let why = "The request had been acknowledged: whether the upstream had read it before it closed cannot be seen from here";
        lowering("request_read", why.to_owned())
    })
}

/// To TCP a response that pauses, an idle tunnel and a response that is complete are the same.
fn unended(case: &Case, ruling: Ruling) -> Option<Gap> {
    let late = ruling.cause == Cause::ClientLateReset && case.line.is_none() && case.access.is_none();
    let early = ruling.cause == Cause::ClientAbort && case.is_acknowledged_by_reset();
    let open = case.state() == TcpState::Established && case.incident.reset_received().is_some();
    (open && (late || early)).then(|| {
        let why = "Whether the response was complete cannot be seen in TCP: one that pauses, or a tunnel, looks the same; error.log at level info would tell";
        lowering("response_end", why.to_owned())
    })
}

/// What a client says in HTTP/2 wants an answer or not.
fn framed(case: &Case, ruling: Ruling) -> Option<Gap> {
    (ruling.cause == Cause::ClientAbort && case.may_be_frames()).then(|| {
        let why = "Whether the client's last bytes were a request cannot be seen: in HTTP/2 they may be frames that want no answer; error.log at level info would tell";
        lowering("request_begin", why.to_owned())
    })
}

/// Inside TLS the last word of the handshake and a request are told apart by their number alone.
fn unasked(case: &Case, ruling: Ruling) -> Option<Gap> {
    let early = ruling.cause == Cause::ClientHandshakeReset && case.line.is_none();
    let several = case.socket().is_some_and(|socket| socket.data_segments_in > 1);
    (early && several).then(|| {
        let why = "Whether a request came with the end of the TLS handshake cannot be seen; error.log at level info would tell";
        lowering("request_begin", why.to_owned())
    })
}

/// A RST that a kernel of this host sent is not captured on its way out.
fn built(case: &Case) -> Option<Gap> {
    let incident = case.incident;
    let sent = incident.reset_sent().or_else(|| case.peer_reset());
    let event = sent.filter(|_| incident.reset_received().is_none())?;
    let (known, source) = match (&event.packet, &event.socket) {
        (Some(_), _) => ("Its flags, numbers and window are", "answers such a segment (tcp_v4_send_reset)"),
        (None, Some(_)) if event.answers_segment() => return None,
        (None, Some(_)) => ("Its flags and numbers are", "builds it (tcp_send_active_reset)"),
        (None, None) => return None,
    };
    let why = format!(
        "The RST itself was not captured on its way out. {known} those with which the kernel {source}; its TTL and identification are not known"
    );
    Some(noted("sent_packet", why))
}

fn other_end(case: &Case, kind: Kind) -> Option<Gap> {
    let concerns = !matches!(kind, Kind::ListenOverflow | Kind::LogOnly | Kind::ResetSent);
    let tuple = case.tuple()?;
    (concerns && case.peer.is_empty()).then(|| {
        let why = if case.is_capture() {
            format!(
                "A capture taken at {} at the same time would show whether it sent and received the same",
                tuple.remote.ip()
            )
        } else if case.is_local(tuple.remote) {
            format!("{} is on this host, but no event of its end of the connection came", tuple.remote)
        } else {
            format!(
                "{} is on another host or in another container; only a tracer there could see its end of the connection",
                tuple.remote
            )
        };
        noted("other_end", why)
    })
}

fn log(case: &Case, kind: Kind, ruling: Ruling) -> Option<Gap> {
    let upstream = case.side() == Some(Side::Upstream);
    let expected =
        upstream && !matches!(kind, Kind::ListenOverflow | Kind::LogOnly) && case.caused_by.is_none();
    let idle = ruling.cause == Cause::UpstreamAbort && case.socket().is_some() && !case.awaits_answer();
    (expected && !idle && case.line.is_none()).then(|| noted("log_line", unjoined(case).to_owned()))
}

fn unjoined(case: &Case) -> &'static str {
    if case.is_capture() && !case.host.follows_error_log {
        return "No error.log was given";
    }
    "No line of error.log matched; Nginx logs upstream failures at level error"
}

/// Without the hook that sees connections begin and end, what came first is not known: two steps.
fn life(case: &Case) -> Vec<Gap> {
    if !case.host.misses("inet_sock_set_state") {
        return Vec::new();
    }
    vec![
        lowering("own_close", "Whether Nginx had closed the connection before was not seen".to_owned()),
        lowering("connection_begin", "When the connection began, and whose it is, was not seen".to_owned()),
    ]
}

fn hooks(case: &Case) -> Vec<Gap> {
    let idle = case.host.hooks.iter().filter(|hook| hook.sees_less());
    idle.map(|hook| {
        let state = if hook.running { "runs in a lesser form" } else { "is not running" };
        let problem = hook.problem.as_deref().map(|problem| format!(" ({problem})")).unwrap_or_default();
        noted("hook", format!("{} {state}{problem}: {}", hook.name, hook.lost_evidence))
    })
    .collect()
}

/// Words for an unknown party: what would have decided it.
pub fn undecided(case: &Case) -> Missing {
    let why = match case.incident.principal().map(|event| &event.kind) {
        Some(EventKind::Closed { .. }) if case.line.is_some() => {
            "The line of error.log says how it ended and not why; a capture on the way, or a tracer at the other end, would tell"
        }
        Some(EventKind::Closed { .. }) => {
            "Nginx closed while it waited; a line of error.log or the client's own close would tell why"
        }
        _ if case.is_capture() && case.connecting() => {
            "Counters of the Nginx host (nstat: TcpExtListenOverflows, packet filter) would tell why it did not answer"
        }
        Some(EventKind::ResetReceived) => {
            "The RST's packet with a TTL to compare, or a tracer on the other host, would tell who sent it"
        }
        Some(EventKind::ResetSent { .. }) => {
            "The kernel names no reason that tells why this host sent the RST"
        }
        _ => "Only the log speaks of it; an event of the kernel would tell who ended the connection",
    };
    Missing { code: "deciding_evidence".into(), why: why.to_owned() }
}
