//! Listeners without room.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Impact, Kind, Party};
use crate::model::{EventKind, Input, MessageKind, Overflow, QueueKind, Side, Socket, TcpState};

fn overflow(milliseconds: u64, side: Side, listener: &str) -> (u64, Input) {
    let overflow = Overflow {
        listener: address(listener),
        netns: 1,
        queue: 129,
        limit: 128,
        queue_kind: QueueKind::Accept,
        dropped: 2,
        client: Some(address("10.0.0.1:40000")),
        side,
    };
    bare(milliseconds, EventKind::ListenOverflow(overflow), nobody())
}

#[test]
fn overflows_close_together_are_one_proven_incident_with_their_numbers() {
    let inputs = (0..3).map(|index| overflow(100 + index * 400, Side::Client, "0.0.0.0:80")).collect();
    let verdict =
        check(inputs, Kind::ListenOverflow, Party::Nginx, Cause::NginxListenOverflow, Certainty::Proven);
    let listener = verdict.listener.unwrap();
    assert_eq!((listener.queue, listener.limit, listener.dropped), (129, 128, 6));
    assert!(verdict.advice[0].change.contains("backlog=512"), "{:?}", verdict.advice);
    assert!(verdict.connection.is_none());
}

#[test]
fn an_overflow_that_goes_on_is_told_every_five_seconds() {
    let inputs = (0..10).map(|index| overflow(100 + index * 900, Side::Client, "0.0.0.0:80")).collect();
    assert_eq!(play(inputs).len(), 2);
}

#[test]
fn a_syn_that_met_the_upstreams_full_listener_on_this_host_is_proven() {
    let mut host = host();
    host.local_addresses.push(address("10.0.0.2:0").ip());
    let socket =
        Socket { state: TcpState::SynSent, retransmits: 2, bytes_sent: 0, last_sent_ms: None, ..upstream() };
    let verdicts = play_on(
        host,
        vec![overflow(100, Side::UpstreamPeer, "10.0.0.2:8080"), closed(900, socket, worker())],
    );
    assert_eq!(verdicts.len(), 2, "{verdicts:#?}");
    for verdict in verdicts {
        assert_eq!((verdict.party, verdict.cause), (Party::Upstream, Cause::UpstreamListenOverflow));
        assert_eq!(verdict.certainty, Certainty::Proven);
    }
}

#[test]
fn a_request_in_the_queue_of_a_listener_that_was_closed_failed_and_met_a_listener() {
    let waiting = |received: Option<u32>| Socket {
        state: TcpState::Close,
        owner: None,
        bytes_received: received.map_or(0, |_| 62),
        data_segments_in: received.map_or(0, |_| 1),
        last_received_ms: received,
        ..client()
    };
    for (received, impact) in [(Some(2000), Impact::RequestFailed), (None, Impact::ConnectionOnly)] {
        let inputs = vec![sent(100, waiting(received), "TCP_STATE", nobody())];
        let verdict =
            check(inputs, Kind::ResetSent, Party::Nginx, Cause::NginxNotListening, Certainty::Proven);
        assert_eq!(verdict.evidence[0].code, "listener_closed");
        assert_eq!(verdict.impact, impact);
        assert!(verdict.summary.contains("before it had accepted"), "{}", verdict.summary);
    }
}

#[test]
fn a_full_listener_in_another_namespace_counts_for_the_connection_whose_syn_it_dropped() {
    let of_port = |port: u16, is_named: bool| {
        let local = std::net::SocketAddr::new(address("10.0.0.1:0").ip(), port);
        let socket =
            Socket { local, state: TcpState::SynSent, bytes_sent: 0, last_sent_ms: None, ..upstream() };
        let line = line(900, MessageKind::UPSTREAM_TIMED_OUT, Some(110), "connecting to upstream");
        let (when, mut full) = overflow(100, Side::UpstreamPeer, "10.0.0.2:8080");
        let Input::Event(event) = &mut full else { unreachable!("made above") };
        let EventKind::ListenOverflow(overflow) = &mut event.kind else { unreachable!("made above") };
        overflow.client = overflow.client.filter(|_| is_named);
        let inputs = vec![(when, full), closed(900, socket, worker()), logged(line)];
        let verdicts = play(inputs);
        verdicts.into_iter().find(|verdict| verdict.connection.is_some()).unwrap()
    };
    let (dropped, other, unnamed) = (of_port(40_000, true), of_port(40_001, true), of_port(40_000, false));
    assert_eq!((dropped.cause, dropped.certainty), (Cause::UpstreamListenOverflow, Certainty::Proven));
    assert_eq!((other.cause, other.certainty), (Cause::MiddleboxDrop, Certainty::Weak));
    assert_eq!((unnamed.cause, unnamed.certainty), (Cause::UpstreamListenOverflow, Certainty::Weak));
}

#[test]
fn a_kernel_without_reasons_resets_clients_that_a_full_listener_turned_away() {
    let of_client = |port: u16, dropped: u32| {
        let mut request = data_from_peer(&client(), 100);
        request.source = std::net::SocketAddr::new(address("10.0.0.1:0").ip(), port);
        let (when, mut full) = overflow(100, Side::Client, "0.0.0.0:80");
        let Input::Event(event) = &mut full else { unreachable!("made above") };
        let EventKind::ListenOverflow(overflow) = &mut event.kind else { unreachable!("made above") };
        overflow.dropped = dropped;
        let inputs = vec![(when, full), answered_without_reason(9_000, request)];
        play(inputs).into_iter().find(|verdict| verdict.kind == Kind::ResetSent).unwrap()
    };
    let (named, one_of_several, other) = (of_client(40_000, 1), of_client(40_001, 2), of_client(40_001, 1));
    for verdict in [named, one_of_several] {
        assert_eq!((verdict.party, verdict.cause), (Party::Nginx, Cause::NginxListenOverflow));
        assert_eq!(verdict.certainty, Certainty::Weak);
    }
    assert_eq!((other.party, other.certainty), (Party::Unknown, Certainty::Undetermined));
}
