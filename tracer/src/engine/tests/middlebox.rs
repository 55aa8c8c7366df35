//! Resets that did not come from whom they name.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Kind, Party, Segment};
use crate::model::{Baseline, BaselineSource, Packet, PeerHistory, Socket, Timestamps};

fn from_ttl(ttl: u8, socket: &Socket) -> Packet {
    Packet { ttl, ..stateless_reset(socket) }
}

/// A forged reset that copies everything but the way it came, in mid-connection.
fn disguised(ttl: u8, socket: &Socket) -> Packet {
    Packet { ttl, window: 0, timestamps: None, options: Vec::new(), ..active_reset(socket) }
}

#[test]
fn one_hop_off_alone_is_weak() {
    let socket = upstream();
    let reset = disguised(64, &socket);
    check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxForgedReset,
        Certainty::Weak,
    );
}

#[test]
fn one_hop_off_and_a_bare_reset_in_mid_connection_is_strong() {
    let socket = upstream();
    let reset = from_ttl(64, &socket);
    let verdict = check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxForgedReset,
        Certainty::Strong,
    );
    assert_eq!(verdict.segment, Segment::NginxUpstream);
}

#[test]
fn a_far_distance_that_two_baselines_show_is_strong() {
    let history = PeerHistory { ttl: 63, handshakes: 9, min_handshake_us: 300, last_syn_ack: at(0) };
    let socket = Socket { peer_history: Some(history), ..upstream() };
    let reset = disguised(247, &socket);
    check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxForgedReset,
        Certainty::Strong,
    );
}

#[test]
fn a_peer_that_speaks_again_proves_it_and_our_own_answers_are_no_incidents() {
    let socket = upstream();
    let reset = from_ttl(64, &socket);
    let answer = data_from_peer(&socket, 900);
    let verdict = check(
        vec![
            received(100, socket.clone(), Some(reset)),
            answered(350, "NO_SOCKET", answer.clone(), Some(100)),
            answered(760, "NO_SOCKET", answer.clone(), Some(100)),
            answered(3500, "NO_SOCKET", answer.clone(), Some(100)),
            answered(7900, "NO_SOCKET", answer, Some(100)),
        ],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxForgedReset,
        Certainty::Proven,
    );
    assert!(verdict.evidence.iter().any(|piece| piece.code == "peer_alive"));
}

#[test]
fn the_clients_side_is_judged_the_same() {
    let socket = client();
    let reset = from_ttl(64, &socket);
    let verdict = check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxForgedReset,
        Certainty::Strong,
    );
    assert_eq!(verdict.segment, Segment::ClientNginx);
}

#[test]
fn after_a_long_silence_it_is_a_device_that_forgot() {
    let socket =
        Socket { bytes_received: 800, last_sent_ms: Some(1), last_received_ms: Some(350_500), ..upstream() };
    let reset = from_ttl(255, &socket);
    check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxIdleReset,
        Certainty::Strong,
    );
}

#[test]
fn a_server_with_its_own_ip_ttl_is_not_a_device() {
    let baseline = Some(Baseline { ttl: 127, source: BaselineSource::SynAck });
    let socket = Socket {
        baseline,
        bytes_received: 800,
        last_sent_ms: Some(1),
        last_received_ms: Some(4001),
        ..upstream()
    };
    let reset = from_ttl(63, &socket);
    let verdicts = play(vec![received(100, socket, Some(reset))]);
    assert_eq!(verdicts[0].party, Party::Upstream, "{verdicts:#?}");
}

#[test]
fn the_peers_running_clock_outweighs_a_strange_distance() {
    let socket = upstream();
    let reset =
        Packet { ttl: 50, timestamps: Some(Timestamps { value: 700_012, echo: 1 }), ..active_reset(&socket) };
    check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Weak,
    );
}

#[test]
fn a_reset_on_loopback_for_a_remote_peer_is_this_hosts_filter() {
    let socket = upstream();
    let reset = Packet { on_loopback: true, ..from_ttl(64, &socket) };
    let verdict = check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::LocalFirewall,
        Certainty::Proven,
    );
    assert_eq!(verdict.segment, Segment::Nginx);
}
