//! One cause after another on one connection, and halves of different requests that end at the same moment: what came last
//! is not always what it was about.

use super::super::kernel;
use super::super::net::{Family, Node};
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::mtu::{PATIENT, swallowed_upload};
use super::protocols::{HTTP2_CANCEL, HTTP2_REQUEST, HTTPS};
use super::upstream::{RECV, in_flight};
use super::{KEPT, PLAIN, THINKS};
use anyhow::Result;
use std::time::Duration;

/// Nothing in these depends on the family.
const V4: &[Family] = &[Family::V4];

const HTTP2_FILES: &str =
    "server { listen @LISTEN@ http2; root @ROOT@; location / { try_files /small =404; } }\n";
const HTTP2_PROXIED: &str =
    "server { listen @LISTEN@ http2; location / { proxy_pass http://@UPSTREAM@; } }\n";
const STALLED_RESET: &str = "server { listen @LISTEN@; reset_timedout_connection on; client_body_timeout 1s; \
     location / { proxy_pass http://@UPSTREAM@; proxy_http_version 1.1; proxy_request_buffering off; \
     proxy_read_timeout 1s; } }\n";
const STALLED: &str = "server { listen @LISTEN@; client_body_timeout 1s; \
     location / { proxy_pass http://@UPSTREAM@; proxy_http_version 1.1; proxy_request_buffering off; \
     proxy_read_timeout 1s; } }\n";
const IN_MEMORY: &str = "server { listen @LISTEN@; location / { proxy_pass http://@UPSTREAM@; \
     proxy_max_temp_file_size 0; } }\n";
/// Data, and nothing else.
const DATA: &str = "tcp flags & psh == psh drop";
/// Segments with more than a few bytes, of either family; not the RST of a socket.
const ANSWERS: &str = "meta length > 120 drop";

/// A frame `WINDOW_UPDATE` of the connection: wants no answer.
const WINDOW_UPDATE: &str = "000004080000000000000003e8";

const LOST: Expect = Expect {
    party: "middlebox",
    causes: &["middlebox_drop"],
    kinds: &["reset_received"],
    impacts: &["request_failed"],
    most: Certainty::Weak,
    checks: &[Check::Evidence(&["unacknowledged"])],
    ..INCIDENT
};

const CONFIGURED: Expect = Expect {
    party: "nginx",
    causes: &["nginx_config"],
    kinds: &["reset_received", "log_only", "closed_early"],
    impacts: &[],
    least: Certainty::Undetermined,
    most: Certainty::Undetermined,
    side: None,
    ..INCIDENT
};

const CLIENT: Expect = Expect {
    party: "client",
    causes: &["client_abort", "client_late_reset", "client_idle_reset"],
    kinds: &["reset_received"],
    impacts: &["harmless", "unknown", "response_truncated"],
    most: Certainty::Weak,
    side: Some(Side::Client),
    logged: false,
    ..INCIDENT
};

const NOT_READ: LogTruth = LogTruth::Always("SSL_do_handshake() failed");

/// Sequels.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "lost-request-then-reset",
        says: "the request never gets through, and the upstream, which has waited for one in vain, resets",
        servers: PLAIN,
        drive: |stage| lost_request(stage, false),
        expect: &[LOST],
        elsewhere: &["upstream", "unknown"],
        with_both: &["upstream"],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "lost-request-on-kept-then-reset",
        says: "the same on a kept connection: it is no race, the request had gone long before",
        servers: KEPT,
        drive: |stage| lost_request(stage, true),
        expect: &[Expect { impacts: &["request_retried"], ..LOST }],
        elsewhere: &["upstream", "unknown"],
        with_both: &["upstream"],
        log: RECV,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "mtu-upload-then-reset",
        says: "full-sized packets of an upload vanish, and the upstream resets what never becomes complete",
        servers: PATIENT,
        drive: mtu_upload,
        expect: &[Expect {
            causes: &["middlebox_mtu_blackhole"],
            most: Certainty::Strong,
            checks: &[Check::Evidence(&["large_segments_lost"])],
            ..LOST
        }],
        elsewhere: &["upstream", "unknown"],
        with_both: &["upstream"],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "lost-answer-then-reset",
        says: "the answer is lost and the upstream resets: its RST is ahead, the kernel asks, and the host has no socket any more",
        servers: PLAIN,
        drive: lost_answer,
        expect: &[Expect { party: "upstream", causes: &["upstream_abort"], checks: &[], ..LOST }],
        elsewhere: &["middlebox", "unknown"],
        with_both: &["middlebox"],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "tls-to-plain-upstream",
        says: "proxy_pass names https where plain HTTP is spoken: the upstream answers 400 and closes with the rest unread",
        servers: HTTPS,
        drive: |stage| plain_answer(stage, false),
        expect: &[CONFIGURED],
        log: NOT_READ,
        ..ORDINARY
    },
    Scenario {
        name: "tls-to-plain-upstream-read",
        says: "the same with everything read, so that nobody resets",
        servers: HTTPS,
        drive: |stage| plain_answer(stage, true),
        expect: &[CONFIGURED],
        log: NOT_READ,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "http2-frames-then-reset",
        says: "an HTTP/2 client has its response, gives the window back, and resets: that frame was no request",
        servers: HTTP2_FILES,
        drive: http2_frames,
        expect: &[CLIENT],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "http2-cancel-beside-late-reset",
        says: "a client that has its response resets just before another cancels a stream: they have nothing to do with each other",
        servers: HTTP2_PROXIED,
        drive: http2_beside,
        expect: &[
            // Both have one address, so that access.log's 499 may be taken for this client's.
            Expect { impacts: &["harmless", "unknown", "response_truncated", "request_failed"], ..CLIENT },
            Expect {
                causes: &["client_abort"],
                kinds: &[],
                impacts: &["harmless"],
                side: Some(Side::Upstream),
                harmless: true,
                ..CLIENT
            },
        ],
        log: LogTruth::Either,
        families: V4,
        ..ORDINARY
    },
    Scenario {
        name: "stalled-upload-reset",
        says: "a client stalls an upload that is passed on as it comes, and Nginx resets it on purpose: one incident",
        servers: STALLED_RESET,
        drive: stalled_upload,
        expect: &[Expect {
            party: "nginx",
            causes: &["nginx_timeout_reset"],
            kinds: &["reset_sent", "timeout"],
            least: Certainty::Strong,
            side: Some(Side::Client),
            logged: false,
            ..INCIDENT
        }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "stalled-upload",
        says: "the same without the reset: the upstream never had the whole request, and was not slow",
        servers: STALLED,
        drive: stalled_upload,
        expect: &[Expect {
            party: "unknown",
            causes: &["insufficient_evidence"],
            impacts: &["unknown", "request_failed"],
            least: Certainty::Undetermined,
            most: Certainty::Undetermined,
            logged: false,
            ..INCIDENT
        }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "slow-client-upstream-resets",
        says: "the client does not read, so Nginx stops reading, and the upstream resets in the middle; the client goes, too",
        servers: IN_MEMORY,
        drive: slow_client,
        expect: &[
            Expect {
                party: "upstream",
                causes: &["upstream_abort"],
                kinds: &["reset_received"],
                impacts: &["response_truncated", "unknown"],
                most: Certainty::Strong,
                logged: false,
                ..INCIDENT
            },
            Expect {
                causes: &["client_abort"],
                impacts: &["response_truncated"],
                most: Certainty::Strong,
                ..CLIENT
            },
        ],
        log: LogTruth::Either,
        ..ORDINARY
    },
];

fn lost_request(stage: &mut Stage<'_>, kept: bool) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let connection = if kept { Some(stage.exchange(client, listener)?) } else { None };
    let rule = format!("{} {DATA}", stage.towards_upstream());
    stage.filter(Node::Far, &rule)?;
    if kept {
        // Longer than a connection in use is silent.
        wait::pass(Duration::from_millis(600))?;
    }
    stage.request(client, "GET /lost")?;
    let upstream = match connection {
        Some(upstream) => upstream,
        None => stage.accept(listener)?,
    };
    repeated(stage, 3)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    if !kept {
        return stage.response(client, "502");
    }
    stage.clear_filters();
    let truth = stage.truth.clone();
    let again = stage.accept(listener)?;
    stage.truth = truth;
    stage.read_request(again)?;
    stage.answer(again)?;
    stage.response(client, "200")
}

/// Nginx's host has sent the oldest segment to the upstream again this often.
fn repeated(stage: &Stage<'_>, times: u32) -> Result<()> {
    stage.wait_upstream("the oldest segment is sent again", |socket| {
        socket.is_some_and(|socket| socket.repeated >= times)
    })
}

fn mtu_upload(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = swallowed_upload(stage)?;
    repeated(stage, 4)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

fn lost_answer(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.read_request(upstream)?;
    let rule = format!("{} {ANSWERS}", stage.leaving_upstream());
    stage.filter(Node::Far, &rule)?;
    let head = "HTTP/1.1 200 OK\\r\\nContent-Length: 600\\r\\n\\r\\n";
    stage.server()?.tell(&format!("send {upstream} {head}{}", "x".repeat(300)))?;
    wait::pass(THINKS)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.response(client, "502")
}

fn plain_answer(stage: &mut Stage<'_>, reads: bool) -> Result<()> {
    let (client, upstream) = in_flight(stage)?;
    stage.server()?.tell(&format!("readable {upstream}"))?;
    if reads {
        // A record of TLS: its first three bytes, the length, and so much more. Nginx sends no second one before an answer.
        while stage.server_unread()? > 0 {
            stage.server()?.tell(&format!("read {upstream} 1"))?;
        }
    }
    let answer = "HTTP/1.1 400 Bad Request\\r\\nContent-Length: 0\\r\\n\\r\\n";
    stage.server()?.tell(&format!("send {upstream} {answer}"))?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    stage.response(client, "502")
}

/// Everything of the answer has arrived, and the worker is done with the request.
fn answered(stage: &Stage<'_>) -> Result<()> {
    let log = stage.folder().join("access.log");
    let from = format!("{} - ", stage.client_address());
    wait::until("the request is done", wait::SOON, || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().any(|line| line.starts_with(&from) && line.contains(" 200 ")).then_some(())
    })?;
    stage.wait_client("the client has the response", |socket| {
        socket.is_some_and(|socket| socket.unacknowledged == 0)
    })
}

fn http2_frames(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.client.tell(&format!("hex {client} {HTTP2_REQUEST}"))?;
    answered(stage)?;
    // Later than the response by a tick of any kernel.
    wait::pass(THINKS)?;
    stage.client.tell(&format!("hex {client} {WINDOW_UPDATE}"))?;
    stage
        .wait_client("Nginx has read the frame", |socket| socket.is_some_and(|socket| socket.unread == 0))?;
    wait::pass(THINKS)?;
    stage.client.tell(&format!("reset {client}")).map(drop)
}

fn http2_beside(stage: &mut Stage<'_>) -> Result<()> {
    /// Later than one turn of the worker's loop, and within the time in which a client's end explains an upstream's.
    const BESIDE: Duration = Duration::from_millis(5);
    let listener = stage.listen()?;
    let waiting = stage.connect()?;
    stage.client.tell(&format!("hex {waiting} {HTTP2_REQUEST}"))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    let half = stage.truth.upstream_local.clone();
    let done = stage.connect()?;
    stage.client.tell(&format!("hex {done} {HTTP2_REQUEST}"))?;
    let other = stage.accept(listener)?;
    stage.read_request(other)?;
    stage.answer(other)?;
    answered(stage)?;
    stage.truth.upstream_local = half;
    wait::pass(THINKS)?;
    stage.client.tell(&format!("reset {done}"))?;
    wait::pass(BESIDE)?;
    stage.client.tell(&format!("hex {waiting} {HTTP2_CANCEL}"))?;
    stage.wait_upstream("Nginx drops the cancelled stream's upstream", |socket| {
        socket.is_none_or(|socket| socket.state != kernel::ESTABLISHED)
    })?;
    stage.client.tell(&format!("finish {waiting}"))?;
    stage.client.tell(&format!("drain {waiting}")).map(drop)
}

fn stalled_upload(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let head = "POST /stalled HTTP/1.1\\r\\nHost: lab\\r\\nContent-Length: 100\\r\\n\\r\\nhalf";
    stage.client.tell(&format!("send {client} {head}"))?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage.client.tell(&format!("drain {client}"))?;
    stage.server()?.tell(&format!("drain {upstream}")).map(drop)
}

fn slow_client(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect_narrow()?;
    stage.request(client, "GET /large")?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    let head = "HTTP/1.1 200 OK\\r\\nContent-Length: 90000000\\r\\n\\r\\n";
    stage.server()?.tell(&format!("send {upstream} {head}"))?;
    hold_up(stage, upstream)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.wait_upstream("Nginx's end is reset", |socket| {
        socket.is_none_or(|socket| socket.state != kernel::ESTABLISHED)
    })?;
    wait::pass(THINKS)?;
    stage.client.tell(&format!("reset {client}")).map(drop)
}

/// Sends on until Nginx has left much unread for a while; each time less than the window that is left, so that the
/// upstream's end never waits.
fn hold_up(stage: &mut Stage<'_>, upstream: u32) -> Result<()> {
    /// More than the tracer asks for.
    const MUCH: u32 = 40 << 10;
    /// Looks, two milliseconds apart.
    const STILL: u32 = 50;
    let mut still = 0;
    while still < STILL {
        if stage.has_unread(MUCH) {
            still += 1;
        } else {
            still = 0;
            stage.server()?.tell(&format!("fill {upstream} 8192"))?;
        }
        wait::pass(Duration::from_millis(2))?;
    }
    Ok(())
}
