//! Pairs of a line and an incident that must and must not join.

use super::*;
use crate::engine::testing::{active_reset, at, client, line, received, sent, upstream, worker};
use crate::model::{Input, Socket, TcpState};
use crate::timeline::{Subject, Tuple};

fn incident(number: u64, milliseconds: u64, socket: Socket) -> Incident {
    let packet = active_reset(&socket);
    let tuple = Tuple::of(&socket);
    of_event(number, tuple, received(milliseconds, socket, Some(packet)))
}

fn of_event(number: u64, tuple: Tuple, (milliseconds, input): (u64, Input)) -> Incident {
    let Input::Event(event) = input else { unreachable!() };
    let mut incident =
        Incident::new(number, number.to_string(), Subject::Connection(tuple), at(milliseconds));
    incident.own.push(*event);
    incident
}

fn waiting(record: LogRecord) -> Line {
    Line::new(1, Box::new(record), at(0), Clock::default(), true)
}

fn recv_failed(milliseconds: u64) -> LogRecord {
    line(milliseconds, MessageKind::RECV_FAILED, Some(104), "reading response header from upstream")
}

#[test]
fn worker_address_errno_and_time_make_a_pair() {
    let fit = fit(&waiting(recv_failed(102)), &incident(1, 100, upstream())).unwrap();
    assert_eq!((fit.method, fit.agrees, fit.gap_ns), (MatchMethod::Address, true, 2_000_000));
}

#[test]
fn whatever_contradicts_keeps_them_apart() {
    let changes: [fn(&mut LogRecord); 7] = [
        |record| record.pid = Some(101),
        |record| record.upstream = Some("10.0.0.3:8080".to_owned()),
        |record| record.upstream = Some("unix:/run/app.sock".to_owned()),
        |record| record.errno = Some(32),
        |record| record.side = LogSide::Client,
        |record| record.arrival = Some(at(1101)),
        |record| record.arrival = Some(at(49)),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut record = recv_failed(102);
        change(&mut record);
        assert_eq!(fit(&waiting(record), &incident(1, 100, upstream())), None, "change {index}");
    }
}

#[test]
fn an_unknown_owner_is_accepted_by_address_only() {
    let unowned = Socket { owner: None, ..upstream() };
    assert_eq!(
        fit(&waiting(recv_failed(102)), &incident(1, 100, unowned.clone())).unwrap().method,
        MatchMethod::Window
    );
    let mut no_address = recv_failed(102);
    no_address.upstream = Some("backend".to_owned());
    assert_eq!(fit(&waiting(no_address), &incident(1, 100, unowned)), None);
}

#[test]
fn a_client_behind_real_ip_joins_by_worker_and_time() {
    let mut record = line(101, MessageKind::CLIENT_ABORTED_UPSTREAM_CLOSED, Some(104), "reading upstream");
    record.side = LogSide::Client;
    record.client = Some("203.0.113.5".to_owned());
    assert_eq!(fit(&waiting(record), &incident(1, 100, client())).unwrap().method, MatchMethod::Window);
}

#[test]
fn what_announces_the_close_of_somebody_behind_real_ip_does_not_wait_for_another_client() {
    let announced = |at: u64| {
        let mut record = line(at, MessageKind::CLIENT_BODY_TOO_LARGE, None, "");
        record.side = LogSide::Client;
        record.client = Some("203.0.113.5".to_owned());
        waiting(record)
    };
    let reset = |at: u64| of_event(1, Tuple::of(&client()), sent(at, client(), "TCP_STATE", worker()));
    assert!(fit(&announced(5_000), &reset(5_500)).is_some());
    assert_eq!(fit(&announced(5_000), &reset(9_000)), None);
    assert_eq!(fit(&announced(5_000), &reset(4_500)), None);
}

#[test]
fn a_broken_pipe_belongs_to_a_reset_after_fin() {
    let after_fin = Socket { state: TcpState::CloseWait, ..upstream() };
    let mut record = recv_failed(101);
    record.errno = Some(32);
    assert!(fit(&waiting(record), &incident(1, 100, after_fin)).is_some());
}

#[test]
fn a_waiting_socket_is_preferred_to_a_pooled_one_and_order_decides_among_equals() {
    let pooled = Socket { last_sent_ms: Some(900), last_received_ms: Some(890), ..upstream() };
    let incidents = [incident(1, 100, pooled), incident(2, 101, upstream()), incident(3, 102, upstream())];
    let (first, second) = (waiting(recv_failed(105)), Line { number: 2, ..waiting(recv_failed(106)) });
    let pairs = assign(&[&first, &second], &incidents.iter().collect::<Vec<_>>());
    let pairs: Vec<(u64, u64, u32)> =
        pairs.iter().map(|pair| (pair.line, pair.incident, pair.candidates)).collect();
    assert_eq!(pairs, [(1, 2, 2), (2, 3, 1)]);
}

#[test]
fn the_printed_second_serves_when_the_arrival_is_not_known() {
    let mut record = recv_failed(0);
    record.arrival = None;
    record.time = Some(Clock::default().utc(at(1_000)));
    let line = waiting(record);
    assert!(line.coarse);
    assert!(fit(&line, &incident(1, 1_900, upstream())).is_some());
    assert!(fit(&line, &incident(1, 3_500, upstream())).is_none());
}
