//! Failures without a reset: slow upstreams, vanished packets, rejected connections.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Impact, Kind, Party};
use crate::model::{MessageKind, Packet, PeerHistory, Socket, TcpState};

fn timed_out(milliseconds: u64, action: &str) -> (u64, crate::model::Input) {
    logged(line(milliseconds, MessageKind::UPSTREAM_TIMED_OUT, Some(110), action))
}

#[test]
fn acknowledged_and_unanswered_with_the_line_is_a_slow_upstream() {
    let socket = Socket { last_sent_ms: Some(2_000), ..upstream() };
    check(
        vec![closed(100, socket, worker()), timed_out(100, "reading response header from upstream")],
        Kind::Timeout,
        Party::Upstream,
        Cause::UpstreamSlow,
        Certainty::Weak,
    );
}

#[test]
fn a_tunnel_in_which_nobody_speaks_is_no_failure() {
    let (answered, action) = (Socket { bytes_received: 82, ..upstream() }, "proxying upgraded connection");
    let both = Socket { last_sent_ms: Some(988), last_received_ms: Some(988), ..answered.clone() };
    assert!(play(vec![closed(100, both, worker()), timed_out(100, action)]).is_empty());
    let asked = Socket { last_sent_ms: Some(988), last_received_ms: Some(5_000), ..answered };
    check(
        vec![closed(100, asked, worker()), timed_out(100, action)],
        Kind::Timeout,
        Party::Upstream,
        Cause::UpstreamSlow,
        Certainty::Weak,
    );
}

#[test]
fn without_a_line_and_a_timer_nobody_is_blamed() {
    let socket = Socket { last_sent_ms: Some(20), ..upstream() };
    check(
        vec![closed(100, socket, worker())],
        Kind::Timeout,
        Party::Unknown,
        Cause::InsufficientEvidence,
        Certainty::Undetermined,
    );
}

#[test]
fn a_wait_as_long_as_the_default_timer_tells_without_the_line() {
    let socket = Socket { last_sent_ms: Some(60_003), ..upstream() };
    check(
        vec![closed(100, socket, worker())],
        Kind::Timeout,
        Party::Upstream,
        Cause::UpstreamSlow,
        Certainty::Weak,
    );
}

fn unanswered() -> Socket {
    Socket {
        state: TcpState::SynSent,
        retransmits: 2,
        bytes_sent: 0,
        last_sent_ms: None,
        last_ack_ms: None,
        opened: Some(at(100)),
        ..upstream()
    }
}

#[test]
fn an_unanswered_syn_is_weak_and_the_host_may_be_down() {
    let verdict = check(
        vec![closed(3100, unanswered(), worker()), timed_out(3100, "connecting to upstream")],
        Kind::Timeout,
        Party::Middlebox,
        Cause::MiddleboxDrop,
        Certainty::Weak,
    );
    assert!(verdict.alternatives.iter().any(|other| other.why_not.contains("may be down")));
}

#[test]
fn it_stays_weak_when_the_host_answered_another_connection_meanwhile() {
    let history = PeerHistory { ttl: 63, handshakes: 9, min_handshake_us: 300, last_syn_ack: at(2000) };
    let socket = Socket { peer_history: Some(history), ..unanswered() };
    check(
        vec![closed(3100, socket, worker())],
        Kind::Timeout,
        Party::Middlebox,
        Cause::MiddleboxDrop,
        Certainty::Weak,
    );
}

#[test]
fn data_that_is_never_acknowledged_vanishes_on_the_way() {
    let socket = Socket {
        unacked: 120,
        retransmits: 4,
        retransmits_pending: 4,
        last_sent_ms: Some(900),
        ..upstream()
    };
    check(
        vec![closed(100, socket, worker()), timed_out(100, "reading response header from upstream")],
        Kind::Timeout,
        Party::Middlebox,
        Cause::MiddleboxDrop,
        Certainty::Weak,
    );
}

#[test]
fn after_a_long_silence_a_device_forgot_the_connection() {
    let socket = Socket {
        unacked: 120,
        retransmits_pending: 5,
        bytes_received: 800,
        last_sent_ms: Some(900),
        last_received_ms: Some(700_000),
        ..upstream()
    };
    check(
        vec![closed(100, socket, worker())],
        Kind::Timeout,
        Party::Middlebox,
        Cause::MiddleboxIdleDrop,
        Certainty::Weak,
    );
}

#[test]
fn an_icmp_error_is_a_rejection_with_its_errno() {
    let socket = Socket { error: 113, retransmits: 0, ..unanswered() };
    let failed = line(100, MessageKind::CONNECT_FAILED, Some(113), "connecting to upstream");
    check(
        vec![closed(100, socket, nobody()), logged(failed)],
        Kind::Refused,
        Party::Middlebox,
        Cause::MiddleboxReject,
        Certainty::Weak,
    );
}

#[test]
fn an_upstream_that_keeps_its_window_shut_is_slow() {
    let judged = |unsent: u32, snd_wnd: u32| {
        let socket = Socket { unsent, snd_wnd, ..upstream() };
        let verdict =
            play(vec![closed(100, socket, worker()), timed_out(100, "sending request to upstream")])
                .remove(0);
        (verdict.cause, verdict.certainty, verdict.summary)
    };
    let (cause, certainty, summary) = judged(705_176, 0);
    assert_eq!((cause, certainty), (Cause::UpstreamSlow, Certainty::Weak));
    assert!(summary.contains("stopped reading"), "{summary}");
    assert_ne!(judged(705_176, 500).0, Cause::UpstreamSlow, "it would take more");
}

#[test]
fn what_the_kernel_gives_up_a_minute_later_is_no_second_failure() {
    let waiting = Socket { last_sent_ms: Some(60_003), ..upstream() };
    let given_up = |cookie: u64| {
        let socket = Socket {
            state: TcpState::FinWait1,
            error: 110,
            orphan: true,
            unacked: 1,
            retransmits_pending: 8,
            cookie,
            ..upstream()
        };
        closed(107_000, socket, nobody())
    };
    let judged = |cookie: u64| play(vec![closed(100, waiting.clone(), worker()), given_up(cookie)]);
    assert_eq!(judged(waiting.cookie).len(), 1);
    assert_eq!(judged(waiting.cookie + 1).len(), 2, "another connection with the same ports");
    let later = vec![closed(100, waiting, worker()), (2_000_000, given_up(7).1)];
    assert_eq!(play(later).len(), 2, "what was told is not remembered for ever");
}

#[test]
fn a_client_that_went_while_idle_failed_nothing() {
    let given_up = |unacked: u32| {
        let (state, error, orphan) = (TcpState::FinWait1, 110, true);
        let last_sent_ms = Some(107_000);
        let socket =
            Socket { state, error, orphan, unacked, last_sent_ms, retransmits_pending: 8, ..client() };
        play(vec![closed(100, socket, nobody())]).remove(0).impact
    };
    assert_eq!(given_up(1), Impact::Harmless, "its FIN alone never arrived");
    assert_ne!(given_up(2), Impact::Harmless, "data, too");
}

#[test]
fn a_peer_that_resets_without_having_got_anything_tells_of_the_path_and_one_without_room_does_not() {
    let silent = Socket {
        unacked: 80,
        retransmits_pending: 3,
        snd_wnd: 60_000,
        last_sent_ms: Some(300),
        last_ack_ms: Some(1_500),
        ..upstream()
    };
    let check_one = |socket: Socket, party, cause, certainty| {
        let reset = Packet { ack: socket.snd_una, ..active_reset(&socket) };
        let inputs = vec![
            received(100, socket, Some(reset)),
            logged(line(101, MessageKind::RECV_FAILED, Some(104), "reading response header from upstream")),
        ];
        check(inputs, Kind::ResetReceived, party, cause, certainty)
    };
    check_one(silent.clone(), Party::Middlebox, Cause::MiddleboxDrop, Certainty::Weak);
    let full = Socket { last_ack_ms: Some(290), ..silent.clone() };
    check_one(full, Party::Upstream, Cause::UpstreamAbort, Certainty::Strong);
    let shut = Socket { snd_wnd: 0, ..silent };
    check_one(shut, Party::Upstream, Cause::UpstreamAbort, Certainty::Strong);
}
