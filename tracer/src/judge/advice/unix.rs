//! Advice on upstreams behind unix sockets.

use crate::judge::unix::{How, Unix};
use crate::model::UnixState;
use crate::model::verdict::Advice;

use super::one;

const READ_ITS_LOG: &str = "read its own log and the kernel's (OOM killer) at this time; let a request take as long there as Nginx waits for it";

/// What to change, by what became of the connection.
pub fn advice(unix: &Unix) -> Vec<Advice> {
    let path = unix.path;
    match unix.how {
        How::Reset => one(
            &format!(
                "The process behind {path} closed with data unread, or ended, while it had the request: {}",
                suspects(unix)
            ),
            place(unix),
            READ_ITS_LOG,
        ),
        How::Closed => one(
            &format!(
                "The process behind {path} closed, or ended, before the answer was complete: {}",
                suspects(unix)
            ),
            place(unix),
            READ_ITS_LOG,
        ),
        How::Silent => one(
            &format!("The process behind {path} had the connection and did nothing with it in time"),
            "upstream: its slow requests, its number of workers; nginx: the read or send timeout of this location",
            "make the request faster or add workers; a longer timeout only if such requests may take that long",
        ),
        How::QueueFull => one(
            &format!(
                "Nobody took the connections that wait at {path}: every worker is busy, and the listen backlog is full"
            ),
            "upstream: its workers (PHP-FPM pm.max_children, gunicorn --workers) and its backlog (PHP-FPM listen.backlog, gunicorn --backlog); sysctl net.core.somaxconn",
            "more workers, or faster requests; then a larger backlog, with net.core.somaxconn no lower (the smaller one holds)",
        ),
        How::Absent => absent(unix),
        How::Denied => denied(unix),
    }
}

/// Who ends a process or a connection in the middle of a request, by the protocol.
fn suspects(unix: &Unix) -> &'static str {
    let url = unix.record.upstream_url.as_deref().unwrap_or("");
    match url.split_once("://").map_or("", |(scheme, _)| scheme) {
        "fastcgi" => {
            "PHP-FPM does so by request_terminate_timeout, when a child crashes or is killed (`exited on signal` in its log), and when it is stopped"
        }
        "uwsgi" => "uWSGI does so by harakiri, when a worker crashes or is killed, and when it is stopped",
        _ => {
            "application servers do so when a worker takes too long (gunicorn --timeout), crashes, is killed, or is stopped; a body that is not wanted may be left unread, too"
        }
    }
}

fn place(unix: &Unix) -> &'static str {
    let fastcgi = unix.record.upstream_url.as_deref().is_some_and(|url| url.starts_with("fastcgi://"));
    if fastcgi {
        "upstream: error_log of PHP-FPM, request_terminate_timeout, memory_limit, process_control_timeout"
    } else {
        "upstream: log of the service, its timeouts, its memory limit"
    }
}

fn absent(unix: &Unix) -> Vec<Advice> {
    let path = unix.path;
    let change = match unix.state() {
        Some(UnixState::Good) => {
            "it is there again: let restarts keep the listening socket (systemd .socket unit, reload instead of restart)"
        }
        _ => {
            "start the service, or give Nginx and the service the same path (also as seen from within chroots and containers)"
        }
    };
    let text = match unix.record.errno {
        Some(2) => format!("There was no socket {path}"),
        _ => format!("The socket {path} was there, and no process listens on it"),
    };
    one(&text, "upstream: is the service running, where does it listen; nginx: path after unix:", change)
}

fn denied(unix: &Unix) -> Vec<Advice> {
    let path = unix.path;
    match unix.state() {
        Some(UnixState::NotPermitted(what)) => one(
            &format!("Nginx's workers may not write to {path}: {what}"),
            "upstream: owner and mode of its socket (PHP-FPM listen.owner, listen.group, listen.mode); directories above it; nginx: user",
            "let the group of Nginx's user own the socket with mode 0660",
        ),
        _ => one(
            &format!("Nginx's workers may not write to {path}"),
            "this host: mode of the socket and of the directories above it; SELinux (httpd_can_network_connect, type of the socket file), AppArmor",
            "allow it; ausearch -m avc or the kernel log name a security module that forbids it",
        ),
    }
}
