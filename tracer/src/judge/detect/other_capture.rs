//! The capture at the other end: what left there and what arrived. Decisive where a RST or a segment stands in one
//! capture and would have to stand in the other, too.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::model::{Event, EventKind, OtherCapture};

/// Adds the findings about the other capture.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let seen = case.peer.iter().find_map(|event: &&Event| match &event.kind {
        EventKind::OtherCapture(seen) => Some(seen),
        _ => None,
    });
    let Some(seen) = seen else { return };
    if case.incident.reset_received().is_some() {
        findings.extend(reset(seen));
    } else {
        findings.extend(arrival(seen));
    }
}

fn reset(seen: &OtherCapture) -> Option<Finding> {
    let name = &seen.file;
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
            Some(weighed(seen, "not_sent", detail))
        }
        (true, _) => {
            let place = match seen.hops {
                Some(0) => "on the host of that end".to_owned(),
                Some(hops) => format!("{hops} hop(s) before that end"),
                None => "nearer to that end".to_owned(),
            };
            let detail =
                format!("{name}, taken {place}, has this RST too: it comes from there or from behind it");
            let sent = Finding::supporting("sent_there", Origins::PEER, detail);
            Some(if seen.hops == Some(0) { sent.against(Origins::DEVICE) } else { sent })
        }
    }
}

/// A single packet may be missing because that capture lost it; most do not say how many they lost.
fn weighed(seen: &OtherCapture, code: &'static str, detail: String) -> Finding {
    if seen.sure {
        return Finding::decisive(code, Origins::DEVICE, detail).against(Origins::PEER);
    }
    let detail = format!("{detail}, unless that capture lost it: it does not say what it lost");
    Finding::supporting(code, Origins::DEVICE, detail).against(Origins::PEER)
}

fn arrival(seen: &OtherCapture) -> Option<Finding> {
    let name = &seen.file;
    match (seen.arrived?, seen.answered) {
        (false, _) => {
            let detail =
                format!("{name} does not have what was sent in vain: it was lost between the two captures");
            let lost = Finding::decisive("never_arrived", Origins::LOSS, detail);
            Some(lost.against(Origins::SLOW.and(Origins::PEER)))
        }
        (true, true) => {
            let detail =
                format!("{name} has what was sent and the answer to it, which was lost on the way back");
            Some(
                Finding::decisive("answer_lost", Origins::LOSS, detail)
                    .against(Origins::SLOW.and(Origins::PEER)),
            )
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
