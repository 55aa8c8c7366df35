//! Two recordings made by hand: what the second tells, and what it must not be taken to tell.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::*;
use crate::engine::testing::{
    KILLED, active_reset, address, app, at, closed, host, nobody, received, sent, sound, stateless_reset,
    upstream, upstream_peer, worker,
};
use crate::engine::{Engine, Limits};
use crate::model::verdict::{Cause, Certainty, Verdict};
use crate::model::{
    Clock, EventKind, HookState, HostFacts, Input, Losses, Overflow, Packet, ProcessFacts, QueueKind, Side,
    Socket, TcpState, Utc,
};
use crate::recording::{Header, Reader, Recorder, Sink, Writer};

/// How far the kernel clock of the second host is ahead, milliseconds.
const AHEAD: u64 = 7_000;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A session of 60 s as `trace --record` writes it.
fn recorded(host: HostFacts, offset_ns: i64, inputs: Vec<(u64, Input)>) -> Vec<u8> {
    let memory = Memory::default();
    let header = Header::of(host.host.clone(), &host.kernel, Utc(0));
    let writer = Writer::new(Box::new(memory.clone()), u64::MAX, &header).unwrap();
    let mut engine = Recorder::new(Engine::new(Limits::default()), Some(Sink::File(writer)));
    engine.handle(at(0), Input::Clock(Clock { offset_ns }));
    engine.handle(at(0), Input::Host(Box::new(host)));
    for (milliseconds, input) in inputs {
        engine.handle(at(milliseconds), input);
        engine.advance(at(milliseconds));
    }
    engine.finish(at(60_000));
    drop(engine);
    Arc::try_unwrap(memory.0).unwrap().into_inner().unwrap()
}

fn hooks() -> Vec<HookState> {
    let hook = |name: &str| HookState {
        name: name.to_owned(),
        running: true,
        problem: None,
        lost_evidence: String::new(),
    };
    vec![hook("tcp_send_reset"), hook("kfree_skb")]
}

fn nginx() -> HostFacts {
    HostFacts { kernel: "6.12.0".to_owned(), hooks: hooks(), ..host() }
}

fn other_host() -> HostFacts {
    let mut facts = HostFacts { host: "app7".to_owned(), observes: vec![8080], ..nginx() };
    facts.local_addresses = vec![address("10.0.0.2:0").ip()];
    facts.nginx.listeners = vec![(address("0.0.0.0:8080"), None)];
    facts
}

/// The other end of `upstream()` as its own host sees it.
fn accepted() -> Socket {
    let peer = upstream_peer();
    Socket {
        side: Side::Client,
        snd_una: 5_000,
        snd_nxt: 5_000,
        bytes_acked: 0,
        bytes_received: 120,
        opened: Some(at(AHEAD)),
        ..peer
    }
}

fn standing(milliseconds: u64, socket: Socket) -> (u64, Input) {
    let (time, mut input) = closed(milliseconds, socket, nobody());
    if let Input::Event(event) = &mut input {
        event.kind = EventKind::Standing;
    }
    (time, input)
}

/// Both judged; the second host's wall clock is right, its kernel clock is ahead.
fn judged_on(
    first: HostFacts,
    ours: Vec<(u64, Input)>,
    second: HostFacts,
    theirs: Vec<(u64, Input)>,
) -> Vec<Verdict> {
    const WALL: i64 = 1_790_000_000_000_000_000;
    let first = recorded(first, WALL, ours);
    let second = recorded(second, WALL - i64::try_from(AHEAD).unwrap() * 1_000_000, theirs);
    let open = |bytes: &'static [u8]| Reader::open(bytes).unwrap();
    let (first, second) = (first.leak() as &'static [u8], second.leak() as &'static [u8]);
    let witness = Witness::read(&mut open(second)).unwrap();
    let second = compare(&mut open(first), vec![witness]);
    let mut all = Vec::new();
    let played = second.play(&mut open(first), None, |verdicts| {
        all.extend_from_slice(verdicts);
        Ok(())
    });
    assert!(played.unwrap().0.is_whole);
    all.iter().for_each(sound);
    all
}

fn judged(ours: Vec<(u64, Input)>, theirs: Vec<(u64, Input)>) -> Verdict {
    let mut verdicts = judged_on(nginx(), ours, other_host(), theirs);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.remove(0)
}

/// As `judged_on`, beside a reset of another connection that bounds the clocks from both sides.
fn timed(first: HostFacts, mut ours: Vec<(u64, Input)>, mut theirs: Vec<(u64, Input)>) -> Verdict {
    let other = Socket { local: address("10.0.0.1:40001"), cookie: 70, ..upstream() };
    let end = Socket { remote: other.local, cookie: 71, ..accepted() };
    ours.insert(0, received(1_000, other.clone(), Some(active_reset(&other))));
    theirs.insert(0, sent(there(1_000), end, "TCP_STATE", app(None)));
    let mut verdicts = judged_on(first, ours, other_host(), theirs);
    assert_eq!(verdicts.len(), 2, "{verdicts:#?}");
    verdicts.remove(1)
}

fn decided(verdict: &Verdict) -> (Cause, Certainty) {
    (verdict.cause, verdict.certainty)
}

fn has(verdict: &Verdict, code: &str) -> bool {
    verdict.evidence.iter().any(|piece| piece.code == code)
}

/// A RST from two hops nearer, as any device on the way sends it.
fn foreign(socket: &Socket) -> Packet {
    Packet { ttl: 61, ..stateless_reset(socket) }
}

fn forged() -> Vec<(u64, Input)> {
    vec![received(5_000, upstream(), Some(foreign(&upstream())))]
}

/// A moment of the first host's clock by that of the second.
fn there(milliseconds: u64) -> u64 {
    milliseconds + AHEAD
}

#[test]
fn a_process_of_the_other_host_that_reset_is_named_with_its_host() {
    let process = ProcessFacts { pid: 500, exe: Some("/usr/bin/app".to_owned()), ..ProcessFacts::default() };
    let theirs = vec![
        (there(4_999), Input::Process(process)),
        sent(there(4_999), accepted(), "TCP_ABORT_ON_CLOSE", app(None)),
    ];
    let verdict = judged(vec![received(5_000, upstream(), Some(active_reset(&upstream())))], theirs);
    assert_eq!(decided(&verdict), (Cause::UpstreamAbort, Certainty::Proven));
    let sender = verdict.reset.unwrap().sender.unwrap();
    assert_eq!((sender.host.as_deref(), sender.exe.as_deref()), (Some("app7"), Some("/usr/bin/app")));
}

#[test]
fn a_process_that_resets_at_that_moment_has_not_sent_a_bare_reset_from_elsewhere() {
    let theirs = vec![sent(there(4_950), accepted(), "TCP_STATE", app(None))];
    let verdict = timed(nginx(), forged(), theirs);
    assert_eq!(verdict.cause, Cause::MiddleboxForgedReset, "{}", verdict.summary);
    assert!(!has(&verdict, "peer_process_reset"));
}

#[test]
fn each_run_of_the_other_hosts_tracer_tells_of_its_own_time() {
    let numbers = (1_005_000, 1_009_000);
    let later = Socket {
        local: address("10.0.0.1:40009"),
        cookie: 9,
        rcv_nxt: numbers.0,
        snd_una: numbers.1,
        snd_nxt: numbers.1,
        ..upstream()
    };
    let other = Socket {
        remote: later.local,
        cookie: 10,
        snd_una: numbers.0,
        snd_nxt: numbers.0,
        rcv_nxt: numbers.1,
        ..accepted()
    };
    let ours = vec![
        received(5_000, upstream(), Some(active_reset(&upstream()))),
        received(45_000, later.clone(), Some(active_reset(&later))),
    ];
    let run = |at, socket: Socket| {
        let told = vec![sent(there(at), socket, "TCP_ABORT_ON_CLOSE", app(None))];
        let bytes = recorded(other_host(), 0, told).leak() as &'static [u8];
        Witness::read(&mut Reader::open(bytes).unwrap()).unwrap()
    };
    let runs = vec![run(4_999, accepted()), run(44_999, other)];
    let first = recorded(nginx(), i64::try_from(AHEAD).unwrap() * 1_000_000, ours).leak() as &'static [u8];
    let second = compare(&mut Reader::open(first).unwrap(), runs);
    let mut certainties = Vec::new();
    let played = second.play(&mut Reader::open(first).unwrap(), None, |verdicts| {
        certainties.extend(verdicts.iter().map(|verdict| verdict.certainty));
        Ok(())
    });
    assert_eq!((played.unwrap().0.raised, certainties), (2, vec![Certainty::Proven; 2]));
}

#[test]
fn a_process_that_died_there_is_the_cause_and_one_that_died_later_is_not() {
    let dies = |at| vec![sent(there(at), accepted(), "TCP_ABORT_ON_CLOSE", app(Some(KILLED)))];
    let ours = || vec![received(5_000, upstream(), Some(active_reset(&upstream())))];
    let verdict = timed(nginx(), ours(), dies(4_999));
    assert_eq!(decided(&verdict), (Cause::UpstreamProcessExit, Certainty::Proven));
    let by_fin = vec![closed(there(4_999), accepted(), app(Some(KILLED)))];
    assert_eq!(timed(nginx(), ours(), by_fin).cause, Cause::UpstreamAbort, "a FIN is no RST");
    let verdict = timed(nginx(), forged(), dies(5_100));
    assert_eq!(verdict.cause, Cause::MiddleboxForgedReset);
}

#[test]
fn a_rst_that_the_other_host_never_sent_came_from_between() {
    let theirs = || vec![standing(there(4_000), accepted())];
    let verdict = judged(forged(), theirs());
    assert_eq!(decided(&verdict), (Cause::MiddleboxForgedReset, Certainty::Proven));
    assert!(has(&verdict, "not_sent"));
    // From the same distance it may be that host's packet filter, which no tracer sees.
    let near = vec![received(5_000, upstream(), Some(stateless_reset(&upstream())))];
    assert_ne!(judged(near, theirs()).certainty, Certainty::Proven);
}

#[test]
fn what_is_missing_there_means_nothing_where_it_might_not_have_been_seen() {
    let theirs = || vec![standing(there(4_000), accepted())];
    let alone = |second: HostFacts, theirs| {
        let verdict = judged_on(nginx(), forged(), second, theirs).remove(0);
        assert!(!has(&verdict, "not_sent"), "{verdict:#?}");
    };
    alone(HostFacts { kernel: "6.1.0".to_owned(), ..other_host() }, theirs());
    alone(HostFacts { hooks: Vec::new(), ..other_host() }, theirs());
    alone(other_host(), Vec::new());
    let other = Socket { rcv_nxt: 77, snd_una: 78, snd_nxt: 78, ..accepted() };
    alone(other_host(), vec![closed(there(4_000), other, nobody())]);
    let lost = Losses { by_handover: [("ring".to_owned(), 1)].into() };
    alone(other_host(), vec![standing(there(4_000), accepted()), (there(5_000), Input::Losses(lost.into()))]);
}

#[test]
fn numbers_find_a_connection_whose_addresses_were_translated() {
    let translated = Socket { local: address("10.9.9.9:80"), remote: address("10.9.9.1:1024"), ..accepted() };
    let theirs = |socket| vec![sent(there(4_999), socket, "TCP_ABORT_ON_CLOSE", app(None))];
    let ours = || vec![received(5_000, upstream(), Some(active_reset(&upstream())))];
    assert_eq!(judged(ours(), theirs(translated.clone())).certainty, Certainty::Proven);
    let other = Socket { snd_una: 6_000, snd_nxt: 6_000, ..translated };
    assert_ne!(judged(ours(), theirs(other)).certainty, Certainty::Proven);
}

#[test]
fn both_ends_that_received_a_rst_were_reset_from_between() {
    let theirs = || vec![received(there(5_010), accepted(), Some(stateless_reset(&accepted())))];
    let verdict = timed(nginx(), forged(), theirs());
    assert_eq!(decided(&verdict), (Cause::MiddleboxBothEndsReset, Certainty::Proven));
    // What answers the FIN of that end is no reset of both.
    let closing = Socket { state: TcpState::FinWait1, ..accepted() };
    let answered = vec![received(there(5_010), closing.clone(), Some(stateless_reset(&closing)))];
    assert_eq!(timed(nginx(), forged(), answered).cause, Cause::MiddleboxForgedReset);
    // An older kernel may have answered the other end itself, unseen.
    let old = HostFacts { kernel: "6.1.0".to_owned(), ..nginx() };
    assert_eq!(timed(old, forged(), theirs()).cause, Cause::MiddleboxForgedReset);
    let verdict = judged(forged(), theirs());
    assert_eq!(verdict.cause, Cause::MiddleboxForgedReset, "by clocks that may be 2 s apart");
}

fn lost() -> Socket {
    Socket { unacked: 35, snd_nxt: 9_035, retransmits: 3, retransmits_pending: 3, ..upstream() }
}

#[test]
fn what_never_reached_the_other_host_was_lost_and_so_was_an_answer_to_what_did() {
    let ours = || vec![closed(8_000, lost(), worker())];
    let verdict = judged(ours(), vec![standing(there(7_500), accepted())]);
    assert_eq!(decided(&verdict), (Cause::MiddleboxDrop, Certainty::Proven));
    assert!(has(&verdict, "never_arrived"));
    let more = Socket { bytes_received: 155, rcv_nxt: 9_035, ..accepted() };
    let verdict = judged(ours(), vec![standing(there(7_500), more)]);
    assert!(has(&verdict, "answer_lost"), "{verdict:#?}");
    // A connection that was never completed there tells of no loss.
    let half = Socket { state: TcpState::SynRecv, snd_nxt: 0, rcv_nxt: 0, bytes_received: 0, ..accepted() };
    let verdict = judged(ours(), vec![standing(there(7_500), half)]);
    assert!(!has(&verdict, "never_arrived") && !has(&verdict, "answer_lost"), "{verdict:#?}");
}

fn syn() -> Socket {
    Socket {
        state: TcpState::SynSent,
        bytes_sent: 0,
        bytes_acked: 0,
        retransmits: 2,
        error: 110,
        opened: Some(at(5_000)),
        rcv_nxt: 0,
        baseline: None,
        ..upstream()
    }
}

fn unanswered() -> Vec<(u64, Input)> {
    vec![closed(8_000, syn(), worker())]
}

#[test]
fn a_syn_that_no_trace_of_is_there_only_supports_a_loss() {
    let busy = Socket { remote: address("10.0.0.1:39999"), cookie: 55, ..accepted() };
    let verdict = judged(unanswered(), vec![standing(there(4_000), busy.clone())]);
    assert!(has(&verdict, "never_arrived"));
    assert_eq!(decided(&verdict), (Cause::MiddleboxDrop, Certainty::Strong));
    // Nginx's address never came there: it may be translated.
    let hidden = Socket { remote: address("10.8.8.8:39999"), ..busy };
    assert!(!has(&judged(unanswered(), vec![standing(there(4_000), hidden)]), "never_arrived"));
}

#[test]
fn a_half_open_connection_there_means_that_the_answer_was_lost() {
    let half = Socket { state: TcpState::SynRecv, snd_nxt: 0, rcv_nxt: 0, bytes_received: 0, ..accepted() };
    let verdict = judged(unanswered(), vec![standing(there(6_000), half)]);
    assert!(has(&verdict, "answer_lost"));
    assert_eq!(decided(&verdict), (Cause::MiddleboxDrop, Certainty::Proven));
}

#[test]
fn a_full_listener_there_is_no_loss_on_the_way() {
    let overflow = |client: &str| {
        let overflow = Overflow {
            listener: address("0.0.0.0:8080"),
            netns: 5,
            queue: 2,
            limit: 1,
            queue_kind: QueueKind::Accept,
            dropped: 1,
            client: Some(address(client)),
            side: Side::Client,
        };
        vec![crate::engine::testing::bare(there(6_000), EventKind::ListenOverflow(overflow), nobody())]
    };
    let verdict = judged(unanswered(), overflow("10.0.0.1:40000"));
    assert_eq!(decided(&verdict), (Cause::UpstreamListenOverflow, Certainty::Proven));
    let verdict = judged(unanswered(), overflow("10.0.0.1:40001"));
    assert_eq!(verdict.cause, Cause::UpstreamListenOverflow);
    assert_ne!(verdict.certainty, Certainty::Proven);
}

#[test]
fn what_watches_an_upstream_gives_no_verdicts_of_its_own() {
    let bytes =
        recorded(other_host(), 0, vec![received(5_000, accepted(), Some(stateless_reset(&accepted())))]);
    let mut count = 0;
    let played = crate::recording::play(
        &mut Reader::open(bytes.as_slice()).unwrap(),
        &mut Engine::new(Limits::default()),
        |verdicts| {
            count += verdicts.len();
            Ok(())
        },
    );
    assert!(played.is_ok());
    assert_eq!(count, 0);
}
