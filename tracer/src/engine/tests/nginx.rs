//! Nginx, its worker or this host ended the connection.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Impact, Kind, Party, Verdict};
use crate::model::{
    EventKind, ExitStatus, HostFacts, Input, MessageKind, Packet, Socket, Task, TcpFlags, TcpState,
};

#[test]
fn a_linger_zero_reset_is_on_purpose() {
    let socket =
        Socket { state: TcpState::Close, linger_zero: true, last_received_ms: Some(1_000), ..client() };
    check(
        vec![sent(100, socket, "TCP_STATE", worker())],
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxTimeoutReset,
        Certainty::Proven,
    );
}

#[test]
fn a_linger_zero_reset_right_after_the_request_is_no_time_out() {
    let socket = Socket { state: TcpState::Close, linger_zero: true, ..client() };
    let reset = sent(100, socket, "TCP_STATE", worker());
    let verdict = check(
        vec![reset.clone()],
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxClosedUnread,
        Certainty::Proven,
    );
    assert!(verdict.summary.contains("on purpose"), "{}", verdict.summary);
    assert!(verdict.advice.is_empty(), "{:?}", verdict.advice);
    let mut timed_out = line(100, MessageKind::CLIENT_TIMED_OUT, Some(110), "");
    timed_out.side = crate::model::LogSide::Client;
    timed_out.upstream = None;
    check(
        vec![reset, logged(timed_out)],
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxTimeoutReset,
        Certainty::Proven,
    );
}

#[test]
fn closing_with_unread_data_names_the_bytes_and_the_line() {
    let socket = Socket { state: TcpState::Close, unread: 70_000, ..client() };
    let mut too_large = line(99, MessageKind::CLIENT_BODY_TOO_LARGE, None, "");
    too_large.side = crate::model::LogSide::Client;
    too_large.upstream = None;
    let verdict = check(
        vec![logged(too_large), sent(100, socket, "TCP_ABORT_ON_CLOSE", worker())],
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxClosedUnread,
        Certainty::Proven,
    );
    assert!(verdict.summary.contains("70000 bytes unread"), "{}", verdict.summary);
    assert!(verdict.log.is_some());
}

#[test]
fn a_kernel_without_reasons_is_read_by_the_socket() {
    let unread = Socket { state: TcpState::Close, unread: 10, ..client() };
    let verdict = check(
        vec![sent(100, unread, "NOT_SPECIFIED", worker())],
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxClosedUnread,
        Certainty::Proven,
    );
    assert_eq!(verdict.reset.unwrap().reason.as_deref(), Some("NOT_SPECIFIED"));
}

#[test]
fn a_killed_worker_is_proven_and_takes_the_masters_line() {
    let exiting = Task { exiting: Some(KILLED), ..worker() };
    let mut exited = line(105, MessageKind::PROCESS_EXITED, None, "");
    exited.message = format!("worker process {WORKER} exited on signal 9");
    exited.pid = Some(1);
    exited.side = crate::model::LogSide::None;
    let socket = Socket { unread: 10, ..client() };
    let verdict = check(
        vec![sent(100, socket, "TCP_ABORT_ON_CLOSE", exiting), logged(exited)],
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxWorkerExit,
        Certainty::Proven,
    );
    assert_eq!(verdict.reset.unwrap().sender.unwrap().exit.as_deref(), Some("killed by signal 9 (SIGKILL)"));
    assert!(verdict.log.is_some());
}

#[test]
fn a_limit_in_the_line_makes_an_upstream_reset_a_matter_of_configuration() {
    let socket = Socket { state: TcpState::Close, unread: 9_000, bytes_received: 9_000, ..upstream() };
    check(
        vec![
            sent(100, socket, "TCP_ABORT_ON_CLOSE", worker()),
            logged(line(
                100,
                MessageKind::UPSTREAM_HEADER_TOO_BIG,
                None,
                "reading response header from upstream",
            )),
        ],
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxConfig,
        Certainty::Proven,
    );
}

#[test]
fn a_pooled_connection_of_a_killed_worker_harmed_nobody() {
    let exiting = Task { exiting: Some(KILLED), ..worker() };
    let mut exited = line(105, MessageKind::PROCESS_EXITED, None, "");
    exited.message = format!("worker process {WORKER} exited on signal 9");
    exited.pid = Some(1);
    exited.side = crate::model::LogSide::None;
    let pooled = Socket {
        bytes_received: 200,
        data_segments_in: 1,
        last_sent_ms: Some(801),
        last_received_ms: Some(800),
        ..upstream()
    };
    let verdict = check(
        vec![closed(100, pooled, exiting), logged(exited)],
        Kind::ClosedEarly,
        Party::Nginx,
        Cause::NginxWorkerExit,
        Certainty::Proven,
    );
    with_impact(verdict, Impact::Harmless);
}

#[test]
fn a_connect_without_a_local_port_is_a_limit_of_this_host() {
    let socket = Socket {
        state: TcpState::SynSent,
        local: address("10.0.0.1:0"),
        bytes_sent: 0,
        data_segments_out: 0,
        last_sent_ms: None,
        ..upstream()
    };
    let failed = line(100, MessageKind::CONNECT_TO_FAILED, Some(99), "connecting to upstream");
    let verdict = check(
        vec![closed(100, socket, worker()), logged(failed)],
        Kind::Refused,
        Party::Nginx,
        Cause::NginxResourceLimit,
        Certainty::Strong,
    );
    assert!(!verdict.evidence.iter().any(|piece| piece.code == "unacknowledged"));
}

#[test]
fn an_icmp_error_that_only_the_line_names_is_a_rejection() {
    let socket = Socket { state: TcpState::SynSent, bytes_sent: 0, data_segments_out: 0, ..upstream() };
    let failed = line(100, MessageKind::CONNECT_FAILED, Some(113), "connecting to upstream");
    check(
        vec![closed(100, socket, worker()), logged(failed)],
        Kind::Refused,
        Party::Middlebox,
        Cause::MiddleboxReject,
        Certainty::Weak,
    );
}

#[test]
fn another_process_that_destroys_the_socket_is_named_but_nobody_is_blamed() {
    let killer = Task { pid: 900, tid: 900, comm: "ss".to_owned(), is_nginx: false, ..worker() };
    let verdict = check(
        vec![sent(100, client(), "TCP_STATE", killer)],
        Kind::ResetSent,
        Party::Unknown,
        Cause::InsufficientEvidence,
        Certainty::Undetermined,
    );
    assert!(verdict.evidence.iter().any(|piece| piece.detail.contains("900 (ss)")));
}

#[test]
fn a_syn_to_a_port_without_listener_met_no_nginx() {
    let syn = Packet { flags: TcpFlags(TcpFlags::SYN), ..stateless_reset(&client()) };
    let verdict = check(
        vec![answered(100, "NO_SOCKET", syn, None)],
        Kind::ResetSent,
        Party::Nginx,
        Cause::NginxNotListening,
        Certainty::Proven,
    );
    assert_eq!(verdict.connection.unwrap().remote, "10.0.1.9:50000");
}

#[test]
fn data_after_nginxs_close_is_not_a_received_reset() {
    let orphan = Socket { state: TcpState::FinWait2, receive_shutdown: true, orphan: true, ..client() };
    let request = data_from_peer(&orphan, 300);
    let mut inputs = vec![received(100, orphan.clone(), None)];
    let (when, input) = sent(100, orphan, "TCP_ABORT_ON_DATA", nobody());
    let Input::Event(mut event) = input else { unreachable!() };
    event.packet = Some(request);
    inputs.push((when, Input::Event(event)));
    let verdict = check(inputs, Kind::ResetSent, Party::Nginx, Cause::NginxClosedUnread, Certainty::Proven);
    assert!(verdict.evidence.iter().any(|piece| piece.code == "data_after_close"));
}

/// As many bytes as a `close_notify` has, after Nginx's close; `tls` is what the configuration says of the listener.
fn short_words(tls: Option<bool>) -> Verdict {
    let alert = data_from_peer(&client(), 31);
    let mut host = host();
    host.nginx.http_listeners = tls.map(|tls| (client().local, tls)).into_iter().collect();
    play_on(host, vec![answered(100, "TCP_TIMEWAIT_SOCKET", alert, None)]).remove(0)
}

#[test]
fn a_tls_alert_after_nginxs_close_is_harmless() {
    let verdict = short_words(Some(true));
    assert_eq!((verdict.party, verdict.cause), (Party::Client, Cause::ClientLateReset));
    assert_eq!((verdict.certainty, verdict.impact), (Certainty::Proven, Impact::Harmless));
}

#[test]
fn as_few_bytes_are_no_farewell_where_nobody_speaks_tls() {
    let verdict = short_words(Some(false));
    assert_eq!((verdict.cause, verdict.certainty), (Cause::NginxClosedUnread, Certainty::Proven));
}

#[test]
fn they_are_no_proof_where_it_is_not_known_who_speaks_tls() {
    let verdict = short_words(None);
    assert_eq!((verdict.cause, verdict.certainty), (Cause::ClientLateReset, Certainty::Weak));
}

#[test]
fn scans_and_last_words_for_unknown_connections_are_nothing() {
    let ack = Packet { flags: TcpFlags(TcpFlags::ACK), ..data_from_peer(&client(), 0) };
    assert!(play(vec![answered(100, "TCP_FLAGS", ack.clone(), None)]).is_empty());
    assert!(play(vec![answered(100, "NO_SOCKET", ack.clone(), None)]).is_empty());
    assert!(play(vec![answered_without_reason(100, ack)]).is_empty());
    let scattered = Packet { flags: TcpFlags(TcpFlags::SYN | TcpFlags::ACK), ..data_from_peer(&client(), 0) };
    assert!(play(vec![answered(100, "TCP_FLAGS", scattered, None)]).is_empty());
    assert!(!play(vec![answered_without_reason(100, data_from_peer(&client(), 100))]).is_empty());
}

#[test]
fn data_for_a_connection_that_is_gone_belongs_to_no_request() {
    let verdict = &play(vec![answered(100, "TCP_FLAGS", data_from_peer(&client(), 100), None)])[0];
    assert_eq!((verdict.party, verdict.impact), (Party::Unknown, Impact::Unknown), "{verdict:#?}");
    assert!(verdict.summary.contains("did not have"), "{}", verdict.summary);
}

#[test]
fn resets_of_one_listener_are_told_apart_by_their_clients() {
    let listener = Socket { state: TcpState::Listen, remote: address("0.0.0.0:0"), cookie: 77, ..client() };
    let mut inputs = Vec::new();
    for port in 50_000..50_003u16 {
        let mut trigger = data_from_peer(&client(), 100);
        trigger.source.set_port(port);
        let (when, input) = answered(100, "TCP_FLAGS", trigger, None);
        let Input::Event(mut event) = input else { unreachable!() };
        event.socket = Some(listener.clone());
        inputs.push((when, Input::Event(event)));
    }
    let verdicts = play(inputs);
    assert_eq!(verdicts.len(), 3, "{verdicts:#?}");
    assert!(verdicts.iter().all(|verdict| verdict.certainty == Certainty::Undetermined));
    assert_eq!(verdicts[2].connection.as_ref().unwrap().remote, "10.0.1.9:50002");
}

#[test]
fn an_ordinary_close_with_a_repetition_pending_is_nothing() {
    let closing =
        Socket { unacked: 500, retransmits_pending: 1, bytes_sent: 500, last_sent_ms: Some(1), ..client() };
    assert!(play(vec![closed(100, closing, worker())]).is_empty());
}

#[test]
fn a_foreign_process_is_named_on_kernels_without_reasons_too() {
    let killer = Task { pid: 900, tid: 900, comm: "ss".to_owned(), is_nginx: false, ..worker() };
    let verdict = check(
        vec![sent(100, client(), "NOT_SPECIFIED", killer)],
        Kind::ResetSent,
        Party::Unknown,
        Cause::InsufficientEvidence,
        Certainty::Undetermined,
    );
    assert!(verdict.evidence.iter().any(|piece| piece.code == "local_kill"));
}

/// The timers of one Nginx of the host say nothing about another one, whose configuration is not known or no longer.
#[test]
fn only_the_timers_of_its_own_nginx_judge_a_reset_on_purpose() {
    let socket = Socket {
        linger_zero: true,
        state: TcpState::Close,
        last_received_ms: Some(3_004),
        opened: Some(at(100)),
        ..client()
    };
    let mut host = host();
    host.nginx.client_timeouts_ms = vec![60_000];
    let cause = |host: &HostFacts| {
        let inputs = vec![sent(3_110, socket.clone(), "TCP_STATE", worker())];
        play_on(host.clone(), inputs)[0].cause
    };
    assert_eq!(cause(&host), Cause::NginxClosedUnread);
    host.nginx.listeners = vec![(address("0.0.0.0:81"), None)];
    assert_eq!(cause(&host), Cause::NginxTimeoutReset);
}

#[test]
fn a_stream_has_no_lingering_close_to_be_advised() {
    let unread =
        || sent(100, Socket { unread: 3, bytes_received: 3, ..client() }, "TCP_ABORT_ON_CLOSE", worker());
    let mut host = host();
    host.nginx.http_listeners = vec![(address("0.0.0.0:443"), true)];
    assert!(play_on(host, vec![unread()])[0].advice.is_empty());
    assert!(!play(vec![unread()])[0].advice.is_empty());
}

/// Nginx says once a second that it makes room, and may close several clients in that second.
#[test]
fn a_line_about_spent_connections_explains_every_client_closed_in_its_second() {
    let late = |milliseconds: u64, port: u16| {
        let mut socket = client();
        socket.remote.set_port(port);
        let data = data_from_peer(&socket, 300);
        answered(milliseconds, "TCP_ABORT_ON_DATA", data, None)
    };
    let mut spent = line(100, MessageKind::WORKER_CONNECTIONS, None, "");
    (spent.side, spent.upstream, spent.client) = (crate::model::LogSide::None, None, None);
    let inputs = vec![logged(spent), late(300, 4_001), late(900, 4_002), late(2_900, 4_003)];
    let causes: Vec<_> = play(inputs).iter().map(|verdict| verdict.cause).collect();
    let (spent, unread) = (Cause::NginxResourceLimit, Cause::NginxClosedUnread);
    assert_eq!(causes, [spent, spent, unread]);
}

/// Nginx prints what the client sent as it came, line feeds included.
#[test]
fn a_line_that_a_client_broke_is_told_with_the_fields_of_its_end() {
    let mut first = line(100, MessageKind::PROXY_PROTOCOL_BROKEN, None, "");
    (first.side, first.upstream, first.client) = (crate::model::LogSide::Client, None, None);
    let mut rest = line(100, MessageKind::OTHER, None, "reading PROXY protocol");
    (rest.level, rest.upstream, rest.client) = (None, None, Some("192.0.2.7".to_owned()));
    let verdicts = play(vec![logged(first), logged(rest)]);
    let [verdict] = verdicts.as_slice() else { panic!("{verdicts:?}") };
    assert_eq!((verdict.party, verdict.cause), (Party::Nginx, Cause::NginxConfig));
    let log = verdict.log.as_ref().expect("a line");
    assert_eq!(
        (log.client.as_deref(), log.action.as_deref()),
        (Some("192.0.2.7"), Some("reading PROXY protocol"))
    );
}

/// A reload closes busy connections, too, when they are between two requests.
#[test]
fn a_request_that_meets_the_close_of_an_ending_worker_has_lost_no_response() {
    let socket = Socket {
        state: TcpState::FinWait1,
        bytes_sent: 123,
        unacked: 1,
        last_sent_ms: Some(0),
        last_received_ms: Some(0),
        ..client()
    };
    let impact = |status: u8| {
        let exiting = Some(ExitStatus { signal: 0, status, core_dumped: false });
        let mut reset = sent(100, socket.clone(), "TCP_ABORT_ON_DATA", nobody());
        let Input::Event(event) = &mut reset.1 else { unreachable!("made above") };
        event.packet = Some(data_from_peer(&socket, 300));
        let ends = bare(150, EventKind::ProcessExit, Task { exiting, ..worker() });
        play(vec![reset, ends]).iter().map(|verdict| (verdict.cause, verdict.impact)).collect::<Vec<_>>()
    };
    assert_eq!(impact(0), [(Cause::NginxClosedUnread, Impact::RequestFailed)]);
    assert_eq!(impact(1), [(Cause::NginxClosedUnread, Impact::Unknown)]);
}
