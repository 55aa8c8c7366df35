//! What other connections to the same address have shown of its distance.

use super::middlebox::{disguised, told};
use crate::engine::testing::*;
use crate::model::{Mono, Packet, PeerHistory, Socket};

#[test]
fn one_hop_between_two_connections_is_a_changed_path() {
    let judged = |ttl: u8| {
        let history = PeerHistory { ttl, handshakes: 9, min_handshake_us: 300, last_syn_ack: at(0) };
        let socket = Socket { peer_history: Some(history), ..upstream() };
        let reset = disguised(61, &socket);
        told(vec![received(100, socket, Some(reset))], "hop_differs_history")
    };
    assert!(judged(63) && !judged(62));
}

#[test]
fn another_handshake_a_moment_later_is_a_second_witness_and_the_own_one_is_none() {
    let judged = |later_us: u64| {
        let own = Mono(at(50).0);
        let last_syn_ack = Mono(own.0 + later_us * 1_000);
        let history = PeerHistory { ttl: 63, handshakes: 2, min_handshake_us: 300, last_syn_ack };
        let socket = upstream();
        let syn_ack = Packet { time: Some(own), ..stateless_reset(&socket) };
        let socket = Socket { peer_history: Some(history), syn_ack: Some(syn_ack), ..socket };
        let reset = disguised(60, &socket);
        told(vec![received(100, socket, Some(reset))], "hop_differs_history")
    };
    assert!(judged(400) && !judged(0));
}
