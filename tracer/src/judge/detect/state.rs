//! Counters and state of Nginx's socket at the failure: what was asked, what was answered, what was still
//! under way. They say what the reset did to the request; they do not say who sent it.

use std::time::Duration;

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Event, EventKind, MessageClass, Socket, TcpState};
use crate::output::layout::count;

/// A client connection silent for this long was between two requests.
pub const CLIENT_IDLE_MS: u32 = 1_000;
/// Smallest retransmission timeout of Linux (`TCP_RTO_MIN`).
const RTO_MIN: Duration = Duration::from_millis(200);

/// Adds the findings about the socket's state.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let Some(socket) = case.socket() else { return };
    let reset = case.incident.reset_received().is_some();
    if reset && case.is_client() {
        findings.push(client(case, socket));
    }
    if reset && case.reset_packet().is_none() {
        findings.push(accepted(case, socket));
    }
    if reset && (case.is_capture() || case.is_unheard()) {
        findings.extend(unheard(case, socket));
    }
    if !reset {
        findings.extend(fin_received(case, socket));
        findings.extend(silence(case, socket));
        findings.extend(stalled(case, socket));
    }
    findings.extend(upstream_leg(case));
    findings.extend(client_first(case));
    findings.extend(closed_by_worker(case));
}

/// The only trace of a RST whose packet no hook saw.
fn accepted(case: &Case, socket: &Socket) -> Finding {
    let detail = format!(
        "The kernel accepted a RST in the name of {} (state {}); the packet itself was not seen",
        socket.remote,
        case.state().name()
    );
    Finding::supporting("reset_accepted", Origins::PEER, detail)
}

/// A FIN counts as one byte of what is not acknowledged (RFC 9293, section 3.4).
fn in_flight(case: &Case, socket: &Socket) -> String {
    let bytes = count(u64::from(socket.unacked), "byte");
    if case.state().we_closed() && socket.unacked == 1 && socket.unsent == 0 {
        return "All of the response was acknowledged, Nginx's FIN was not".to_owned();
    }
    format!("{bytes} of the response sent and not acknowledged, {} not yet sent", socket.unsent)
}

fn client(case: &Case, socket: &Socket) -> Finding {
    let (code, detail) = if socket.bytes_received == 0 {
        ("no_request", "The client had sent no byte before the RST".to_owned())
    } else if case.has_all_but_read_it() {
        let detail = format!(
            "The RST acknowledges all {} bytes sent to the client; the last {} had just come",
            socket.bytes_sent,
            case.outstanding()
        );
        ("nothing_outstanding", detail)
    } else if case.outstanding() > 0 {
        ("response_in_flight", in_flight(case, socket))
    } else if case.is_capture() && socket.snd_wnd == 0 && socket.bytes_sent > 0 {
        let detail = format!(
            "The client's window was closed after {} bytes: Nginx could not send on",
            socket.bytes_sent
        );
        ("response_in_flight", detail)
    } else if socket.owes_answer() {
        let detail = format!(
            "The client's last {} bytes in all had not been answered; they came {} ms before the RST",
            socket.bytes_received,
            socket.last_received_ms.unwrap_or(0)
        );
        ("request_unanswered", detail)
    } else if case.is_at_work_by_access() {
        let detail = "Nothing had moved for a while, and Nginx ended a request of this client when the RST came (access.log)";
        ("response_in_flight", detail.to_owned())
    } else if socket.idle_ms().is_some_and(|idle| idle >= CLIENT_IDLE_MS) {
        let idle = socket.idle_ms().unwrap_or(0);
        ("connection_idle", format!("Everything sent was acknowledged and nothing had moved for {idle} ms"))
    } else {
        let detail = format!("All {} bytes sent to the client were acknowledged", socket.bytes_sent);
        ("nothing_outstanding", detail)
    };
    Finding::supporting(code, Origins::PEER, detail)
}

fn fin_received(case: &Case, socket: &Socket) -> Option<Finding> {
    // Of a client whose FIN came before a RST in Nginx's name `captured` tells.
    let told = case.is_client() && case.incident.reset_seen().is_some();
    let left = case.is_left_by_client();
    if !(case.state() == TcpState::CloseWait || left) || told {
        return None;
    }
    let state = if left { "" } else { ", state CLOSE_WAIT" };
    let detail = format!(
        "The peer had closed (FIN{state}) with {} bytes received in all and the last exchange unanswered",
        socket.bytes_received
    );
    let origins = if case.is_client() { Origins::PEER.and(Origins::CLIENT_FIRST) } else { Origins::PEER };
    Some(Finding::supporting("fin_received", origins, detail))
}

pub fn times(number: u32) -> String {
    count(u64::from(number), "time")
}

/// Nginx closed, or the kernel gave up, without a RST having come.
fn silence(case: &Case, socket: &Socket) -> Option<Finding> {
    if case.incident.closed().is_none() && case.incident.reset_sent().is_none() {
        return None;
    }
    if case.connecting() && matches!(case.error(), 0 | 110) {
        let detail =
            format!("The SYN was sent {} and never answered", times(socket.retransmits.saturating_add(1)));
        return Some(
            Finding::supporting("unacknowledged", Origins::LOSS, detail).valued(&socket.retransmits),
        );
    }
    if socket.unacked > 0 && (socket.retransmits_pending > 0 || socket.error == 110) {
        let detail = format!(
            "{} never acknowledged although the oldest segment was sent again {}",
            count(u64::from(socket.unacked), "byte"),
            times(socket.retransmits_pending)
        );
        let lost = Finding::supporting("unacknowledged", Origins::LOSS.and(Origins::LARGE_LOSS), detail)
            .against(Origins::SLOW);
        return Some(lost.valued(&socket.retransmits_pending));
    }
    if !case.is_client() && is_shut(socket) {
        let detail = format!(
            "The peer's TCP acknowledged all {} bytes sent and closed its window: its application does not read, and {} could not be sent",
            socket.bytes_sent,
            count(u64::from(socket.unsent), "byte")
        );
        return Some(
            Finding::supporting("request_acknowledged", Origins::SLOW, detail).against(Origins::LOSS),
        );
    }
    let waiting = !case.is_client() && case.awaits_answer() && socket.unacked == 0 && socket.unsent == 0;
    waiting.then(|| {
        let detail = format!(
            "The peer's TCP acknowledged all {} bytes of the request and sent nothing for {} ms",
            socket.bytes_sent,
            socket.last_sent_ms.unwrap_or(0)
        );
        Finding::supporting("request_acknowledged", Origins::SLOW, detail).against(Origins::LOSS)
    })
}

/// Everything sent has arrived, and the peer takes no more.
pub fn is_shut(socket: &Socket) -> bool {
    socket.unacked == 0 && socket.unsent > 0 && socket.snd_wnd == 0
}

/// What Nginx had sent was repeated and not acknowledged when the RST came: the path had failed before it.
fn unheard(case: &Case, socket: &Socket) -> Option<Finding> {
    const FEW: u32 = 2;
    let repeated = socket.retransmits_pending;
    (!case.connecting() && repeated >= FEW && socket.unacked > 0).then(|| {
        let detail = format!(
            "{} had been sent again {} without an acknowledgment before the RST came",
            count(u64::from(socket.unacked), "byte"),
            times(repeated)
        );
        let lost = Origins::LOSS.and(Origins::LARGE_LOSS);
        Finding::supporting("unacknowledged", lost, detail).against(Origins::PEER).valued(&repeated)
    })
}

/// For a client's incident: Nginx dropped the upstream leg because of it.
fn upstream_leg(case: &Case) -> Option<Finding> {
    let effect = case.effects.first()?;
    let socket = effect.socket.as_ref()?;
    let gap = effect.time.distance(case.time()).as_micros();
    let detail = format!(
        "{} closed its connection to {} with the answer outstanding within {gap} µs: a request was in progress",
        worker(case, effect),
        socket.remote
    );
    Some(Finding::supporting("upstream_leg_closed", Origins::PEER.and(Origins::CLIENT_FIRST), detail))
}

/// For an upstream incident: the client went away first, and Nginx itself ended this connection.
fn client_first(case: &Case) -> Option<Finding> {
    let by = case.caused_by.as_ref()?;
    let client = by.socket.as_ref().map_or_else(|| "the client".to_owned(), |s| s.remote.to_string());
    let place = if case.is_capture() { "; no other client did" } else { ", on the same worker" };
    let place = if case.is_capture() && by.candidates > 1 { "" } else { place };
    let detail = format!("{client} ended its connection {} µs before{place}", by.after_us);
    Some(Finding::supporting("client_went_first", Origins::CLIENT_FIRST, detail).valued(&by.after_us))
}

/// Nginx's worker ended the connection, not the upstream.
fn closed_by_worker(case: &Case) -> Option<Finding> {
    let event = own_end(case).filter(|_| !case.is_client() && case.incident.reset_received().is_none())?;
    let acted = event.task.is_own();
    acted.then(|| {
        let how = if event.task.exiting.is_some() {
            "was ending, and this connection ended with it"
        } else {
            "closed this connection itself"
        };
        let detail = format!("{} {how}", worker(case, event));
        Finding::supporting("closed_by_worker", Origins::CLIENT_FIRST.and(Origins::NGINX), detail)
    })
}

/// A timer of Nginx ran out in the middle of the answer.
fn stalled(case: &Case, socket: &Socket) -> Option<Finding> {
    let silent = socket.last_received_ms.filter(|_| !case.awaits_answer())?;
    let timed_out = case.line_class() == Some(MessageClass::TimedOut);
    (timed_out && !case.is_client()).then(|| {
        let detail = format!(
            "The answer stopped after {} bytes, {silent} ms before Nginx closed",
            socket.bytes_received
        );
        Finding::supporting("answer_stalled", Origins::SLOW, detail).valued(&silent)
    })
}

/// Who acted, as far as it is known.
fn worker(case: &Case, event: &Event) -> String {
    if case.is_capture() { "Nginx's end".to_owned() } else { format!("Worker {}", event.task.pid) }
}

fn own_end<'a>(case: &Case<'a>) -> Option<&'a Event> {
    case.incident.own.iter().find(|event| match event.kind {
        EventKind::Closed { .. } => true,
        EventKind::ResetSent { .. } => event.task.is_actor,
        _ => false,
    })
}

/// The peer completed a handshake with another connection while this one's segments went unanswered:
/// a lower bound for how long that has been is the sum of the retransmission timeouts so far.
pub fn answers_others(case: &Case) -> Option<Finding> {
    let socket = case.socket()?;
    let history = socket.peer_history?;
    let unanswered_since = if case.connecting() {
        socket.opened?
    } else {
        case.time().before(RTO_MIN * ((1 << socket.retransmits_pending.min(8)) - 1))
    };
    let silent = case.connecting() || socket.retransmits_pending > 0;
    (silent && history.last_syn_ack > unanswered_since && history.last_syn_ack <= case.time()).then(|| {
        let ago = case.time().since(history.last_syn_ack).as_millis();
        let detail = format!(
            "The same address completed a handshake with another connection {ago} ms before the end, while this one's segments went unanswered: the host is alive"
        );
        Finding::supporting("peer_answers_others", Origins::LOSS, detail).valued(&ago)
    })
}
