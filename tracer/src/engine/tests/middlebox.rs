//! Resets that did not come from whom they name.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Certainty, Kind, Party, Segment};
use crate::model::{
    Baseline, BaselineSource, Input, Losses, Mono, Packet, PeerHistory, Socket, TcpFlags, Timestamps,
};

fn from_ttl(ttl: u8, socket: &Socket) -> Packet {
    Packet { ttl, ..stateless_reset(socket) }
}

/// A forged reset that copies everything but the way it came, in mid-connection.
pub(super) fn disguised(ttl: u8, socket: &Socket) -> Packet {
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
fn one_hop_off_may_be_a_changed_path_to_a_host_that_restarted() {
    let socket = upstream();
    let reset = from_ttl(64, &socket);
    let verdict = check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxForgedReset,
        Certainty::Weak,
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
    let reset = from_ttl(252, &socket);
    let verdict = check(
        vec![received(100, socket, Some(reset))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxIdleReset,
        Certainty::Strong,
    );
    let advice = &verdict.advice[0].text;
    assert!(advice.contains("3 routers away") && advice.contains("AWS"), "{advice}");
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

#[test]
fn a_syn_answered_sooner_than_the_peer_can_is_perhaps_a_device() {
    let history = PeerHistory { ttl: 63, handshakes: 9, min_handshake_us: 40_000, last_syn_ack: at(0) };
    let socket = Socket {
        state: crate::model::TcpState::SynSent,
        baseline: None,
        peer_history: Some(history),
        opened: Some(at(99)),
        ..upstream()
    };
    let reset = refusal(&socket);
    check(
        vec![received(100, socket, Some(reset))],
        Kind::Refused,
        Party::Middlebox,
        Cause::MiddleboxReject,
        Certainty::Weak,
    );
}

#[test]
fn two_ends_on_this_host_that_both_received_a_reset_blame_the_path() {
    let (ours, theirs) = (upstream(), upstream_peer());
    let (reset, other) = (stateless_reset(&ours), stateless_reset(&theirs));
    check(
        vec![received(100, ours, Some(reset)), received(100, theirs, Some(other))],
        Kind::ResetReceived,
        Party::Middlebox,
        Cause::MiddleboxBothEndsReset,
        Certainty::Proven,
    );
}

/// A refused RST so far ahead of the next number, or behind it.
fn refused(socket: &Socket, offset: u32, like: Packet) -> (u64, Input) {
    let packet = Packet { seq: socket.rcv_nxt.wrapping_add(offset), ..like };
    let kind = crate::model::EventKind::ResetRefused {
        reason: "TCP_RESET".to_owned(),
        local: socket.local,
        remote: socket.remote,
    };
    let (when, input) = bare(99, kind, nobody());
    let Input::Event(mut event) = input else { unreachable!() };
    event.packet = Some(packet);
    (when, Input::Event(event))
}

#[test]
fn resets_that_guess_are_a_device() {
    let socket = Socket { ts_recent: None, ..upstream() };
    let reset = disguised(63, &socket);
    let guess = |offset| refused(&socket, offset, reset.clone());
    let inputs = vec![guess(1460), guess(4380), received(100, socket.clone(), Some(reset.clone()))];
    let verdict =
        check(inputs, Kind::ResetReceived, Party::Middlebox, Cause::MiddleboxForgedReset, Certainty::Weak);
    assert!(verdict.evidence.iter().any(|piece| piece.code == "resets_refused"));
}

#[test]
fn bare_resets_with_numbers_that_were_acknowledged_are_no_guess() {
    let socket = Socket { bytes_received: 71, ..upstream() };
    let like = Packet { flags: TcpFlags(TcpFlags::RST), ack: 0, ..disguised(63, &socket) };
    let accepted = Packet { seq: socket.rcv_nxt, ..like.clone() };
    let answer = |offset| refused(&socket, offset, like.clone());
    let inputs =
        vec![answer(u32::MAX), answer(0_u32.wrapping_sub(71)), received(100, socket.clone(), Some(accepted))];
    let verdicts = play(inputs);
    assert!(verdicts.iter().all(|verdict| verdict.party == Party::Upstream), "{verdicts:#?}");
    assert!(
        verdicts.iter().flat_map(|verdict| &verdict.evidence).all(|piece| piece.code != "resets_refused")
    );
}

#[test]
fn a_refused_reset_alone_is_no_failure() {
    let kind = crate::model::EventKind::ResetRefused {
        reason: "TCP_RESET".to_owned(),
        local: upstream().local,
        remote: upstream().remote,
    };
    assert!(play(vec![bare(100, kind, nobody())]).is_empty());
}

/// An upstream 60 ms away whose last data was sent 5 ms ago.
pub(super) fn far_away(handshakes: u32, fastest: u32) -> Socket {
    let history = PeerHistory { ttl: 63, handshakes, min_handshake_us: fastest, last_syn_ack: at(0) };
    Socket {
        min_rtt_us: 60_000,
        srtt_us: 61_000,
        unacked: 100,
        last_sent_ms: Some(5),
        peer_history: Some(history),
        ..upstream()
    }
}

pub(super) fn certainty_of(socket: Socket, reset: Packet) -> (Cause, Certainty) {
    let verdict = play(vec![received(100, socket, Some(reset))]).remove(0);
    (verdict.cause, verdict.certainty)
}

#[test]
fn an_answer_that_came_before_it_could_is_a_devices() {
    let judged = |socket: Socket| {
        let reset = Packet { timestamps: None, ..active_reset(&socket) };
        certainty_of(socket, reset)
    };
    assert_eq!(judged(far_away(5, 60_000)), (Cause::MiddleboxForgedReset, Certainty::Proven));
    let elsewhere = |socket: Socket| {
        let reset = Packet { timestamps: None, ttl: 60, ..active_reset(&socket) };
        certainty_of(socket, reset).1
    };
    assert_eq!(elsewhere(far_away(5, 60_000)), Certainty::Proven);
    // Since it was opened the way may have become shorter, for the peer, too.
    let mut old = Socket { opened: Some(Mono(0)), ..far_away(5, 60_000) };
    old.peer_history = old.peer_history.map(|known| PeerHistory { last_syn_ack: Mono(0), ..known });
    assert_eq!(elsewhere(old), Certainty::Weak);
    // Only handshakes took so long, and a switch may have made each of them wait.
    assert_eq!(judged(Socket { bytes_acked: 1, ..far_away(5, 60_000) }).1, Certainty::Weak);
    let own_clock = far_away(5, 60_000);
    let reset = active_reset(&own_clock);
    assert_eq!(certainty_of(own_clock, reset).0, Cause::UpstreamAbort);
    // One slow handshake, or one with another host behind the address, is no distance.
    assert_ne!(judged(far_away(4, 60_000)).0, Cause::MiddleboxForgedReset);
    assert_ne!(judged(far_away(5, 20_000)).0, Cause::MiddleboxForgedReset);
    // In time; and an answer to something older.
    assert_ne!(
        judged(Socket { last_sent_ms: Some(20), ..far_away(5, 60_000) }).0,
        Cause::MiddleboxForgedReset
    );
    let older = far_away(5, 60_000);
    let reset = Packet { ack: older.snd_nxt - 100, ..active_reset(&older) };
    assert_ne!(certainty_of(older, reset).0, Cause::MiddleboxForgedReset);
}

#[test]
fn the_time_of_the_very_segment_tells_of_short_paths_too() {
    let judged = |sent_ms: u64, rtt_us: u32| {
        let near = Socket { newest_sent: Some(at(sent_ms)), last_sent_ms: Some(0), ..far_away(5, rtt_us) };
        let reset = Packet { timestamps: None, ..active_reset(&near) };
        certainty_of(near, reset).0
    };
    // The RST comes at 100 ms; a tick of the coarse clock is longer than these paths.
    assert_eq!(judged(99, 4_000), Cause::MiddleboxForgedReset);
    assert_ne!(judged(98, 4_000), Cause::MiddleboxForgedReset);
}

#[test]
fn a_syn_that_is_refused_too_soon_may_have_met_another_host_behind_the_address() {
    let judged = |opened: u64, handshakes: u32| {
        let socket = Socket {
            state: crate::model::TcpState::SynSent,
            opened: Some(at(opened)),
            baseline: None,
            unacked: 0,
            ..far_away(handshakes, 60_000)
        };
        let reset = refusal(&socket);
        certainty_of(socket, reset)
    };
    assert_eq!(judged(90, 5), (Cause::MiddleboxReject, Certainty::Weak));
    assert_eq!(judged(60, 5).0, Cause::UpstreamRefused);
    assert_eq!(judged(90, 4).0, Cause::UpstreamRefused);
}

#[test]
fn data_that_the_reset_overtook_is_no_sign_of_life() {
    let judged = |after: u64, srtt_us: u32| {
        let socket = Socket { srtt_us, data_segments_out: 2, ..upstream() };
        let reset = stateless_reset(&socket);
        let data = data_from_peer(&socket, 900);
        let inputs =
            vec![received(100, socket, Some(reset)), answered(100 + after, "NO_SOCKET", data, Some(100))];
        let verdict = play(inputs).remove(0);
        verdict.evidence.iter().any(|piece| piece.code == "peer_alive")
    };
    assert!(!judged(10, 400) && judged(11, 400));
    assert!(!judged(129, 60_000) && judged(130, 60_000), "a long path, whose delay may vary as much");
}

pub(super) fn told(inputs: Vec<(u64, Input)>, code: &str) -> bool {
    let verdict = play(inputs).remove(0);
    verdict.evidence.iter().any(|piece| piece.code == code)
}

#[test]
fn a_delayed_segment_or_a_copy_of_one_is_no_sign_of_life() {
    let judged = |stamp: Option<u32>, bytes_behind: u32| {
        let socket = upstream();
        let reset = active_reset(&socket);
        let data = data_from_peer(&socket, 900);
        let seq = reset.seq.wrapping_sub(bytes_behind);
        let timestamps = stamp.map(|value| Timestamps { value, echo: 1 });
        let late = Packet { seq, timestamps, payload_len: 900, ..data };
        told(
            vec![received(100, socket, Some(reset)), answered(500, "NO_SOCKET", late, Some(100))],
            "peer_alive",
        )
    };
    assert!(judged(Some(700_500), 0), "new data, and its clock went on");
    assert!(judged(Some(700_500), 900), "repeated 400 ms later");
    assert!(!judged(Some(700_000), 900) && !judged(Some(700_012), 0), "sent before the RST, by its clock");
    assert!(judged(None, 0) && !judged(None, 900), "without a clock only what is new");
}

#[test]
fn a_bare_rst_is_not_of_a_process_that_resets_a_moment_later() {
    let judged = |acted: u64, bare: bool| {
        let ours = upstream();
        let reset = if bare { stateless_reset(&ours) } else { active_reset(&ours) };
        let process = sent(acted, upstream_peer(), "TCP_STATE", app(None));
        told(vec![received(100, ours, Some(reset)), process], "peer_process_reset")
    };
    assert!(judged(105, false), "the kernel tells of it when it has left");
    assert!(!judged(105, true));
    assert!(judged(95, true), "it may have been lost, and the next segment met no socket");
}

#[test]
fn what_is_missing_proves_nothing_where_events_were_lost() {
    let judged = |lost: u64| {
        let (ours, theirs) = (upstream(), upstream_peer());
        let (reset, other) = (stateless_reset(&ours), stateless_reset(&theirs));
        let losses = Input::Losses(Losses { by_handover: [("ring".to_owned(), lost)].into() }.into());
        let inputs =
            vec![received(100, ours, Some(reset)), received(102, theirs, Some(other)), (103, losses)];
        play(inputs).remove(0).certainty
    };
    assert_eq!(judged(0), Certainty::Proven);
    assert_eq!(judged(1), Certainty::Weak);
}

#[test]
fn only_who_is_as_far_away_as_the_peer_can_be_its_sign_of_life() {
    let judged = |ttl: u8| {
        let socket = upstream();
        let (reset, data) = (stateless_reset(&socket), data_from_peer(&socket, 900));
        let data = Packet { ttl, ..data };
        told(
            vec![received(100, socket, Some(reset)), answered(350, "NO_SOCKET", data, Some(100))],
            "peer_alive",
        )
    };
    assert!(judged(63) && !judged(60));
}

#[test]
fn an_end_that_this_kernel_answered_was_not_reset_by_the_same_hand() {
    let judged = |answers: bool| {
        let (ours, theirs) = (upstream(), upstream_peer());
        let (reset, other) = (stateless_reset(&ours), stateless_reset(&theirs));
        let segment = Packet { payload_len: 0, ..data_from_peer(&ours, 0) };
        let mut inputs = vec![received(100, ours, Some(reset))];
        inputs.extend(answers.then(|| answered(101, "NO_SOCKET", segment, Some(100))));
        inputs.push(received(102, theirs, Some(other)));
        told(inputs, "both_ends_reset")
    };
    assert!(judged(false) && !judged(true));
}

#[test]
fn a_reset_on_loopback_from_an_end_on_this_host_is_its_own() {
    let judged = |source: &str, seen: bool| {
        let socket = Socket { remote: address(source), ..upstream() };
        let reset = Packet { on_loopback: true, ..stateless_reset(&socket) };
        let mut inputs = vec![received(100, socket, Some(reset))];
        let theirs = Socket { local: address(source), ..upstream_peer() };
        inputs.extend(seen.then(|| received(100, theirs.clone(), Some(stateless_reset(&theirs)))));
        told(inputs, "reset_on_loopback")
    };
    assert!(judged("10.0.0.2:8080", false));
    assert!(!judged("10.0.0.2:8080", true), "its end was seen here");
    let older = Socket { preexisting: true, ..upstream() };
    let reset = Packet { on_loopback: true, ..stateless_reset(&older) };
    let verdict = play(vec![received(100, older, Some(reset))]).remove(0);
    assert_eq!(verdict.certainty, Certainty::Weak, "this host may translate the address to one of its own");
    assert!(!judged("10.0.0.1:8080", false), "the address is this host's");
}

#[test]
fn the_peers_own_clock_outweighs_another_distance() {
    let judged = |value: u32| {
        let socket = upstream();
        let timestamps = Some(Timestamps { value, echo: 1 });
        let reset = Packet { ttl: 60, timestamps, ..active_reset(&socket) };
        play(vec![received(100, socket, Some(reset))]).remove(0).cause
    };
    assert_ne!(judged(700_012), Cause::MiddleboxForgedReset);
    assert_ne!(judged(700_000), Cause::MiddleboxForgedReset, "11 ms may be less than a tick");
    assert_eq!(judged(900_000_000), Cause::MiddleboxForgedReset, "no clock runs that fast");
}

#[test]
fn a_far_end_that_was_reset_long_ago_is_known_by_its_kernels_answer() {
    let judged = |opened: u64| {
        let (own, far) = (Socket { opened: Some(at(opened)), ..upstream() }, upstream_peer());
        let request = Packet { source: own.local, destination: own.remote, ..data_from_peer(&own, 120) };
        let kind = crate::model::EventKind::ResetSent {
            reason: Some("NO_SOCKET".to_owned()),
            after_reset: Some(at(1_000)),
            local: far.local,
            remote: far.remote,
            backlog: None,
        };
        let (when, mut answer) = bare(60_000, kind, nobody());
        if let Input::Event(event) = &mut answer {
            event.packet = Some(request);
        }
        let reset = stateless_reset(&own);
        let host = host_with_hook("tcp_send_reset", true);
        play_on(host, vec![(when, answer), received(60_001, own, Some(reset))]).remove(0).certainty
    };
    assert_eq!(judged(0), Certainty::Proven);
    assert_ne!(judged(2_000), Certainty::Proven, "another connection had these ports then");
}

#[test]
fn a_clock_that_stands_still_is_a_copy() {
    let judged = |silent: u32, value: u32| {
        let socket = Socket { last_ack_ms: Some(silent), last_sent_ms: Some(silent), ..upstream() };
        let reset = Packet { timestamps: Some(Timestamps { value, echo: 1 }), ..active_reset(&socket) };
        play(vec![received(100, socket, Some(reset))]).remove(0).certainty
    };
    assert_eq!(judged(49, 700_000), Certainty::Strong);
    assert_eq!(judged(50, 700_000), Certainty::Weak);
    assert_eq!(judged(50, 700_001), Certainty::Strong);
}

#[test]
fn a_far_end_that_was_reset_in_nginx_name_explains_its_kernels_rst() {
    let judged = |far: u64, ours: Option<u64>, hook: &str| {
        let (own, theirs) = (upstream(), upstream_peer());
        let (reset, other) = (stateless_reset(&own), stateless_reset(&theirs));
        let mut inputs = vec![received(far, theirs, Some(other))];
        inputs.extend(ours.map(|time| sent(time, own.clone(), "TCP_STATE", worker())));
        inputs.push(received(400, own, Some(reset)));
        let verdict = play_on(host_with_hook(hook, true), inputs).remove(0);
        verdict.evidence.iter().any(|piece| piece.code == "far_end_reset")
    };
    assert!(judged(100, None, "tcp_send_reset"));
    assert!(!judged(100, None, "tcp_receive_reset"), "what Nginx's kernel sent was not seen");
    assert!(!judged(395, None, "tcp_send_reset"), "both at once may have one cause");
    assert!(!judged(100, Some(99), "tcp_send_reset"), "Nginx's end sent it");
}
