//! Upstreams that users really run, each in the way it really fails Nginx: gunicorn, uvicorn, Node, Java and PHP-FPM.
//!
//! The servers act by their own timers and limits; the worker of Nginx is stopped where two events must come in a
//! certain order.

use super::super::net::Family;
use super::super::program::Program;
use super::super::scenario::{Certainty, Check, Expect, LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::super::wait;
use super::super::{kernel, nginx};
use super::proxies::{RACE, STREAMED, UPSTREAM, race};
use super::upstream::ABORT;
use super::{KEPT, PLAIN};
use anyhow::Result;
use rustix::process::Signal;

/// What needs a family of its own is the kernel's doing and played elsewhere; these servers are the same in both.
const V4: &[Family] = &[Family::V4];

const FASTCGI: &str = "server { listen @LISTEN@; location / { fastcgi_pass @UPSTREAM@; \
     fastcgi_connect_timeout 2s; \
     fastcgi_param SCRIPT_FILENAME @FIXTURES@/upstream.php; fastcgi_param REQUEST_METHOD $request_method; \
     fastcgi_param REQUEST_URI $request_uri; } }\n";

const GUNICORN: &[&str] = &["--workers", "1", "--timeout", "1", "--bind", "@ADDRESS@", "wsgi:application"];
const GUNICORN_KEPT: &[&str] =
    &["--workers", "1", "--threads", "2", "--keep-alive", "1", "--bind", "@ADDRESS@", "wsgi:application"];
const GUNICORN_RECYCLED: &[&str] =
    &["--workers", "1", "--threads", "2", "--max-requests", "3", "--bind", "@ADDRESS@", "wsgi:application"];
const UVICORN: &[&str] = &[
    "-m",
    "uvicorn",
    "--timeout-keep-alive",
    "1",
    "--host",
    "@HOST@",
    "--port",
    "@PORT@",
    "asgi:application",
];
const UVICORN_SPENT: &[&str] = &[
    "-m",
    "uvicorn",
    "--limit-max-requests",
    "2",
    "--host",
    "@HOST@",
    "--port",
    "@PORT@",
    "asgi:application",
];
/// Connections idle for a second are closed (the property of JDK 17, and that of later ones, of how often it looks).
const JAVA: &[&str] = &[
    "-Dsun.net.httpserver.idleInterval=1",
    "-Dsun.net.httpserver.clockTick=100",
    "-Dsun.net.httpserver.idleTimerScheduleMillis=100",
    "Server.java",
    "@HOST@",
    "@PORT@",
];
/// Java is started from source.
const JAVA_HERE: &[&str] = &["javac"];
/// More than Java reads at once.
const BODY: usize = 60_000;
const FPM: &str = "php-fpm8.2";
const UVICORN_HERE: &[&str] = &["/usr/lib/python3/dist-packages/uvicorn"];

const EARLY: &str = "upstream prematurely closed connection";

const EXITED: Expect = Expect {
    causes: &["upstream_process_exit"],
    kinds: &["closed_early", "reset_received"],
    least: Certainty::Proven,
    checks: &[Check::Sender],
    ..UPSTREAM
};

/// An end in order that comes before the answer.
const CLOSED: Expect = Expect {
    causes: &["upstream_closed_early"],
    kinds: &["closed_early"],
    most: Certainty::Strong,
    ..UPSTREAM
};

/// Servers that fail.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "gunicorn-worker-timeout",
        says: "gunicorn's arbiter aborts a worker that hangs (--timeout): the worker ends by itself on SIGABRT",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| hanging(stage, "gunicorn", GUNICORN, "/hang"),
        expect: &[Expect {
            causes: &["upstream_process_exit", "upstream_closed_early"],
            kinds: &["closed_early"],
            ..UPSTREAM
        }],
        log: LogTruth::Always(EARLY),
        needs: &["gunicorn"],
        ..ORDINARY
    },
    Scenario {
        name: "gunicorn-worker-killed",
        says: "the worker ignores SIGABRT, so the arbiter kills it (SIGKILL)",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| hanging(stage, "gunicorn", GUNICORN, "/stubborn"),
        expect: &[Expect { checks: &[Check::Sender, Check::Says("SIGKILL")], ..EXITED }],
        log: LogTruth::Always(EARLY),
        needs: &["gunicorn"],
        ..ORDINARY
    },
    Scenario {
        name: "gunicorn-keepalive-race",
        says: "gunicorn closes a connection idle for --keep-alive in the moment Nginx uses it again",
        families: V4,
        servers: KEPT,
        drive: |stage| race(stage, "gunicorn", GUNICORN_KEPT),
        expect: &[RACE],
        log: LogTruth::Always(EARLY),
        needs: &["gunicorn"],
        ..ORDINARY
    },
    Scenario {
        name: "gunicorn-max-requests",
        says: "gunicorn replaces its worker after --max-requests: nobody loses anything",
        families: V4,
        servers: KEPT,
        drive: |stage| healthy(stage, "gunicorn", GUNICORN_RECYCLED, 8),
        log: LogTruth::Silent,
        needs: &["gunicorn"],
        ..ORDINARY
    },
    Scenario {
        name: "uvicorn-keepalive-race",
        says: "uvicorn closes a connection idle for --timeout-keep-alive in the moment Nginx uses it again",
        families: V4,
        servers: KEPT,
        drive: |stage| race(stage, "python3", UVICORN),
        expect: &[RACE],
        log: LogTruth::Always(EARLY),
        needs: UVICORN_HERE,
        ..ORDINARY
    },
    Scenario {
        name: "uvicorn-max-requests",
        says: "uvicorn ends after --limit-max-requests, and nothing listens until it is started again",
        families: V4,
        place: Place::Local,
        servers: KEPT,
        drive: |stage| spent(stage, "python3", UVICORN_SPENT),
        expect: &[Expect {
            causes: &["upstream_refused"],
            kinds: &["refused"],
            least: Certainty::Proven,
            ..UPSTREAM
        }],
        log: LogTruth::Always("connect() failed (111"),
        needs: UVICORN_HERE,
        ..ORDINARY
    },
    Scenario {
        name: "node-keepalive-race",
        says: "Node closes a connection idle for keepAliveTimeout in the moment Nginx uses it again",
        families: V4,
        servers: KEPT,
        drive: |stage| race(stage, "node", &["server.js", "@HOST@", "@PORT@", "1000"]),
        expect: &[RACE],
        log: LogTruth::Always(EARLY),
        needs: &["node"],
        ..ORDINARY
    },
    Scenario {
        name: "node-socket-timeout",
        says: "Node gives up a request that is not answered in server.timeout and closes",
        families: V4,
        servers: PLAIN,
        drive: |stage| hanging(stage, "node", &["server.js", "@HOST@", "@PORT@", "1000", "1000"], "/hang"),
        expect: &[CLOSED],
        log: LogTruth::Always(EARLY),
        needs: &["node"],
        ..ORDINARY
    },
    Scenario {
        name: "node-request-timeout",
        says: "an upload takes longer than Node's requestTimeout: it answers 408 and closes with the rest unread",
        families: V4,
        servers: STREAMED,
        drive: slow_upload,
        // Whether the client leaves before Nginx has told it the end.
        log: LogTruth::Either,
        needs: &["node"],
        ..ORDINARY
    },
    Scenario {
        name: "node-uncaught-exception",
        says: "Node ends by an exception that nobody catches, with a request in its hands",
        families: V4,
        place: Place::Local,
        servers: PLAIN,
        drive: |stage| thrown(stage, "node", &["server.js", "@HOST@", "@PORT@"]),
        expect: &[Expect { checks: &[Check::Sender, Check::Says("exited with status 1")], ..EXITED }],
        log: LogTruth::Always(EARLY),
        needs: &["node"],
        ..ORDINARY
    },
    Scenario {
        name: "java-keepalive-race",
        says: "Java closes a connection idle for idleInterval in the moment Nginx uses it again",
        families: V4,
        servers: KEPT,
        drive: |stage| race(stage, "java", JAVA),
        expect: &[RACE],
        log: LogTruth::Always(EARLY),
        needs: JAVA_HERE,
        ..ORDINARY
    },
    Scenario {
        name: "java-handler-throws",
        says: "a handler in Java ends by an exception with the request read: the connection is closed",
        families: V4,
        servers: PLAIN,
        drive: |stage| thrown(stage, "java", JAVA),
        expect: &[CLOSED],
        log: LogTruth::Always(EARLY),
        needs: JAVA_HERE,
        ..ORDINARY
    },
    Scenario {
        name: "java-handler-throws-unread",
        says: "the same with most of an upload unread: closing resets",
        families: V4,
        servers: PLAIN,
        drive: throws_unread,
        expect: &[ABORT],
        log: LogTruth::Always("failed (104"),
        needs: JAVA_HERE,
        ..ORDINARY
    },
    Scenario {
        name: "php-fpm-terminate-timeout",
        says: "PHP-FPM ends the child that works on a request for longer than request_terminate_timeout",
        families: V4,
        place: Place::Local,
        servers: FASTCGI,
        drive: |stage| {
            worker_acts(stage, |stage| stage.program(FPM, &["-F", "-R", "-y", "fpm.conf"]), "/hang", None)
        },
        expect: &[Expect { checks: &[Check::Sender, Check::Says("SIGTERM")], ..EXITED }],
        log: LogTruth::Either,
        needs: &[FPM],
        ..ORDINARY
    },
    Scenario {
        name: "php-fpm-child-killed",
        says: "a PHP-FPM child is killed (-9) while it works on a request",
        families: V4,
        place: Place::Local,
        servers: FASTCGI,
        drive: |stage| {
            let start = |stage: &mut Stage<'_>| stage.program(FPM, &["-F", "-R", "-y", "fpm-patient.conf"]);
            worker_acts(stage, start, "/hang", Some(Signal::KILL))
        },
        expect: &[Expect { checks: &[Check::Sender, Check::Says("SIGKILL")], ..EXITED }],
        log: LogTruth::Either,
        needs: &[FPM],
        ..ORDINARY
    },
    Scenario {
        name: "php-fpm-max-requests",
        says: "PHP-FPM replaces its child after pm.max_requests: nobody loses anything",
        families: V4,
        place: Place::Local,
        servers: FASTCGI,
        drive: |stage| healthy(stage, FPM, &["-F", "-R", "-y", "fpm.conf"], 8),
        log: LogTruth::Silent,
        needs: &[FPM],
        ..ORDINARY
    },
    Scenario {
        name: "php-fpm-backlog",
        says: "PHP-FPM's only child is busy and listen.backlog is full: the next connect is dropped",
        families: V4,
        place: Place::Local,
        servers: FASTCGI,
        drive: backlog,
        expect: &[
            Expect {
                causes: &["upstream_listen_overflow"],
                kinds: &["listen_overflow"],
                impacts: &[],
                least: Certainty::Proven,
                side: None,
                ..UPSTREAM
            },
            Expect { causes: &["upstream_listen_overflow"], kinds: &["timeout"], ..UPSTREAM },
        ],
        log: LogTruth::Either,
        needs: &[FPM],
        ..ORDINARY
    },
];

/// A request that the server never answers, and what its own timers make of it.
fn hanging(stage: &mut Stage<'_>, program: &str, arguments: &[&str], path: &str) -> Result<()> {
    let server = stage.program(program, arguments)?;
    let client = stage.connect()?;
    if program == "gunicorn" {
        stage.acts(server.worker()?);
    }
    stage.request(client, &format!("GET {path}"))?;
    server.wait_line("hanging")?;
    stage.response(client, "502")
}

/// A request that is served, and one that fails.
fn thrown(stage: &mut Stage<'_>, program: &str, arguments: &[&str]) -> Result<()> {
    let _server = stage.program(program, arguments)?;
    let client = stage.connect()?;
    stage.request(client, "GET /healthy")?;
    stage.response(client, "200")?;
    stage.request(client, "GET /throw")?;
    stage.response(client, "502")
}

fn throws_unread(stage: &mut Stage<'_>) -> Result<()> {
    let _server = stage.program("java", JAVA)?;
    let client = stage.connect()?;
    let head = format!("POST /throw HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: {BODY}\\r\\n\\r\\n");
    stage.client.tell(&format!("send {client} {head}"))?;
    stage.client.tell(&format!("fill {client} {BODY}"))?;
    stage.response(client, "502")
}

/// A child of the server has the request; it is ended by the server, or by us.
fn worker_acts(
    stage: &mut Stage<'_>,
    start: impl Fn(&mut Stage<'_>) -> Result<Program>,
    path: &str,
    kill: Option<Signal>,
) -> Result<()> {
    let server = start(stage)?;
    let worker = server.worker()?;
    stage.acts(worker);
    let client = stage.connect()?;
    stage.request(client, &format!("GET {path}"))?;
    if let Some(kill) = kill {
        wait::until("the child has it", wait::SOON, || (stage.upstreams() == 1).then_some(()))?;
        nginx::signal(worker, kill)?;
    }
    stage.response(client, "502")
}

fn healthy(stage: &mut Stage<'_>, program: &str, arguments: &[&str], requests: u32) -> Result<()> {
    let _server = stage.program(program, arguments)?;
    healthy_requests(stage, requests)
}

fn healthy_requests(stage: &mut Stage<'_>, requests: u32) -> Result<()> {
    for _ in 0..requests {
        let client = stage.connect()?;
        stage.request(client, "GET /healthy")?;
        stage.response(client, "200")?;
        stage.leave(client)?;
    }
    Ok(())
}

/// Two requests that are served, and one that finds nobody.
fn spent(stage: &mut Stage<'_>, program: &str, arguments: &[&str]) -> Result<()> {
    let server = stage.program(program, arguments)?;
    healthy_requests(stage, 2)?;
    wait::until("the server has ended", wait::SOON, || {
        kernel::state(server.pid()).is_none_or(|state| state == 'Z').then_some(())
    })?;
    let client = stage.connect()?;
    stage.request(client, "GET /healthy")?;
    stage.response(client, "502")
}

fn slow_upload(stage: &mut Stage<'_>) -> Result<()> {
    let _server = stage.program("node", &["server.js", "@HOST@", "@PORT@", "1000", "0", "500"])?;
    let client = stage.connect()?;
    let head = "POST /hang HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: 100\\r\\n\\r\\nhalf";
    stage.client.tell(&format!("send {client} {head}"))?;
    stage.client.tell(&format!("head {client}")).map(drop)
}

/// One connection keeps the child busy, two wait for it (the kernel compares with `>`), and Nginx's is dropped.
fn backlog(stage: &mut Stage<'_>) -> Result<()> {
    let _server = stage.program(FPM, &["-F", "-R", "-y", "fpm-patient.conf"])?;
    let address = stage.upstream();
    for _ in 0..3 {
        stage.server()?.tell(&format!("connect {} {address}", address.ip()))?;
    }
    let client = stage.connect()?;
    stage.request(client, "GET /healthy")?;
    stage.response(client, "504")
}
