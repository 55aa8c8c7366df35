//! The capture at the other end: what left there and what arrived. Decisive where a RST or a segment stands in one
//! capture and would have to stand in the other, too.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Event, EventKind, OtherCapture};
use crate::output::layout::count;

use super::hop;

/// Adds the findings about the other capture.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let seen = case.peer.iter().find_map(|event: &&Event| match &event.kind {
        EventKind::OtherCapture(seen) => Some(seen),
        _ => None,
    });
    let Some(seen) = seen else { return };
    if case.incident.reset_received().is_some() {
        findings.extend(reset(case, seen));
    } else {
        findings.extend(arrival(seen));
    }
}

fn reset(case: &Case, seen: &OtherCapture) -> Option<Finding> {
    let name = &seen.file;
    if seen.is_recording {
        return (!seen.reset?).then(|| not_sent_by(case, seen));
    }
    match (seen.reset?, seen.other_reset) {
        (false, true) => {
            let detail = format!(
                "{name} has this connection and no such RST from that end, but one in Nginx's name that Nginx's end never sent: both ends were reset from between"
            );
            Some(weighed(seen, "both_ends_reset", detail))
        }
        (false, false) => {
            let detail =
                format!("{name} has this connection and no such RST: it started between the two captures");
            Some(weighed(seen, "not_sent", detail).against(Origins::PEER))
        }
        (true, true) => {
            let detail = format!(
                "{name} has a RST in Nginx's name that Nginx's end never sent: Nginx's end went on, and that host, whose end was gone by then, answered with this RST"
            );
            Some(weighed(seen, "nginx_alive", detail).against(Origins::PEER))
        }
        (true, false) => {
            let place = match seen.hops {
                Some(0) => "on the host of that end".to_owned(),
                Some(hops) => format!("{} before that end", count(hops.into(), "hop")),
                None => "nearer to that end".to_owned(),
            };
            let detail =
                format!("{name}, taken {place}, has this RST too: it comes from there or from behind it");
            let sent = Finding::supporting("sent_there", Origins::PEER, detail);
            Some(if seen.hops == Some(0) { sent.against(Origins::DEVICE) } else { sent })
        }
    }
}

/// The tracer at the other end knows the connection, and its TCP sent no RST on it. What that host's packet filter
/// sends no tracer sees, so only a RST from another distance settles that it came from between.
fn not_sent_by(case: &Case, seen: &OtherCapture) -> Finding {
    let detail = format!(
        "The tracer on {} has this connection, and the TCP of that host sent no RST on it",
        seen.file
    );
    if hop::starts_elsewhere(case) {
        let detail = format!("{detail}; its packet filter is as far away as its TCP, and the RST is not");
        return Finding::decisive("not_sent", Origins::DEVICE, detail).against(Origins::PEER);
    }
    let detail = format!("{detail}: it started on the way, or in the packet filter of that host");
    Finding::supporting("not_sent", Origins::DEVICE, detail).against(Origins::PEER)
}

/// A single packet may be missing because that capture lost it; most do not say how many they lost.
fn weighed(seen: &OtherCapture, code: &'static str, detail: String) -> Finding {
    if seen.sure {
        return Finding::decisive(code, Origins::DEVICE, detail);
    }
    let detail = format!("{detail}, unless that capture lost it: it does not say what it lost");
    Finding::supporting(code, Origins::DEVICE, detail)
}

fn arrival(seen: &OtherCapture) -> Option<Finding> {
    let name = &seen.file;
    if seen.is_recording {
        return arrival_at_tcp(seen);
    }
    match (seen.arrived?, seen.answered) {
        (false, _) => {
            let detail =
                format!("{name} does not have what was sent in vain: it was lost between the two captures");
            Some(Finding::decisive("never_arrived", Origins::LOSS, detail))
        }
        (true, true) => {
            let detail =
                format!("{name} has what was sent and the answer to it, which was lost on the way back");
            Some(Finding::decisive("answer_lost", Origins::LOSS, detail))
        }
        (true, false) => {
            let detail = format!("{name} has what was sent, and no answer to it: that end stayed silent");
            Some(
                Finding::supporting("arrived_unanswered", Origins::PEER_LISTENER, detail)
                    .against(Origins::LOSS),
            )
        }
    }
}

/// The same from the TCP of the other host. That a SYN never came there rests on what is missing in its recording, so
/// it only supports; how many bytes a connection had received is said by its socket.
fn arrival_at_tcp(seen: &OtherCapture) -> Option<Finding> {
    let host = &seen.file;
    if let Some(exact) = seen.overflow {
        return Some(overflowed(host, exact));
    }
    let (code, detail) = match (seen.arrived?, seen.answered) {
        (false, _) => (
            "never_arrived",
            format!(
                "What was sent in vain never reached the TCP of {host}: it was lost on the way, or a packet filter of that host dropped it"
            ),
        ),
        (true, true) => (
            "answer_lost",
            format!(
                "What was sent in vain had reached the TCP of {host}, which answers it at once: the answer was lost on the way back"
            ),
        ),
        (true, false) => return None,
    };
    Some(Finding::supporting(code, Origins::LOSS, detail).decisive_if(seen.sure))
}

/// The listener there was full at that time, and dropped this connection if it says so itself.
fn overflowed(host: &str, exact: bool) -> Finding {
    let detail = format!(
        "The upstream's listener on {host} was full and dropped connections while Nginx waited for it"
    );
    if exact {
        let detail = format!("{detail}; this one was among them");
        return Finding::decisive("peer_listener_full", Origins::PEER_LISTENER, detail);
    }
    Finding::supporting("peer_listener_full", Origins::PEER_LISTENER, detail)
}
