//! What holds for the engine itself: determinism, bounds, losses, lines without an incident.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::engine::testing::*;
use crate::engine::{Engine, Limits};
use crate::model::verdict::{Cause, Certainty, Kind, Party, Weight};
use crate::model::{Clock, Input, Level, Losses, MessageKind, Socket, TcpState, Verdict};

fn abort() -> (u64, Input) {
    let socket = upstream();
    let reset = active_reset(&socket);
    received(100, socket, Some(reset))
}

#[test]
fn nothing_makes_no_verdict() {
    assert!(play(Vec::new()).is_empty());
}

#[test]
fn verdicts_do_not_depend_on_how_often_the_engine_is_asked() {
    let json = |verdicts: Vec<Verdict>| serde_json::to_string(&verdicts).unwrap();
    let run = |often: bool| {
        let mut engine = Engine::new(Limits::default());
        engine.handle(at(0), Input::Host(Box::new(host())));
        let mut verdicts = Vec::new();
        for (milliseconds, input) in [abort(), logged(line(4000, MessageKind::NO_LIVE_UPSTREAMS, None, ""))] {
            for step in (0..milliseconds).step_by(10).filter(|_| often) {
                verdicts.extend(engine.advance(at(step)));
            }
            engine.handle(at(milliseconds), input);
        }
        verdicts.extend(engine.finish(at(60_000)));
        json(verdicts)
    };
    assert_eq!(run(true), run(false));
    assert!(run(false).contains("upstream_unavailable"));
}

#[test]
fn an_incident_settles_at_its_deadline_and_not_before() {
    let mut engine = Engine::new(Limits::default());
    let (_, input) = abort();
    engine.handle(at(100), input);
    assert_eq!(engine.next_deadline(), Some(at(3100)));
    assert!(engine.advance(at(3099)).is_empty());
    assert_eq!(engine.advance(at(3100)).len(), 1);
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn the_time_for_the_line_begins_with_what_nginx_meets() {
    let mut engine = Engine::new(Limits::default());
    let (_, far) = received(100, upstream_peer(), Some(stateless_reset(&upstream_peer())));
    engine.handle(at(100), far);
    assert_eq!(engine.next_deadline(), Some(at(1_100)));
    let (_, near) = closed(1_090, upstream(), worker());
    engine.handle(at(1_090), near);
    assert_eq!(engine.next_deadline(), Some(at(2_090)));
}

#[test]
fn losses_lower_by_one_step_and_are_told() {
    let lost =
        |count| Input::Losses(Losses { by_handover: BTreeMap::from([("ring".to_owned(), count)]) }.into());
    let verdict = check(
        vec![(50, lost(0)), abort(), (150, lost(3))],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Weak,
    );
    assert!(
        verdict.missing.iter().any(|missing| missing.code == "events_lost" && missing.why == "ring lost 3")
    );
}

#[test]
fn an_old_connection_lowers_by_one_step() {
    let socket = Socket { preexisting: true, opened: None, ..upstream() };
    let reset = active_reset(&socket);
    check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Upstream,
        Cause::UpstreamAbort,
        Certainty::Weak,
    );
}

#[test]
fn lines_alone_are_undetermined_and_only_failures() {
    let verdict = check(
        vec![logged(line(100, MessageKind::NO_LIVE_UPSTREAMS, None, "connecting to upstream"))],
        Kind::LogOnly,
        Party::Upstream,
        Cause::UpstreamUnavailable,
        Certainty::Undetermined,
    );
    assert!(verdict.connection.is_none() && verdict.matched.is_none());
    let mut info = line(100, MessageKind::CLIENT_CLOSED_KEEPALIVE, None, "");
    info.level = Some(Level::Info);
    assert!(play(vec![logged(info)]).is_empty());
}

#[test]
fn a_server_of_names_that_refuses_is_no_upstream() {
    let mut refused = line(100, MessageKind::SEND_FAILED, Some(111), "resolving");
    refused.upstream = None;
    refused.upstream_url = None;
    check(
        vec![logged(refused)],
        Kind::LogOnly,
        Party::Unknown,
        Cause::InsufficientEvidence,
        Certainty::Undetermined,
    );
}

#[test]
fn an_address_that_the_host_does_not_have_is_configured_and_no_lack_of_ports() {
    check(
        vec![logged(line(100, MessageKind::UPSTREAM_BIND_FAILED, Some(99), "connecting to upstream"))],
        Kind::LogOnly,
        Party::Nginx,
        Cause::NginxConfig,
        Certainty::Undetermined,
    );
}

#[test]
fn a_full_table_judges_early_and_says_so() {
    let mut engine = Engine::new(Limits { incidents: 2, ..Limits::default() });
    for index in 0..5u16 {
        let mut socket = upstream();
        socket.cookie += u64::from(index);
        socket.local.set_port(40_000 + index);
        let reset = active_reset(&socket);
        let (_, input) = received(100, socket, Some(reset));
        engine.handle(at(100), input);
    }
    let verdicts = engine.finish(at(5000));
    assert_eq!(verdicts.len(), 5);
    let early = |verdict: &&Verdict| verdict.missing.iter().any(|missing| missing.code == "table_full");
    assert_eq!(verdicts.iter().filter(early).count(), 3);
    assert_eq!(engine.counters().evicted, 3);
}

#[test]
fn several_lines_and_incidents_pair_in_order_and_say_so() {
    let mut inputs = Vec::new();
    for index in 0..3u16 {
        let mut socket = upstream();
        socket.cookie += u64::from(index);
        socket.local.set_port(40_000 + index);
        let reset = active_reset(&socket);
        inputs.push(received(100 + u64::from(index), socket, Some(reset)));
    }
    for index in 0..3u64 {
        inputs.push(logged(line(
            110 + index,
            MessageKind::RECV_FAILED,
            Some(104),
            "reading response header",
        )));
    }
    let verdicts = play(inputs);
    let gaps: Vec<i64> = verdicts.iter().map(|verdict| verdict.matched.as_ref().unwrap().gap_ms).collect();
    assert_eq!(gaps, [10, 10, 10]);
    assert_eq!(verdicts[0].matched.as_ref().unwrap().candidates, 3);
}

#[test]
fn a_lost_line_is_late_and_not_another_incident() {
    let (when, _) = abort();
    let verdicts = play(vec![
        abort(),
        (when + 1050, logged(line(when + 990, MessageKind::RECV_FAILED, Some(104), "reading")).1),
    ]);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
}

fn any_input() -> impl Strategy<Value = (u64, Input)> {
    let states = prop::sample::select(vec![
        TcpState::Established,
        TcpState::SynSent,
        TcpState::CloseWait,
        TcpState::FinWait2,
        TcpState::Close,
    ]);
    let times = (prop::option::of(0u32..100_000), prop::option::of(0u32..100_000));
    let numbers = (0u64..5000, 0u32..3, 0u32..3, any::<u8>(), 0i32..3, 0u16..3);
    (states, times, numbers, 0u8..8, any::<bool>()).prop_map(|(state, times, numbers, what, flag)| {
        let (when, unacked, pending, ttl, error, port) = numbers;
        let mut socket = if flag { upstream() } else { client() };
        socket.state = state;
        (socket.last_sent_ms, socket.last_received_ms) = times;
        (socket.unacked, socket.retransmits_pending) = (unacked * 700, pending);
        socket.error = [0, 110, 113][error.unsigned_abs() as usize];
        socket.bytes_received = u64::from(unacked) * 100;
        socket.local.set_port(socket.local.port() + port);
        socket.cookie += u64::from(port) * 10;
        let mut packet = if flag { active_reset(&socket) } else { stateless_reset(&socket) };
        packet.ttl = ttl;
        match what {
            0 => received(when, socket, Some(packet)),
            1 => received(when, socket, None),
            2 => sent(when, socket, "TCP_ABORT_ON_CLOSE", worker()),
            3 => closed(when, socket, worker()),
            4 => answered(when, "NO_SOCKET", data_from_peer(&socket, 100), Some(when)),
            5 => sent(when, upstream_peer(), "TCP_ABORT_ON_CLOSE", app(flag.then_some(KILLED))),
            6 => logged(line(when, MessageKind::RECV_FAILED, Some(104), "reading upstream")),
            _ => logged(line(when, MessageKind::UPSTREAM_TIMED_OUT, Some(110), "reading upstream")),
        }
    })
}

proptest! {
    #[test]
    fn certainty_never_exceeds_the_evidence(mut inputs in prop::collection::vec(any_input(), 0..12)) {
        inputs.sort_by_key(|(when, _)| *when);
        for verdict in play(inputs) {
            let against = verdict.evidence.iter().any(|piece| piece.weight == Weight::Against);
            let decisive = verdict.evidence.iter().any(|piece| piece.weight == Weight::Decisive);
            prop_assert!(verdict.certainty != Certainty::Proven || (decisive && !against));
            prop_assert_eq!(verdict.party == Party::Unknown, verdict.cause == Cause::InsufficientEvidence);
            if verdict.party == Party::Unknown {
                prop_assert_eq!(verdict.certainty, Certainty::Undetermined);
            }
        }
    }

    #[test]
    fn no_number_of_questions_changes_a_verdict(mut inputs in prop::collection::vec(any_input(), 0..12)) {
        // Spread out, so that memories run out between the inputs.
        for (when, _) in &mut inputs {
            *when *= 3;
        }
        inputs.sort_by_key(|(when, _)| *when);
        let run = |often: bool| {
            let mut engine = Engine::new(Limits::default());
            engine.handle(at(0), Input::Host(Box::new(host())));
            let (mut verdicts, mut asked) = (Vec::new(), 0);
            for (when, input) in inputs.clone() {
                (asked..when).step_by(50).filter(|_| often).for_each(|step| verdicts.extend(engine.advance(at(step))));
                asked = when;
                engine.handle(at(when), input);
            }
            verdicts.extend(engine.finish(at(60_000)));
            (serde_json::to_string(&verdicts).unwrap(), engine.counters())
        };
        prop_assert_eq!(run(true), run(false));
    }

    #[test]
    fn a_replay_gives_the_same_bytes(mut inputs in prop::collection::vec(any_input(), 0..12)) {
        inputs.sort_by_key(|(when, _)| *when);
        let json = |verdicts| serde_json::to_string::<Vec<Verdict>>(&verdicts).unwrap();
        prop_assert_eq!(json(play(inputs.clone())), json(play(inputs)));
    }
}

#[test]
fn the_time_of_a_verdict_is_utc() {
    let verdicts = play(vec![abort(), (0, Input::Clock(Clock { offset_ns: 0 }))]);
    assert!(verdicts[0].time.starts_with("1970-01-01T00:16:40.1"), "{}", verdicts[0].time);
}

#[test]
fn a_late_line_does_not_tell_the_same_failure_twice() {
    let socket = Socket { state: TcpState::SynSent, ..upstream() };
    let reset = refusal(&socket);
    let late = line(1_090, MessageKind::CONNECT_FAILED, Some(111), "connecting to upstream");
    let verdicts = play(vec![received(100, socket, Some(reset)), (1_150, logged(late).1)]);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
}
