//! Traits of captures from elsewhere: other protocols, clocks that do not count, scans, old containers. Each is a
//! conversation made by hand.

use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Impact, Party};

use super::roles::Named;
use super::testing::{CLIENT, NGINX, NGINX_OUT, UPSTREAM, Wire, asked, judged, pcap, pcap_of, session, wire};

const TO_NGINX: (&str, &str) = (CLIENT, NGINX);
const FROM_NGINX: (&str, &str) = (NGINX, CLIENT);
const TO_UPSTREAM: (&str, &str) = (NGINX_OUT, UPSTREAM);
const FROM_UPSTREAM: (&str, &str) = (UPSTREAM, NGINX_OUT);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

fn with(mut packets: Vec<Wire>, more: impl IntoIterator<Item = Wire>) -> Vec<Wire> {
    packets.extend(more);
    packets
}

fn handshake() -> Vec<Wire> {
    asked(TO_NGINX).into_iter().take(3).collect()
}

fn only(packets: &[Wire]) -> Verdict {
    let mut verdicts = judged(pcap(packets));
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.remove(0)
}

fn check(verdict: &Verdict, party: Party, cause: Cause, certainty: Certainty, impact: Impact) {
    let found = (verdict.party, verdict.cause, verdict.certainty, verdict.impact);
    assert_eq!(found, (party, cause, certainty, impact), "{}: {:#?}", verdict.summary, verdict.evidence);
}

/// The client closes at `client`, the server at `server`, both acknowledged.
fn closed(client: u32, server: u32) -> [Wire; 3] {
    [
        wire(40, TO_NGINX, "F.", client, server),
        wire(41, FROM_NGINX, "F.", server, client + 1),
        wire(42, TO_NGINX, ".", client + 1, server + 1),
    ]
}

#[test]
fn a_client_that_leaves_its_request_is_told_and_one_that_says_quit_is_not() {
    let abandoned = only(&with(asked(TO_NGINX), closed(1_028, 5_001)));
    check(&abandoned, Party::Client, Cause::ClientAbort, Certainty::Weak, Impact::RequestFailed);
    let mail = [
        wire(5, FROM_NGINX, "P.", 5_001, 1_001).data(b"220 ready\r\n"),
        wire(6, TO_NGINX, "P.", 1_001, 5_012).data(b"QUIT\r\n"),
    ];
    assert_eq!(judged(pcap(&with(with(handshake(), mail), closed(1_007, 5_012)))), []);
    let store = [wire(5, TO_NGINX, "P.", 1_001, 5_001).data(b"*1\r\n$4\r\nPING\r\n")];
    assert_eq!(judged(pcap(&with(with(handshake(), store), closed(1_015, 5_001)))), []);
}

#[test]
fn the_order_of_packets_counts_where_their_times_do_not() {
    for at in [5, 3] {
        let exchange = [
            wire(5, TO_NGINX, "P.", 1_001, 5_001).data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            wire(at, FROM_NGINX, "P.", 5_001, 1_028).data(ANSWER),
        ];
        assert_eq!(judged(pcap(&with(with(handshake(), exchange), closed(1_028, 5_020)))), [], "{at}");
    }
}

#[test]
fn a_tls_handshake_that_is_followed_by_nothing_asked_for_nothing() {
    let hello = [
        wire(5, TO_NGINX, "P.", 1_001, 5_001).data(b"\x16\x03\x01\x00\x03abc"),
        wire(6, FROM_NGINX, "P.", 5_001, 1_009).data(b"\x16\x03\x03\x00\x02de"),
        wire(7, TO_NGINX, "P.", 1_009, 5_008).data(b"\x14\x03\x03\x00\x01\x01\x16\x03\x03\x00\x02fg"),
    ];
    assert_eq!(judged(pcap(&with(with(handshake(), hello.clone()), closed(1_022, 5_008)))), []);
    let asked = [wire(8, TO_NGINX, "P.", 1_022, 5_008).data(b"\x17\x03\x03\x00\x02hi")];
    let verdict = only(&with(with(with(handshake(), hello), asked), closed(1_029, 5_008)));
    check(&verdict, Party::Client, Cause::ClientAbort, Certainty::Weak, Impact::RequestFailed);
}

/// HTTP/2 in TLS takes its leave with 17 bytes, `close_notify` and FIN; what comes then interrupts nothing.
#[test]
fn a_reset_after_a_farewell_is_no_broken_request() {
    const GOAWAY: &[u8] = b"\x17\x03\x03\x00\x22ghijklmnopghijklmnopghijklmnopghij";
    const NOTIFY: &[u8] = b"\x17\x03\x03\x00\x13ghijklmnopghijklmno";
    let packets = [
        wire(0, TO_UPSTREAM, "S", 1_000, 0),
        wire(2, FROM_UPSTREAM, "S.", 5_000, 1_001),
        wire(4, TO_UPSTREAM, ".", 1_001, 5_001),
        wire(5, TO_UPSTREAM, "P.", 1_001, 5_001).data(b"\x17\x03\x03\x00\x02hi"),
        wire(9, FROM_UPSTREAM, "P.", 5_001, 1_008).data(b"\x17\x03\x03\x00\x02ho"),
        wire(9_000, TO_UPSTREAM, "P.", 1_008, 5_008).data(GOAWAY),
        wire(9_001, TO_UPSTREAM, "P.", 1_047, 5_008).data(NOTIFY),
        wire(9_002, TO_UPSTREAM, "F.", 1_071, 5_008),
        wire(9_010, FROM_UPSTREAM, "R", 5_008, 0).window(0),
    ];
    let told = judged(pcap(&packets));
    assert!(told.iter().all(|verdict| verdict.impact == Impact::Harmless), "{told:#?}");
    assert!(told.iter().all(|verdict| verdict.cause != Cause::UpstreamKeepaliveRace), "{told:#?}");
}

#[test]
fn a_request_that_vanishes_before_nginx_closes_is_told() {
    let repeated = [200, 600, 1_400, 3_000]
        .map(|at| wire(at, TO_UPSTREAM, "P.", 1_028, 5_001).data(b"GET /2 HTTP/1.1\r\n\r\n"));
    let closed = [wire(5_000, TO_UPSTREAM, "F.", 1_047, 5_001)];
    let told = judged(pcap(&with(with(asked(TO_UPSTREAM), repeated), closed)));
    assert_eq!(told.iter().map(|verdict| verdict.cause).collect::<Vec<_>>(), [Cause::MiddleboxDrop]);
}

#[test]
fn an_error_of_tls_is_an_answer() {
    let refused = [
        wire(5, TO_NGINX, "P.", 1_001, 5_001).data(b"\x16\x03\x01\x00\x03abc"),
        wire(6, FROM_NGINX, "P.", 5_001, 1_009).data(b"\x15\x03\x01\x00\x02\x02\x46"),
    ];
    assert_eq!(judged(pcap(&with(with(handshake(), refused), closed(1_009, 5_008)))), []);
}

#[test]
fn a_reset_after_the_client_had_closed_in_order_is_harmless() {
    let done = [
        wire(9, FROM_NGINX, "P.", 5_001, 1_028).data(ANSWER),
        wire(10, TO_NGINX, "F.", 1_028, 5_020),
        wire(11, FROM_NGINX, "R.", 5_020, 1_029).window(0),
    ];
    let verdict = only(&with(asked(TO_NGINX), done));
    check(&verdict, Party::Client, Cause::ClientLateReset, Certainty::Weak, Impact::Harmless);
    let unanswered = [wire(10, TO_NGINX, "F.", 1_028, 5_001), wire(40, FROM_NGINX, "R.", 5_001, 1_029)];
    let verdict = only(&with(asked(TO_NGINX), unanswered));
    check(&verdict, Party::Client, Cause::ClientAbort, Certainty::Weak, Impact::RequestFailed);
    let never_asked = [wire(10, TO_NGINX, "F.", 1_001, 5_001), wire(40, FROM_NGINX, "R.", 5_001, 1_002)];
    let verdict = only(&with(handshake(), never_asked));
    check(&verdict, Party::Client, Cause::ClientLateReset, Certainty::Weak, Impact::Harmless);
}

#[test]
fn a_reset_of_an_exchange_that_was_over_is_no_broken_response() {
    let probed = [
        wire(9, FROM_NGINX, "P.", 5_001, 1_028).data(ANSWER),
        wire(10, TO_NGINX, ".", 1_028, 5_020),
        wire(11, FROM_NGINX, "F.", 5_020, 1_028),
        wire(12, TO_NGINX, ".", 1_028, 5_021),
        wire(60_000, TO_NGINX, ".", 1_027, 5_021),
        wire(60_002, FROM_NGINX, "R", 5_021, 0),
    ];
    let verdict = only(&with(asked(TO_NGINX), probed));
    assert_eq!(verdict.impact, Impact::Harmless, "{}", verdict.summary);
    assert!(verdict.summary.contains("after it had closed"), "{}", verdict.summary);
}

#[test]
fn a_silence_of_no_time_is_not_told() {
    let verdict = only(&with(asked(TO_NGINX), [wire(7, FROM_NGINX, "R.", 5_001, 1_028)]));
    assert!(!verdict.summary.contains("silence"), "{}", verdict.summary);
    assert!(!format!("{:?}", verdict.advice).contains("0 bytes"), "{:?}", verdict.advice);
}

#[test]
fn an_upstream_that_answers_a_half_closed_connection_is_no_incident() {
    let half = [
        wire(8, TO_UPSTREAM, "F.", 1_028, 5_001),
        wire(9, FROM_UPSTREAM, "P.", 5_001, 1_029).data(ANSWER),
        wire(10, TO_UPSTREAM, ".", 1_029, 5_020),
        wire(11, FROM_UPSTREAM, "F.", 5_020, 1_029),
        wire(12, TO_UPSTREAM, ".", 1_029, 5_021),
    ];
    assert_eq!(judged(pcap(&with(asked(TO_UPSTREAM), half))), []);
}

#[test]
fn a_reset_is_told_after_an_earlier_one_that_nobody_took() {
    let twice = [
        wire(30, FROM_NGINX, "R", 5_001, 0),
        wire(40, TO_NGINX, "P.", 1_028, 5_001).data(b"more"),
        wire(60, FROM_NGINX, "P.", 5_001, 1_032).data(ANSWER),
        wire(61, TO_NGINX, "R.", 1_032, 5_001),
    ];
    let verdict = only(&with(asked(TO_NGINX), twice));
    check(&verdict, Party::Client, Cause::ClientAbort, Certainty::Weak, Impact::ResponseTruncated);
}

/// The server still has an older connection of these addresses; the client resets that one and asks again.
#[test]
fn a_reset_of_an_older_connection_hides_none_of_this_one() {
    let stranger = [
        wire(0, TO_NGINX, "S", 1_000, 0),
        wire(1, FROM_NGINX, ".", 900_000, 800_000_000),
        wire(2, TO_NGINX, "R", 800_000_000, 0),
    ];
    let later = |packet: Wire| Wire { at: packet.at + 1_000, ..packet };
    let again = with(stranger.to_vec(), asked(TO_NGINX).into_iter().map(later));
    let cut =
        [wire(1_010, FROM_NGINX, "P.", 5_001, 1_028).data(ANSWER), wire(1_012, TO_NGINX, "R.", 1_028, 5_001)];
    let verdict = only(&with(again.clone(), cut));
    check(&verdict, Party::Client, Cause::ClientAbort, Certainty::Weak, Impact::ResponseTruncated);
    let done = [
        wire(1_010, FROM_NGINX, "P.", 5_001, 1_028).data(ANSWER),
        wire(1_040, TO_NGINX, "F.", 1_028, 5_020),
        wire(1_041, FROM_NGINX, "F.", 5_020, 1_029),
        wire(1_042, TO_NGINX, ".", 1_029, 5_021),
    ];
    assert_eq!(judged(pcap(&with(again, done))), []);
}

#[test]
fn a_scan_without_a_connection_is_counted_and_not_told() {
    let scan = [wire(0, TO_NGINX, "F", 1_000, 0), wire(1, FROM_NGINX, "R.", 0, 1_001)];
    let named = Named { nginx: vec![NGINX.parse().unwrap()], upstreams: Vec::new() };
    let (verdicts, account, _) = session(pcap(&scan), named);
    assert_eq!((verdicts, account.counts.lonely_resets), (Vec::new(), 1));
}

#[test]
fn numbers_out_of_reach_are_not_counted_as_bytes() {
    let jump = [
        wire(30, TO_UPSTREAM, ".", 1_028 + 0x6000_0000, 5_001).data(b"far away"),
        wire(300, TO_UPSTREAM, "P.", 1_028, 5_001).data(b"more"),
        wire(600, TO_UPSTREAM, "P.", 1_028, 5_001).data(b"more"),
        wire(1_200, TO_UPSTREAM, "P.", 1_028, 5_001).data(b"more"),
        wire(2_400, TO_UPSTREAM, "P.", 1_028, 5_001).data(b"more"),
    ];
    let verdict = only(&with(asked(TO_UPSTREAM), jump));
    assert!(verdict.summary.contains("4 bytes"), "{}", verdict.summary);
}

/// A pcapng file with one section, one interface of raw IP and packet blocks of the old kind.
fn old_blocks(packets: &[Wire], big: bool) -> Vec<u8> {
    let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let half = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let block = |kind: u32, body: &[u8]| {
        let length = word(u32::try_from(body.len() + 12).unwrap());
        [&word(kind)[..], &length, body, &length].concat()
    };
    let section = [&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
    let interface = [&half(101)[..], &half(0), &word(65_535)].concat();
    let mut file = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
    for packet in packets {
        let bytes = packet.bytes().split_off(14);
        let time = 1_790_000_000_000_000 + packet.at * 1_000;
        let [high, low] = [time >> 32, time & 0xffff_ffff].map(|part| word(u32::try_from(part).unwrap()));
        let length = word(u32::try_from(bytes.len()).unwrap());
        let mut body = [&half(0)[..], &half(0), &high, &low, &length, &length, &bytes].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        file.extend(block(2, &body));
    }
    file
}

#[test]
fn packet_blocks_of_old_pcapng_files_are_read_in_both_byte_orders() {
    let packets = with(asked(TO_UPSTREAM), [wire(30, FROM_UPSTREAM, "R.", 5_001, 1_028)]);
    let raw: Vec<(u64, Vec<u8>)> =
        packets.iter().map(|packet| (packet.at, packet.bytes().split_off(14))).collect();
    let expected = judged(pcap_of(101, &raw));
    assert_eq!(expected.len(), 1);
    for big in [false, true] {
        assert_eq!(judged(old_blocks(&packets, big)), expected, "{big}");
    }
}
