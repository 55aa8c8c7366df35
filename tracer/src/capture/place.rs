//! What a capture shows that was taken away from Nginx, or of a connection that ends in good order: packets in, verdicts out.

use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Impact, Party};

use super::testing::{CLIENT, NGINX, NGINX_OUT, UPSTREAM, Wire, asked, judged, pcap, wire};

const TO_UPSTREAM: (&str, &str) = (NGINX_OUT, UPSTREAM);
const FROM_UPSTREAM: (&str, &str) = (UPSTREAM, NGINX_OUT);
const TO_NGINX: (&str, &str) = (CLIENT, NGINX);
const FROM_NGINX: (&str, &str) = (NGINX, CLIENT);

fn told(packets: &[Wire]) -> Vec<Verdict> {
    judged(pcap(packets)).into_iter().filter(|verdict| verdict.impact != Impact::Harmless).collect()
}

fn only(packets: &[Wire]) -> Verdict {
    let mut verdicts = told(packets);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.remove(0)
}

fn lacks_packets(verdict: &Verdict) -> bool {
    verdict.missing.iter().any(|missing| missing.code == "packets_lost")
}

fn with(packets: Vec<Wire>, more: impl IntoIterator<Item = Wire>) -> Vec<Wire> {
    packets.into_iter().chain(more).collect()
}

/// Nginx's packets to its upstream have this TTL where they are captured.
fn sent_with(ttl: u8, packets: Vec<Wire>) -> Vec<Wire> {
    let placed = |packet: Wire| if packet.between == TO_UPSTREAM { packet.ttl(ttl) } else { packet };
    packets.into_iter().map(placed).collect()
}

/// The repetition that arrives at last passes alone; the request was lost when the connection was open still.
#[test]
fn what_is_asked_after_a_close_was_asked_before_it() {
    let race = |asked_again: u64, ttl: u8| {
        let rest = [
            wire(20, FROM_UPSTREAM, "P.", 5_001, 1_028).data(b"HTTP/1.1 200 OK\r\n\r\n"),
            wire(21, TO_UPSTREAM, ".", 1_028, 5_020),
            wire(2_000, FROM_UPSTREAM, "F.", 5_020, 1_028),
            wire(2_001, TO_UPSTREAM, ".", 1_028, 5_021),
            wire(asked_again, TO_UPSTREAM, "P.", 1_028, 5_021).data(b"GET /2 HTTP/1.1\r\n\r\n"),
            wire(asked_again + 1, FROM_UPSTREAM, "R", 5_021, 0).window(0),
        ];
        only(&sent_with(ttl, with(asked(TO_UPSTREAM), rest)))
    };
    for certain in [race(2_002, 62), race(3_000, 64)] {
        assert_eq!((certain.cause, certain.certainty), (Cause::UpstreamKeepaliveRace, Certainty::Strong));
        assert!(!lacks_packets(&certain));
    }
    let late = race(3_000, 62);
    assert!(lacks_packets(&late) && late.certainty > Certainty::Strong, "{late:#?}");
}

/// Nginx has given up, and its FIN comes with what it repeats.
#[test]
fn what_is_asked_with_a_fin_was_asked_before() {
    let rest = [
        wire(20, FROM_UPSTREAM, "P.", 5_001, 1_028).data(b"HTTP/1.1 200 OK\r\n\r\n"),
        wire(21, TO_UPSTREAM, ".", 1_028, 5_020),
        wire(2_000, FROM_UPSTREAM, "F.", 5_020, 1_028),
        wire(2_010, TO_UPSTREAM, "FP.", 1_028, 5_020).data(b"GET /2 HTTP/1.1\r\n\r\n"),
        wire(2_011, FROM_UPSTREAM, "R", 5_020, 0).window(0),
    ];
    let verdict = only(&sent_with(62, with(asked(TO_UPSTREAM), rest)));
    assert!(lacks_packets(&verdict), "{verdict:#?}");
}

/// A device has taken the request and answered it in the upstream's name, which this capture does not show.
#[test]
fn a_connection_on_which_nothing_was_said_is_not_seen_whole() {
    let reset = |ttl: u8| {
        let mut packets = asked(TO_UPSTREAM);
        packets.truncate(3);
        only(&sent_with(ttl, with(packets, [wire(400, FROM_UPSTREAM, "R.", 5_001, 1_001)])))
    };
    assert!(lacks_packets(&reset(62)));
    assert!(!lacks_packets(&reset(64)));
}

/// Nginx's RST comes back sooner than anything can that answers the client's.
#[test]
fn resets_that_cross_had_two_causes() {
    let far = |answer: u64| {
        only(&[
            wire(0, TO_NGINX, "S", 1_000, 0),
            wire(60, FROM_NGINX, "S.", 5_000, 1_001),
            wire(61, TO_NGINX, ".", 1_001, 5_001),
            wire(62, TO_NGINX, "P.", 1_001, 5_001).data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            wire(122, FROM_NGINX, ".", 5_001, 1_028),
            wire(300, TO_NGINX, "R.", 1_028, 5_001),
            wire(300 + answer, FROM_NGINX, "R.", 5_001, 1_028),
        ])
    };
    assert!(lacks_packets(&far(20)));
    assert!(!lacks_packets(&far(61)), "an answer to it");
}

/// The client still waits for what was lost before the capture when it gives up.
#[test]
fn a_hole_that_was_never_filled_counts_however_old_it_is() {
    let hole = [
        wire(20, FROM_NGINX, "P.", 6_001, 1_028).data(b"the rest"),
        wire(21, TO_NGINX, ".", 1_028, 5_001),
        wire(6_000, TO_NGINX, "R.", 1_028, 5_001),
    ];
    assert!(lacks_packets(&only(&with(asked(TO_NGINX), hole))));
    let filled = [
        wire(20, FROM_NGINX, "P.", 6_001, 1_028).data(b"the rest"),
        wire(21, TO_NGINX, ".", 1_028, 6_009),
        wire(6_000, TO_NGINX, "P.", 1_028, 6_009).data(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
        wire(6_001, TO_NGINX, "R.", 1_055, 6_009),
    ];
    assert!(!lacks_packets(&only(&with(asked(TO_NGINX), filled))));
}

#[test]
fn who_speaks_after_its_syn_ack_was_answered() {
    let packets = with(asked(TO_UPSTREAM), [wire(30, FROM_UPSTREAM, "R.", 5_001, 1_028)]);
    let heard: Vec<Wire> = packets.into_iter().filter(|packet| packet.between == FROM_UPSTREAM).collect();
    let verdict = only(&heard);
    assert_eq!(
        (verdict.party, verdict.cause),
        (Party::Upstream, Cause::UpstreamAbort),
        "{}",
        verdict.summary
    );
    assert!(verdict.certainty > Certainty::Strong);
}

const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0";
const SETTINGS_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";

/// A connection of clear HTTP/2 whose request was answered.
fn h2c() -> Vec<Wire> {
    let response = b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x05\0\x01\0\0\0\x01hello";
    let mut packets = asked(TO_NGINX);
    packets[3] = wire(5, TO_NGINX, "P.", 1_001, 5_001).data(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n..");
    packets[4] = wire(7, FROM_NGINX, ".", 5_001, 1_027);
    with(
        packets,
        [
            wire(20, FROM_NGINX, "P.", 5_001, 1_027).data(response),
            wire(30, TO_NGINX, ".", 1_027, 5_025),
            wire(31, TO_NGINX, "P.", 1_027, 5_025).data(SETTINGS_ACK),
            wire(32, FROM_NGINX, ".", 5_025, 1_036),
        ],
    )
}

#[test]
fn settings_that_are_acknowledged_ask_for_nothing() {
    let end = [
        wire(2_000, TO_NGINX, "F.", 1_036, 5_025),
        wire(2_001, FROM_NGINX, "F.", 5_025, 1_037),
        wire(2_030, TO_NGINX, ".", 1_037, 5_026),
    ];
    assert_eq!(told(&with(h2c(), end)), []);
}

#[test]
fn nobody_misses_the_goaway_that_answers_his_close() {
    let end = [
        wire(2_000, TO_NGINX, "P.", 1_036, 5_025).data(GOAWAY),
        wire(2_000, TO_NGINX, "F.", 1_053, 5_025),
        wire(2_001, FROM_NGINX, "P.", 5_025, 1_054).data(GOAWAY),
        wire(2_001, FROM_NGINX, "F.", 5_042, 1_054),
        wire(2_030, TO_NGINX, "R", 1_054, 0).window(0),
    ];
    assert_eq!(told(&with(h2c(), end)), []);
}

/// Application data of TLS with as many bytes as these.
const HELLO: &[u8] = &[0x16, 3, 1, 0, 4, 1, 0, 0, 0];
const RECORD: &[u8] = &[
    0x17, 3, 3, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
/// GOAWAY of HTTP/2 and `close_notify` under AES-GCM of TLS 1.2, in one segment.
const LEAVE: &[u8] = &[
    0x17, 3, 3, 0, 41, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x15, 3, 3, 0, 26, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// TLS 1.2 whose request was answered; the client has sent 74 bytes and Nginx 65.
fn tls() -> Vec<Wire> {
    let mut packets = asked(TO_NGINX);
    packets.truncate(3);
    with(
        packets,
        [
            wire(5, TO_NGINX, "P.", 1_001, 5_001).data(HELLO),
            wire(6, TO_NGINX, "P.", 1_010, 5_001).data(RECORD),
            wire(7, FROM_NGINX, ".", 5_001, 1_075),
            wire(20, FROM_NGINX, "P.", 5_001, 1_075).data(RECORD),
            wire(30, TO_NGINX, ".", 1_075, 5_066),
        ],
    )
}

#[test]
fn leave_taken_in_tls_asks_for_nothing() {
    let end = [
        wire(2_000, TO_NGINX, "P.", 1_075, 5_066).data(LEAVE),
        wire(2_000, TO_NGINX, "F.", 1_152, 5_066),
        wire(2_001, FROM_NGINX, "F.", 5_066, 1_153),
        wire(2_030, TO_NGINX, ".", 1_153, 5_067),
    ];
    assert_eq!(told(&with(tls(), end)), []);
}

#[test]
fn nobody_misses_the_leave_that_answers_his_own_in_tls() {
    let end = [
        wire(2_000, TO_NGINX, "P.", 1_075, 5_066).data(LEAVE),
        wire(2_000, TO_NGINX, "F.", 1_152, 5_066),
        wire(2_001, FROM_NGINX, "P.", 5_066, 1_153).data(LEAVE),
        wire(2_001, FROM_NGINX, "F.", 5_143, 1_153),
        wire(2_030, TO_NGINX, "R", 1_153, 0).window(0),
    ];
    assert_eq!(told(&with(tls(), end)), []);
}

#[test]
fn a_request_in_tls_that_is_left_is_told() {
    let end = [
        wire(2_000, TO_NGINX, "P.", 1_075, 5_066).data(RECORD),
        wire(2_001, FROM_NGINX, ".", 5_066, 1_140),
        wire(2_500, TO_NGINX, "F.", 1_140, 5_066),
        wire(2_501, FROM_NGINX, "F.", 5_066, 1_141),
        wire(2_530, TO_NGINX, ".", 1_141, 5_067),
    ];
    assert_eq!(only(&with(tls(), end)).cause, Cause::ClientAbort);
}

/// What had not been acknowledged when the RST left is acknowledged by the RST itself. Nobody can read whether it was all.
#[test]
fn a_reset_that_acknowledges_what_is_encrypted_cuts_nothing_for_sure() {
    let end = [
        wire(2_000, TO_NGINX, "P.", 1_075, 5_066).data(RECORD),
        wire(2_001, FROM_NGINX, "P.", 5_066, 1_140).data(RECORD),
        wire(2_040, TO_NGINX, "R.", 1_140, 5_131),
    ];
    let verdict = only(&with(tls(), end));
    assert_eq!((verdict.party, verdict.impact), (Party::Client, Impact::Unknown));
    assert!(verdict.missing.iter().any(|missing| missing.code == "response_end"));
}
