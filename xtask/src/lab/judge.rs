//! Compares the records of one scenario with its ground truth.
//!
//! Pure: records and truth in, differences out. It knows the contract's fields, not the tracer's reasons.

use super::scenario::{Certainty, Check, Expect, Side};
use super::seat::Seat;
use super::stage::Truth;
use serde_json::Value;
use std::collections::BTreeSet;

/// What came of one expectation, or of a record nobody expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Party of the ground truth; `none` for a record nobody expected.
    pub wanted: String,
    /// Party of the record; `none` when it is missing.
    pub party: String,
    /// `cause` of the record.
    pub cause: String,
    /// `certainty` of the record.
    pub certainty: String,
    /// What is wrong with it.
    pub differences: Vec<String>,
}

/// Is this record about a connection of another bench? Benches use the same addresses, and a tracer that sees the whole
/// host sees them all.
pub fn is_elsewhere(record: &Value, seat: &Seat) -> bool {
    let namespace = record["connection"]["netns"].as_u64().filter(|namespace| *namespace != 0);
    namespace.is_some() && seat.namespace.is_some() && namespace != seat.namespace
}

/// Is this record about this scenario?
pub fn concerns(record: &Value, seat: &Seat) -> bool {
    if is_elsewhere(record, seat) {
        return false;
    }
    let listener = seat.listener().to_string();
    let upstream = seat.upstream().to_string();
    let client = seat.client().to_string();
    let connection = &record["connection"];
    let (local, remote) = (text(&connection["local"]), text(&connection["remote"]));
    local == listener
        || local == upstream
        || remote == upstream
        || [listener, upstream].iter().any(|address| text(&record["listener"]["address"]) == address)
        || text(&record["log"]["client"]).trim_matches(['[', ']']) == client
}

/// One finding per expectation and one per record too many.
pub fn compare(seat: &Seat, truth: &Truth, records: &[&Value]) -> Vec<Finding> {
    let mut left: Vec<&Value> = records.to_vec();
    let mut findings: Vec<Finding> =
        seat.expected().iter().map(|expect| claim(seat, truth, expect, &mut left)).collect();
    let more = left.into_iter().filter(|record| !is_harmless(record) && !is_more_of(seat, record));
    findings.extend(more.map(surplus));
    findings
}

/// More drops of a listener that was to overflow: what comes a while after the first is told in an incident of its own.
fn is_more_of(seat: &Seat, record: &Value) -> bool {
    const OVERFLOW: &str = "listen_overflow";
    record["kind"] == OVERFLOW
        && seat.expected().iter().any(|expect| {
            let is_cause = |cause: &&&str| record["cause"] == **cause;
            expect.kinds.contains(&OVERFLOW) && expect.causes.iter().any(|cause| is_cause(&cause))
        })
}

/// Takes the record that fits best out of those left.
fn claim(seat: &Seat, truth: &Truth, expect: &Expect, left: &mut Vec<&Value>) -> Finding {
    let best = left
        .iter()
        .enumerate()
        .filter(|(_, record)| may_fit(expect, record))
        .map(|(place, record)| (place, differences(seat, truth, expect, record)))
        .min_by_key(|(_, differences)| differences.len());
    let Some((place, differences)) = best else { return missing(expect) };
    let record = left.remove(place);
    Finding { wanted: expect.party.to_owned(), differences, ..described(record) }
}

/// A harmless record answers for a visible one only where the truth allows both.
fn may_fit(expect: &Expect, record: &Value) -> bool {
    if is_harmless(record) {
        expect.harmless || expect.impacts.contains(&"harmless")
    } else {
        !expect.harmless
    }
}

fn missing(expect: &Expect) -> Finding {
    Finding {
        wanted: expect.party.to_owned(),
        party: "none".to_owned(),
        cause: String::new(),
        certainty: String::new(),
        differences: vec![format!("no incident of {} ({})", expect.party, expect.causes.join(" or "))],
    }
}

fn surplus(record: &Value) -> Finding {
    let summary = text(&record["summary"]);
    Finding { differences: vec![format!("nobody expected: {summary}")], ..described(record) }
}

fn described(record: &Value) -> Finding {
    Finding {
        wanted: "none".to_owned(),
        party: text(&record["party"]).to_owned(),
        cause: text(&record["cause"]).to_owned(),
        certainty: text(&record["certainty"]).to_owned(),
        differences: Vec::new(),
    }
}

fn is_harmless(record: &Value) -> bool {
    text(&record["impact"]) == "harmless"
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Everything in the record that is not as expected.
fn differences(seat: &Seat, truth: &Truth, expect: &Expect, record: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    one_of(&mut wrong, record, "party", &[expect.party]);
    one_of(&mut wrong, record, "cause", expect.causes);
    one_of(&mut wrong, record, "kind", expect.kinds);
    one_of(&mut wrong, record, "impact", expect.impacts);
    certainty(&mut wrong, expect, record);
    connection(&mut wrong, seat, truth, expect, record);
    log(&mut wrong, seat, expect, &record["log"]);
    wrong.extend(expect.checks.iter().filter_map(|check| check_one(*check, seat, truth, record)));
    wrong
}

fn one_of(wrong: &mut Vec<String>, record: &Value, field: &str, right: &[&str]) {
    let got = text(&record[field]);
    if !right.is_empty() && !right.contains(&got) {
        wrong.push(format!("{field} is {got}, not {}", right.join(" or ")));
    }
}

/// What it rests on and what is missing is told with it: both may be of the machine's making.
fn certainty(wrong: &mut Vec<String>, expect: &Expect, record: &Value) {
    let got = text(&record["certainty"]);
    let fits = Certainty::parse(got).is_some_and(|got| expect.least <= got && got <= expect.most);
    if !fits {
        let (least, most) = (expect.least.slug(), expect.most.slug());
        let (evidence, missing) = (codes(&record["evidence"]), codes(&record["missing"]));
        wrong.push(format!("certainty is {got}, not {least} to {most}; by {evidence}; missing {missing}"));
    }
}

fn codes(list: &Value) -> String {
    let codes: BTreeSet<&str> = list.as_array().into_iter().flatten().map(|one| text(&one["code"])).collect();
    if codes.is_empty() { "nothing".to_owned() } else { codes.into_iter().collect::<Vec<_>>().join(", ") }
}

fn connection(wrong: &mut Vec<String>, seat: &Seat, truth: &Truth, expect: &Expect, record: &Value) {
    let Some(side) = expect.side else { return };
    let got = &record["connection"];
    let (local, remote) = match side {
        Side::Client => (Some(seat.listener().to_string()), truth.client.clone()),
        Side::Upstream => (truth.upstream_local.clone(), Some(seat.upstream().to_string())),
    };
    let wished = [("side", Some(side.slug().to_owned())), ("local", local), ("remote", remote)];
    for (field, wish) in wished {
        let got = text(&got[field]);
        if wish.as_deref().is_some_and(|wish| wish != got) {
            wrong.push(format!("connection.{field} is `{got}`, not `{}`", wish.unwrap_or_default()));
        }
    }
    let namespace = got["netns"].as_u64();
    if seat.namespace.is_some() && namespace != seat.namespace {
        wrong.push(format!("connection.netns is {namespace:?}, not {:?}", seat.namespace));
    }
}

/// The joined line: message and errno of the ground truth, or no line where Nginx wrote none.
fn log(wrong: &mut Vec<String>, seat: &Seat, expect: &Expect, got: &Value) {
    if expect.harmless || !expect.logged {
        return;
    }
    if let Some(line) = seat.scenario.log.at(seat.level) {
        let (message, errno) = split_line(line);
        if !text(&got["message"]).contains(message) || got["errno"].as_i64() != errno {
            wrong.push(format!("log is `{} {}`, not `{line}`", text(&got["message"]), got["errno"]));
        }
    } else if seat.scenario.log.silent_at(seat.level) && !got.is_null() {
        wrong.push(format!("log is `{}` although Nginx wrote nothing", text(&got["message"])));
    }
}

/// `recv() failed (104` is the message and the errno.
fn split_line(line: &str) -> (&str, Option<i64>) {
    match line.split_once(" (") {
        Some((message, number)) => (message, number.split(':').next().and_then(|number| number.parse().ok())),
        None => (line, None),
    }
}

/// One further check; gives what is wrong.
fn check_one(check: Check, seat: &Seat, truth: &Truth, record: &Value) -> Option<String> {
    match check {
        Check::Idle => idle(truth, record),
        Check::Sender => sender(truth, &record["reset"]["sender"], record),
        Check::Says(words) => {
            let place =
                [&record["reset"]["sender"], &record["evidence"], &record["summary"], &record["advice"]];
            let said = place.iter().any(|value| value.to_string().contains(words));
            (!said).then(|| format!("nothing says {words}"))
        }
        Check::Carries(option) => {
            let options = record["reset"]["options"].as_array();
            let carried = options.is_some_and(|options| options.iter().any(|name| text(name) == option));
            (!carried).then(|| format!("the RST carries {}, not {option}", record["reset"]["options"]))
        }
        Check::OtherHalf => {
            let got = &record["peer_connection"];
            let local = truth.upstream_local.as_deref();
            let right = text(&got["side"]) == "upstream"
                && text(&got["remote"]) == seat.upstream().to_string()
                && local.is_none_or(|local| local == text(&got["local"]));
            (!right).then(|| format!("peer_connection is {got}, not from {local:?} to {}", seat.upstream()))
        }
        Check::ListenerLimit(limit) => {
            let got = &record["listener"];
            let right = got["limit"].as_u64() == Some(limit)
                && got["queue"].as_u64() >= Some(limit)
                && text(&got["address"]) == seat.listener().to_string();
            (!right).then(|| format!("listener is {got}, not {} with limit {limit}", seat.listener()))
        }
        Check::Evidence(codes) => {
            let codes_seen = record["evidence"].as_array().into_iter().flatten();
            let has = codes_seen
                .filter(|piece| text(&piece["weight"]) != "against")
                .any(|piece| codes.iter().any(|code| text(&piece["code"]).contains(code)));
            (!has).then(|| format!("no evidence `{}`", codes.join("` or `")))
        }
    }
}

/// The idle time is that before the request which met the end. A quarter of a second covers the way of the
/// events themselves.
fn idle(truth: &Truth, record: &Value) -> Option<String> {
    let (least, most) = truth.idle?;
    // On a busy machine the answer before came earlier, and the request that ended the silence went later.
    let range = least.as_millis().saturating_sub(50)..=most.as_millis() + 1_500;
    let got = &record["connection"]["idle_ms"];
    let right = got.as_u64().is_some_and(|got| range.contains(&u128::from(got)));
    (!right).then(|| format!("connection.idle_ms is {got}, not in {range:?}"))
}

/// The process stands in the RST's sender, or in the evidence where no RST was sent.
fn sender(truth: &Truth, got: &Value, record: &Value) -> Option<String> {
    let (pid, comm) = truth.sender.as_ref()?;
    let in_reset = got["pid"].as_u64() == Some(u64::from(*pid)) && text(&got["comm"]) == comm;
    let evidence = record["evidence"].to_string();
    let in_evidence =
        got.is_null() && evidence.contains(&pid.to_string()) && evidence.contains(comm.as_str());
    (!in_reset && !in_evidence).then(|| format!("reset.sender is {got}, not {comm} ({pid})"))
}
