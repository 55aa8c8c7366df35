//! Peers a long way off: what the moment of a RST tells of who sent it.

use super::middlebox::{certainty_of, far_away};
use crate::engine::testing::{active_reset, at, stateless_reset};
use crate::model::verdict::{Cause, Certainty};
use crate::model::{Baseline, BaselineSource, Packet, Socket};

#[test]
fn a_bare_reset_that_can_answer_nothing_older_comes_too_soon() {
    let judged = |socket: Socket| certainty_of(socket.clone(), stateless_reset(&socket));
    let forged = Cause::MiddleboxForgedReset;
    // It comes at 100 ms, 5 ms after the data.
    let quiet = |silence_ms: u32| Socket {
        opened: Some(at(0)),
        bytes_received: 300,
        data_segments_in: 1,
        last_received_ms: Some(5 + silence_ms),
        ..far_away(5, 60_000)
    };
    assert_eq!(judged(quiet(321)), (forged, Certainty::Weak), "at the peer's own distance");
    assert_ne!(judged(quiet(320)).0, forged, "it may answer the ACK of what came last");
    let new = |opened: u64| Socket { opened: Some(at(opened)), ..far_away(5, 60_000) };
    assert_eq!(judged(new(11)), (forged, Certainty::Weak), "nothing but the handshake came before");
    assert_ne!(judged(new(10)).0, forged);
    let nearer = Packet { ttl: 62, ..stateless_reset(&new(11)) };
    assert_eq!(certainty_of(new(11), nearer), (forged, Certainty::Strong), "a hop nearer as well");
    assert_ne!(judged(Socket { last_sent_ms: Some(25), ..new(11) }).0, forged, "in time");
}

#[test]
fn a_bare_reset_that_comes_in_time_is_not_told_from_elsewhere_by_a_ttl() {
    let judged = |ttl: u8, sent_ms: u32, rtt_us: u32| {
        let socket = Socket {
            baseline: Some(Baseline { ttl, source: BaselineSource::SynAck }),
            bytes_received: 300,
            data_segments_in: 1,
            min_rtt_us: rtt_us,
            last_sent_ms: Some(sent_ms),
            last_received_ms: Some(sent_ms + 40),
            ..far_away(1, rtt_us)
        };
        let reset = Packet { ttl: 62, ..stateless_reset(&socket) };
        certainty_of(socket, reset).0
    };
    let forged = Cause::MiddleboxForgedReset;
    // Nine hops off and one way there and back: a socket with a TTL of its own, or a device that took its time.
    assert_ne!(judged(53, 60, 60_000), forged);
    assert_ne!(judged(53, 120, 60_000), forged);
    assert_eq!(judged(53, 121, 60_000), forged, "later than the peer answers");
    assert_eq!(judged(53, 37, 60_000), forged, "sooner than the peer can, a tick of the clock included");
    assert_eq!(judged(58, 60, 60_000), forged, "a device beside the peer takes as long");
    let with_clock = |socket: Socket| {
        let reset = Packet { ttl: 62, timestamps: None, ..active_reset(&socket) };
        certainty_of(socket, reset).0
    };
    let far = Baseline { ttl: 53, source: BaselineSource::SynAck };
    assert_eq!(with_clock(Socket { baseline: Some(far), ..far_away(1, 60_000) }), forged, "not a bare one");
}
