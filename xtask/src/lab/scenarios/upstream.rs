//! The upstream resets, is killed, or does not listen.

use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Place, Scenario};
use super::super::stage::Stage;
use super::PLAIN;
use anyhow::Result;

/// Everything is passed on as soon as it is there, so that the client can tell it has arrived.
const EAGER: &str =
    "server { listen @LISTEN@; proxy_buffering off; location / { proxy_pass http://@UPSTREAM@; } }\n";

pub(super) const ABORT: Expect = Expect {
    party: "upstream",
    causes: &["upstream_abort"],
    kinds: &["reset_received"],
    impacts: &["request_failed"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    ..INCIDENT
};

/// The same where Nginx asks again, and the client never learns of it.
pub(super) const RETRIED: Expect = Expect { impacts: &["request_retried"], ..ABORT };

const KILLED: Expect = Expect {
    party: "upstream",
    causes: &["upstream_process_exit"],
    impacts: &["request_failed"],
    least: Certainty::Proven,
    most: Certainty::Proven,
    checks: &[Check::Sender, Check::Says("SIGKILL")],
    ..INCIDENT
};

const REFUSED: Expect = Expect {
    party: "upstream",
    causes: &["upstream_refused"],
    kinds: &["refused"],
    impacts: &["request_failed"],
    least: Certainty::Weak,
    most: Certainty::Strong,
    ..INCIDENT
};

pub(super) const RECV: LogTruth = LogTruth::Always("recv() failed (104");
const REFUSED_LINE: LogTruth = LogTruth::Always("connect() failed (111");

/// Faults of the upstream.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "upstream-close-unread",
        tour: Some(1),
        says: "the upstream closes with the request unread",
        servers: PLAIN,
        drive: close_unread,
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-linger-zero",
        tour: Some(2),
        says: "the upstream reads the request and resets with zero linger",
        servers: PLAIN,
        drive: linger_zero,
        expect: &[ABORT],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-linger-zero-reloaded",
        says: "the same right after a reload: the worker did not exist when the tracer started",
        servers: PLAIN,
        drive: reloaded,
        expect: &[Expect { least: Certainty::Strong, ..ABORT }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-reset-in-response",
        says: "the upstream resets in the middle of its response",
        servers: EAGER,
        drive: reset_in_response,
        expect: &[Expect { impacts: &["response_truncated"], ..ABORT }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-own-ttl",
        says: "an upstream whose socket has a TTL of its own resets: its RST has another TTL than its handshake",
        servers: EAGER,
        drive: own_ttl,
        expect: &[Expect { impacts: &["response_truncated"], ..ABORT }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-local-linger-zero",
        says: "an upstream on the Nginx host resets with zero linger: the sending process is seen",
        place: Place::Local,
        servers: PLAIN,
        drive: local_linger_zero,
        expect: &[Expect {
            least: Certainty::Proven,
            most: Certainty::Proven,
            checks: &[Check::Sender],
            ..ABORT
        }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-killed-unread",
        tour: Some(3),
        says: "a local upstream is killed (-9) with the request unread",
        place: Place::Local,
        servers: PLAIN,
        drive: killed_unread,
        expect: &[Expect { kinds: &["reset_received"], ..KILLED }],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-oom-killed",
        says: "a local upstream is chosen by the OOM killer with a request in its hands",
        place: Place::Local,
        servers: PLAIN,
        drive: oom_killed,
        expect: &[Expect {
            causes: &["upstream_oom_kill"],
            kinds: &["closed_early", "reset_received"],
            ..KILLED
        }],
        log: LogTruth::Always("upstream prematurely closed connection"),
        host_wide: true,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-killed-read",
        says: "a local upstream is killed (-9) after it read the request: a FIN, not a RST",
        place: Place::Local,
        servers: PLAIN,
        drive: killed_read,
        expect: &[Expect { kinds: &["closed_early"], ..KILLED }],
        log: LogTruth::Always("upstream prematurely closed connection"),
        ..ORDINARY
    },
    Scenario {
        name: "upstream-python-killed",
        says: "python3's http.server is killed (-9) while it works on a request",
        place: Place::Local,
        servers: PLAIN,
        drive: python_killed,
        expect: &[Expect { kinds: &["closed_early", "reset_received"], ..KILLED }],
        log: LogTruth::Always("upstream prematurely closed connection"),
        ..ORDINARY
    },
    Scenario {
        name: "upstream-closed-early",
        says: "the upstream closes in order after half of its response",
        servers: EAGER,
        drive: closed_early,
        expect: &[Expect {
            causes: &["upstream_closed_early"],
            kinds: &["closed_early"],
            impacts: &["response_truncated"],
            ..ABORT
        }],
        log: LogTruth::Always("upstream prematurely closed connection"),
        ..ORDINARY
    },
    Scenario {
        name: "upstream-refused",
        tour: Some(4),
        says: "nothing listens on the upstream's port, and nothing is known about that host",
        servers: PLAIN,
        drive: refused,
        expect: &[REFUSED],
        log: REFUSED_LINE,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-refused-after-success",
        says: "the upstream served a request, then its listener goes",
        servers: PLAIN,
        drive: refused_after_success,
        expect: &[REFUSED],
        log: REFUSED_LINE,
        ..ORDINARY
    },
    Scenario {
        name: "upstream-refused-local",
        says: "nothing listens on the upstream's port of the Nginx host itself",
        place: Place::Local,
        servers: PLAIN,
        drive: refused,
        expect: &[Expect { least: Certainty::Proven, most: Certainty::Proven, ..REFUSED }],
        log: REFUSED_LINE,
        ..ORDINARY
    },
];

/// A request has reached the upstream's application; gives both connections.
pub(super) fn in_flight(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.request(client, "GET /fault")?;
    let upstream = stage.accept(listener)?;
    Ok((client, upstream))
}

/// The same with the request read, and another connection of Nginx to this upstream has shown meanwhile how far it is.
pub(super) fn in_flight_beside_another(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.request(client, "GET /fault")?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    let truth = stage.truth.clone();
    let other = stage.connect()?;
    stage.exchange(other, listener)?;
    stage.truth = truth;
    Ok((client, upstream))
}

fn close_unread(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    stage.response(client, "502")
}

pub(super) fn linger_zero(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

fn reloaded(stage: &mut Stage<'_>) -> Result<()> {
    stage.nginx().reload()?;
    linger_zero(stage)
}

fn local_linger_zero(stage: &mut Stage<'_>) -> Result<()> {
    stage.server_acts()?;
    linger_zero(stage)
}

/// Half a response has passed through Nginx.
pub(super) fn half_answered(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage
        .server()?
        .tell(&format!("send {upstream} HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhello"))?;
    stage.client.tell(&format!("head {client}"))?;
    stage.client.tell(&format!("read {client} 5"))?;
    Ok((client, upstream))
}

fn reset_in_response(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = half_answered(stage)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn closed_early(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = half_answered(stage)?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn own_ttl(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("ttl {upstream} 128"))?;
    stage.read_request(upstream)?;
    stage
        .server()?
        .tell(&format!("send {upstream} HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhello"))?;
    stage.client.tell(&format!("head {client}"))?;
    stage.client.tell(&format!("read {client} 5"))?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn killed_unread(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    stage.kill_server()?;
    stage.response(client, "502")
}

fn killed_read(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.kill_server()?;
    stage.response(client, "502")
}

fn oom_killed(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    stage.starve_server()?;
    stage.response(client, "502")
}

/// The fixture says when its handler has the request, so that it is killed in the right moment.
fn python_killed(stage: &mut Stage<'_>) -> Result<()> {
    let program = stage.program("python3", &["upstream.py", "@HOST@", "@PORT@"])?;
    let client = stage.connect()?;
    stage.request(client, "GET /healthy")?;
    stage.response(client, "200")?;
    stage.request(client, "GET /hang")?;
    program.wait_line("hanging")?;
    program.murder()?;
    stage.response(client, "502")
}

fn refused(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.request(client, "GET /refused")?;
    stage.response(client, "502")
}

fn refused_after_success(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let upstream = stage.exchange(client, listener)?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    stage.server()?.tell(&format!("close {listener}"))?;
    stage.truth.upstream_local = None;
    stage.request(client, "GET /refused")?;
    stage.response(client, "502")
}
