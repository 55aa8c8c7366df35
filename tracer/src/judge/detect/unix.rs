//! What this host itself shows of an upstream behind a unix socket, beside the line of the log.

use crate::judge::case::Case;
use crate::judge::finding::{Finding, Origins};
use crate::judge::unix::{How, Unix};
use crate::model::UnixState;

/// Adds the finding about the socket.
pub fn detect(case: &Case, findings: &mut Vec<Finding>) {
    let Some(unix) = Unix::of(case) else { return };
    findings.extend(unix.state().map(|state| finding(&unix, state)));
}

fn finding(unix: &Unix, state: &UnixState) -> Finding {
    let path = unix.path;
    let beside =
        "a socket of this host, so that no network and no device lies between Nginx and the other process";
    match unix.how {
        How::Reset => supporting(
            "unix_peer",
            Origins::PEER,
            format!(
                "{path} is {beside}; its kernel gives ECONNRESET to one end only when the other closes, or ends, with data unread"
            ),
        ),
        How::Closed => supporting(
            "unix_peer",
            Origins::PEER,
            format!("{path} is {beside}; only that process can have closed"),
        ),
        How::Silent => supporting(
            "unix_peer",
            Origins::SLOW,
            format!("{path} is {beside}; nothing can have been lost on the way"),
        ),
        How::QueueFull => supporting(
            "unix_peer",
            Origins::PEER_LISTENER,
            format!(
                "{path} is {beside}; its kernel refuses connect() with EAGAIN only when the queue of the listener is full"
            ),
        ),
        How::Absent => supporting("unix_socket", Origins::PEER, found(path, state)),
        How::Denied => match state {
            UnixState::NotPermitted(what) => supporting(
                "unix_denied",
                Origins::NGINX,
                format!("The worker may not write to {path}: {what}"),
            ),
            _ => supporting("unix_socket", Origins::NGINX, found(path, state)),
        },
    }
}

fn supporting(code: &'static str, origins: Origins, detail: String) -> Finding {
    Finding::supporting(code, origins, detail)
}

/// What stood at the path right after the line.
fn found(path: &str, state: &UnixState) -> String {
    match state {
        UnixState::Good => {
            format!("A moment later somebody listens on {path}, and its mode lets the workers connect")
        }
        UnixState::Missing => format!("A moment later there is nothing at {path}"),
        UnixState::NotASocket => format!("A moment later {path} is no socket"),
        UnixState::NotPermitted(what) => format!("A moment later {what}"),
        UnixState::NobodyListens => {
            format!("A moment later the socket {path} is there and no process listens on it")
        }
        UnixState::Unknown(why) => format!("{path} could not be looked at: {why}"),
    }
}
