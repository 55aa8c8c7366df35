//! What a failure did to the request, where only the line of error.log and the counters tell; and lines that tell of none.

use crate::engine::testing::*;
use crate::model::verdict::Impact;
use crate::model::{LogRecord, MessageKind, Socket};

/// What a RST did to a request 40 ms after the connection was opened, when bytes had come `received_ms` ago.
fn impact_of(scheme: &str, received_ms: Option<u32>) -> Impact {
    let socket = Socket {
        bytes_received: 1_408,
        last_sent_ms: Some(24),
        last_received_ms: received_ms,
        opened: Some(at(64)),
        ..upstream()
    };
    let reset = active_reset(&socket);
    let record = LogRecord {
        upstream_url: Some(format!("{scheme}://10.0.0.2:8080/x")),
        ..line(100, MessageKind::RECV_FAILED, Some(104), "reading response header from upstream")
    };
    play(vec![received(100, socket, Some(reset)), logged(record)])[0].impact
}

#[test]
fn bytes_of_a_tls_handshake_or_of_half_a_head_are_no_earlier_response() {
    assert_eq!(impact_of("https", Some(30)), Impact::RequestFailed);
    assert_eq!(impact_of("http", Some(24)), Impact::RequestFailed);
    assert_eq!(impact_of("http", Some(30)), Impact::RequestRetried);
}

#[test]
fn what_a_side_request_did_to_the_request_is_not_said() {
    let socket = upstream();
    let reset = active_reset(&socket);
    let record = LogRecord {
        subrequest: Some("/mirror".to_owned()),
        ..line(100, MessageKind::RECV_FAILED, Some(104), "reading response header from upstream")
    };
    let verdicts = play(vec![received(100, socket, Some(reset)), logged(record)]);
    assert_eq!(verdicts[0].impact, Impact::Unknown);
}

#[test]
fn a_question_that_one_name_server_refused_is_no_failure_of_its_own() {
    let question = LogRecord {
        client: None,
        request: None,
        upstream: None,
        ..line(100, MessageKind::SEND_FAILED, Some(111), "resolving")
    };
    assert!(play(vec![logged(question.clone())]).is_empty());
    let other = LogRecord { action: Some("connecting to upstream".to_owned()), ..question };
    assert_eq!(play(vec![logged(other)]).len(), 1);
}
