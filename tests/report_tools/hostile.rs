//! Inputs in which every text from outside is an attack, from the corpus that the tests of every sink have.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::recording;

/// Fields that hold text from the wire, a log, a file or a process.
const TEXTS: [&str; 13] = [
    "comm",
    "exe",
    "message",
    "request",
    "server",
    "host",
    "referrer",
    "upstream_url",
    "kernel",
    "line",
    "text",
    "place",
    "file",
];

/// Strings that attack one of the places that text goes to.
pub fn corpus() -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hostile.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Verdicts of the lab with an attack in every text.
pub fn verdicts() -> Vec<u8> {
    let (text, corpus) = (fs::read_to_string(recording("00-error.ndjson")).unwrap(), corpus());
    let verdicts = text.lines().cycle().zip(&corpus).map(|(line, attack)| {
        let mut verdict: Value = serde_json::from_str(line).unwrap();
        for (field, value) in [("summary", format!("sum {attack}")), ("host", attack.clone())] {
            verdict[field] = Value::String(value);
        }
        if verdict["log"].is_object() {
            for field in ["message", "request", "upstream", "host", "file", "action", "server"] {
                verdict["log"][field] = Value::String(format!("{field} {attack}"));
            }
        }
        for piece in verdict["evidence"].as_array_mut().unwrap() {
            piece["detail"] = Value::String(attack.clone());
        }
        verdict.to_string() + "\n"
    });
    verdicts.collect::<String>().into_bytes()
}

/// A recording of the lab with an attack in every text; its checksums are right.
pub fn recorded() -> Vec<u8> {
    const CHECKSUM: usize = 9;
    let text = fs::read_to_string(recording("07-info.rec")).unwrap();
    let corpus = corpus();
    let mut attacks = corpus.iter().cycle();
    let lines = text.lines().enumerate().map(|(number, line)| {
        let mut value: Value = serde_json::from_str(&line[CHECKSUM..]).unwrap();
        // The header says what the file is.
        if number > 0 {
            replace(&mut value, attacks.next().unwrap());
        }
        let json = value.to_string();
        format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
    });
    lines.collect::<String>().into_bytes()
}

fn replace(value: &mut Value, attack: &str) {
    match value {
        Value::Object(fields) => replace_fields(fields, attack),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, attack)),
        _ => {}
    }
}

fn replace_fields(fields: &mut Map<String, Value>, attack: &str) {
    if fields.get("input").is_some_and(|input| input == "log") {
        fields.insert("line".to_owned(), Value::String(format!("raw {attack}")));
    }
    let is_interface = fields.contains_key("netns") && fields.contains_key("index");
    for (name, value) in fields {
        let from_outside = TEXTS.contains(&name.as_str()) || (is_interface && name == "name");
        match value {
            Value::String(text) if from_outside => *text = format!("{name} {attack}"),
            value => replace(value, attack),
        }
    }
}
