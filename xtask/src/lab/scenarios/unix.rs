//! Upstreams behind unix sockets: no segment of TCP tells of them, and nothing lies between the two processes.

use super::super::net::Family;
use super::super::program::Program;
use super::super::scenario::{Certainty, Check, Expect, LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::super::{nginx, wait};
use super::unavailable::LINE_ALONE;
use anyhow::Result;
use rustix::process::Signal;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

const V4: &[Family] = &[Family::V4];

const PLAIN: &str =
    "server { listen @LISTEN@; location / { proxy_pass http://unix:@ROOT@/@NAME@.sock:; } }\n";
const STREAMED: &str = "server { listen @LISTEN@; client_max_body_size 64m; location / { proxy_pass http://unix:@ROOT@/@NAME@.sock:; \
     proxy_http_version 1.1; proxy_request_buffering off; proxy_send_timeout 1s; } }\n";
const FASTCGI: &str = "server { listen @LISTEN@; location / { fastcgi_pass unix:@ROOT@/@NAME@.sock; \
     fastcgi_param SCRIPT_FILENAME @FIXTURES@/upstream.php; fastcgi_param REQUEST_METHOD $request_method; \
     fastcgi_param REQUEST_URI $request_uri; } }\n";

const FPM: &str = "php-fpm8.2";
const GUNICORN: &[&str] =
    &["--workers", "1", "--timeout", "1", "--bind", "unix:@SOCKET@", "wsgi:application"];

/// More than a unix socket holds.
const UPLOAD: usize = 8 << 20;
/// More than the buffers between a client and Nginx can take, bytes: the client is still writing when Nginx gives up.
const ENDLESS: usize = 60 << 20;

/// Nothing but the upstream's own process can have done it.
const ITS_OWN_DOING: Expect = Expect { party: "upstream", most: Certainty::Strong, ..LINE_ALONE };
const ABORTED: Expect = Expect {
    causes: &["upstream_abort", "upstream_process_exit"],
    checks: &[Check::Says("unread")],
    ..ITS_OWN_DOING
};
const ENDED: Expect = Expect { causes: &["upstream_closed_early", "upstream_process_exit"], ..ITS_OWN_DOING };
const CUT: Expect = Expect { impacts: &["response_truncated"], ..ENDED };

/// Unix sockets.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "unix-closed-unread",
        says: "an upstream behind a unix socket closes with the request unread: ECONNRESET without any RST",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| failing(stage, "GET /unread"),
        expect: &[ABORTED],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-killed-unread",
        says: "an upstream behind a unix socket is killed (-9) with the request unread",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| failing(stage, "GET /killed-unread"),
        expect: &[ABORTED],
        log: LogTruth::Always("recv() failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-killed-read",
        says: "an upstream behind a unix socket is killed (-9) after it read the request: an end in order",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| failing(stage, "GET /killed"),
        expect: &[ENDED],
        log: LogTruth::Always("upstream prematurely closed connection"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-closed-in-response",
        says: "an upstream behind a unix socket closes in order after half of its response",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| cut(stage, "/half"),
        expect: &[CUT],
        log: LogTruth::Always("upstream prematurely closed connection"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-reset-in-response",
        says: "the same with the request unread: ECONNRESET in the middle of the response",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| cut(stage, "/half-unread"),
        expect: &[Expect { impacts: &["response_truncated"], ..ABORTED }],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-upload-cut",
        says: "an upstream behind a unix socket closes in the middle of an upload: EPIPE",
        families: V4,
        place: Place::Local,
        servers: STREAMED,
        drive: upload_cut,
        expect: &[Expect {
            causes: &["upstream_closed_early", "upstream_abort", "upstream_process_exit"],
            ..ENDED
        }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "unix-upload-not-taken",
        says: "nobody reads an upload into a unix socket until proxy_send_timeout is over",
        families: V4,
        place: Place::Local,
        servers: STREAMED,
        drive: not_taken,
        expect: &[Expect { causes: &["upstream_slow"], ..ITS_OWN_DOING }],
        log: LogTruth::Always("upstream timed out (110"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-backlog-full",
        says: "the listen queue of a unix socket is full: connect() fails at once with EAGAIN",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| {
            let _server = stage.program_on_socket("python3", &["unixsock.py", "@SOCKET@", "0"])?;
            refused(stage)
        },
        expect: &[Expect {
            causes: &["upstream_listen_overflow"],
            checks: &[Check::Says("backlog")],
            ..ITS_OWN_DOING
        }],
        log: LogTruth::Always("failed (11"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-nobody-listens",
        says: "the unix socket is there and nobody listens on it any more",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| {
            drop(UnixListener::bind(stage.socket_path())?);
            std::fs::set_permissions(stage.socket_path(), Permissions::from_mode(0o777))?;
            refused(stage)
        },
        expect: &[Expect {
            causes: &["upstream_unavailable"],
            checks: &[Check::Says("listens")],
            ..ITS_OWN_DOING
        }],
        log: LogTruth::Always("failed (111"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-not-permitted",
        says: "the unix socket belongs to root, and Nginx's worker may not write to it",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| {
            let _listener = UnixListener::bind(stage.socket_path())?;
            std::fs::set_permissions(stage.socket_path(), Permissions::from_mode(0o600))?;
            refused(stage)
        },
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_config"],
            checks: &[Check::Says("may not write")],
            ..ITS_OWN_DOING
        }],
        log: LogTruth::Always("failed (13"),
        ..ORDINARY
    },
    Scenario {
        name: "unix-php-fpm-terminate-timeout",
        says: "PHP-FPM behind a unix socket ends the child that works for longer than request_terminate_timeout",
        families: V4,
        place: Place::Local,
        servers: FASTCGI,
        drive: |stage| {
            let _server = stage.program_on_socket(FPM, &["-F", "-R", "-y", "fpm-unix.conf"])?;
            failing_request(stage, "GET /hang")
        },
        expect: &[Expect {
            causes: &["upstream_abort", "upstream_closed_early", "upstream_process_exit"],
            checks: &[Check::Says("request_terminate_timeout")],
            ..ENDED
        }],
        log: LogTruth::Either,
        needs: &[FPM],
        ..ORDINARY
    },
    Scenario {
        name: "unix-php-fpm-child-killed",
        says: "a PHP-FPM child behind a unix socket is killed (-9) while it works on a request",
        families: V4,
        place: Place::Local,
        servers: FASTCGI,
        drive: child_killed,
        expect: &[Expect {
            causes: &["upstream_abort", "upstream_closed_early", "upstream_process_exit"],
            ..ENDED
        }],
        log: LogTruth::Either,
        needs: &[FPM],
        ..ORDINARY
    },
    Scenario {
        name: "unix-gunicorn-worker-timeout",
        says: "gunicorn's arbiter aborts a worker behind a unix socket that hangs (--timeout)",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| {
            let server = stage.program_on_socket("gunicorn", GUNICORN)?;
            let client = stage.connect()?;
            stage.request(client, "GET /hang")?;
            server.wait_line("hanging")?;
            stage.response(client, "502")
        },
        expect: &[ENDED],
        log: LogTruth::Always("upstream prematurely closed connection"),
        needs: &["gunicorn"],
        ..ORDINARY
    },
    Scenario {
        name: "trap-unix-healthy",
        says: "requests are served over a unix socket: nothing is told",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| {
            let _server = python(stage)?;
            for _ in 0..3 {
                let client = stage.connect()?;
                stage.request(client, "GET /whole")?;
                stage.response(client, "200")?;
                stage.leave(client)?;
            }
            Ok(())
        },
        log: LogTruth::Silent,
        ..ORDINARY
    },
];

fn python(stage: &mut Stage<'_>) -> Result<Program> {
    stage.program_on_socket("python3", &["unixsock.py", "@SOCKET@", "8"])
}

fn failing(stage: &mut Stage<'_>, request: &str) -> Result<()> {
    let _server = python(stage)?;
    failing_request(stage, request)
}

fn failing_request(stage: &mut Stage<'_>, request: &str) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, request)?;
    stage.response(client, "502")
}

fn refused(stage: &mut Stage<'_>) -> Result<()> {
    failing_request(stage, "GET /refused")
}

fn cut(stage: &mut Stage<'_>, path: &str) -> Result<()> {
    let _server = python(stage)?;
    let client = stage.connect()?;
    stage.request(client, &format!("GET {path}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

/// The server closes when it has seen the head.
fn upload_cut(stage: &mut Stage<'_>) -> Result<()> {
    let _server = python(stage)?;
    let client = stage.connect()?;
    let frozen = stage.freeze()?;
    upload(stage, client)?;
    drop(frozen);
    stage.client.tell(&format!("head {client}")).map(drop)
}

fn upload(stage: &mut Stage<'_>, client: u32) -> Result<()> {
    let head = format!("POST /unread HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: {UPLOAD}\\r\\n\\r\\n");
    stage.client.tell(&format!("send {client} {head}"))?;
    stage.client.tell(&format!("fill {client} 60000")).map(drop)
}

fn not_taken(stage: &mut Stage<'_>) -> Result<()> {
    let socket = stage.socket_path();
    stage.server()?.tell(&format!("listen-unix {}", socket.display()))?;
    let client = stage.connect()?;
    let head = format!("POST /slow HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: {ENDLESS}\\r\\n\\r\\n");
    stage.client.tell(&format!("send {client} {head}"))?;
    stage.client.start_command(&format!("fill {client} {ENDLESS}"))?;
    stage.client.finish_any()?;
    Ok(())
}

fn child_killed(stage: &mut Stage<'_>) -> Result<()> {
    let server = stage.program_on_socket(FPM, &["-F", "-R", "-y", "fpm-unix-patient.conf"])?;
    let worker = server.worker()?;
    stage.acts(worker);
    let client = stage.connect()?;
    stage.request(client, "GET /hang")?;
    wait::pass(std::time::Duration::from_millis(300))?;
    nginx::signal(worker, Signal::KILL)?;
    stage.response(client, "502")
}
