//! The client ended the connection: in mid-request, idle, late, before a request; and what Nginx does then.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Impact, Kind, Party, Verdict};
use crate::model::{Level, LogRecord, LogSide, MessageKind, Packet, Socket, TcpState};

/// The client has got what it had acknowledged before, and no more.
fn reset_of(socket: Socket) -> Vec<(u64, crate::model::Input)> {
    let reset = Packet { ack: socket.snd_nxt.wrapping_sub(socket.unacked), ..active_reset(&socket) };
    vec![received(100, socket, Some(reset))]
}

#[test]
fn a_reset_with_the_response_under_way_is_an_abort() {
    let socket = Socket {
        bytes_sent: 90_000,
        unacked: 30_000,
        unsent: 5_000,
        last_sent_ms: Some(2),
        last_received_ms: Some(40),
        ..client()
    };
    let verdict =
        check(reset_of(socket), Kind::ResetReceived, Party::Client, Cause::ClientAbort, Certainty::Strong);
    with_impact(verdict, Impact::ResponseTruncated);
}

#[test]
fn a_bare_reset_while_a_request_waits_may_be_that_of_a_socket_that_somebody_else_ended() {
    let socket = client();
    let reset = stateless_reset(&socket);
    let verdict = check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Client,
        Cause::ClientAbort,
        Certainty::Weak,
    );
    with_impact(verdict, Impact::RequestFailed);
}

#[test]
fn harmless_classes_are_told_apart() {
    let answered = Socket { bytes_sent: 500, last_sent_ms: Some(20), last_received_ms: Some(30), ..client() };
    let idle = Socket { last_sent_ms: Some(5_000), last_received_ms: Some(5_010), ..answered.clone() };
    let after_our_close = Socket { state: TcpState::FinWait2, ..answered.clone() };
    let after_fin = Socket { state: TcpState::CloseWait, ..answered.clone() };
    let farewell = Socket { unacked: 31, ..after_fin.clone() };
    let scan = Socket { bytes_received: 0, data_segments_in: 0, last_received_ms: None, ..client() };
    let cases = [
        // To TCP a response that pauses is the same.
        (answered, Cause::ClientLateReset, Certainty::Weak),
        (idle, Cause::ClientIdleReset, Certainty::Strong),
        (after_our_close, Cause::ClientLateReset, Certainty::Strong),
        (after_fin, Cause::ClientLateReset, Certainty::Strong),
        (farewell, Cause::ClientLateReset, Certainty::Strong),
        (scan, Cause::ClientHandshakeReset, Certainty::Strong),
    ];
    for (socket, cause, certainty) in cases {
        let verdict = check(reset_of(socket), Kind::ResetReceived, Party::Client, cause, certainty);
        with_impact(verdict, Impact::Harmless);
    }
}

/// A response of which all that was sent has arrived, and a line about its end.
fn pausing(kind: MessageKind, errno: Option<i32>, action: &str) -> Verdict {
    let socket = Socket {
        bytes_sent: 5_000,
        last_sent_ms: Some(24),
        last_received_ms: Some(300),
        data_segments_in: 1,
        ..client()
    };
    let mut inputs = reset_of(socket);
    let record =
        LogRecord { level: Some(Level::Info), side: LogSide::Client, ..line(100, kind, errno, action) };
    inputs.push(logged(record));
    check(inputs, Kind::ResetReceived, Party::Client, Cause::ClientAbort, Certainty::Strong)
}

#[test]
fn a_response_that_pauses_is_cut_when_nginx_says_so() {
    for kind in [MessageKind::CLIENT_ABORTED_UPSTREAM_CLOSED, MessageKind::RECV_FAILED] {
        let verdict = pausing(kind, Some(104), "reading upstream");
        with_impact(verdict, Impact::ResponseTruncated);
    }
}

#[test]
fn a_tunnel_that_its_client_resets_is_not_done() {
    for action in ["proxying upgraded connection", "proxying connection"] {
        let verdict = pausing(MessageKind::RECV_FAILED, Some(104), action);
        assert!(verdict.summary.contains("open tunnel"), "{}", verdict.summary);
        with_impact(verdict, Impact::ConnectionOnly);
    }
}

#[test]
fn a_response_that_did_not_arrive_is_not_done_because_nginx_had_closed() {
    let socket = Socket {
        state: TcpState::FinWait1,
        bytes_sent: 5_736,
        unsent: 68_223,
        last_sent_ms: Some(2_436),
        last_received_ms: Some(2_500),
        ..client()
    };
    let verdict =
        check(reset_of(socket), Kind::ResetReceived, Party::Client, Cause::ClientAbort, Certainty::Strong);
    with_impact(verdict, Impact::ResponseTruncated);
}

#[test]
fn what_the_reset_itself_acknowledges_has_arrived_and_may_be_all() {
    let socket = Socket {
        bytes_sent: 612,
        unacked: 612,
        last_sent_ms: Some(1),
        last_received_ms: Some(2),
        ..client()
    };
    let closed = Socket { state: TcpState::FinWait1, unacked: 613, ..socket.clone() };
    for (socket, cause, certainty, impact) in [
        (socket, Cause::ClientAbort, Certainty::Weak, Impact::Unknown),
        (closed, Cause::ClientLateReset, Certainty::Strong, Impact::Harmless),
    ] {
        let reset = Packet { ack: socket.snd_nxt, ..active_reset(&socket) };
        let inputs = vec![received(100, socket, Some(reset))];
        let verdict = check(inputs, Kind::ResetReceived, Party::Client, cause, certainty);
        with_impact(verdict, impact);
    }
}

/// A client that resets after so many segments and bytes on a listener with TLS, and what Nginx has not got through.
fn in_tls(segments: u32, bytes: u64, unacked: u32) -> Vec<Verdict> {
    let socket = Socket {
        data_segments_in: segments,
        bytes_received: bytes,
        bytes_sent: 1_428,
        unacked,
        last_sent_ms: Some(1),
        last_received_ms: Some(2),
        ..client()
    };
    let mut host = host();
    host.nginx.http_listeners = vec![(socket.local, true)];
    play_on(host, reset_of(socket))
}

#[test]
fn a_tls_handshake_that_its_client_gives_up_has_cost_no_request() {
    for (segments, bytes, unacked, certainty) in
        [(1, 517, 0, Certainty::Strong), (2, 597, 258, Certainty::Weak), (2, 524, 0, Certainty::Weak)]
    {
        let verdict = in_tls(segments, bytes, unacked).remove(0);
        assert_eq!((verdict.cause, verdict.certainty), (Cause::ClientHandshakeReset, certainty));
        with_impact(verdict, Impact::Harmless);
    }
    for (segments, bytes, unacked) in [(3, 700, 258), (2, 597, 20_000), (2, 1_900, 258)] {
        assert_eq!(in_tls(segments, bytes, unacked)[0].cause, Cause::ClientAbort);
    }
}

#[test]
fn a_client_that_closed_before_more_than_a_farewell_had_come_has_aborted() {
    let socket = Socket {
        state: TcpState::CloseWait,
        bytes_sent: 500,
        unacked: 32,
        last_sent_ms: Some(20),
        last_received_ms: Some(30),
        ..client()
    };
    check(reset_of(socket), Kind::ResetReceived, Party::Client, Cause::ClientAbort, Certainty::Strong);
}

#[test]
fn the_upstream_leg_dropped_after_a_client_reset_is_its_consequence() {
    let waiting = Socket { unread: 400, bytes_received: 400, ..upstream() };
    let mut inputs = reset_of(client());
    inputs.push(sent(103, waiting, "TCP_ABORT_ON_CLOSE", worker()));
    let verdicts = play(inputs);
    assert_eq!(verdicts.len(), 2, "{verdicts:#?}");
    let upstream = verdicts.iter().find(|verdict| verdict.kind == Kind::ResetSent).unwrap();
    let client = verdicts.iter().find(|verdict| verdict.kind == Kind::ResetReceived).unwrap();
    assert_eq!((client.party, client.cause), (Party::Client, Cause::ClientAbort));
    assert_eq!(client.peer_connection.as_ref().unwrap().remote, "10.0.0.2:8080");
    assert_eq!(upstream.consequence_of.as_deref(), Some(client.id.as_str()));
    assert_eq!((upstream.party, upstream.cause), (Party::Client, Cause::ClientAbort));
    assert_eq!(upstream.impact, Impact::Harmless);
    assert_eq!(upstream.peer_connection.as_ref().unwrap().remote, "10.0.1.9:50000");
}

#[test]
fn a_reset_that_may_not_be_the_clients_lowers_the_certainty_of_the_consequence() {
    let judged = |reset: Packet| {
        let waiting = Socket { unread: 400, bytes_received: 400, ..upstream() };
        let inputs =
            vec![received(100, client(), Some(reset)), sent(103, waiting, "TCP_ABORT_ON_CLOSE", worker())];
        let verdicts = play(inputs);
        verdicts.into_iter().find(|verdict| verdict.kind == Kind::ResetSent).unwrap()
    };
    let own = judged(active_reset(&client()));
    let forged = judged(Packet { ttl: 60, ..stateless_reset(&client()) });
    assert!(own.certainty < forged.certainty, "{own:#?} {forged:#?}");
    assert!(forged.missing.iter().any(|missing| missing.code == "client_reset"));
}

#[test]
fn a_client_that_leaves_between_two_pieces_of_a_response_leaves_nothing_outstanding() {
    let sent = Socket { bytes_sent: 9_000, last_sent_ms: Some(50), last_received_ms: Some(900), ..client() };
    let verdict =
        check(reset_of(sent), Kind::ResetReceived, Party::Client, Cause::ClientLateReset, Certainty::Weak);
    assert!(verdict.missing.iter().any(|missing| missing.code == "response_end"));
    assert!(verdict.summary.contains("nothing was on its way"), "{}", verdict.summary);
}

#[test]
fn a_client_that_left_with_fin_and_its_upstream_leg_are_one_incident() {
    let leaving = Socket { state: TcpState::CloseWait, ..client() };
    let verdict = check(
        vec![closed(100, upstream(), worker()), closed(100, leaving, worker())],
        Kind::ClosedEarly,
        Party::Client,
        Cause::ClientAbort,
        Certainty::Weak,
    );
    assert_eq!(verdict.connection.unwrap().remote, "10.0.1.9:50000");
    assert_eq!(verdict.peer_connection.unwrap().remote, "10.0.0.2:8080");
}

#[test]
fn a_client_that_never_acknowledges_has_vanished() {
    let socket = Socket {
        error: 110,
        unacked: 1448,
        retransmits_pending: 9,
        bytes_sent: 1448,
        last_sent_ms: Some(100),
        last_received_ms: Some(9000),
        ..client()
    };
    check(
        vec![closed(100, socket, nobody())],
        Kind::Timeout,
        Party::Client,
        Cause::ClientVanished,
        Certainty::Weak,
    );
}

#[test]
fn a_bystander_that_was_idle_is_not_the_cause_of_an_upstream_close() {
    let idle = Socket {
        remote: address("10.0.1.77:50001"),
        cookie: 88,
        bytes_sent: 500,
        last_sent_ms: Some(5_000),
        last_received_ms: Some(5_010),
        ..client()
    };
    let mut inputs = reset_of(client());
    let reset = active_reset(&idle);
    inputs.push(received(101, idle, Some(reset)));
    inputs.push(closed(102, upstream(), worker()));
    let verdicts = play(inputs);
    let of = |remote: &str| {
        let mine = |verdict: &&Verdict| verdict.connection.as_ref().unwrap().remote == remote;
        verdicts.iter().find(mine).unwrap()
    };
    assert_eq!(of("10.0.1.77:50001").cause, Cause::ClientIdleReset);
    let upstream = of("10.0.0.2:8080");
    assert_eq!(upstream.consequence_of.as_deref(), Some(of("10.0.1.9:50000").id.as_str()));
    assert!(upstream.missing.iter().all(|missing| missing.code != "one_client"));
}

#[test]
fn two_clients_that_left_together_lower_the_certainty_of_the_consequence() {
    let other = Socket { remote: address("10.0.1.77:50001"), cookie: 88, ..client() };
    let mut inputs = reset_of(client());
    let reset = active_reset(&other);
    inputs.push(received(101, other, Some(reset)));
    inputs.push(closed(102, upstream(), worker()));
    let verdicts = play(inputs);
    let upstream = verdicts.iter().find(|verdict| verdict.kind == Kind::Timeout).unwrap();
    assert_eq!(upstream.certainty, Certainty::Weak);
    assert!(upstream.missing.iter().any(|missing| missing.code == "one_client"));
}

#[test]
fn a_tls_handshake_given_up_is_no_abort_of_a_request() {
    let mut record = line(101, MessageKind::TLS_PEER_CLOSED, Some(104), "SSL handshaking");
    record.side = LogSide::Client;
    record.level = Some(Level::Info);
    record.upstream = None;
    let mut inputs = reset_of(client());
    inputs.push(logged(record));
    let verdict =
        check(inputs, Kind::ResetReceived, Party::Client, Cause::ClientHandshakeReset, Certainty::Strong);
    assert_eq!(verdict.phase, crate::model::verdict::Phase::TlsHandshake);
}

/// A client of HTTP/2 over TLS closes when it has its response, with the empty frame behind it unread.
#[test]
fn the_last_frame_unread_is_no_abort() {
    let last_frame = |unacked: u32| {
        let socket = Socket {
            bytes_sent: 300_500,
            data_segments_in: 9,
            unacked,
            last_sent_ms: Some(4),
            last_received_ms: Some(12),
            ..client()
        };
        let reset = Packet { ack: socket.snd_nxt, ..active_reset(&socket) };
        let mut host = host();
        host.nginx.http_listeners = vec![(socket.local, true)];
        let verdicts = play_on(host, vec![received(100, socket, Some(reset))]);
        verdicts.first().map(|verdict| (verdict.cause, verdict.impact))
    };
    assert_eq!(last_frame(38), Some((Cause::ClientLateReset, Impact::Harmless)));
    assert_eq!(last_frame(1_400), Some((Cause::ClientAbort, Impact::Unknown)));
}
