//! The JSON Schema of a verdict, made from the types. `docs/verdict.schema.json` is this, written down.
//!
//! The types say which fields there are; the rules added here say what they may say together.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::parts::party_of;
use crate::model::Verdict;
use crate::model::verdict::{Cause, Certainty, Impact, Kind, Party, Weight};

/// JSON Schema (draft 2020-12) of one line of `--format json`.
/// Made for what is written, so a field that is always there is required even when it may be null.
pub fn verdict_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Verdict>();
    schema.insert("title".to_owned(), json!("rstscope verdict"));
    schema.insert("allOf".to_owned(), rules());
    schema.to_value()
}

fn rules() -> Value {
    let mut rules: Vec<Value> = Party::ALL.iter().map(|party| causes_of(*party)).collect();
    rules.extend(certainty_is_earned());
    rules.push(when(
        &json!({ "consequence_of": { "type": "string" } }),
        &json!({ "impact": { "const": Impact::Harmless } }),
        "a consequence is not counted twice",
    ));
    rules.push(when(
        &json!({ "kind": { "const": Kind::LogOnly } }),
        &json!({ "log": { "type": "object" }, "connection": { "type": "null" }, "match": { "type": "null" } }),
        "no event of the kernel",
    ));
    // What was found at the path of a unix socket is a witness beside the log.
    let found = json!({ "properties": { "code": { "enum": ["unix_peer", "unix_denied", "unix_socket"] } } });
    rules.push(when(
        &json!({ "kind": { "const": Kind::LogOnly }, "evidence": { "not": { "contains": found } } }),
        &json!({ "certainty": { "const": Certainty::Undetermined } }),
        "only the log speaks",
    ));
    rules.push(when(
        &json!({ "match": { "type": "object" } }),
        &json!({ "log": { "type": "object" } }),
        "a match names a line",
    ));
    rules.push(when(
        &json!({ "kind": { "const": Kind::ListenOverflow } }),
        &json!({ "listener": { "type": "object" } }),
        "an overflow names its listener",
    ));
    Value::Array(rules)
}

fn causes_of(party: Party) -> Value {
    let causes: Vec<Cause> = Cause::ALL.iter().copied().filter(|cause| party_of(*cause) == party).collect();
    when(
        &json!({ "party": { "const": party } }),
        &json!({ "cause": { "enum": causes } }),
        "a cause belongs to one party",
    )
}

fn certainty_is_earned() -> [Value; 3] {
    let decisive = json!({ "properties": { "weight": { "const": Weight::Decisive } } });
    let not_against = json!({ "properties": { "weight": { "not": { "const": Weight::Against } } } });
    [
        when(
            &json!({ "certainty": { "const": Certainty::Proven } }),
            &json!({ "evidence": { "contains": decisive, "items": not_against } }),
            "proven needs decisive evidence and none against",
        ),
        when(
            &json!({ "certainty": { "const": Certainty::Strong } }),
            &json!({ "evidence": { "minItems": 1, "items": not_against } }),
            "strong needs evidence and none against",
        ),
        when(
            &json!({ "party": { "const": Party::Unknown } }),
            &json!({ "certainty": { "const": Certainty::Undetermined } }),
            "an unknown party is undetermined",
        ),
    ]
}

/// A rule between fields: where the record has `condition`, it has `consequence`.
fn when(condition: &Value, consequence: &Value, reason: &str) -> Value {
    json!({ "$comment": reason, "if": { "properties": condition }, "then": { "properties": consequence } })
}
