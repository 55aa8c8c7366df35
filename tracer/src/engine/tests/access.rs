//! access.log tells how a request ended: retried, failed, cut; and which of several clients a line means.

use crate::engine::testing::*;
use crate::model::verdict::{Cause, Impact, MatchMethod};
use crate::model::{AccessRecord, Attempt, Input, MessageKind, Socket};

const UPSTREAM: &str = "10.0.0.2:8080";

fn access(milliseconds: u64, status: u16, attempts: &[(&str, u16)]) -> (u64, Input) {
    let attempt = |one: &(&str, u16)| Attempt { address: Some(one.0.to_owned()), status: Some(one.1) };
    let record = AccessRecord {
        arrival: Some(at(milliseconds)),
        connection: Some(3),
        request: Some("GET /x HTTP/1.1".to_owned()),
        status: Some(status),
        attempts: attempts.iter().map(attempt).collect(),
        ..AccessRecord::default()
    };
    (milliseconds, Input::Access(Box::new(record)))
}

fn impact(kind: MessageKind, action: &str, ending: (u64, Input)) -> Impact {
    let socket = upstream();
    let reset = active_reset(&socket);
    let failed = logged(line(101, kind, Some(104), action));
    let verdicts = play(vec![received(100, socket, Some(reset)), failed, ending]);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts[0].impact
}

const WAITING: &str = "reading response header from upstream";

#[test]
fn a_retry_that_served_the_request_repaired_it() {
    let retried = access(102, 200, &[(UPSTREAM, 502), ("10.0.0.3:8080", 200)]);
    assert_eq!(impact(MessageKind::RECV_FAILED, WAITING, retried), Impact::RequestRetried);
    let in_vain = access(102, 502, &[(UPSTREAM, 502), ("10.0.0.3:8080", 502)]);
    assert_eq!(impact(MessageKind::RECV_FAILED, WAITING, in_vain), Impact::RequestFailed);
}

#[test]
fn a_success_that_broke_off_was_cut() {
    let cut = access(102, 200, &[(UPSTREAM, 200)]);
    assert_eq!(impact(MessageKind::RECV_FAILED, "reading upstream", cut), Impact::ResponseTruncated);
    // The retry repaired another one's failure; what this one served broke off.
    let second = access(102, 200, &[("10.0.0.3:8080", 502), (UPSTREAM, 200)]);
    assert_eq!(impact(MessageKind::RECV_FAILED, "reading upstream", second), Impact::ResponseTruncated);
}

#[test]
fn a_line_of_another_request_says_nothing() {
    let (milliseconds, input) = access(102, 200, &[(UPSTREAM, 502), ("10.0.0.3:8080", 200)]);
    let Input::Access(mut record) = input else { unreachable!("made above") };
    record.connection = Some(4);
    let other = (milliseconds, Input::Access(record));
    assert_eq!(impact(MessageKind::RECV_FAILED, WAITING, other), Impact::RequestFailed);
}

#[test]
fn without_numbers_client_request_and_upstream_decide() {
    let (milliseconds, input) = access(102, 200, &[(UPSTREAM, 502), ("10.0.0.3:8080", 200)]);
    let Input::Access(mut record) = input else { unreachable!("made above") };
    record.connection = None;
    record.client = Some("10.0.1.9".parse().expect("an address"));
    let words = (milliseconds, Input::Access(record));
    assert_eq!(impact(MessageKind::RECV_FAILED, WAITING, words), Impact::RequestRetried);
}

/// What a line of `combined` has: no numbers, no upstream.
fn combined(milliseconds: u64, status: u16, client: &str) -> (u64, Input) {
    let record = AccessRecord {
        arrival: Some(at(milliseconds)),
        client: Some(client.parse().expect("an address")),
        request: Some("GET /x HTTP/1.1".to_owned()),
        status: Some(status),
        ..AccessRecord::default()
    };
    (milliseconds, Input::Access(Box::new(record)))
}

#[test]
fn combined_tells_how_the_request_of_an_upstream_ended() {
    let served = combined(102, 200, "10.0.1.9");
    assert_eq!(impact(MessageKind::RECV_FAILED, "reading upstream", served), Impact::ResponseTruncated);
    let other_try = combined(102, 200, "10.0.1.9");
    assert_eq!(impact(MessageKind::RECV_FAILED, WAITING, other_try), Impact::RequestRetried);
    for status in [502, 504, 499] {
        let failed = combined(102, status, "10.0.1.9");
        assert_eq!(impact(MessageKind::RECV_FAILED, "reading upstream", failed), Impact::RequestFailed);
    }
}

#[test]
fn a_silent_error_log_leaves_the_client_s_address() {
    let reset = |endings: Vec<(u64, Input)>| {
        let socket = Socket { bytes_sent: 2000, unacked: 1000, ..client() };
        let mut inputs = vec![received(100, socket, None)];
        inputs.extend(endings);
        let verdicts = play(inputs);
        assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
        verdicts[0].impact
    };
    let address = client().remote.ip().to_string();
    let without = reset(vec![]);
    assert_ne!(without, Impact::RequestFailed);
    for status in [499, 400, 408] {
        assert_eq!(reset(vec![combined(101, status, &address)]), Impact::RequestFailed, "{status}");
    }
    // Another client's, one that is too late, and two that could be meant.
    assert_eq!(reset(vec![combined(101, 499, "192.0.2.1")]), without);
    assert_eq!(reset(vec![combined(1900, 499, &address)]), without);
    assert_eq!(reset(vec![combined(101, 499, &address), combined(102, 499, &address)]), without);
}

#[test]
fn the_port_behind_a_number_tells_two_connections_of_one_client_apart() {
    let one = client();
    let mut other = client();
    other.remote.set_port(one.remote.port() + 1);
    other.cookie += 1;
    let mut reset = line(101, MessageKind::RECV_FAILED, Some(104), "reading client request headers");
    reset.side = crate::model::LogSide::Client;
    reset.client = Some(one.remote.ip().to_string());
    (reset.upstream, reset.upstream_url) = (None, None);
    let record = AccessRecord {
        arrival: Some(at(102)),
        connection: Some(3),
        client: Some(other.remote.ip()),
        client_port: Some(other.remote.port()),
        status: Some(400),
        ..AccessRecord::default()
    };
    let port = other.remote.port();
    let verdicts = play(vec![
        received(100, one, None),
        received(100, other, None),
        logged(reset),
        (102, Input::Access(Box::new(record))),
    ]);
    let joined: Vec<_> = verdicts.iter().filter(|verdict| verdict.log.is_some()).collect();
    assert_eq!(joined.len(), 1, "{verdicts:#?}");
    let matched = joined[0].matched.as_ref().expect("a match");
    assert_eq!((matched.method, matched.candidates), (MatchMethod::Address, 1));
    let remote = &joined[0].connection.as_ref().expect("a connection").remote;
    assert!(remote.ends_with(&format!(":{port}")), "{remote}");
}

/// A response pauses, its client resets, and Nginx logs the request, whose time the format has.
#[test]
fn a_request_as_old_as_the_silence_ended_with_the_reset() {
    let cause = |request_ms: Option<u64>, milliseconds: u64| {
        let socket = Socket {
            bytes_sent: 5_000,
            last_sent_ms: Some(1_400),
            last_received_ms: Some(1_405),
            ..client()
        };
        let reset = active_reset(&socket);
        let record = AccessRecord {
            arrival: Some(at(milliseconds)),
            client: Some("10.0.1.9".parse().expect("an address")),
            status: Some(200),
            request_ms,
            ..AccessRecord::default()
        };
        let inputs =
            vec![received(2_000, socket, Some(reset)), (milliseconds, Input::Access(Box::new(record)))];
        play(inputs).first().map(|verdict| verdict.cause)
    };
    assert_eq!(cause(Some(1_402), 2_010), Some(Cause::ClientAbort));
    // A later request of the same address, on another connection, or nobody knows how old it is.
    assert_eq!(cause(Some(12), 2_010), Some(Cause::ClientIdleReset));
    assert_eq!(cause(None, 2_010), Some(Cause::ClientIdleReset));
    assert_eq!(cause(Some(1_402), 2_700), Some(Cause::ClientIdleReset));
}
