//! Scenarios that are played again because the kernel did not run the hooks at all.
//!
//! There are kernels that keep tracing programs from running while one certain process has the processor, as that of a
//! virtual machine's supervisor. A timer that interrupts it retransmits or resets, and no program is told: ftrace shows
//! the tracepoints, the programs' run counts lack them, and no recursion is counted. Only the kernel's own counters tell,
//! and the tracer says so in its reconciliation. Every kernel skips a program that would interrupt itself; that is
//! counted, and what is told afterwards is less certain. What is played again is named in the report; whatever fails
//! for another reason, or a second time, fails.

use super::bench::{Plan, Row};
use super::seat::Seat;
use anyhow::Result;
use serde_json::Value;

/// What the tracer says of a difference that nothing it knows explains.
const UNEXPLAINED: &str = "not seen by any hook";

/// How the tracer names the loss of runs that the kernel skipped.
const SKIPPED: &str = "(recursion)";

/// Whether the kernel skipped runs and nothing else was lost, or counted what no hook saw and neither another of its
/// counters nor a loss explains.
pub fn is_in(stats: &Value) -> bool {
    let Some(losses) = stats["losses"].as_object() else { return false };
    if !losses.is_empty() {
        return losses.keys().all(|name| name.ends_with(SKIPPED));
    }
    let mut rows = stats["reconciliation"].as_array().into_iter().flatten();
    rows.any(|row| row["explanation"].as_str().is_some_and(|why| why.contains(UNEXPLAINED)))
}

/// Plays a plan, and once more what failed in it amid something unseen.
pub fn play(plan: &Plan, run: impl Fn(Plan) -> Result<Vec<Row>>) -> Result<Vec<Row>> {
    let mut rows = run(plan.clone())?;
    let is_same = |row: &Row, seat: &Seat| row.name == seat.scenario.name && row.family == seat.family;
    let to_repeat = |seat: &Seat| rows.iter().any(|row| is_same(row, seat) && row.unseen && !row.passed());
    let seats: Vec<Seat> = plan.seats.iter().filter(|seat| to_repeat(seat)).cloned().collect();
    if seats.is_empty() {
        return Ok(rows);
    }
    for again in run(Plan { seats, ..plan.clone() })? {
        let first = rows.iter_mut().find(|row| row.name == again.name && row.family == again.family);
        if let Some(first) = first {
            *first = Row { again: true, ..again };
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_nothing_else_explains_is_unseen() {
        let stats =
            |why: &str, losses: Value| json!({"losses": losses, "reconciliation": [{"explanation": why}]});
        let unseen = "2 that did not leave this host (TCPRetransFail), 1 not seen by any hook";
        assert!(is_in(&stats(unseen, json!({}))));
        assert!(!is_in(&stats("2 that did not leave this host (TCPRetransFail)", json!({}))));
        assert!(!is_in(&stats(unseen, json!({"channel": 1}))));
        assert!(!is_in(&stats("", json!({}))));
        let skipped = "inet_sock_set_state (recursion)";
        assert!(is_in(&stats("", json!({skipped: 1}))));
        assert!(!is_in(&stats("", json!({skipped: 1, "channel": 1}))));
        assert!(!is_in(&json!({})));
    }
}
