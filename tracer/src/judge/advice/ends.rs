//! Advice on connections that this host or a process ended: what the client or the process did decides which
//! directive is named.

use crate::model::verdict::Advice;
use crate::model::{MessageKind, Task};
use crate::timeline::Subject;

use super::one;
use crate::judge::case::Case;
use crate::judge::record::{errno_name, exit_text};
use crate::judge::waiting::{Wait, late_bytes, waited_for};

/// Signal that cannot be caught (`signal(7)`).
const SIGKILL: u8 = 9;

/// A timer of Nginx ran out on a client.
pub fn timed_out(case: &Case) -> Vec<Advice> {
    let wait = waited_for(case);
    let did = wait.map_or("was silent", Wait::told);
    let directive =
        wait.map_or("client_header_timeout, client_body_timeout or send_timeout", Wait::directive);
    one(
        &format!(
            "The client {did} in the time that Nginx gives it; because reset_timedout_connection is on it sees a RST instead of an orderly end"
        ),
        &format!("nginx: reset_timedout_connection, {directive}"),
        &format!(
            "leave it if memory matters more; else reset_timedout_connection off; or a longer {directive}"
        ),
    )
}

/// Nginx closed while something of the client was unread, or came afterwards.
pub fn closed_unread(case: &Case) -> Vec<Advice> {
    let on_purpose = case.socket().is_some_and(|socket| socket.linger_zero);
    // Streams have no `lingering_close`, and nothing else to change: their upstream had failed.
    if !case.is_client() || on_purpose || case.is_http() == Some(false) {
        return Vec::new();
    }
    if let Some(told) = too_large(case) {
        return one(
            &format!(
                "The body is larger than Nginx takes: {told}. Nginx answers with 413 and closes; the client may see the RST instead"
            ),
            "nginx: client_max_body_size; lingering_time, lingering_timeout",
            "a larger client_max_body_size for this location, if such bodies are wanted; else nothing",
        );
    }
    if case.meets_idle_close() {
        return one(
            "The client sent its next request when Nginx had just closed the idle connection",
            "nginx: keepalive_timeout, keepalive_requests, keepalive_time",
            "a keepalive_timeout longer than these clients keep connections, or clients that repeat such requests",
        );
    }
    let unread = case.socket().map_or(0, |socket| socket.unread);
    let bytes = match late_bytes(case) {
        Some(late) => format!(" ({late} bytes came after the close)"),
        // A capture does not tell.
        None if unread == 0 => String::new(),
        None => format!(" ({unread} bytes were unread)"),
    };
    let off = if case.host.nginx.lingering_close_off {
        " lingering_close is off in this configuration, for this server or for another."
    } else {
        ""
    };
    one(
        &format!("The client went on sending when Nginx closed{bytes}; the response may be lost to it.{off}"),
        "nginx: lingering_close, lingering_time, lingering_timeout, client_max_body_size",
        "lingering_close on; (or always) with a lingering_time as long as clients need to stop",
    )
}

fn too_large<'a>(case: &Case<'a>) -> Option<&'a str> {
    let message = &case.line?.record.message;
    // `ngx_http_core_find_config_phase`, `ngx_http_discard_request_body_filter`.
    message.contains("too large body").then_some(message.as_str())
}

/// A worker of Nginx ended.
pub fn worker_exit(case: &Case) -> Vec<Advice> {
    if case.shut_down().is_some() {
        return one(
            "A reload or nginx -s quit ended this worker, and worker_shutdown_timeout was over before the answer came",
            "nginx: worker_shutdown_timeout; what reloads Nginx, and how often",
            "worker_shutdown_timeout longer than the longest ordinary request, and fewer reloads",
        );
    }
    let ended = case.worker_exit().map(|event| &event.task);
    let how = ended.map(how).unwrap_or_default();
    let change = match ended.and_then(|task| task.exiting) {
        Some(exit) if exit.signal == SIGKILL => {
            "find who sends SIGKILL: the OOM killer, a supervisor that does not wait, worker_shutdown_timeout"
        }
        Some(exit) if exit.signal != 0 => "read the core dump and the master's error_log at this time",
        _ => "stop with nginx -s quit, which lets requests finish; see worker_shutdown_timeout",
    };
    one(
        &format!("The worker ended while it held this connection{how}"),
        "nginx: error_log of the master, worker_shutdown_timeout; systemd or container memory limit",
        change,
    )
}

/// The process of an upstream ended.
pub fn process_exit(case: &Case) -> Vec<Advice> {
    let Some(event) = case.peer_exit() else { return Vec::new() };
    let oom = case.was_chosen_by_oom(event);
    let how = how(&event.task);
    let change = match event.task.exiting {
        _ if oom => "raise the memory limit of the service, or find what takes the memory",
        Some(exit) if exit.signal == SIGKILL => {
            "find who sends SIGKILL: a stop time-out that is shorter than a request (systemd TimeoutStopSec, the container's grace period), a watchdog"
        }
        Some(exit) if exit.signal != 0 => {
            "let the service finish its requests before it stops; if it crashed, its core dump tells why"
        }
        _ => "let the service finish its requests before it stops",
    };
    one(
        &format!(
            "The upstream's process ended in the middle of a request{how}; its own log tells what it was doing"
        ),
        "upstream: service log, how it is stopped and deployed, memory limit",
        change,
    )
}

/// In brackets; nothing if the process lives.
fn how(task: &Task) -> String {
    task.exiting.map(exit_text).map(|how| format!(" ({how})")).unwrap_or_default()
}

/// A process that is not Nginx destroyed the socket.
pub fn destroyed(case: &Case) -> Vec<Advice> {
    let Some(task) = case.destroyer() else { return Vec::new() };
    one(
        &format!(
            "Neither end closed this connection: {} (pid {}) on this host destroyed Nginx's socket",
            task.comm, task.pid
        ),
        "this host: who runs ss -K, an agent that destroys sockets (SOCK_DESTROY), a BPF program",
        &format!("find out who started {} and why it destroys connections of Nginx", task.comm),
    )
}

/// Another host of Nginx's link answered for the address.
pub fn taken_over(case: &Case) -> Vec<Advice> {
    let Some(tuple) = case.tuple() else { return Vec::new() };
    let ip = tuple.remote.ip();
    let mac = case.reset_packet().and_then(|packet| packet.source_mac);
    let who = mac.map_or_else(|| "another host".to_owned(), |mac| mac.to_string());
    one(
        &format!(
            "{who} on this host's own link answered for {ip}; after a failover (VRRP, keepalived) the new owner of an address does so for every connection it has never had, and a device on the link can do the same"
        ),
        "network: keepalived or pacemaker log of the hosts that share this address; nginx: proxy_next_upstream",
        &format!(
            "if {ip} moved at this time, such resets are its price: let Nginx repeat what may be repeated, or fail over with the connections drained; if it did not, find out who has {who}"
        ),
    )
}

/// What Nginx is told not to take.
pub fn refused_by_nginx(case: &Case) -> Vec<Advice> {
    let record = match &case.incident.subject {
        Subject::Line(record) => Some(&**record),
        _ => case.line.map(|line| line.record),
    };
    match record.map(|record| record.kind) {
        Some(MessageKind::PROXY_PROTOCOL_BROKEN) => one(
            "Nginx expects a PROXY protocol header on this port, and the client began with something else",
            "nginx: listen (proxy_protocol)",
            "let clients connect through the load balancer that adds the header, or give them a port without proxy_protocol",
        ),
        Some(MessageKind::UPSTREAM_CERTIFICATE) => one(
            "Nginx does not accept the certificate that the upstream shows",
            "nginx: proxy_ssl_verify, proxy_ssl_trusted_certificate, proxy_ssl_name",
            "trust the authority that issued the certificate, and ask for the name that it is issued for",
        ),
        _ => Vec::new(),
    }
}

/// The errno says which limit.
pub fn resource(case: &Case) -> Vec<Advice> {
    let error = case.error();
    let (place, change) = match error {
        99 => (
            "sysctl net.ipv4.ip_local_port_range; nginx: proxy_bind, keepalive in the upstream block",
            "give Nginx more local ports or addresses for this upstream, or keep connections open (keepalive)",
        ),
        23 | 24 => (
            "nginx: worker_rlimit_nofile, worker_connections; sysctl fs.file-max",
            "raise worker_rlimit_nofile to at least twice worker_connections",
        ),
        0 if case.lacks_connections() => (
            "nginx: worker_connections (events), worker_rlimit_nofile (main)",
            "raise worker_connections, and worker_rlimit_nofile to twice as much; keepalive_timeout says for how long idle clients hold one",
        ),
        12 | 105 => ("this host: memory; sysctl net.ipv4.tcp_mem", "give the host or the cgroup more memory"),
        _ => (
            "nginx: worker_connections, worker_rlimit_nofile; sysctl net.ipv4.ip_local_port_range",
            "raise the limit that the line names",
        ),
    };
    let name = if error == 0 { String::new() } else { format!(": {} ({error})", errno_name(error)) };
    one(&format!("A limit of this host or of Nginx was reached{name}"), place, change)
}
