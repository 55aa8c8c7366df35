//! Another proxy between Nginx and the application: `HAProxy` as load balancer, and a second Nginx.
//!
//! Nginx's upstream is the proxy, whatever happens behind it: the proxy decides what Nginx gets to see.

use super::super::net::Family;
use super::super::program::Program;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::super::{kernel, nginx, wait};
use super::{KEPT, PLAIN, race};
use anyhow::Result;
use rustix::process::Signal;
use std::time::Duration;

/// The proxies do the same in both families.
const V4: &[Family] = &[Family::V4];

/// The request passes on as it comes.
pub(super) const STREAMED: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; \
     proxy_http_version 1.1; proxy_request_buffering off; client_max_body_size 1m; } }\n";
const IMPATIENT: &str =
    "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; proxy_read_timeout 1s; } }\n";

const HTTP: &[&str] = &["-db", "-f", "haproxy-http.cfg"];
const TCP: &[&str] = &["-db", "-f", "haproxy-tcp.cfg"];
const BEHIND: &[&str] = &["-e", "stderr", "-p", "@FOLDER@", "-c", "nginx-behind.conf"];

pub(super) const UPSTREAM: Expect = Expect { party: "upstream", impacts: &["request_failed"], ..INCIDENT };

const ABORT: Expect =
    Expect { causes: &["upstream_abort"], kinds: &["reset_received"], most: Certainty::Strong, ..UPSTREAM };

/// A second Nginx on the same host is one, too, and seen as such.
const SECOND: Expect =
    Expect { party: "nginx", least: Certainty::Proven, side: None, logged: false, ..UPSTREAM };

pub(super) const RACE: Expect = Expect { kinds: &["closed_early", "reset_received"], ..race::RACE };

/// Proxies behind Nginx.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "haproxy-backend-down",
        says: "HAProxy has no backend and answers 503: Nginx passes it on, and no connection fails",
        families: V4,
        servers: PLAIN,
        drive: |stage| answered(stage, HTTP, "/", "503"),
        log: LogTruth::Silent,
        needs: &["haproxy"],
        ..ORDINARY
    },
    Scenario {
        name: "haproxy-tcp-backend-down",
        says: "HAProxy in TCP mode accepts, finds nobody behind it and drops the connection",
        families: V4,
        servers: PLAIN,
        drive: |stage| answered(stage, TCP, "/", "502"),
        expect: &[Expect { causes: &["upstream_abort", "upstream_closed_early"], kinds: &[], ..ABORT }],
        log: LogTruth::Either,
        needs: &["haproxy"],
        ..ORDINARY
    },
    Scenario {
        name: "haproxy-reject",
        says: "a rule of HAProxy closes the connection without an answer (`http-request reject`)",
        families: V4,
        servers: PLAIN,
        drive: |stage| answered(stage, HTTP, "/reject", "502"),
        expect: &[Expect { causes: &["upstream_abort", "upstream_closed_early"], kinds: &[], ..ABORT }],
        log: LogTruth::Either,
        needs: &["haproxy"],
        ..ORDINARY
    },
    Scenario {
        name: "haproxy-silent-drop",
        says: "a rule of HAProxy forgets the connection without a word (`silent-drop`); Nginx waits in vain",
        families: V4,
        servers: IMPATIENT,
        drive: |stage| answered(stage, HTTP, "/silent", "504"),
        expect: &[Expect {
            causes: &["upstream_slow"],
            kinds: &["timeout"],
            most: Certainty::Strong,
            ..UPSTREAM
        }],
        log: LogTruth::Always("upstream timed out (110"),
        needs: &["haproxy"],
        ..ORDINARY
    },
    Scenario {
        name: "haproxy-keepalive-race",
        says: "HAProxy closes a connection idle for `timeout http-keep-alive` in the moment Nginx uses it again",
        families: V4,
        servers: KEPT,
        drive: |stage| race(stage, "haproxy", HTTP),
        expect: &[RACE],
        log: LogTruth::Always("upstream prematurely closed connection"),
        needs: &["haproxy"],
        ..ORDINARY
    },
    Scenario {
        name: "nginx-behind-keepalive-race",
        says: "a second Nginx closes a connection idle for keepalive_timeout in the moment Nginx uses it again",
        families: V4,
        servers: KEPT,
        drive: |stage| race(stage, "nginx", BEHIND),
        expect: &[RACE],
        log: LogTruth::Always("upstream prematurely closed connection"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-behind-resets-timed-out",
        says: "a second Nginx waits for the rest of an upload and resets (reset_timedout_connection)",
        families: V4,
        servers: STREAMED,
        drive: |stage| upload(stage, "/upload"),
        expect: &[ABORT],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-behind-local-resets-timed-out",
        says: "the same with both on one host: the second Nginx is the upstream, not the one observed",
        families: V4,
        place: Place::Local,
        servers: STREAMED,
        drive: |stage| upload(stage, "/patient"),
        expect: &[
            Expect { least: Certainty::Proven, most: Certainty::Proven, ..ABORT },
            Expect { causes: &["nginx_timeout_reset"], kinds: &["reset_sent"], ..SECOND },
        ],
        log: LogTruth::Always("failed (104"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-behind-worker-killed",
        says: "the worker of a second Nginx on the same host is killed (-9) while it waits for an upload",
        families: V4,
        place: Place::Local,
        servers: STREAMED,
        drive: worker_killed,
        expect: &[
            Expect {
                causes: &["upstream_process_exit"],
                least: Certainty::Proven,
                checks: &[Check::Says("SIGKILL")],
                ..UPSTREAM
            },
            Expect { causes: &["nginx_worker_exit"], ..SECOND },
        ],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "nginx-behind-keepalive-requests",
        says: "a second Nginx closes each connection after keepalive_requests: nobody loses anything",
        families: V4,
        servers: KEPT,
        drive: many,
        log: LogTruth::Silent,
        ..ORDINARY
    },
    Scenario {
        name: "nginx-behind-reloaded",
        says: "a second Nginx reloads: its old worker closes idle connections, and nobody loses anything",
        families: V4,
        servers: KEPT,
        drive: reloaded,
        log: LogTruth::Silent,
        ..ORDINARY
    },
];

fn answered(stage: &mut Stage<'_>, arguments: &[&str], path: &str, status: &str) -> Result<()> {
    let _proxy = stage.program("haproxy", arguments)?;
    let client = stage.connect()?;
    stage.request(client, &format!("GET {path}"))?;
    stage.response(client, status)
}

/// The worker of Nginx is stopped while the proxy's idle timer runs out, and finds the client's request first.
pub(super) fn race(stage: &mut Stage<'_>, program: &str, arguments: &[&str]) -> Result<()> {
    let server = stage.program(program, arguments)?;
    let client = stage.connect()?;
    stage.request(client, "GET /healthy")?;
    stage.response(client, "200")?;
    stage.find_upstream_local()?;
    let idle = stage.idle(Duration::from_millis(600))?;
    let frozen = stage.freeze()?;
    stage.request(client, "GET /again")?;
    stage.wait_upstream("the server's timer runs out", |socket| {
        socket.is_none_or(|socket| socket.state == kernel::CLOSE_WAIT)
    })?;
    stage.idle_ended(idle);
    drop(frozen);
    let line = stage.client.tell(&format!("response {client}"))?;
    anyhow::ensure!(line.starts_with("HTTP/1.1 "), "the client got `{line}`");
    server.end()
}

/// A proxy has half of a request.
fn half_uploaded(stage: &mut Stage<'_>, path: &str) -> Result<(Program, u32)> {
    let proxy = stage.program("nginx", BEHIND)?;
    Stage::processes_are_seen()?; // Where it lives on the Nginx host.
    let client = stage.connect()?;
    let head = format!("POST {path} HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: 100\\r\\n\\r\\nhalf");
    stage.client.tell(&format!("send {client} {head}"))?;
    stage.find_upstream_local()?;
    Ok((proxy, client))
}

fn upload(stage: &mut Stage<'_>, path: &str) -> Result<()> {
    let (_proxy, client) = half_uploaded(stage, path)?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn worker_killed(stage: &mut Stage<'_>) -> Result<()> {
    let (proxy, client) = half_uploaded(stage, "/upload")?;
    let worker = proxy.worker()?;
    stage.acts(worker);
    nginx::signal(worker, Signal::KILL)?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn many(stage: &mut Stage<'_>) -> Result<()> {
    let _proxy = stage.program("nginx", BEHIND)?;
    let client = stage.connect()?;
    for _ in 0..10 {
        stage.request(client, "GET /healthy")?;
        stage.response(client, "200")?;
    }
    Ok(())
}

fn reloaded(stage: &mut Stage<'_>) -> Result<()> {
    let proxy = stage.program("nginx", BEHIND)?;
    let old = proxy.worker()?;
    let client = stage.connect()?;
    for round in 0..3 {
        stage.request(client, "GET /healthy")?;
        stage.response(client, "200")?;
        if round == 1 {
            nginx::signal(proxy.pid(), Signal::HUP)?;
            wait::until("the old worker ends", wait::SOON, || {
                kernel::state(old).is_none_or(|state| state == 'Z').then_some(())
            })?;
        }
    }
    Ok(())
}
