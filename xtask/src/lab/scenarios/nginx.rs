//! Nginx itself resets: on purpose, by closing with unread data, or because its listen queue is full.

use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use anyhow::Result;

const SEND_TIMEOUT: &str =
    "server { listen @LISTEN@; root @ROOT@; reset_timedout_connection on; send_timeout 1s; }\n";
const HEADER_TIMEOUT: &str =
    "server { listen @LISTEN@; root @ROOT@; reset_timedout_connection on; client_header_timeout 1s; }\n";
const NO_LINGERING: &str =
    "server { listen @LISTEN@; root @ROOT@; lingering_close off; client_max_body_size 1k; }\n";
const SHORT_LINGERING: &str =
    "server { listen @LISTEN@; root @ROOT@; lingering_time 1s; client_max_body_size 1k; }\n";
const SHORT_QUEUE: &str = "server { listen @LISTEN@ backlog=2; root @ROOT@; }\n";

/// The limit of `SHORT_QUEUE`.
const BACKLOG: u64 = 2;
/// A body far above the limit of 1 KiB that fits into the receive buffer together with what follows it.
const BODY: usize = 20_000;
/// Bytes behind the body: Nginx discards the body of a refused request, but reads no further.
const BEHIND: usize = 5_000;
/// More than can be sent before `lingering_time` is over.
const ENDLESS: usize = 1 << 40;

const ON_PURPOSE: Expect = Expect {
    party: "nginx",
    causes: &["nginx_timeout_reset"],
    kinds: &["reset_sent", "timeout"],
    impacts: &["response_truncated", "request_failed"],
    least: Certainty::Strong,
    most: Certainty::Proven,
    side: Some(Side::Client),
    ..INCIDENT
};

const OVERFLOW: Expect = Expect {
    party: "nginx",
    causes: &["nginx_listen_overflow"],
    kinds: &["listen_overflow"],
    least: Certainty::Strong,
    most: Certainty::Proven,
    side: None,
    checks: &[Check::ListenerLimit(BACKLOG)],
    ..INCIDENT
};

/// Faults of Nginx.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "nginx-send-timeout-reset",
        tour: Some(8),
        says: "a client stops reading, and Nginx resets it on purpose after send_timeout",
        servers: SEND_TIMEOUT,
        drive: send_timeout,
        expect: &[ON_PURPOSE],
        log: LogTruth::Info("client timed out (110"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-header-timeout-reset",
        says: "a client never ends its request head, and Nginx resets it on purpose",
        servers: HEADER_TIMEOUT,
        drive: header_timeout,
        expect: &[ON_PURPOSE],
        log: LogTruth::Info("client timed out (110"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-closed-unread",
        says: "Nginx answers 413 and closes with bytes unread (lingering_close off)",
        servers: NO_LINGERING,
        drive: closed_unread,
        expect: &[Expect { causes: &["nginx_closed_unread"], kinds: &["reset_sent"], ..ON_PURPOSE }],
        log: LogTruth::Always("client intended to send too large body"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-lingering-over",
        says: "Nginx answers 413, discards for lingering_time, and closes while the client still sends",
        servers: SHORT_LINGERING,
        drive: lingering_over,
        expect: &[Expect { causes: &["nginx_closed_unread"], kinds: &["reset_sent"], ..ON_PURPOSE }],
        log: LogTruth::Always("client intended to send too large body"),
        ..ORDINARY
    },
    Scenario {
        name: "nginx-listen-overflow",
        tour: Some(10),
        says: "many clients connect while the worker is busy: the listen queue of 2 overflows",
        servers: SHORT_QUEUE,
        drive: overflow,
        expect: &[OVERFLOW],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "nginx-listen-overflow-syn",
        says: "the queue is full already, so the SYNs themselves are dropped",
        servers: SHORT_QUEUE,
        drive: overflow_syn,
        expect: &[OVERFLOW],
        log: LogTruth::Either,
        ..ORDINARY
    },
];

fn send_timeout(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect_narrow()?;
    stage.request(client, "GET /big")?;
    stage.client.tell(&format!("head {client}"))?;
    stage.wait_client("Nginx gives up", |socket| socket.is_none())
}

fn header_timeout(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    stage.client.tell(&format!("send {client} GET / HTTP/1.1\\r\\nHost: lab\\r\\n"))?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

/// The worker is stopped until everything lies in its socket, so that the rest is unread for certain.
fn closed_unread(stage: &mut Stage<'_>) -> Result<()> {
    let frozen = stage.freeze()?;
    let client = stage.connect()?;
    upload(stage, client, BODY)?;
    stage.client.tell(&format!("fill {client} {}", BODY + BEHIND))?;
    stage.wait_client("everything has arrived", |socket| {
        socket.is_some_and(|socket| socket.unread as usize >= BODY + BEHIND)
    })?;
    drop(frozen);
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn lingering_over(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.connect()?;
    upload(stage, client, ENDLESS)?;
    stage.client.start_command(&format!("fill {client} {ENDLESS}"))?;
    stage.client.finish_any()
}

fn upload(stage: &mut Stage<'_>, client: u32, length: usize) -> Result<()> {
    let head = format!(
        "POST / HTTP/1.1\\r\\nHost: lab\\r\\nConnection: close\\r\\nContent-Length: {length}\\r\\n\\r\\n"
    );
    stage.client.tell(&format!("send {client} {head}")).map(drop)
}

fn overflow(stage: &mut Stage<'_>) -> Result<()> {
    let before = stage.counter("ListenOverflows");
    let frozen = stage.freeze()?;
    flood(stage, 8)?;
    wait_overflow(stage, before)?;
    drop(frozen);
    Ok(())
}

/// Three connections fill a queue of two (the kernel compares with `>`); whoever comes then is dropped.
fn overflow_syn(stage: &mut Stage<'_>) -> Result<()> {
    let frozen = stage.freeze()?;
    for _ in 0..=BACKLOG {
        stage.connect()?;
    }
    wait::until("the queue is full", wait::SOON, || (u64::from(stage.waiting()) > BACKLOG).then_some(()))?;
    let before = stage.counter("ListenOverflows");
    flood(stage, 3)?;
    wait_overflow(stage, before)?;
    drop(frozen);
    Ok(())
}

fn flood(stage: &mut Stage<'_>, count: usize) -> Result<()> {
    let command = format!("flood {} {} {count}", stage.client_address(), stage.listener());
    stage.truth.client = None;
    stage.client.tell(&command).map(drop)
}

fn wait_overflow(stage: &Stage<'_>, before: u64) -> Result<()> {
    wait::until("the queue overflows", wait::SOON, || {
        (stage.counter("ListenOverflows") > before).then_some(())
    })
}
