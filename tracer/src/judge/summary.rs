//! The one sentence a person can forward: who, what, when in the request, with addresses and numbers.
//! Says nothing that the evidence does not carry; the words follow the certainty.

use crate::model::verdict::{Cause, Certainty};
use crate::model::{EventKind, LogRecord, MessageKind, Socket, TcpState};
use crate::output::layout::count;
use crate::timeline::Subject;

use super::advice::human;
use super::case::Case;
use super::detect::{answers_others, icmp_error, is_shut};
use super::record::{errno_name, exit_text, home};
use super::unix::{How, Unix};
use super::waiting::{late_bytes, waited_for};

/// The sentence.
pub fn summary(case: &Case, slug: Cause, certainty: Certainty) -> String {
    let sentence = match &case.incident.subject {
        Subject::Line(record) => match Unix::of(case) {
            Some(unix) => of_unix(&unix),
            None => of_line(record),
        },
        _ => sentence(case, slug, certainty == Certainty::Weak),
    };
    let doubt = match certainty {
        Certainty::Weak => " (weak evidence)",
        Certainty::Proven | Certainty::Strong | Certainty::Undetermined => "",
    };
    let request = case.line.and_then(|line| line.record.request.as_deref());
    let request = request.map(|request| format!(", request \"{request}\"")).unwrap_or_default();
    format!("{sentence}{request}{doubt}")
}

/// On a unix socket the errno tells what the other end did, whether anything else of this host was seen or not.
fn of_unix(unix: &Unix) -> String {
    let path = unix.path;
    let did = match unix.how {
        How::Reset => format!("The process behind {path} closed the connection with data unread, or ended"),
        How::Closed => format!("The process behind {path} closed the connection, or ended, too early"),
        How::Silent => format!("The process behind {path} let its connection wait for too long"),
        How::QueueFull => format!("The listen queue of {path} was full, and the connection was not taken"),
        How::Absent if unix.record.errno == Some(2) => format!("There was no socket {path} to connect to"),
        How::Absent => format!("Nobody listened on {path}"),
        How::Denied => format!("Nginx's worker may not write to {path}"),
    };
    let request = unix.record.request.as_ref();
    let request = request.map(|request| format!(", request \"{request}\"")).unwrap_or_default();
    format!("{did}: {}{request}", said(unix.record))
}

fn said(record: &LogRecord) -> String {
    let errno = record.errno.map(|errno| format!(" ({errno}: {})", errno_name(errno))).unwrap_or_default();
    let action = record.action.as_ref().map(|action| format!(" while {action}")).unwrap_or_default();
    format!("{}{errno}{action}", record.message)
}

fn of_line(record: &LogRecord) -> String {
    let upstream =
        record.upstream.as_ref().map(|upstream| format!(", upstream {upstream}")).unwrap_or_default();
    format!("Only the log speaks: {}{upstream}", said(record))
}

fn sentence(case: &Case, slug: Cause, is_weak: bool) -> String {
    let peer = peer(case);
    let at = moment(case);
    match slug {
        Cause::ClientAbort if !case.is_client() => {
            let client = case.caused_by.as_ref().and_then(|cause| cause.socket.as_ref());
            let client = client.map_or("the client".to_owned(), |socket| format!("client {}", socket.remote));
            let cancelled =
                case.line.is_some_and(|line| line.record.kind == MessageKind::CLIENT_STREAM_ENDED);
            let why = if cancelled { "had cancelled the request" } else { "had gone away" };
            format!("Nginx dropped its connection to upstream {peer} because {client} {why}")
        }
        Cause::ClientAbort => format!("Client {peer} went away {at}"),
        Cause::ClientIdleReset => {
            format!("Client {peer} reset an idle keep-alive connection{}", silence(case))
        }
        Cause::ClientLateReset if is_weak && case.state() == TcpState::Established => {
            format!("Client {peer} reset its connection while nothing was on its way to it")
        }
        Cause::ClientLateReset => format!("Client {peer} ended a connection that was already done"),
        Cause::ClientHandshakeReset => format!("Client {peer} reset the connection before it sent a request"),
        Cause::ClientVanished if case.outstanding() == 0 => {
            format!("Client {peer} did not answer the keep-alive probes of Nginx's host{}", silence(case))
        }
        Cause::ClientVanished => format!("Client {peer} no longer acknowledges what Nginx sends"),
        Cause::NginxTimeoutReset | Cause::NginxClosedUnread if case.incident.reset_seen().is_some() => {
            format!("Nginx's end reset its connection to {peer} {}", captured_moment(case, &at))
        }
        Cause::NginxTimeoutReset => {
            let did = waited_for(case).map(|wait| format!(": it {}", wait.told())).unwrap_or_default();
            format!("Nginx reset the timed-out connection of client {peer} on purpose{}{did}", worker(case))
        }
        Cause::NginxClosedUnread if case.socket().is_some_and(|socket| socket.linger_zero) => {
            format!(
                "Nginx reset its connection to {peer} on purpose, without having timed out{}",
                worker(case)
            )
        }
        Cause::NginxClosedUnread => {
            format!("Nginx closed its connection to {peer} {}{}", unread(case), worker(case))
        }
        Cause::NginxWorkerExit if case.shut_down().is_some() => {
            format!(
                "Nginx gave up the connection to {peer} {at}, because its worker had to end{}",
                worker(case)
            )
        }
        Cause::NginxWorkerExit => {
            format!("The Nginx worker that held the connection to {peer} ended: {}", worker_exit(case))
        }
        Cause::NginxListenOverflow | Cause::UpstreamListenOverflow => overflow(case, &peer),
        Cause::NginxNotListening if case.was_established() => format!(
            "Nginx stopped listening at {} before it had accepted the connection of {peer}, which the kernel then reset",
            here(case)
        ),
        Cause::NginxNotListening => {
            format!(
                "{peer} asked for a connection to {}, where nothing listened, and was answered with a RST",
                here(case)
            )
        }
        Cause::NginxResourceLimit if case.lacks_connections() => {
            format!(
                "All connections of an Nginx worker were taken (worker_connections), so it gave up that of {peer}"
            )
        }
        Cause::NginxResourceLimit => {
            format!("A resource limit on the Nginx host ended the connection to {peer}")
        }
        Cause::NginxConfig if case.is_client() => {
            format!("Nginx refused the connection of {peer}: {}", message(case))
        }
        Cause::NginxConfig => {
            format!("Nginx ended the connection to upstream {peer} itself: {}", message(case))
        }
        _ => other_sentence(case, slug, (&peer, &at), is_weak),
    }
}

fn other_sentence(case: &Case, slug: Cause, (peer, at): (&str, &str), is_weak: bool) -> String {
    match slug {
        Cause::UpstreamRefused if is_weak => {
            format!("The connection to upstream {peer} was refused: a RST answered the SYN")
        }
        Cause::UpstreamRefused => format!("Upstream {peer} refused the connection: nothing listens there"),
        Cause::UpstreamKeepaliveRace => format!(
            "Upstream {peer} ended a kept-alive connection just as Nginx used it again{}",
            silence(case)
        ),
        Cause::UpstreamAbort => format!("Upstream {peer} reset the connection {at}{}", process(case)),
        Cause::UpstreamProcessExit => {
            format!("The upstream process behind {peer} ended {at}{}", process(case))
        }
        Cause::UpstreamOomKill => {
            format!("The OOM killer ended the upstream process behind {peer} {at}{}", process(case))
        }
        Cause::UpstreamRestarted if is_weak => {
            format!(
                "A bare RST came in the name of upstream {peer} {at}, as from a host that no longer knew the connection"
            )
        }
        Cause::UpstreamRestarted => format!(
            "The host of upstream {peer} no longer knew the connection and answered with a bare RST {at}"
        ),
        Cause::UpstreamClosedEarly => {
            format!("Upstream {peer} closed the connection {at}")
        }
        Cause::UpstreamSlow if case.socket().is_some_and(is_shut) => {
            format!("Upstream {peer} stopped reading the request: its window was closed when Nginx gave up")
        }
        Cause::UpstreamSlow => {
            format!("Upstream {peer} took the request and gave no answer in {}", waited(case))
        }
        Cause::UpstreamUnavailable => format!("Upstream {peer} is not available"),
        Cause::MiddleboxForgedReset if case.far_end_reset().is_some() => format!(
            "Something between Nginx and {peer} reset the upstream's end of the connection in Nginx's name; Nginx's end did not hear of it"
        ),
        Cause::MiddleboxForgedReset => {
            format!("Something between Nginx and {peer} sent a RST in its name {at}")
        }
        Cause::MiddleboxIdleReset => format!(
            "A device between Nginx and {peer} answered for a connection it had forgotten{}",
            silence(case)
        ),
        Cause::MiddleboxIdleDrop if case.outstanding() == 0 => {
            format!("The keep-alive probes to {peer} were not answered{}", silence(case))
        }
        Cause::MiddleboxIdleDrop => {
            format!("Packets to {peer} were lost when the connection was used again{}", silence(case))
        }
        Cause::MiddleboxReject => {
            format!("A device on the way to {peer} rejected the connection: {}", rejection(case))
        }
        Cause::MiddleboxDrop => {
            format!("Packets to {peer} were not acknowledged ({}): {}", repeated(case), lost_where(case))
        }
        Cause::MiddleboxMtuBlackhole => {
            format!("Only full-sized packets to {peer} vanish on the way; smaller ones arrive")
        }
        Cause::MiddleboxBothEndsReset => {
            format!("Both ends of the connection to {peer} received a RST and neither sent one")
        }
        Cause::LocalFirewall if case.is_dropped_here() => {
            format!("The packet filter of this host dropped packets of the connection to {peer}")
        }
        Cause::LocalFirewall => format!("The packet filter of this host rejected the connection to {peer}"),
        _ => match case.destroyer() {
            Some(task) => format!(
                "Process {} (pid {}) on this host, which is not Nginx, destroyed the connection to {peer} {at}",
                task.comm, task.pid
            ),
            None if case.is_of_no_connection() => format!(
                "Data came from {peer} for a connection that {} did not have, and the kernel answered with a RST: sent too \
                 late, or by an end that did not know of its close",
                here(case)
            ),
            None => format!("{} {at}; who was the cause is not known", happened(case, peer)),
        },
    }
}

fn peer(case: &Case) -> String {
    case.tuple().map_or_else(|| "a client".to_owned(), |tuple| tuple.remote.to_string())
}

/// Nginx's end.
fn here(case: &Case) -> String {
    case.tuple().map_or_else(|| "Nginx".to_owned(), |tuple| tuple.local.to_string())
}

/// Where in the request it happened, with the time since the last data.
fn moment(case: &Case) -> String {
    let Some(socket) = case.socket() else { return "while a request was in progress".to_owned() };
    let since = |ms: Option<u32>| human(u64::from(ms.unwrap_or(0)));
    match () {
        () if case.connecting() => "while the connection was being opened".to_owned(),
        () if case.is_client() && case.outstanding() > 0 => {
            format!("with {} of the response not acknowledged", count(case.outstanding(), "byte"))
        }
        () if case.is_left_by_client() => "in order while Nginx still worked for it".to_owned(),
        () if case.may_be_frames() => {
            format!("{} after its last bytes, with nothing on its way to it", since(socket.last_received_ms))
        }
        () if case.is_client() && socket.owes_answer() => {
            format!("{} after its request, before a response", since(socket.last_received_ms))
        }
        () if case.is_client() && case.upstream_has_not_answered() => {
            format!("{} after its last bytes, before a response", since(socket.last_received_ms))
        }
        () if case.is_client() && case.is_tunnel() => "from an open tunnel (WebSocket or stream)".to_owned(),
        () if case.is_client() => "in the middle of the response".to_owned(),
        () if !case.is_client() && case.state().we_closed() => "after Nginx had closed it".to_owned(),
        () if case.is_tunnel() => "in an open tunnel (WebSocket or stream)".to_owned(),
        () if case.awaits_answer() && socket.unread > 0 => format!(
            "{} after the last of the request was sent, with {} of an answer not read",
            since(socket.last_sent_ms),
            count(u64::from(socket.unread), "byte")
        ),
        () if case.awaits_answer() => {
            format!("{} after the request was sent, before a response", since(socket.last_sent_ms))
        }
        () if socket.bytes_received == 0 => "before the request".to_owned(),
        () if is_not_read(case, socket) => format!(
            "in the middle of the response, of which Nginx had not read {}",
            count(u64::from(socket.unread), "byte")
        ),
        () if case.went_unnoticed() && is_silent(socket) => "while it was idle in Nginx's pool".to_owned(),
        () if case.went_unnoticed() => "after an answer, with nothing more asked of it".to_owned(),
        () if is_silent(socket) => format!("while it was idle for {}", since(socket.idle_ms())),
        () => format!("in the middle of the response, after {} bytes", socket.bytes_received),
    }
}

/// Nothing moved, because Nginx itself did not read.
fn is_not_read(case: &Case, socket: &Socket) -> bool {
    let at_rest = case.went_unnoticed() || is_silent(socket);
    at_rest && socket.unread > 0 && case.incident.reset_received().is_some()
}

/// The same for a RST that a capture shows in Nginx's name, with the silence where it tells more.
fn captured_moment(case: &Case, at: &str) -> String {
    const TELLING_MS: u64 = 900;
    let idle = case.idle_before_ms().filter(|idle| *idle >= TELLING_MS).map(human);
    let after = idle.as_ref().map(|idle| format!(", after {idle} of silence")).unwrap_or_default();
    let Some(socket) = case.socket().filter(|_| case.is_client() && case.outstanding() == 0) else {
        let told = at.starts_with("while it was idle");
        return if told { at.to_owned() } else { format!("{at}{after}") };
    };
    match idle {
        _ if case.connecting() => at.to_owned(),
        _ if case.state().we_closed() => format!("after it had closed it{after}"),
        _ if socket.bytes_received == 0 => format!("before a request{after}"),
        _ if socket.owes_answer() => at.to_owned(),
        Some(idle) => format!("while it was idle for {idle}"),
        None => at.to_owned(),
    }
}

/// As long as connections in a pool are, and requests in progress mostly not.
fn is_silent(socket: &Socket) -> bool {
    socket.idle_ms().is_some_and(|idle| idle >= 500)
}

/// What went unanswered. The time since the last send would be that of its latest repetition.
fn repeated(case: &Case) -> String {
    let Some(socket) = case.socket() else { return "nothing of it was seen".to_owned() };
    if case.connecting() {
        return format!("the SYN was sent {}", count(u64::from(syns(case)), "time"));
    }
    let again = count(u64::from(socket.retransmits_pending), "time");
    format!("{}, sent again {again}", count(u64::from(socket.unacked), "byte"))
}

/// Who was heard of what was lost, or what may have become of it.
fn lost_where(case: &Case) -> String {
    let said = icmp_error(case).map(|error| format!("{}, said by {}", error.name(), error.sender));
    let alive =
        || answers_others(case).map(|_| "lost on the way; the host answers other connections".to_owned());
    if case.is_unheard() {
        return said
            .unwrap_or_else(|| "lost on the way; its own RST shows that it got none of them".to_owned());
    }
    said.or_else(alive).unwrap_or_else(|| "lost on the way, or the host is down".to_owned())
}

fn silence(case: &Case) -> String {
    let idle = case.idle_before_ms().filter(|idle| *idle > 0);
    idle.map(|idle| format!(", after {} of silence", human(idle))).unwrap_or_default()
}

fn worker(case: &Case) -> String {
    case.incident.worker().map(|pid| format!(" (worker {pid})")).unwrap_or_default()
}

fn unread(case: &Case) -> String {
    if let Some(late) = late_bytes(case) {
        return format!("and {} came after that, so the kernel sent a RST", count(u64::from(late), "byte"));
    }
    match case.socket().map_or(0, |socket| socket.unread) {
        0 => "before it had read all that came, so the kernel sent a RST".to_owned(),
        unread => format!("with {} unread, so the kernel sent a RST", count(u64::from(unread), "byte")),
    }
}

fn worker_exit(case: &Case) -> String {
    let exit = case.worker_exit().and_then(|event| Some((event.task.pid, event.task.exiting?)));
    exit.map_or("it is gone".to_owned(), |(pid, exit)| format!("pid {pid} {}", exit_text(exit)))
}

fn process(case: &Case) -> String {
    let event = case.peer_exit().or_else(|| case.peer_reset().filter(|event| event.task.is_actor));
    let Some(event) = event else { return String::new() };
    let exit = event.task.exiting.map(|exit| format!(", {}", exit_text(exit))).unwrap_or_default();
    let home = case.process(event).and_then(home).map(|home| format!(" of {home}")).unwrap_or_default();
    format!(" ({} pid {}{home}{exit})", event.task.comm, event.task.pid)
}

fn overflow(case: &Case, peer: &str) -> String {
    let Some(sum) = &case.incident.overflow else {
        return if case.is_client() {
            format!("Nginx's listener was full and did not take the connection of {peer}")
        } else {
            format!("{peer} did not take the connection: a listener for it was full")
        };
    };
    let overflow = &sum.latest;
    let whose = if overflow.side.is_nginx() { "Nginx's" } else { "The upstream's" };
    format!(
        "{whose} listener {} was full ({} waiting, limit {}) and dropped {}",
        overflow.listener,
        overflow.queue,
        overflow.limit,
        count(sum.dropped, "packet")
    )
}

fn message(case: &Case) -> String {
    case.line.map_or_else(|| "a limit was reached".to_owned(), |line| line.record.message.clone())
}

fn waited(case: &Case) -> String {
    human(u64::from(case.socket().and_then(|socket| socket.last_sent_ms).unwrap_or(0)))
}

fn rejection(case: &Case) -> String {
    if case.incident.reset_received().is_some() {
        return "a RST that did not start at the upstream".to_owned();
    }
    let said = icmp_error(case).map(|error| format!("{}, said by {}", error.name(), error.sender));
    let error = case.error();
    said.unwrap_or_else(|| format!("{} ({error})", errno_name(error)))
}

fn syns(case: &Case) -> u32 {
    case.socket().map_or(1, |socket| socket.retransmits.saturating_add(1))
}

fn happened(case: &Case, peer: &str) -> String {
    match case.incident.principal().map(|event| &event.kind) {
        Some(EventKind::ResetReceived) => format!("The connection to {peer} was reset from outside"),
        Some(EventKind::ResetSent { .. }) => format!("This host reset the connection to {peer}"),
        Some(EventKind::ResetSeen { .. }) => format!("The connection to {peer} was reset in Nginx's name"),
        Some(EventKind::Closed { .. }) if case.is_client() && case.connecting() => {
            let times = count(u64::from(syns(case)), "time");
            format!("{peer} sent its SYN {times} and Nginx's end never answered")
        }
        Some(EventKind::Closed { .. }) => format!("The connection to {peer} was closed"),
        _ => format!("The connection to {peer} failed"),
    }
}
