//! What access.log says of the request's end, where it says it: the status that the client got, and whether another
//! try served it. It decides over what the failure did, never over whose doing it was.

use super::case::Case;
use crate::model::AccessRecord;
use crate::model::verdict::Impact;
use crate::timeline::Subject;

/// What the failure did to the request, if a line of access.log tells.
pub fn impact(case: &Case) -> Option<Impact> {
    let access = case.access?;
    if !case.is_client() && access.is_repaired() && !only_last_failed(case, access) {
        return Some(Impact::RequestRetried);
    }
    if access.has_failed() {
        return Some(Impact::RequestFailed);
    }
    if is_served_anyway(case, access) {
        return Some(if is_subrequest(case) { Impact::ConnectionOnly } else { Impact::RequestRetried });
    }
    (access.is_cut() || broke_off(case, access)).then_some(Impact::ResponseTruncated)
}

/// A mirror or another side request failed; the request itself was served without it.
fn is_subrequest(case: &Case) -> bool {
    case.line.is_some_and(|line| line.record.subrequest.is_some())
}

/// The upstream of this incident served the last try and none before: the retry repaired another one's failure.
fn only_last_failed(case: &Case, access: &AccessRecord) -> bool {
    let Some(upstream) = upstream(case) else { return false };
    let tried = |at: usize| access.attempts[at].address.as_deref() == Some(upstream.as_str());
    let last = access.attempts.len() - 1;
    tried(last) && !(0..last).any(tried)
}

/// The upstream failed before it had answered, and the client got a success: another try served it, also where the
/// format, like `combined`, does not list the tries.
fn is_served_anyway(case: &Case, access: &AccessRecord) -> bool {
    const BEFORE_ANSWER: [&str; 4] =
        ["connecting to", "SSL handshaking to", "sending request to", "reading response header from"];
    let action = case.line.and_then(|line| line.record.action.as_deref()).unwrap_or("");
    let is_before = BEFORE_ANSWER.iter().any(|start| action.starts_with(start));
    !case.is_client() && access.attempts.is_empty() && is_success(access) && is_before
}

fn is_success(access: &AccessRecord) -> bool {
    access.status.is_some_and(|status| (200..300).contains(&status))
}

/// A success that an upstream's failure followed: the head of the response had been sent, its rest had not.
fn broke_off(case: &Case, access: &AccessRecord) -> bool {
    is_success(access)
        && !case.is_client()
        && case.line.is_some()
        && access.complete != Some(true)
        && upstream(case).is_some()
}

fn upstream(case: &Case) -> Option<String> {
    match &case.incident.subject {
        Subject::Connection(tuple) => Some(tuple.remote.to_string()),
        Subject::Line(record) => record.upstream.clone(),
        Subject::Listener(..) => None,
    }
}
