//! The upstream ended the connection: abort, refusal, dead process, keep-alive race.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Impact, Kind, Party, Phase};
use crate::model::{
    Baseline, BaselineSource, EventKind, ExitStatus, HostFacts, Input, LogRecord, MessageKind, Packet,
    PeerHistory, Socket, TcpFlags, TcpState,
};

fn recv_failed(milliseconds: u64) -> (u64, Input) {
    logged(line(milliseconds, MessageKind::RECV_FAILED, Some(104), "reading response header from upstream"))
}

#[test]
fn an_abort_in_mid_request_is_the_upstreams_and_strong() {
    let socket = upstream();
    let reset = active_reset(&socket);
    let verdict = check(
        vec![received(100, socket, Some(reset)), recv_failed(101)],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Strong,
    );
    let verdict = with_impact(verdict, Impact::RequestFailed);
    assert_eq!(verdict.phase, Phase::Waiting);
    assert_eq!(verdict.matched.unwrap().gap_ms, 1);
    assert_eq!(verdict.reset.unwrap().seq_offset, Some(0));
}

#[test]
fn without_the_packet_it_is_weak_and_the_packet_is_missing() {
    let verdict = check(
        vec![received(100, upstream(), None), recv_failed(101)],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Weak,
    );
    assert!(verdict.missing.iter().any(|missing| missing.code == "reset_packet"));
}

#[test]
fn a_killed_process_on_this_host_is_proven_with_its_exit() {
    let socket = upstream();
    let reset = active_reset(&socket);
    let verdict = check(
        vec![
            // On loopback the peer's event comes first.
            received(100, socket, Some(reset)),
            sent(100, upstream_peer(), "TCP_ABORT_ON_CLOSE", app(Some(KILLED))),
            recv_failed(101),
        ],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamProcessExit,
        Certainty::Proven,
    );
    let sender = verdict.reset.unwrap().sender.unwrap();
    assert_eq!((sender.pid, sender.comm.as_str()), (500, "app"));
    assert_eq!(sender.exit.as_deref(), Some("killed by signal 9 (SIGKILL)"));
}

#[test]
fn a_killed_process_that_had_read_the_request_ends_with_fin() {
    let verdict = check(
        vec![
            closed(100, upstream_peer(), app(Some(KILLED))),
            logged(line(
                101,
                MessageKind::UPSTREAM_CLOSED_EARLY,
                None,
                "reading response header from upstream",
            )),
        ],
        Kind::ClosedEarly,
        Party::Upstream,
        Cause::UpstreamProcessExit,
        Certainty::Proven,
    );
    let connection = verdict.connection.unwrap();
    assert_eq!((connection.local.as_str(), connection.remote.as_str()), ("10.0.0.1:40000", "10.0.0.2:8080"));
    assert_eq!(verdict.reset.unwrap().sender.unwrap().pid, 500);
}

#[test]
fn a_process_killed_with_idle_connections_only_makes_no_verdict() {
    assert!(play(vec![closed(100, upstream_peer(), app(Some(KILLED)))]).is_empty());
}

#[test]
fn the_oom_killer_is_named() {
    let socket = upstream();
    let reset = active_reset(&socket);
    check(
        vec![
            bare(90, EventKind::OomVictim, app(None)),
            received(100, socket, Some(reset)),
            sent(100, upstream_peer(), "TCP_ABORT_ON_CLOSE", app(Some(KILLED))),
        ],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamOomKill,
        Certainty::Proven,
    );
}

fn connecting() -> Socket {
    Socket {
        state: TcpState::SynSent,
        bytes_sent: 0,
        last_sent_ms: None,
        last_ack_ms: None,
        srtt_us: 0,
        baseline: None,
        ts_recent: None,
        opened: Some(at(99)),
        ..upstream()
    }
}

fn refused_line(milliseconds: u64) -> (u64, Input) {
    logged(line(milliseconds, MessageKind::CONNECT_FAILED, Some(111), "connecting to upstream"))
}

#[test]
fn a_refused_remote_connection_without_history_is_weak() {
    let socket = connecting();
    let reset = refusal(&socket);
    check(
        vec![received(100, socket, Some(reset)), refused_line(100)],
        Kind::Refused,
        Party::Upstream,
        Cause::UpstreamRefused,
        Certainty::Weak,
    );
}

#[test]
fn with_the_peers_usual_distance_it_is_still_what_any_device_beside_the_peer_sends() {
    let history = PeerHistory { ttl: 63, handshakes: 9, min_handshake_us: 300, last_syn_ack: at(0) };
    let socket = Socket {
        baseline: Some(Baseline { ttl: 63, source: BaselineSource::PeerHistory }),
        peer_history: Some(history),
        ..connecting()
    };
    let reset = refusal(&socket);
    check(
        vec![received(100, socket, Some(reset)), refused_line(100)],
        Kind::Refused,
        Party::Upstream,
        Cause::UpstreamRefused,
        Certainty::Weak,
    );
}

#[test]
fn a_refusal_by_this_host_is_proven_and_the_reply_comes_before_its_effect() {
    let socket = connecting();
    let reset = refusal(&socket);
    let syn = Packet {
        source: socket.local,
        destination: socket.remote,
        flags: TcpFlags(TcpFlags::SYN),
        ..stateless_reset(&socket)
    };
    check(
        vec![answered(100, "NO_SOCKET", syn, None), received(100, socket, Some(reset)), refused_line(100)],
        Kind::Refused,
        Party::Upstream,
        Cause::UpstreamRefused,
        Certainty::Proven,
    );
}

/// Reused after four seconds of silence, a millisecond ago.
fn reused() -> Socket {
    Socket {
        bytes_received: 800,
        unacked: 120,
        last_sent_ms: Some(1),
        last_received_ms: Some(4001),
        ..upstream()
    }
}

#[test]
fn a_reset_that_acknowledges_the_request_may_be_that_of_an_application_that_read_it() {
    let reset = active_reset(&reused());
    let inputs = |socket: Socket| vec![received(100, socket, Some(reset.clone())), recv_failed(100)];
    let at_once = check(
        inputs(reused()),
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamKeepaliveRace,
        Certainty::Weak,
    );
    assert!(at_once.missing.iter().any(|gap| gap.code == "request_read"), "{:?}", at_once.missing);
    let worked = Socket { last_sent_ms: Some(60), last_received_ms: Some(4060), ..reused() };
    let (kind, party) = (Kind::ResetReceived, Party::Upstream);
    check(inputs(worked), kind, party, Cause::UpstreamAbort, Certainty::Strong);
}

#[test]
fn several_races_show_the_idle_timeout_of_the_upstream() {
    let race = |at: u64, port: u16, idle: u32| {
        let mut socket = reused();
        socket.local.set_port(port);
        socket.cookie = u64::from(port);
        socket.last_received_ms = Some(idle + 1);
        let reset = stateless_reset(&socket);
        received(at, socket, Some(reset))
    };
    let verdicts =
        play(vec![race(100, 40_001, 5_040), race(6_000, 40_002, 5_010), race(12_000, 40_003, 5_300)]);
    let last = &verdicts.last().unwrap().advice[0];
    assert!(last.text.contains("3 such incidents, after 5.0 s to 5.3 s of silence"), "{}", last.text);
    assert!(last.change.contains("keepalive_timeout 4s;"), "{}", last.change);
}

#[test]
fn silence_between_two_messages_of_a_websocket_is_no_pool() {
    let socket = reused();
    let reset = stateless_reset(&socket);
    let line = line(100, MessageKind::RECV_FAILED, Some(104), "proxying upgraded connection");
    let verdicts = play(vec![received(100, socket, Some(reset)), logged(line)]);
    assert_ne!(verdicts[0].cause, Cause::UpstreamKeepaliveRace);
    assert_eq!(verdicts[0].party, Party::Upstream);
}

#[test]
fn a_reset_right_after_reuse_is_the_keepalive_race_with_its_idle_time() {
    let socket = reused();
    let reset = stateless_reset(&socket);
    let verdict = check(
        vec![received(100, socket, Some(reset)), recv_failed(100)],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamKeepaliveRace,
        // No FIN had come: the host may as well have forgotten the connection.
        Certainty::Weak,
    );
    let verdict = with_impact(verdict, Impact::RequestRetried);
    let race = verdict.evidence.iter().find(|piece| piece.code == "keepalive_race").unwrap();
    assert_eq!(race.value.as_deref(), Some("4000"));
    assert!(verdict.advice[0].change.contains("keepalive_timeout 3s"), "{:?}", verdict.advice);
}

#[test]
fn a_fin_pending_at_reuse_is_the_race_too() {
    let socket = Socket {
        state: TcpState::CloseWait,
        last_sent_ms: Some(0),
        last_received_ms: Some(4000),
        ..reused()
    };
    let reset = stateless_reset(&socket);
    let closed_early =
        line(100, MessageKind::UPSTREAM_CLOSED_EARLY, None, "reading response header from upstream");
    check(
        vec![received(100, socket, Some(reset)), logged(closed_early)],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamKeepaliveRace,
        Certainty::Strong,
    );
}

#[test]
fn a_line_long_after_an_idle_reset_tells_that_the_connection_was_used_again() {
    let socket =
        Socket { bytes_received: 800, last_sent_ms: Some(4010), last_received_ms: Some(4000), ..upstream() };
    let reset = active_reset(&socket);
    let failed = line(2400, MessageKind::CONNECT_FAILED, Some(104), "connecting to upstream");
    check(
        vec![received(100, socket, Some(reset)), logged(failed)],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamKeepaliveRace,
        Certainty::Strong,
    );
}

#[test]
fn an_idle_pooled_connection_reset_without_a_line_is_harmless() {
    let socket =
        Socket { bytes_received: 800, last_sent_ms: Some(4010), last_received_ms: Some(4000), ..upstream() };
    let reset = active_reset(&socket);
    let verdict = check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Strong,
    );
    let verdict = with_impact(verdict, Impact::Harmless);
    assert_eq!(verdict.phase, Phase::Idle);
}

#[test]
fn a_fin_before_the_answer_is_closed_early() {
    let socket = Socket { state: TcpState::CloseWait, last_sent_ms: Some(300), ..upstream() };
    check(
        vec![
            closed(100, socket, worker()),
            logged(line(
                100,
                MessageKind::UPSTREAM_CLOSED_EARLY,
                None,
                "reading response header from upstream",
            )),
        ],
        Kind::ClosedEarly,
        Party::Upstream,
        Cause::UpstreamClosedEarly,
        Certainty::Weak,
    );
}

#[test]
fn a_close_after_data_went_both_ways_in_one_tick_is_an_incident_only_if_nginx_says_so() {
    let tied = Socket {
        state: TcpState::CloseWait,
        last_sent_ms: Some(60),
        last_received_ms: Some(60),
        spoke_last: true,
        bytes_received: 300,
        unacked: 0,
        ..upstream()
    };
    let told =
        || line(100, MessageKind::UPSTREAM_CLOSED_EARLY, None, "reading response header from upstream");
    let incidents = |socket: &Socket, line: Option<LogRecord>| {
        let followed = HostFacts { follows_error_log: true, ..host() };
        let mut inputs = vec![(0, Input::Host(Box::new(followed))), closed(100, socket.clone(), worker())];
        inputs.extend(line.map(logged));
        play(inputs).len()
    };
    assert_eq!((incidents(&tied, None), incidents(&tied, Some(told()))), (0, 1));
    let lost = Socket { unacked: 80, ..tied };
    assert_eq!(incidents(&lost, None), 1, "it was never acknowledged");
}

#[test]
fn a_bare_reset_to_a_first_request_is_a_host_that_forgot_and_only_weak() {
    let socket = upstream();
    let reset = stateless_reset(&socket);
    check(
        vec![received(100, socket, Some(reset)), recv_failed(100)],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamRestarted,
        Certainty::Weak,
    );
}

#[test]
fn the_same_addresses_in_another_namespace_are_another_connection() {
    let socket = upstream();
    let reset = active_reset(&socket);
    let stranger = Socket { netns: 2, snd_nxt: 3_000_000_000, rcv_nxt: 2_000_000_000, ..upstream_peer() };
    let verdict = check(
        vec![
            received(100, socket, Some(reset)),
            sent(100, stranger, "TCP_ABORT_ON_CLOSE", app(Some(KILLED))),
            recv_failed(101),
        ],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Strong,
    );
    assert!(verdict.reset.unwrap().sender.is_none());
}

#[test]
fn a_process_that_died_before_nginx_noticed_is_still_remembered() {
    let socket = upstream();
    let reset = stateless_reset(&socket);
    check(
        vec![
            closed(100, upstream_peer(), app(Some(KILLED))),
            received(2_500, socket, Some(reset)),
            recv_failed(2_501),
        ],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamProcessExit,
        Certainty::Proven,
    );
}

#[test]
fn a_process_of_this_host_that_resets_is_named() {
    let socket = upstream();
    let reset = active_reset(&socket);
    let verdict = check(
        vec![received(100, socket, Some(reset)), sent(100, upstream_peer(), "TCP_ABORT_ON_CLOSE", app(None))],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Proven,
    );
    let reset = verdict.reset.unwrap();
    assert_eq!(reset.reason.as_deref(), Some("TCP_ABORT_ON_CLOSE"));
    assert_eq!(reset.sender.unwrap().exit, None);
}

#[test]
fn nginx_as_its_own_upstream_is_judged_on_both_ends() {
    let ours = upstream();
    let theirs = Socket {
        side: crate::model::Side::Client,
        owner: Some(crate::model::socket::Owner { pid: WORKER + 1, comm: "nginx".to_owned() }),
        ..upstream_peer()
    };
    let reset = active_reset(&ours);
    let other_worker = crate::model::Task { pid: WORKER + 1, tid: WORKER + 1, ..worker() };
    let verdicts =
        play(vec![received(100, ours, Some(reset)), sent(100, theirs, "TCP_ABORT_ON_CLOSE", other_worker)]);
    let said: Vec<_> =
        verdicts.iter().map(|verdict| (verdict.party, verdict.cause, verdict.certainty)).collect();
    assert!(said.contains(&(Party::Nginx, Cause::NginxClosedUnread, Certainty::Proven)), "{said:?}");
    assert!(said.contains(&(Party::Upstream, Cause::UpstreamAbort, Certainty::Proven)), "{said:?}");
}

#[test]
fn a_process_that_resets_while_it_dies_is_told_once_as_dying() {
    let socket = upstream();
    let reset = active_reset(&socket);
    let verdict = play(vec![
        sent(100, upstream_peer(), "TCP_ABORT_ON_CLOSE", app(Some(KILLED))),
        received(100, socket, Some(reset)),
    ])
    .remove(0);
    let codes: Vec<&str> = verdict.evidence.iter().map(|piece| piece.code.as_ref()).collect();
    assert!(codes.contains(&"peer_process_exit") && !codes.contains(&"peer_process_reset"), "{codes:?}");
}

#[test]
fn a_process_that_ends_after_the_reset_did_not_cause_it() {
    let exit = ExitStatus { signal: 9, status: 0, core_dumped: false };
    let later = closed(180, upstream_peer(), app(Some(exit)));
    let verdicts = play(vec![received(100, upstream(), Some(active_reset(&upstream()))), later]);
    assert_eq!(verdicts[0].cause, Cause::UpstreamAbort, "{verdicts:#?}");
}

#[test]
fn a_reset_on_loopback_in_the_name_of_a_socket_that_lives_on_is_netfilters() {
    let socket = upstream();
    let mut host = host();
    host.local_addresses.push(socket.remote.ip());
    let reset = Packet { on_loopback: true, ..stateless_reset(&socket) };
    let later = closed(180, upstream_peer(), app(None));
    let verdicts = play_on(host, vec![received(100, socket, Some(reset)), later]);
    assert_eq!((verdicts[0].cause, verdicts[0].certainty), (Cause::LocalFirewall, Certainty::Proven));
}

#[test]
fn a_host_that_acknowledged_a_moment_ago_has_not_forgotten_the_connection() {
    let uploading = Socket {
        bytes_sent: 328_718,
        bytes_acked: 300_000,
        data_segments_out: 228,
        last_sent_ms: Some(0),
        ..upstream()
    };
    for (last_ack_ms, cause) in [(Some(0), Cause::UpstreamAbort), (Some(4_000), Cause::UpstreamRestarted)] {
        let socket = Socket { last_ack_ms, ..uploading.clone() };
        let reset = stateless_reset(&socket);
        let failed = line(100, MessageKind::WRITEV_FAILED, Some(104), "sending request to upstream");
        check(
            vec![received(100, socket, Some(reset)), logged(failed)],
            Kind::ResetReceived,
            Party::Upstream,
            cause,
            Certainty::Weak,
        );
    }
}
