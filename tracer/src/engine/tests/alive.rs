//! A peer that goes on after "its" reset, and what else may look so.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Kind, Party};
use crate::model::{Baseline, BaselineSource, EventKind, Input, Packet, Socket, Timestamps};

/// A reset, and data of the peer with this TTL so many milliseconds later.
fn goes_on(socket: &Socket, reset: Packet, ttl: u8, after: u64) -> Vec<(u64, Input)> {
    let timestamps = Some(Timestamps { value: 700_500, echo: 1 });
    let data = Packet { ttl, timestamps, ..data_from_peer(socket, 900) };
    vec![received(100, socket.clone(), Some(reset)), answered(100 + after, "NO_SOCKET", data, Some(100))]
}

fn judged(inputs: Vec<(u64, Input)>) -> (Cause, Certainty) {
    let verdict = play(inputs).remove(0);
    (verdict.cause, verdict.certainty)
}

#[test]
fn the_filter_of_a_peer_whose_socket_has_its_own_ttl_proves_no_device() {
    let after = |ttl: u8, own: u8, min_rtt_us: u32| {
        let baseline = Some(Baseline { ttl: own, source: BaselineSource::SynAck });
        let socket = Socket { min_rtt_us, baseline, ..upstream() };
        let reset = Packet { ttl, ..stateless_reset(&socket) };
        judged(goes_on(&socket, reset, own, 400)).1
    };
    // Its socket says 60, 100 or 48 from two routers away; its kernel's filter answers with 64.
    for own in [58, 98, 46] {
        assert_eq!(after(62, own, 80), Certainty::Weak, "{own}");
    }
    assert_eq!(after(64, 62, 80), Certainty::Proven, "two routers nearer than the peer");
    assert_eq!(after(62, 46, 60_000), Certainty::Proven, "a path that long has eighteen routers");
}

#[test]
fn the_answer_to_a_request_that_was_not_taken_speaks_against_its_rst() {
    let socket = upstream();
    let bare = || stateless_reset(&socket);
    check(
        goes_on(&socket, bare(), 63, 1),
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxForgedReset,
        Certainty::Weak,
    );
    let blamed = |socket: &Socket, reset: Packet| {
        judged(goes_on(socket, reset, 63, 1)).0 == Cause::MiddleboxForgedReset
    };
    // The answer was overtaken by a RST for what was sent after the request.
    let upload = Socket { data_segments_out: 4, ..upstream() };
    assert!(!blamed(&upload, stateless_reset(&upload)));
    let reused = Socket { bytes_received: 300, data_segments_out: 1, ..upstream() };
    assert!(!blamed(&reused, stateless_reset(&reused)));
    // On a short path the clock of the answer is still that of the SYN-ACK.
    let data =
        Packet { timestamps: Some(Timestamps { value: 700_000, echo: 1 }), ..data_from_peer(&socket, 900) };
    let at_once =
        vec![received(100, socket.clone(), Some(bare())), answered(100, "NO_SOCKET", data, Some(100))];
    assert_eq!(judged(at_once).0, Cause::MiddleboxForgedReset);
    // Mostly its end is gone before it answers, and only its acknowledgment of the request comes.
    let asked = Socket { unacked: 120, ..upstream() };
    let acknowledged = |number: u32| {
        let ack = Packet { payload_len: 0, ack: number, ..data_from_peer(&asked, 0) };
        let reset = received(100, asked.clone(), Some(stateless_reset(&asked)));
        judged(vec![reset, answered(100, "NO_SOCKET", ack, Some(100))]).0
    };
    assert_eq!(acknowledged(9_000), Cause::MiddleboxForgedReset);
    assert_ne!(acknowledged(8_880), Cause::MiddleboxForgedReset, "it may have been sent before");
    // What a living socket resets ends at its number.
    let active = Packet { timestamps: None, ..active_reset(&upload) };
    assert!(blamed(&upload, active));
}

#[test]
fn a_refusal_that_a_syn_proxy_passes_on_is_no_forgery() {
    let judged = |acknowledged: u32| {
        let syn_ack = Packet {
            ip_id: Some(0),
            dont_fragment: Some(true),
            timestamps: Some(Timestamps { value: 1, echo: 1 }),
            ack: 8_880,
            ..active_reset(&upstream())
        };
        let socket = Socket { syn_ack: Some(syn_ack), ..upstream() };
        let reset = Packet { ttl: 61, ack: acknowledged, ..refusal(&socket) };
        judged(vec![received(100, socket, Some(reset))]).1
    };
    assert_eq!(judged(8_880), Certainty::Weak, "it answers the SYN, from behind what had answered it");
    assert_eq!(judged(9_000), Certainty::Strong, "it answers the request");
}

#[test]
fn a_host_that_never_knew_the_connection_did_not_race_for_it() {
    let judged = |reason: &str| {
        let socket = Socket {
            bytes_received: 800,
            last_sent_ms: Some(0),
            last_received_ms: Some(4_000),
            ..upstream()
        };
        let kind = EventKind::ResetSent {
            reason: Some(reason.to_owned()),
            after_reset: None,
            local: socket.remote,
            remote: socket.local,
            backlog: None,
        };
        let (when, mut answer) = bare(99, kind, nobody());
        let Input::Event(event) = &mut answer else { unreachable!() };
        let request =
            Packet { source: socket.local, destination: socket.remote, ..data_from_peer(&socket, 120) };
        event.packet = Some(request);
        let reset = Packet { on_loopback: true, ..stateless_reset(&socket) };
        judged(vec![(when, answer), received(100, socket, Some(reset))])
    };
    assert_eq!(judged("NO_SOCKET"), (Cause::UpstreamRestarted, Certainty::Proven));
    assert_eq!(judged("TCP_TIMEWAIT_SOCKET").0, Cause::UpstreamKeepaliveRace);
}
