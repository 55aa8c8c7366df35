//! What ICMP errors add to a refused connection, and which of them are none of its business.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Kind, Party};
use crate::model::{EventKind, IcmpError, Input, Socket, TcpState};

const PROHIBITED: u8 = 13;
const HOST_UNREACHABLE: u8 = 1;
const ROUTER: &str = "10.9.9.9";

/// A SYN that is on its way: the kernel gave the socket the errno of the ICMP error.
fn refused() -> Socket {
    Socket {
        state: TcpState::SynSent,
        error: 113,
        retransmits: 0,
        bytes_sent: 0,
        bytes_received: 0,
        last_sent_ms: None,
        last_ack_ms: None,
        snd_una: 1_000,
        snd_nxt: 1_001,
        opened: Some(at(90)),
        ..upstream()
    }
}

fn error(milliseconds: u64, sender: &str, code: u8, seq: u32) -> (u64, Input) {
    let socket = refused();
    let error = IcmpError {
        sender: sender.parse().unwrap(),
        kind: 3,
        code,
        ttl: 63,
        local: socket.local,
        remote: socket.remote,
        seq,
        raw: vec![0x45],
    };
    bare(milliseconds, EventKind::IcmpError(error), nobody())
}

fn judged(icmp: (u64, Input), party: Party, cause: Cause, certainty: Certainty) {
    check(vec![icmp, closed(100, refused(), nobody())], Kind::Refused, party, cause, certainty);
}

#[test]
fn a_router_that_names_itself_makes_a_rejection_strong() {
    judged(error(99, ROUTER, PROHIBITED, 1_000), Party::Middlebox, Cause::MiddleboxReject, Certainty::Strong);
}

#[test]
fn what_a_router_says_of_the_host_behind_it_is_hearsay() {
    let unreachable = error(99, ROUTER, HOST_UNREACHABLE, 1_000);
    judged(unreachable, Party::Middlebox, Cause::MiddleboxReject, Certainty::Weak);
}

#[test]
fn an_error_that_quotes_another_segment_or_an_older_connection_adds_nothing() {
    for icmp in [error(99, ROUTER, PROHIBITED, 5_000), error(80, ROUTER, PROHIBITED, 1_000)] {
        judged(icmp, Party::Middlebox, Cause::MiddleboxReject, Certainty::Weak);
    }
}

#[test]
fn the_own_filter_and_a_silent_next_hop_are_told_apart_by_the_code() {
    let here = refused().local.ip().to_string();
    judged(error(99, &here, PROHIBITED, 1_000), Party::Middlebox, Cause::LocalFirewall, Certainty::Proven);
    judged(
        error(99, &here, HOST_UNREACHABLE, 1_000),
        Party::Unknown,
        Cause::InsufficientEvidence,
        Certainty::Undetermined,
    );
}

#[test]
fn the_message_is_a_packet_of_the_evidence_capture() {
    let verdicts = play(vec![error(99, ROUTER, PROHIBITED, 1_000), closed(100, refused(), nobody())]);
    assert_eq!(verdicts[0].packets.len(), 1);
}
