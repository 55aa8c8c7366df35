//! Recordings written through the wrapper and read back: the same bytes, whatever happens to the file.

use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::engine::testing::{
    active_reset, address, at, bare, client, host, line, logged, nobody, received, sent, sound, upstream,
    worker,
};
use crate::engine::{Engine, Limits};
use crate::model::verdict::Verdict;
use crate::model::{Clock, EventKind, Losses, MessageKind, Overflow, ProcessFacts, QueueKind, Side};
use crate::output::ndjson;

/// A file in memory that takes `room` bytes.
#[derive(Clone)]
struct File {
    bytes: Arc<Mutex<Vec<u8>>>,
    room: usize,
}

impl File {
    fn new(room: usize) -> Self {
        Self { bytes: Arc::default(), room }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl io::Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.bytes.lock().unwrap();
        let taken = bytes.len().min(self.room - written.len());
        written.extend_from_slice(&bytes[..taken]);
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn header() -> Header {
    Header {
        schema: SCHEMA.to_owned(),
        version: "0.1.0".to_owned(),
        host: "edge1".to_owned(),
        kernel: "6.1.0".to_owned(),
        began: "2026-03-01T14:03:22.000000000Z".to_owned(),
    }
}

/// A session with every kind of input, milliseconds after its begin.
fn session() -> Vec<(u64, Input)> {
    let overflow = Overflow {
        listener: address("[fe80::1%2]:80"),
        netns: 1,
        queue: 6,
        limit: 5,
        queue_kind: QueueKind::Accept,
        dropped: 2,
        client: Some(address("10.0.1.9:50001")),
        side: Side::Client,
    };
    let reset = active_reset(&upstream());
    let process = ProcessFacts { pid: 500, exe: Some("/usr/bin/app".to_owned()), ..ProcessFacts::default() };
    let lost = Losses { by_handover: [("ring".to_owned(), 3)].into() };
    vec![
        (0, Input::Clock(Clock { offset_ns: 1_790_000_000_000_000_000 })),
        (0, Input::Host(Box::new(host()))),
        received(100, upstream(), Some(reset)),
        logged(line(103, MessageKind::RECV_FAILED, Some(104), "reading response header")),
        sent(900, client(), "TCP_ABORT_ON_CLOSE", worker()),
        (1_000, Input::Process(process)),
        bare(1_200, EventKind::ListenOverflow(overflow), nobody()),
        (1_300, Input::Losses(lost.into())),
        logged(line(4_000, MessageKind::NO_LIVE_UPSTREAMS, None, "connecting to upstream")),
    ]
}

/// Plays `inputs` as a session does: through the wrapper, asking for verdicts now and then.
fn record(file: &File, limit: u64, inputs: Vec<(u64, Input)>) -> (Vec<Verdict>, Recorded) {
    let writer = Writer::new(Box::new(file.clone()), limit, &header()).unwrap();
    let mut recorder = Recorder::new(Engine::new(Limits::default()), Some(Sink::File(writer)));
    let mut verdicts = Vec::new();
    for (milliseconds, input) in inputs {
        recorder.handle(at(milliseconds), input);
        verdicts.extend(recorder.advance(at(milliseconds)));
        verdicts.extend(recorder.advance(at(milliseconds + 70)));
    }
    verdicts.extend(recorder.finish(at(9_000)));
    (verdicts, recorder.recorded().unwrap())
}

fn replay(bytes: &[u8]) -> Result<(Vec<Verdict>, Played), OpenError> {
    let mut reader = Reader::open(bytes)?;
    let mut verdicts = Vec::new();
    let mut engine = Engine::new(Limits::default());
    let played = play(&mut reader, &mut engine, |more| {
        verdicts.extend_from_slice(more);
        Ok(())
    });
    Ok((verdicts, played.unwrap()))
}

fn lines(verdicts: &[Verdict]) -> String {
    let text = |verdict| String::from_utf8(ndjson::line(verdict).unwrap()).unwrap();
    verdicts.iter().map(text).collect()
}

const ROOM: usize = 1 << 20;

fn recording() -> (Vec<Verdict>, Vec<u8>) {
    let file = File::new(ROOM);
    let (verdicts, _) = record(&file, u64::MAX, session());
    (verdicts, file.bytes())
}

#[test]
fn a_replay_gives_the_verdicts_byte_for_byte() {
    let (live, bytes) = recording();
    let (again, played) = replay(&bytes).unwrap();
    assert_eq!(live.len(), 4, "{live:#?}");
    assert_eq!(lines(&again), lines(&live));
    assert_eq!((played.end, played.losses.total(), played.from), (End::Finished, 3, at(0)));
}

#[test]
fn every_input_is_read_back_as_it_was() {
    let (_, bytes) = recording();
    let steps: Vec<Step> = Reader::open(bytes.as_slice()).unwrap().map(Result::unwrap).collect();
    let inputs = steps.into_iter().filter_map(|step| match step.call {
        Call::Handle(input) => Some((step.now, input)),
        _ => None,
    });
    let recorded: Vec<_> = session().into_iter().map(|(when, input)| (at(when), input)).collect();
    assert_eq!(inputs.collect::<Vec<_>>(), recorded);
}

#[test]
fn a_full_recording_says_so_and_the_session_goes_on() {
    let file = File::new(ROOM);
    let (live, recorded) = record(&file, 3_000, session());
    assert_eq!(live.len(), 4);
    assert!(file.bytes().len() <= 3_000 && recorded.bytes == file.bytes().len() as u64, "{recorded:?}");
    assert!(recorded.left_out > 0 && !recorded.failed);
    let (_, played) = replay(&file.bytes()).unwrap();
    assert_eq!(played.end, End::Stopped("its limit of 3000 bytes was reached".to_owned()));
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_session() {
    let file = File::new(3_000);
    let (live, recorded) = record(&file, u64::MAX, session());
    assert_eq!(live.len(), 4);
    assert!(recorded.failed && recorded.left_out > 0, "{recorded:?}");
    assert!(recorded.stopped.unwrap().starts_with("it cannot be written: "));
    let (_, played) = replay(&file.bytes()).unwrap();
    assert!(matches!(played.end, End::Damaged(Damage { what: read::Wrong::Cut, .. })), "{:?}", played.end);
}

#[test]
fn a_cut_file_gives_what_was_read_and_says_where_it_ends() {
    let (live, bytes) = recording();
    let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let (verdicts, played) = replay(&bytes[..last + 20]).unwrap();
    let End::Damaged(damage) = played.end else { panic!("{:?}", played.end) };
    assert_eq!(damage.offset, last as u64);
    assert_eq!(
        damage.to_string(),
        format!("line {}, which begins at byte {last}: the file ends in the middle of it", played.steps + 2)
    );
    assert_eq!(lines(&verdicts), lines(&live));
    let (_, played) = replay(&bytes[..last]).unwrap();
    assert_eq!(played.end, End::Open);
}

#[test]
fn a_changed_digit_is_damage_and_no_other_verdict() {
    let (_, bytes) = recording();
    let text = String::from_utf8(bytes).unwrap();
    let changed = text.replacen("\"ttl\":63", "\"ttl\":64", 1);
    assert_ne!(changed, text);
    let (_, played) = replay(changed.as_bytes()).unwrap();
    let End::Damaged(damage) = played.end else { panic!("{:?}", played.end) };
    assert_eq!((damage.line, damage.what), (4, read::Wrong::Checksum));
}

#[test]
fn a_line_without_an_end_is_given_up_at_the_bound() {
    let (_, mut bytes) = recording();
    let steps = replay(&bytes).unwrap().1.steps;
    bytes.truncate(bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1);
    bytes.resize(bytes.len() + MAX_LINE + 100, b'x');
    let (_, played) = replay(&bytes).unwrap();
    assert_eq!(played.steps, steps - 1);
    assert!(
        matches!(played.end, End::Damaged(Damage { what: read::Wrong::TooLong, .. })),
        "{:?}",
        played.end
    );
}

#[test]
fn a_newer_form_is_refused_by_name() {
    let newer = framed(br#"{"schema":"rstscope.recording/2","version":"7.1.0","anything":[]}"#);
    let error = Reader::open(newer.as_slice()).unwrap_err().to_string();
    assert!(error.contains("rstscope.recording/2, made by rstscope 7.1.0"), "{error}");
}

#[test]
fn other_files_are_not_recordings() {
    for other in [
        &b""[..],
        b"\n",
        b"{}\n",
        b"\xff\xfe",
        &framed(b"{}"),
        &framed(br#"{"schema":"rstscope.verdict/1"}"#),
    ] {
        assert!(matches!(Reader::open(other), Err(OpenError::NotARecording)), "{other:?}");
    }
}

/// What an attacker writes into numbers and texts.
fn hostile() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(Value::from(u64::MAX)),
        Just(Value::from(u32::MAX)),
        Just(Value::from(i64::MIN)),
        Just(Value::from(i64::MAX)),
        Just(Value::from(0)),
        Just(Value::from("")),
        Just(Value::from("[::]:0")),
        Just(Value::from("\u{1b}[2J")),
        any::<u32>().prop_map(Value::from),
    ]
}

/// Replaces the leaf that `index` counts to.
fn replace(value: &mut Value, index: &mut usize, with: &Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, index, with)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, index, with)),
        leaf => {
            if *index == 0 {
                *leaf = with.clone();
            }
            *index = index.wrapping_sub(1);
        }
    }
}

/// The recording with one leaf of one line replaced, and the checksum right again.
fn forged(bytes: &[u8], at: usize, mut leaf: usize, with: &Value) -> Vec<u8> {
    let count = bytes.split_inclusive(|byte| *byte == b'\n').count();
    let change = |(number, text): (usize, &[u8])| {
        if number != at % count {
            return text.to_vec();
        }
        let mut value: Value = serde_json::from_slice(&text[CHECKSUM..]).unwrap();
        replace(&mut value, &mut leaf, with);
        framed(&serde_json::to_vec(&value).unwrap())
    };
    bytes.split_inclusive(|byte| *byte == b'\n').enumerate().flat_map(change).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn broken_bytes_never_break_the_replay(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>()) {
        let (live, mut bytes) = recording();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok((verdicts, _)) = replay(&bytes) {
            prop_assert!(verdicts.len() <= live.len() + 1);
        }
    }

    #[test]
    fn forged_inputs_never_break_the_engine(forgeries in prop::collection::vec((0usize..64, 0usize..80, hostile()), 1..4)) {
        let (_, mut bytes) = recording();
        for (at, leaf, with) in forgeries {
            bytes = forged(&bytes, at, leaf, &with);
        }
        if let Ok((verdicts, _)) = replay(&bytes) {
            verdicts.iter().for_each(sound);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(replay(&bytes).is_err());
        let mut after_header = framed(&serde_json::to_vec(&header()).unwrap());
        after_header.extend_from_slice(&bytes);
        let (_, played) = replay(&after_header).unwrap();
        prop_assert_eq!(played.steps, 0);
    }
}
