//! The upstream's end on this host, in a network namespace of its own: which of its events say how it ended.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Kind, Party};
use crate::model::{Input, MessageKind, Packet, Socket, TcpState};

/// The kernel's answer to a segment that came between the end of the socket and the socket's own RST.
fn answered_first(milliseconds: u64) -> (u64, Input) {
    let trigger = upstream_peer();
    let segment = Packet {
        source: trigger.remote,
        destination: trigger.local,
        payload_len: 1_448,
        ..data_from_peer(&trigger, 1_448)
    };
    answered(milliseconds, "TCP_FLAGS", segment, None)
}

#[test]
fn a_kernel_that_answers_before_the_closing_process_has_forgotten_nothing() {
    let uploading = Socket { bytes_sent: 49_238, bytes_acked: 20_000, last_ack_ms: Some(900), ..upstream() };
    let reset = stateless_reset(&uploading);
    let answer = || vec![answered_first(100), received(100, uploading.clone(), Some(reset.clone()))];
    let cause = |inputs| {
        let verdict = play(inputs).remove(0);
        (verdict.party, verdict.cause, verdict.certainty)
    };
    assert_eq!(cause(answer()), (Party::Upstream, Cause::UpstreamRestarted, Certainty::Proven));
    let mut closing = answer();
    closing.insert(1, sent(100, upstream_peer(), "TCP_ABORT_ON_CLOSE", app(None)));
    assert_eq!(cause(closing), (Party::Upstream, Cause::UpstreamAbort, Certainty::Proven));
}

/// Nginx's end as it is looked up when it is closed: without numbers.
fn looked_up(received: u64) -> Socket {
    Socket {
        state: TcpState::CloseWait,
        bytes_sent: 61,
        bytes_received: received,
        rcv_nxt: 0,
        snd_una: 0,
        snd_nxt: 0,
        mss: 0,
        ..upstream()
    }
}

fn killed_in_mid_answer(received: u64) -> crate::model::Verdict {
    let theirs = Socket { netns: 2, bytes_sent: 12_043, bytes_received: 61, unread: 0, ..upstream_peer() };
    let line = line(112, MessageKind::UPSTREAM_CLOSED_EARLY, None, "reading upstream");
    let inputs = vec![
        closed(100, theirs, app(Some(KILLED))),
        closed(112, looked_up(received), worker()),
        logged(line),
    ];
    let verdicts = play(inputs);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.into_iter().next().unwrap()
}

#[test]
fn the_bytes_of_both_ways_join_the_ends_where_no_numbers_are_known() {
    let verdict = killed_in_mid_answer(12_043);
    assert_eq!((verdict.kind, verdict.cause), (Kind::ClosedEarly, Cause::UpstreamProcessExit));
    assert_eq!(verdict.certainty, Certainty::Proven);
    assert_eq!(killed_in_mid_answer(500).cause, Cause::UpstreamClosedEarly);
}
