//! The contract of `--format json`: the schema in `docs` is the one the types make, it is a good one,
//! and every kind of verdict holds to it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::path::PathBuf;

use rstscope::model;
use rstscope::output::ndjson;
use rstscope::output::schema::verdict_schema;
use serde_json::{Value, json};

#[path = "../tracer/src/output/samples.rs"]
mod samples;

/// Causes of the contract, by party.
const CAUSES: [(&str, &[&str]); 5] = [
    (
        "client",
        &[
            "client_abort",
            "client_idle_reset",
            "client_late_reset",
            "client_handshake_reset",
            "client_vanished",
        ],
    ),
    (
        "nginx",
        &[
            "nginx_timeout_reset",
            "nginx_closed_unread",
            "nginx_worker_exit",
            "nginx_listen_overflow",
            "nginx_not_listening",
            "nginx_resource_limit",
            "nginx_config",
        ],
    ),
    (
        "upstream",
        &[
            "upstream_refused",
            "upstream_keepalive_race",
            "upstream_abort",
            "upstream_process_exit",
            "upstream_oom_kill",
            "upstream_restarted",
            "upstream_closed_early",
            "upstream_listen_overflow",
            "upstream_slow",
            "upstream_unavailable",
        ],
    ),
    (
        "middlebox",
        &[
            "middlebox_forged_reset",
            "middlebox_idle_reset",
            "middlebox_idle_drop",
            "middlebox_reject",
            "middlebox_drop",
            "middlebox_mtu_blackhole",
            "middlebox_both_ends_reset",
            "local_firewall",
        ],
    ),
    ("unknown", &["insufficient_evidence"]),
];

/// Fields of the record, in the order of the contract.
const FIELDS: [&str; 25] = [
    "schema",
    "id",
    "host",
    "time",
    "kind",
    "party",
    "segment",
    "cause",
    "certainty",
    "impact",
    "phase",
    "stage",
    "consequence_of",
    "summary",
    "evidence",
    "missing",
    "alternatives",
    "connection",
    "peer_connection",
    "reset",
    "log",
    "match",
    "listener",
    "advice",
    "packets",
];

fn schema_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/verdict.schema.json")
}

fn validator() -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(&verdict_schema()).unwrap()
}

fn record(verdict: &model::Verdict) -> Value {
    serde_json::from_slice(&ndjson::line(verdict).unwrap()).unwrap()
}

/// The sample with one change; whether it still holds to the schema.
fn holds_after(change: impl FnOnce(&mut Value)) -> bool {
    let mut value = record(&samples::upstream_abort());
    change(&mut value);
    validator().is_valid(&value)
}

#[test]
fn the_schema_in_docs_is_the_one_the_types_make() {
    let made = format!("{:#}\n", verdict_schema());
    if std::env::var_os("RSTSCOPE_BLESS").is_some() {
        std::fs::write(schema_path(), &made).unwrap();
    }
    let written = std::fs::read_to_string(schema_path()).unwrap();
    assert!(written == made, "docs/verdict.schema.json is stale; run with RSTSCOPE_BLESS=1");
}

#[test]
fn the_schema_is_a_valid_draft_2020_12_schema() {
    let schema = verdict_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::draft202012::meta::validate(&schema).unwrap();
}

#[test]
fn every_object_is_closed_and_names_its_fields() {
    let schema = verdict_schema();
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, object) in
        definitions.iter().map(|(name, value)| (name.as_str(), value)).chain([("root", &schema)])
    {
        if object["type"] != "object" {
            continue;
        }
        assert_eq!(object["additionalProperties"], false, "{name}");
        for (field, property) in object["properties"].as_object().unwrap() {
            assert!(property.get("description").is_some(), "{name}.{field} has no description");
        }
    }
}

#[test]
fn every_field_of_the_contract_is_always_there() {
    for verdict in samples::all() {
        let value = record(&verdict);
        let fields: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(fields.len(), FIELDS.len());
        assert!(FIELDS.iter().all(|field| value.get(field).is_some()), "{fields:?}");
    }
    let required = verdict_schema()["required"].as_array().unwrap().clone();
    assert!(FIELDS.iter().all(|field| required.contains(&json!(field))), "{required:?}");
}

#[test]
fn nested_fields_are_there_even_when_null() {
    let value = record(&samples::undecided());
    for field in
        ["flags", "seq", "ack", "window", "ttl", "ip_id", "expected_seq", "options", "reason", "sender"]
    {
        assert_eq!(value["reset"].get(field), Some(&Value::Null), "{field}");
    }
    let value = record(&samples::timeout_reset());
    assert_eq!(value["connection"].get("opened_at"), Some(&Value::Null));
    let advice = &record(&samples::keepalive_race())["advice"][0];
    assert!(advice.get("where").is_some() && advice.get("place").is_none());
}

#[test]
fn verdicts_of_every_kind_hold_to_the_schema() {
    let validator = validator();
    let mut kinds = std::collections::BTreeSet::new();
    for verdict in samples::all() {
        let value = record(&verdict);
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|error| format!("{} {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", verdict.cause);
        kinds.insert(verdict.kind);
    }
    assert_eq!(kinds.len(), model::verdict::Kind::ALL.len(), "a kind without a sample");
}

#[test]
fn the_slugs_are_complete_and_no_others_are_accepted() {
    let known: Vec<&str> = model::verdict::Cause::ALL.iter().map(|cause| cause.slug()).collect();
    let contract: Vec<&str> = CAUSES.iter().flat_map(|(_, causes)| causes.iter().copied()).collect();
    assert_eq!(known, contract);
    for field in ["cause", "party", "kind", "certainty", "impact", "phase", "stage", "segment"] {
        assert!(!holds_after(|value| value[field] = json!("no_such_slug")), "{field}");
    }
}

#[test]
fn what_is_not_a_verdict_is_refused() {
    assert!(holds_after(|_| ()));
    for field in FIELDS {
        let gone = holds_after(|value| drop(value.as_object_mut().and_then(|object| object.remove(field))));
        assert!(!gone, "accepted without {field}");
    }
    assert!(!holds_after(|value| value["extra"] = json!(1)));
    assert!(!holds_after(|value| value["connection"]["extra"] = json!(1)));
    assert!(!holds_after(|value| value["schema"] = json!("rstscope.verdict/2")));
    assert!(!holds_after(|value| value["id"] = json!("not a ulid")));
    assert!(!holds_after(|value| value["consequence_of"] = json!("")));
    assert!(!holds_after(|value| value["time"] = json!("2026-03-01 14:03:22")));
    assert!(!holds_after(|value| value["time"] = json!("2026-03-01T14:03:22.118Z")), "milliseconds only");
    assert!(!holds_after(|value| value["summary"] = json!("")));
    assert!(!holds_after(|value| value["connection"]["remote"] = json!("::1:80")), "IPv6 without brackets");
    assert!(
        !holds_after(|value| value["connection"]["remote"] = json!("[::ffff:10.0.0.1]:80")),
        "mapped address"
    );
    assert!(!holds_after(|value| value["evidence"][0]["code"] = json!("Not A Slug")));
}

#[test]
fn a_cause_belongs_to_one_party() {
    let with = |party: &str, cause: &str| {
        holds_after(|value| {
            value["party"] = json!(party);
            value["cause"] = json!(cause);
            value["certainty"] = json!(if party == "unknown" { "undetermined" } else { "weak" });
        })
    };
    for (party, causes) in CAUSES {
        for (other, _) in CAUSES {
            for cause in causes {
                assert_eq!(with(other, cause), other == party, "{other} {cause}");
            }
        }
    }
}

#[test]
fn certainty_is_earned() {
    assert!(!holds_after(|value| value["evidence"] = json!([])), "proven by nothing");
    assert!(
        !holds_after(|value| value["evidence"][1]["weight"] = json!("supporting")),
        "proven by nothing decisive"
    );
    assert!(
        !holds_after(|value| value["evidence"][0]["weight"] = json!("against")),
        "proven against evidence"
    );
    let weak = holds_after(|value| {
        value["certainty"] = json!("weak");
        value["evidence"][0]["weight"] = json!("against");
    });
    assert!(weak);
    let strong_against = holds_after(|value| {
        value["certainty"] = json!("strong");
        value["evidence"][0]["weight"] = json!("against");
    });
    assert!(!strong_against);
}

#[test]
fn fields_agree_with_each_other() {
    assert!(
        !holds_after(|value| value["consequence_of"] = value["id"].clone()),
        "a consequence that failed a request"
    );
    assert!(!holds_after(|value| value["kind"] = json!("log_only")), "log_only with a connection");
    assert!(!holds_after(|value| value["log"] = Value::Null), "a match without a line");
    assert!(!holds_after(|value| value["kind"] = json!("listen_overflow")), "an overflow without a listener");
}

#[test]
fn addresses_of_both_families_are_accepted() {
    for address in
        ["10.0.0.1:80", "[::1]:8080", "[fe80::1%2]:443", "[2001:db8::ffff:1]:65535", "[1:2:3:4:5:6:7:8]:1"]
    {
        assert!(holds_after(|value| value["connection"]["remote"] = json!(address)), "{address}");
    }
}
