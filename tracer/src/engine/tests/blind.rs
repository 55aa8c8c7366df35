//! Hooks that are missing: what they would have shown proves nothing.

use crate::engine::testing::*;
use crate::model::verdict::Certainty;
use crate::model::{HostFacts, Input, Socket, TcpState};

/// A host on which this hook does not run.
fn without(name: &str) -> HostFacts {
    host_with_hook(name, false)
}

fn certainty(host: HostFacts, inputs: Vec<(u64, Input)>) -> Certainty {
    play_on(host, inputs).remove(0).certainty
}

#[test]
fn a_process_that_resets_after_a_rst_that_nobody_read_is_not_proven() {
    let judged = |acted: u64, is_read: bool| {
        let reset = is_read.then(|| active_reset(&upstream()));
        let process = sent(acted, upstream_peer(), "TCP_STATE", app(None));
        certainty(host(), vec![received(100, upstream(), reset), process])
    };
    assert_eq!(judged(105, true), Certainty::Proven, "the kernel tells of it when it has left");
    assert_eq!(judged(95, false), Certainty::Proven);
    assert_eq!(judged(105, false), Certainty::Weak, "a device may have been before it");
}

#[test]
fn two_resets_prove_no_device_where_answers_without_a_socket_are_not_seen() {
    let judged = |host: HostFacts| {
        let (ours, theirs) = (upstream(), upstream_peer());
        let (reset, other) = (stateless_reset(&ours), stateless_reset(&theirs));
        certainty(host, vec![received(100, ours, Some(reset)), received(100, theirs, Some(other))])
    };
    assert_eq!(judged(without("inet_sk_error_report")), Certainty::Proven);
    assert_ne!(judged(without("kfree_skb")), Certainty::Proven);
}

#[test]
fn nothing_is_more_than_weak_where_closes_are_not_seen() {
    let judged = |host: HostFacts| {
        let reset = active_reset(&upstream());
        let process = sent(99, upstream_peer(), "TCP_STATE", app(None));
        certainty(host, vec![process, received(100, upstream(), Some(reset))])
    };
    assert_eq!(judged(without("icmp_error")), Certainty::Proven);
    assert_eq!(judged(without("inet_sock_set_state")), Certainty::Weak);
}

#[test]
fn an_answer_whose_segment_cannot_be_read_is_known_by_its_socket() {
    let answer = |state, orphan, task| {
        let (_, input) = sent(100, Socket { state, orphan, ..upstream() }, "TCP_ABORT_ON_DATA", task);
        let Input::Event(event) = input else { panic!("not an event") };
        event.answers_segment()
    };
    assert!(answer(TcpState::Close, true, nobody()));
    assert!(answer(TcpState::SynSent, false, nobody()));
    assert!(!answer(TcpState::Close, true, worker()), "a process closes it");
    assert!(!answer(TcpState::Close, false, nobody()), "its listener is closed");
    assert!(!answer(TcpState::Established, false, nobody()), "a timer gives it up");
}
