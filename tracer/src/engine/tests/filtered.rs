//! Netfilter of this host dropped packets of a connection.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Kind, Party};
use crate::model::{Filtered, MessageKind, Socket};

fn dropped(ago_ms: u32, heard_ms: u32) -> Socket {
    let filtered = Some(Filtered { packets: 3, ago_ms });
    Socket {
        filtered,
        unacked: 120,
        retransmits_pending: 3,
        last_sent_ms: Some(2_000),
        last_ack_ms: Some(heard_ms),
        ..upstream()
    }
}

fn timed_out(socket: Socket) -> Vec<(u64, crate::model::Input)> {
    let line =
        line(3_000, MessageKind::UPSTREAM_TIMED_OUT, Some(110), "reading response header from upstream");
    vec![closed(3_000, socket, worker()), logged(line)]
}

#[test]
fn what_this_host_drops_is_no_loss_on_the_path() {
    let (kind, party, cause) = (Kind::Timeout, Party::Middlebox, Cause::LocalFirewall);
    let verdict = check(timed_out(dropped(300, 2_500)), kind, party, cause, Certainty::Proven);
    assert!(verdict.summary.contains("dropped packets"), "{}", verdict.summary);
    assert_eq!(verdict.evidence[0].code, "dropped_here");
}

#[test]
fn a_drop_before_the_last_that_came_explains_nothing() {
    let verdicts = play(timed_out(dropped(2_500, 300)));
    assert_eq!(verdicts[0].cause, Cause::MiddleboxDrop);
}
