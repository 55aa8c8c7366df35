//! Pooled connections that are used again at once: the answer before and the request after it fall into one tick of
//! the kernel's clock (4 ms at 250 Hz), in which its time stamps cannot tell which of the two came last.
//!
//! The client sends both requests together, so that Nginx has the second one when the first answer has passed.

use super::super::scenario::{Check, Expect, LogTruth, ORDINARY, Scenario};
use super::super::stage::Stage;
use super::super::wait;
use super::silence::{IMPATIENT_KEPT, SLOW, TIMED_OUT};
use super::upstream::{RECV, RETRIED};
use super::{KEPT, THINKS};
use anyhow::Result;

const CLOSED: Expect = Expect { kinds: &["closed_early"], causes: &["upstream_closed_early"], ..RETRIED };

const UNANSWERED: Expect = Expect { checks: &[Check::Evidence(&["request_acknowledged"])], ..SLOW };

const PREMATURE: LogTruth = LogTruth::Always("upstream prematurely closed connection");

/// Faults of connections in heavy use.
pub const TABLE: &[Scenario] = &[
    Scenario {
        name: "hot-upstream-resets",
        says: "the upstream works on a request that followed the answer before at once, and resets",
        servers: KEPT,
        drive: resets,
        expect: &[RETRIED],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "hot-upstream-closes",
        says: "the same, and it closes in order without an answer",
        servers: KEPT,
        drive: closes,
        expect: &[CLOSED],
        log: PREMATURE,
        ..ORDINARY
    },
    Scenario {
        name: "hot-upstream-slow",
        says: "the same, and it never answers",
        servers: IMPATIENT_KEPT,
        drive: slow,
        expect: &[UNANSWERED],
        log: TIMED_OUT,
        ..ORDINARY
    },
    Scenario {
        name: "hot-acked-upstream-resets",
        says: "an upstream that acknowledges in the same tick, too, works on the request and resets",
        servers: KEPT,
        drive: |stage| at_once(stage, resets),
        expect: &[RETRIED],
        log: RECV,
        ..ORDINARY
    },
    Scenario {
        name: "hot-acked-upstream-closes",
        says: "the same, and it closes in order without an answer",
        servers: KEPT,
        drive: |stage| at_once(stage, closes),
        expect: &[CLOSED],
        log: PREMATURE,
        ..ORDINARY
    },
    Scenario {
        name: "hot-acked-upstream-slow",
        says: "the same, and it never answers: only the line tells that the request came last",
        servers: IMPATIENT_KEPT,
        drive: |stage| at_once(stage, slow),
        expect: &[UNANSWERED],
        log: TIMED_OUT,
        ..ORDINARY
    },
];

fn at_once(stage: &mut Stage<'_>, drive: fn(&mut Stage<'_>) -> Result<()>) -> Result<()> {
    stage.acknowledge_at_once()?;
    drive(stage)
}

/// Two requests at once; the upstream answers the first and reads the second. Gives client, listener and upstream.
fn used_again(stage: &mut Stage<'_>) -> Result<(u32, u32, u32)> {
    let listener = stage.listen()?;
    let client = stage.connect()?;
    let again = "GET /healthy HTTP/1.1\\r\\nHost: lab\\r\\n\\r\\nGET /again";
    stage.request(client, again)?;
    let upstream = stage.accept(listener)?;
    stage.read_request(upstream)?;
    stage.answer(upstream)?;
    stage.response(client, "200")?;
    stage.read_request(upstream)?;
    wait::pass(THINKS)?;
    Ok((client, listener, upstream))
}

fn resets(stage: &mut Stage<'_>) -> Result<()> {
    let (client, listener, upstream) = used_again(stage)?;
    stage.server()?.tell(&format!("reset {upstream}"))?;
    super::race::repaired(stage, client, listener)
}

fn closes(stage: &mut Stage<'_>) -> Result<()> {
    let (client, listener, upstream) = used_again(stage)?;
    stage.server()?.tell(&format!("close {upstream}"))?;
    super::race::repaired(stage, client, listener)?;
    // Of each worker and upstream only the latest close can be looked up, and this one is looked up after the line.
    wait::pass(THINKS)
}

fn slow(stage: &mut Stage<'_>) -> Result<()> {
    let (client, _, _) = used_again(stage)?;
    stage.response(client, "504")
}
