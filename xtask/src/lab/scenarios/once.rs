//! One failure that several sockets or several packets tell of: it is told once.

use super::super::net::{Family, Node};
use super::super::nginx::STREAM_MODULE;
use super::super::scenario::{Certainty, Check, Expect, INCIDENT, LogTruth, ORDINARY, Scenario, Side};
use super::super::stage::Stage;
use super::super::wait;
use super::PLAIN;
use super::upstream::ABORT;
use anyhow::Result;
use std::time::Duration;

const V4: &[Family] = &[Family::V4];
const STREAM: &str = "server { listen @LISTEN@; proxy_pass @UPSTREAM@; }\n";
const EAGER: &str = "server { listen @LISTEN@; proxy_buffering off; location / { proxy_pass http://@UPSTREAM@; proxy_read_timeout 2s; } }\n";

const REFUSED: Expect = Expect {
    party: "upstream",
    causes: &["upstream_refused"],
    kinds: &["refused"],
    impacts: &[],
    most: Certainty::Strong,
    ..INCIDENT
};

const LOST: Expect = Expect {
    party: "nginx",
    causes: &["nginx_worker_exit"],
    impacts: &["request_failed"],
    least: Certainty::Proven,
    side: Some(Side::Client),
    checks: &[Check::Says("SIGKILL"), Check::OtherHalf],
    ..INCIDENT
};

const DEVICE: Expect = Expect {
    party: "middlebox",
    causes: &["middlebox_forged_reset"],
    kinds: &["reset_received"],
    impacts: &["response_truncated"],
    ..INCIDENT
};

/// It was a device, too. But no RST reaches Nginx, and only its log speaks, of an upstream that keeps it waiting: that is
/// all there may be said, and not for certain.
const WAITED: Expect = Expect {
    party: "upstream",
    causes: &["upstream_slow"],
    kinds: &["log_only"],
    least: Certainty::Undetermined,
    most: Certainty::Undetermined,
    side: None,
    ..DEVICE
};

/// Told once.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "stream-upstream-refused",
        says: "nothing listens for a stream proxy: the client, whose first words are unread, is reset for it",
        streams: STREAM,
        drive: stream_refused,
        expect: &[REFUSED],
        log: LogTruth::Always("connect() failed (111"),
        needs: &[STREAM_MODULE],
        ..ORDINARY
    },
    Scenario {
        name: "stream-upstream-resets",
        says: "the upstream of a stream proxy resets a session while the client speaks",
        streams: STREAM,
        drive: stream_resets,
        expect: &[Expect { impacts: &[], ..ABORT }],
        log: LogTruth::Either,
        needs: &[STREAM_MODULE],
        ..ORDINARY
    },
    Scenario {
        name: "forged-in-response",
        says: "a router rejects Nginx's acknowledgments in the middle of a response, and the upstream goes on",
        servers: EAGER,
        drive: acknowledgments_rejected,
        expect: &[DEVICE],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "response-rejected",
        says: "a router rejects the second half of a response: the upstream is reset in Nginx's name, and Nginx waits in vain",
        servers: EAGER,
        drive: response_rejected,
        expect: &[WAITED],
        log: LogTruth::Always("upstream timed out (110"),
        ..ORDINARY
    },
    Scenario {
        name: "response-rejected-for-good",
        says: "the same, and the router's rule stays when Nginx has given up",
        servers: EAGER,
        drive: response_rejected_for_good,
        expect: &[WAITED],
        log: LogTruth::Always("upstream timed out (110"),
        ..ORDINARY
    },
    Scenario {
        name: "worker-killed-idle",
        says: "Nginx's worker is killed (-9) right after a client has got its whole answer",
        families: V4,
        servers: PLAIN,
        drive: lost_idle,
        expect: &[Expect { impacts: &["unknown"], checks: &[Check::Says("SIGKILL")], ..LOST }],
        log: LogTruth::Either,
        ..ORDINARY
    },
    Scenario {
        name: "worker-killed-stream",
        says: "the worker is killed (-9) with a session of a stream: it is lost once",
        families: V4,
        streams: STREAM,
        drive: |stage| {
            let listener = stage.listen()?;
            let client = stage.connect()?;
            stage.client.tell(&format!("send {client} hello"))?;
            let upstream = stage.accept(listener)?;
            stage.server()?.tell(&format!("read {upstream} 5"))?;
            stage.server()?.tell(&format!("send {upstream} welcome"))?;
            stage.client.tell(&format!("read {client} 7"))?;
            stage.nginx().kill_worker()?;
            stage.server()?.tell(&format!("drain {upstream}"))?;
            stage.client.tell(&format!("drain {client}")).map(drop)
        },
        expect: &[Expect { impacts: &[], ..LOST }],
        log: LogTruth::Either,
        needs: &[STREAM_MODULE],
        alone: true,
        ..ORDINARY
    },
    Scenario {
        name: "worker-killed-several",
        says: "the worker is killed (-9) with three requests to one upstream: each is lost once",
        families: V4,
        servers: PLAIN,
        drive: several_lost,
        expect: &[LOST, LOST, LOST],
        log: LogTruth::Either,
        alone: true,
        ..ORDINARY
    },
];

/// The worker is stopped until the client's first words are there.
fn stream_refused(stage: &mut Stage<'_>) -> Result<()> {
    let frozen = stage.freeze()?;
    let client = stage.connect()?;
    stage.client.tell(&format!("send {client} hello"))?;
    stage.wait_client("its words are there", |socket| socket.is_some_and(|socket| socket.unread > 0))?;
    drop(frozen);
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn stream_resets(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.client.tell(&format!("send {client} hello"))?;
    let upstream = stage.accept(listener)?;
    stage.server()?.tell(&format!("read {upstream} 5"))?;
    let frozen = stage.freeze()?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    stage.wait_upstream("the RST reaches Nginx's host", |socket| socket.is_none())?;
    stage.client.tell(&format!("send {client} more"))?;
    stage.wait_client("its words are there", |socket| socket.is_some_and(|socket| socket.unread > 0))?;
    drop(frozen);
    stage.client.tell(&format!("drain {client}")).map(drop)
}

/// A response of which half is there.
fn half(stage: &mut Stage<'_>) -> Result<(u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.request(client, "GET /half")?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    let head = "HTTP/1.1 200 OK\\r\\nContent-Length: 100000\\r\\n\\r\\n";
    stage.server()?.tell(&format!("send {upstream} {head}"))?;
    stage.server()?.tell(&format!("fill {upstream} 2000"))?;
    stage.client.tell(&format!("head {client}"))?;
    stage.client.tell(&format!("read {client} 2000"))?;
    wait::pass(Duration::from_millis(100))?;
    Ok((client, upstream))
}

fn acknowledgments_rejected(stage: &mut Stage<'_>) -> Result<()> {
    let (client, upstream) = half(stage)?;
    let rule =
        format!("{} tcp dport {} reject with tcp reset", stage.towards_upstream(), stage.upstream().port());
    stage.filter(Node::Near, &rule)?;
    for _ in 0..4 {
        stage.server()?.try_tell(&format!("fill {upstream} 3000"))?;
        wait::pass(Duration::from_millis(60))?;
    }
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn reject_response(stage: &mut Stage<'_>) -> Result<u32> {
    let (client, upstream) = half(stage)?;
    let rule =
        format!("{} tcp sport {} reject with tcp reset", stage.leaving_upstream(), stage.upstream().port());
    stage.filter(Node::Near, &rule)?;
    stage.server()?.try_tell(&format!("fill {upstream} 3000"))?;
    Ok(client)
}

fn response_rejected(stage: &mut Stage<'_>) -> Result<()> {
    let client = reject_response(stage)?;
    stage.clear_filters();
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn response_rejected_for_good(stage: &mut Stage<'_>) -> Result<()> {
    let client = reject_response(stage)?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn lost_idle(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    stage.exchange(client, listener)?;
    stage.nginx().kill_worker()?;
    stage.client.tell(&format!("drain {client}")).map(drop)
}

fn several_lost(stage: &mut Stage<'_>) -> Result<()> {
    let listener = stage.listen()?;
    let mut all = Vec::new();
    for number in 0..3 {
        let client = stage.connect()?;
        stage.request(client, &format!("GET /fault-{number}"))?;
        let upstream = stage.accept(listener)?;
        stage.read_request(upstream)?;
        all.push((client, upstream));
        wait::pass(Duration::from_millis(30))?;
    }
    // Which of them a record is about is not stated.
    (stage.truth.client, stage.truth.upstream_local) = (None, None);
    stage.nginx().kill_worker()?;
    for (client, upstream) in all {
        stage.client.tell(&format!("drain {client}"))?;
        stage.server()?.tell(&format!("drain {upstream}"))?;
    }
    Ok(())
}
