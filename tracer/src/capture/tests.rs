//! Conversations as packets, and what is said of them. No file, no network.

use proptest::prelude::*;

use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Kind, Party};

use super::roles::Named;
use super::session::Ending;
use super::testing::{CLIENT, NGINX, NGINX_OUT, UPSTREAM, Wire, asked, judged, pcap, pcap_of, session, wire};

const TO_UPSTREAM: (&str, &str) = (NGINX_OUT, UPSTREAM);
const FROM_UPSTREAM: (&str, &str) = (UPSTREAM, NGINX_OUT);
const TO_NGINX: (&str, &str) = (CLIENT, NGINX);
const FROM_NGINX: (&str, &str) = (NGINX, CLIENT);

fn with(mut packets: Vec<Wire>, more: impl IntoIterator<Item = Wire>) -> Vec<Wire> {
    packets.extend(more);
    packets
}

fn only(packets: &[Wire]) -> Verdict {
    let mut verdicts = judged(pcap(packets));
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.remove(0)
}

fn check(verdict: &Verdict, party: Party, cause: Cause, certainty: Certainty) {
    let found = (verdict.party, verdict.cause, verdict.certainty);
    assert_eq!(found, (party, cause, certainty), "{}: {:#?}", verdict.summary, verdict.evidence);
}

#[test]
fn a_healthy_exchange_is_silent() {
    let end = [
        wire(20, FROM_UPSTREAM, "P.", 5_001, 1_028).data(b"HTTP/1.1 200 OK\r\n\r\n"),
        wire(21, TO_UPSTREAM, ".", 1_028, 5_020),
        wire(22, TO_UPSTREAM, "F.", 1_028, 5_020),
        wire(23, FROM_UPSTREAM, "F.", 5_020, 1_029),
        wire(24, TO_UPSTREAM, ".", 1_029, 5_021),
    ];
    assert_eq!(judged(pcap(&with(asked(TO_UPSTREAM), end))), []);
}

#[test]
fn an_upstream_that_resets_is_named() {
    let verdict = only(&with(asked(TO_UPSTREAM), [wire(30, FROM_UPSTREAM, "R.", 5_001, 1_028)]));
    check(&verdict, Party::Upstream, Cause::UpstreamAbort, Certainty::Weak);
    let connection = verdict.connection.unwrap();
    assert_eq!((connection.local.as_str(), connection.remote.as_str()), (NGINX_OUT, UPSTREAM));
    assert!(verdict.missing.iter().any(|missing| missing.code == "capture"));
}

#[test]
fn an_upstream_that_goes_on_after_its_reset_did_not_send_it() {
    let forged = [
        wire(30, FROM_UPSTREAM, "R", 5_001, 0).ttl(250).window(0),
        wire(60, FROM_UPSTREAM, "P.", 5_001, 1_028).data(b"HTTP/1.1 200 OK\r\n\r\n"),
    ];
    let verdict = only(&with(asked(TO_UPSTREAM), forged));
    check(&verdict, Party::Middlebox, Cause::MiddleboxForgedReset, Certainty::Proven);
}

#[test]
fn a_reset_after_which_the_connection_lives_is_no_incident() {
    let refused = [
        wire(30, FROM_UPSTREAM, "R", 5_001, 0).ttl(250).window(0),
        wire(40, TO_UPSTREAM, "P.", 1_028, 5_001).data(b"more"),
        wire(60, FROM_UPSTREAM, "P.", 5_001, 1_032).data(b"HTTP/1.1 200 OK\r\n\r\n"),
        wire(61, TO_UPSTREAM, ".", 1_032, 5_020),
    ];
    assert_eq!(judged(pcap(&with(asked(TO_UPSTREAM), refused))), []);
}

#[test]
fn a_reset_in_nginx_name_from_elsewhere_is_not_nginx() {
    let forged = [
        wire(30, FROM_NGINX, "R.", 5_001, 1_028).ttl(120),
        wire(60, FROM_NGINX, "P.", 5_001, 1_028).data(b"HTTP/1.1 200 OK\r\n\r\n"),
    ];
    let verdict = only(&with(asked(TO_NGINX), forged));
    check(&verdict, Party::Middlebox, Cause::MiddleboxForgedReset, Certainty::Proven);
    assert_eq!(verdict.reset.unwrap().direction, crate::model::verdict::Direction::Sent);
}

#[test]
fn a_reset_of_nginx_itself_is_never_more_than_weak() {
    let verdict = only(&with(asked(TO_NGINX), [wire(30, FROM_NGINX, "R.", 5_001, 1_028)]));
    check(&verdict, Party::Nginx, Cause::NginxClosedUnread, Certainty::Weak);
    assert!(verdict.missing.iter().any(|missing| missing.code == "kernel_reason"));
}

#[test]
fn a_refused_connection_is_the_upstreams() {
    let verdict =
        only(&[wire(0, TO_UPSTREAM, "S", 1_000, 0), wire(2, FROM_UPSTREAM, "R.", 0, 1_001).window(0)]);
    check(&verdict, Party::Upstream, Cause::UpstreamRefused, Certainty::Weak);
    assert_eq!(verdict.kind, Kind::Refused);
}

#[test]
fn a_reset_that_answers_no_syn_is_refused() {
    let packets = [wire(0, TO_UPSTREAM, "S", 1_000, 0), wire(2, FROM_UPSTREAM, "R.", 0, 1_000).window(0)];
    assert_eq!(judged(pcap(&packets)), []);
}

#[test]
fn a_syn_that_nobody_answers_is_repeated_into_silence() {
    let verdict = only(&[
        wire(0, TO_UPSTREAM, "S", 1_000, 0),
        wire(1_000, TO_UPSTREAM, "S", 1_000, 0),
        wire(3_000, TO_UPSTREAM, "S", 1_000, 0),
    ]);
    check(&verdict, Party::Middlebox, Cause::MiddleboxDrop, Certainty::Weak);
}

#[test]
fn why_nginx_does_not_answer_a_syn_is_unknown() {
    let verdict = only(&[wire(0, TO_NGINX, "S", 1_000, 0), wire(1_000, TO_NGINX, "S", 1_000, 0)]);
    check(&verdict, Party::Unknown, Cause::InsufficientEvidence, Certainty::Undetermined);
    assert!(verdict.summary.contains("never answered"), "{}", verdict.summary);
}

#[test]
fn a_port_scan_is_harmless() {
    let verdict = only(&[
        wire(0, TO_NGINX, "S", 1_000, 0),
        wire(1, FROM_NGINX, "S.", 5_000, 1_001),
        wire(20, TO_NGINX, "R", 1_001, 0).window(0),
    ]);
    check(&verdict, Party::Client, Cause::ClientHandshakeReset, Certainty::Weak);
}

#[test]
fn a_connection_without_its_syn_is_older_than_the_capture() {
    let packets = with(asked(TO_UPSTREAM), [wire(30, FROM_UPSTREAM, "R.", 5_001, 1_028)]);
    let verdict = only(&packets[3..]);
    assert!(verdict.connection.unwrap().preexisting);
    assert!(verdict.missing.iter().any(|missing| missing.code == "preexisting"));
    assert!(verdict.certainty >= Certainty::Weak, "a step lower than with the SYN");
}

#[test]
fn a_packet_that_the_capture_lacks_lowers_the_certainty() {
    let lost = [
        wire(20, FROM_UPSTREAM, "P.", 6_001, 1_028).data(b"rest of a response"),
        wire(30, FROM_UPSTREAM, "R.", 6_019, 1_028),
    ];
    let verdict = only(&with(asked(TO_UPSTREAM), lost));
    assert!(verdict.missing.iter().any(|missing| missing.code == "packets_lost"), "{:?}", verdict.missing);
    assert_eq!(verdict.certainty, Certainty::Weak);
}

#[test]
fn one_direction_alone_shows_neither_silence_nor_an_answer_that_was_due() {
    let open = |more: Vec<Wire>| with(asked(TO_UPSTREAM), more);
    let one_way = |packets: &[Wire]| -> Vec<Wire> {
        packets.iter().filter(|packet| packet.between == TO_UPSTREAM).cloned().collect()
    };
    let request = || wire(40, TO_UPSTREAM, "P.", 1_028, 5_100).data(b"GET /second HTTP/1.1\r\n\r\n");
    let again = |at| Wire { at, ..request() };
    let repeated = one_way(&open(vec![request(), again(240), again(640), again(1_440)]));
    assert_eq!(judged(pcap(&repeated)), []);
    let closed = one_way(&open(vec![request(), wire(60, TO_UPSTREAM, "F.", 1_052, 5_200)]));
    assert_eq!(judged(pcap(&closed)), []);
    let syns = [wire(0, TO_UPSTREAM, "S", 1_000, 0), wire(1_000, TO_UPSTREAM, "S", 1_000, 0)];
    let heard = with(syns.to_vec(), [wire(1_010, TO_UPSTREAM, ".", 1_001, 5_001)]);
    assert_eq!(judged(pcap(&heard)), []);
}

#[test]
fn captures_of_both_ends_in_one_file_show_no_end_that_lives_on() {
    let packets = with(
        asked(TO_UPSTREAM),
        [
            wire(20, FROM_UPSTREAM, "P.", 5_001, 1_028).data(b"HTTP/1.1 200 OK\r\n"),
            wire(30, FROM_UPSTREAM, "R.", 5_018, 1_028),
        ],
    );
    let elsewhere = packets.iter().map(|packet| Wire { at: packet.at + 1_300, ..packet.clone() });
    let mut merged: Vec<Wire> = packets.iter().cloned().chain(elsewhere).collect();
    merged.sort_by_key(|packet| packet.at);
    let verdict = only(&merged);
    assert_eq!(verdict.party, Party::Upstream, "{}", verdict.summary);
}

#[test]
fn a_copy_of_every_packet_changes_nothing() {
    let packets = with(asked(TO_UPSTREAM), [wire(30, FROM_UPSTREAM, "R.", 5_001, 1_028)]);
    let twice: Vec<Wire> = packets.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
    let (once, twice) = (judged(pcap(&packets)), judged(pcap(&twice)));
    assert_eq!(once, twice);
}

#[test]
fn the_host_that_accepts_and_connects_on_is_nginx() {
    let packets = with(asked(TO_NGINX), asked(TO_UPSTREAM));
    let (_, _, roles) = session(pcap(&packets), Named::default());
    assert_eq!(roles.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1"]);
    assert!(roles.upstreams.contains(&UPSTREAM.parse().unwrap()));
    assert!(roles.listeners.contains(&NGINX.parse().unwrap()));
    assert!(roles.guess[0].contains("Nginx is 192.0.2.1"), "{:?}", roles.guess);
}

#[test]
fn a_capture_that_was_cut_off_is_read_up_to_there() {
    let mut file = pcap(&with(asked(TO_UPSTREAM), [wire(30, FROM_UPSTREAM, "R.", 5_001, 1_028)]));
    file.truncate(file.len() - 3);
    let (verdicts, account, _) = session(file, Named::default());
    assert_eq!(verdicts, []);
    assert_eq!(account.files[0].1, Ending::CutOff);
    assert_eq!(account.skipped.packets, 5);
}

/// Puts a packet into another layer.
type Wrapping = Box<dyn Fn(&Wire) -> Vec<u8>>;

/// The same conversation behind every link layer and tunnel that is opened.
#[test]
fn every_wrapping_gives_the_same_verdict() {
    let packets = with(asked(TO_UPSTREAM), [wire(30, FROM_UPSTREAM, "R.", 5_001, 1_028)]);
    let expected = judged(pcap(&packets));
    assert_eq!(expected.len(), 1);
    let ip = |packet: &Wire| packet.bytes()[14..].to_vec();
    let ethernet = |packet: &Wire| packet.bytes();
    let wrapped: Vec<(u32, Wrapping)> = vec![
        (101, Box::new(ip)),
        (228, Box::new(ip)),
        (0, Box::new(move |p| [vec![2, 0, 0, 0], ip(p)].concat())),
        (108, Box::new(move |p| [vec![0, 0, 0, 2], ip(p)].concat())),
        (113, Box::new(move |p| [vec![0; 14], vec![8, 0], ip(p)].concat())),
        (276, Box::new(move |p| [vec![8, 0], vec![0; 18], ip(p)].concat())),
        (9, Box::new(move |p| [vec![0xff, 3, 0, 0x21], ip(p)].concat())),
        (1, Box::new(move |p| [vec![0; 12], vec![0x81, 0, 0, 5, 8, 0], ip(p)].concat())),
        (1, Box::new(move |p| [vec![0; 12], vec![0x88, 0xa8, 0, 5, 0x81, 0, 0, 7, 8, 0], ip(p)].concat())),
        (1, Box::new(move |p| [vec![0; 12], vec![0x88, 0x47, 0, 0, 0x11, 64], ip(p)].concat())),
        (1, Box::new(move |p| [vec![0; 12], vec![0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21], ip(p)].concat())),
        (1, Box::new(move |p| [vec![0; 12], vec![0, 60, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0], ip(p)].concat())),
        (101, Box::new(move |p| datagram(4789, [vec![8, 0, 0, 0, 0, 0, 1, 0], ethernet(p)].concat()))),
        (101, Box::new(move |p| datagram(6081, [vec![0, 0, 0x65, 0x58, 0, 0, 1, 0], ethernet(p)].concat()))),
        (101, Box::new(move |p| outer(47, [vec![0, 0, 8, 0], ip(p)].concat()))),
        (
            101,
            Box::new(move |p| {
                outer(47, [vec![0x10, 0, 0x88, 0xbe, 0, 0, 0, 1], vec![0; 8], ethernet(p)].concat())
            }),
        ),
        (101, Box::new(move |p| outer(4, ip(p)))),
        (10, Box::new(move |p| [vec![0; 13], vec![0xaa, 0xaa, 3, 0, 0, 0, 8, 0], ip(p)].concat())),
        (192, Box::new(move |p| [vec![0, 0, 12, 0, 1, 0, 0, 0, 9, 9, 9, 9], ethernet(p)].concat())),
        (242, Box::new(move |p| [vec![0; 40], vec![8, 0, 0, 0], ip(p)].concat())),
        (1, Box::new(move |p| [vec![0; 12], vec![0x89, 0x26, 0, 1, 0, 2, 8, 0], ip(p)].concat())),
        (101, Box::new(move |p| datagram(2152, [vec![0x30, 255, 0, 0, 0, 0, 0, 1], ip(p)].concat()))),
        (
            101,
            Box::new(move |p| {
                let head = vec![0x34, 255, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 9, 0];
                datagram(2152, [head, ip(p)].concat())
            }),
        ),
        (
            101,
            Box::new(move |p| {
                let mut first = outer(47, [vec![0, 0, 8, 0], ip(p)].concat());
                first[6] = 0x20;
                first
            }),
        ),
    ];
    for (number, (link, wrap)) in wrapped.iter().enumerate() {
        let frames: Vec<(u64, Vec<u8>)> = packets.iter().map(|packet| (packet.at, wrap(packet))).collect();
        assert_eq!(judged(pcap_of(*link, &frames)), expected, "wrapping {number}, link type {link}");
    }
}

fn outer(protocol: u8, payload: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 20).unwrap().to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 9, 0, 0, 64, protocol, 0, 0, 172, 16, 0, 1, 172, 16, 0, 2];
    [head.to_vec(), payload].concat()
}

fn datagram(port: u16, payload: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 8).unwrap().to_be_bytes();
    let port = port.to_be_bytes();
    outer(17, [vec![0x30, 0x39, port[0], port[1], length[0], length[1], 0, 0], payload].concat())
}

#[test]
fn what_is_no_ip_is_counted() {
    let frames = [
        (0, vec![0; 12]),
        (1, [vec![0; 12], vec![8, 6, 1]].concat()),
        (2, [vec![0; 12], vec![8, 0, 0x45]].concat()),
    ];
    let (_, account, _) = session(pcap_of(1, &frames), Named::default());
    assert_eq!((account.skipped.others, account.skipped.broken), (2, 1));
    let (_, account, _) = session(pcap_of(189, &frames), Named::default());
    assert_eq!(account.skipped.links.get(&189), Some(&3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes of a capture changed, cut and repeated at will: it ends, it says something or nothing, it never panics.
    #[test]
    fn mutated_captures_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        cut in any::<prop::sample::Index>(),
        link in prop::sample::select(vec![0u32, 1, 9, 10, 50, 51, 101, 104, 105, 108, 109, 113, 117, 127, 192, 239, 240, 242, 276]),
        keeps_header in any::<bool>(),
    ) {
        let forged = with(asked(TO_UPSTREAM), [
            wire(30, FROM_UPSTREAM, "R", 5_001, 0),
            wire(60, FROM_UPSTREAM, "P.", 5_001, 1_028).data(b"HTTP/1.1 200 OK\r\n\r\n"),
        ]);
        let frames: Vec<(u64, Vec<u8>)> = with(asked(TO_NGINX), forged).iter().map(|packet| (packet.at, packet.bytes())).collect();
        let mut file = pcap_of(link, &frames);
        let from = if keeps_header { 24 } else { 0 };
        for (at, value) in changes {
            let at = from + at.index(file.len() - from);
            file[at] = value;
        }
        file.truncate(25 + cut.index(file.len() - 25));
        let container = super::container::Container::of(Box::new(std::io::Cursor::new(file.clone())), std::path::Path::new("x"));
        if container.is_ok() {
            let (verdicts, _, _) = session(file, Named::default());
            prop_assert!(verdicts.len() < 20);
        }
    }

    /// Whatever the packets of a connection are: no panic, and one packet more than there is never becomes an event.
    #[test]
    fn any_order_of_packets_is_survived(
        packets in prop::collection::vec((0u64..5_000, any::<bool>(), 0usize..6, any::<u32>(), any::<u32>(), any::<u8>()), 0..40),
    ) {
        let flags = ["S", "S.", ".", "F.", "R", "R."];
        let packets: Vec<Wire> = packets.into_iter().map(|(at, out, flag, seq, ack, ttl)| {
            wire(at, if out { TO_UPSTREAM } else { FROM_UPSTREAM }, flags[flag], seq, ack).ttl(ttl)
        }).collect();
        let resets = packets.iter().filter(|packet| packet.flags.starts_with('R')).count();
        let told = judged(pcap(&packets));
        let received = told.iter().filter(|verdict| verdict.reset.is_some()).count();
        prop_assert!(received <= resets);
    }
}
