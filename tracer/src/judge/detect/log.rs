//! What the joined line adds. A line tells what Nginx saw and why it closed; it never tells who sent a
//! segment, so an errno alone is no evidence for a party.

use crate::judge::case::{Case, Joined};
use crate::judge::finding::{Finding, Origins};
use crate::judge::rules::{is_rejected, speaks_no_tls};
use crate::model::{LogRecord, MessageClass, MessageKind};
use crate::timeline::Subject;

/// Adds the finding of the line.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    if let Subject::Line(record) = &case.incident.subject {
        let detail = format!("error.log alone says: {}", said(&record.message, record.errno));
        findings.push(Finding::supporting(
            "log_alone",
            Origins::PEER.and(Origins::NGINX).and(Origins::SLOW),
            detail,
        ));
        return;
    }
    // Behind TLS a RST reads like an orderly end, so such a line says nothing more than the RST did.
    let hidden =
        case.incident.reset_received().is_some() && case.line_class() == Some(MessageClass::ClosedEarly);
    if !hidden {
        findings.extend(case.line.as_ref().and_then(of_line));
    }
    findings.extend(case.shortage.filter(|_| case.line.is_none()).map(shortage));
}

/// Said of no connection: it explains those that Nginx gave up in that second without a word of their own.
fn shortage(record: &LogRecord) -> Finding {
    let detail = format!("Nginx logged in the last second: {}", record.message);
    Finding::supporting("log_resource", Origins::NGINX, detail)
}

fn of_line(line: &Joined) -> Option<Finding> {
    let record = line.record;
    // With an errno the class is that of the errno; what the client broke off is told by the words.
    if is_rejected(record) {
        let said = said(&record.message, record.errno);
        return Some(Finding::supporting(
            "log_rejected",
            Origins::APPLICATION,
            format!("Nginx logged what the upstream said in HTTP/2: {said}"),
        ));
    }
    let aborted = record.kind.class() == MessageClass::ClientAborted
        || (record.kind == MessageKind::CLIENT_STREAM_ENDED && record.upstream.is_some());
    let (code, origins) = match if aborted { MessageClass::ClientAborted } else { record.class() } {
        MessageClass::TimedOut => ("log_timed_out", Origins::SLOW),
        MessageClass::ClosedEarly => ("log_closed_early", Origins::PEER),
        MessageClass::ClientAborted => ("log_client_aborted", Origins::PEER.and(Origins::CLIENT_FIRST)),
        MessageClass::ConfigLimit | MessageClass::InvalidResponse | MessageClass::InvalidRequest => {
            ("log_limit", Origins::NGINX)
        }
        _ if speaks_no_tls(record) => ("log_limit", Origins::NGINX),
        MessageClass::ResourceLimit => ("log_resource", Origins::NGINX),
        _ => return None,
    };
    Some(Finding::supporting(code, origins, format!("Nginx logged: {}", said(&record.message, record.errno))))
}

fn said(message: &str, errno: Option<i32>) -> String {
    match errno {
        Some(errno) => format!("{message} ({errno})"),
        None => message.to_owned(),
    }
}
