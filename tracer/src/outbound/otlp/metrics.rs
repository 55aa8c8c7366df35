//! The daemon's metrics in OTLP: the same numbers as on `/metrics`, under the names of the semantic conventions where
//! they have one; cumulative since the daemon started.

use serde::Serialize;

use super::record::{KeyValue, Resource, Scope, address, resource, scope, text};
use crate::metrics::family::{Family, Kind, Number, Sample};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u32 = 2;

/// Metrics that the semantic conventions know: our name, theirs, their unit.
const KNOWN: [(&str, &str, &str); 4] = [
    ("process_resident_memory_bytes", "process.memory.usage", "By"),
    ("process_cpu_seconds", "process.cpu.time", "s"),
    ("process_open_fds", "process.unix.file_descriptor.count", "{file_descriptor}"),
    ("process_threads", "process.thread.count", "{thread}"),
];

/// Suffixes that Prometheus has for units.
const UNITS: [(&str, &str); 2] = [("_bytes", "By"), ("_seconds", "s")];

/// Labels that are addresses: the attribute of the address, and of the port.
const ADDRESSES: [(&str, (&str, &str)); 2] = [
    ("upstream", ("server.address", "server.port")),
    ("listener", ("network.local.address", "network.local.port")),
];

/// Labels and their attributes.
const ATTRIBUTES: [(&str, &str); 16] = [
    ("cause", "error.type"),
    ("party", "rstscope.party"),
    ("certainty", "rstscope.certainty"),
    ("impact", "rstscope.impact"),
    ("method", "rstscope.join.method"),
    ("pattern", "rstscope.pattern"),
    ("group", "rstscope.group"),
    ("hook", "rstscope.hook"),
    ("program", "rstscope.program"),
    ("handover", "rstscope.handover"),
    ("receiver", "rstscope.receiver"),
    ("reason", "rstscope.reason"),
    ("netns", "rstscope.netns"),
    ("port", "network.local.port"),
    ("version", "service.version"),
    ("ebpf_compiler", "rstscope.ebpf_compiler"),
];

/// `ExportMetricsServiceRequest`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    resource_metrics: [ResourceMetrics; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics {
    resource: Resource,
    scope_metrics: [ScopeMetrics; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeMetrics {
    scope: Scope,
    metrics: Vec<Metric>,
}

#[derive(Debug, Serialize)]
struct Metric {
    name: String,
    description: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    data: Data,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Data {
    #[serde(rename_all = "camelCase")]
    Sum { data_points: Vec<Point>, aggregation_temporality: u32, is_monotonic: bool },
    #[serde(rename_all = "camelCase")]
    Gauge { data_points: Vec<Point> },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Point {
    attributes: Vec<KeyValue>,
    start_time_unix_nano: String,
    time_unix_nano: String,
    #[serde(flatten)]
    value: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Value {
    AsInt(String),
    AsDouble(f64),
}

/// Metrics of this host that counted from `started` to `now`, nanoseconds since 1970.
pub(super) fn request(host: &str, families: &[Family], started: u64, now: u64) -> Request {
    let metrics = families.iter().map(|family| metric(family, started, now)).collect();
    let scope_metrics = [ScopeMetrics { scope: scope(), metrics }];
    Request { resource_metrics: [ResourceMetrics { resource: resource(host), scope_metrics }] }
}

fn metric(family: &Family, started: u64, now: u64) -> Metric {
    let (name, unit) = named(family.name);
    let data_points = family.samples.iter().map(|sample| point(sample, started, now)).collect();
    let data = match family.kind {
        Kind::Counter => Data::Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true },
        Kind::Gauge => Data::Gauge { data_points },
    };
    Metric { name, description: family.help, unit, data }
}

/// Name and unit: dots for the name space, and the unit beside the name instead of in it.
fn named(name: &str) -> (String, &'static str) {
    if let Some((_, theirs, unit)) = KNOWN.iter().find(|(ours, ..)| *ours == name) {
        return ((*theirs).to_owned(), unit);
    }
    let unit = UNITS.iter().find(|(suffix, _)| name.ends_with(suffix));
    let (stem, unit) = unit.map_or((name, "1"), |(suffix, unit)| (name.trim_end_matches(suffix), *unit));
    (stem.replacen('_', ".", 1), unit)
}

fn point(sample: &Sample, started: u64, now: u64) -> Point {
    let value = match sample.value {
        Number::Whole(value) => Value::AsInt(value.to_string()),
        Number::Real(value) => Value::AsDouble(value),
    };
    Point {
        attributes: sample.labels.iter().flat_map(|(label, value)| attributes(label, value)).collect(),
        start_time_unix_nano: started.to_string(),
        time_unix_nano: now.to_string(),
        value,
    }
}

fn attributes(label: &str, value: &str) -> Vec<KeyValue> {
    if let Some((_, keys)) = ADDRESSES.iter().find(|(name, _)| *name == label) {
        return address(*keys, value);
    }
    let key = ATTRIBUTES.iter().find(|(name, _)| *name == label).map(|(_, key)| *key);
    key.map(|key| text(key, value)).into_iter().collect()
}

/// How many points a receiver says it did not take, of those it acknowledged.
pub(super) fn rejected(answer: &serde_json::Value) -> u64 {
    let count = &answer["partialSuccess"]["rejectedDataPoints"];
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{self, families};

    #[test]
    fn every_metric_and_every_label_has_its_place() {
        let families = families(&metrics::tests::seen());
        for family in &families {
            for (label, value) in family.samples.iter().flat_map(|sample| &sample.labels) {
                assert!(!attributes(label, value).is_empty(), "label {label} of {}", family.name);
            }
        }
        let request = serde_json::to_value(request("edge1", &families, 1, 2)).unwrap();
        let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        assert_eq!(metrics.len(), families.len());
        let found = |name: &str| metrics.iter().find(|metric| metric["name"] == name).unwrap();
        let incidents = found("rstscope.incidents");
        assert_eq!(incidents["sum"]["aggregationTemporality"], 2);
        assert_eq!(incidents["sum"]["isMonotonic"], true);
        let point = &incidents["sum"]["dataPoints"][0];
        assert!(point["asInt"].is_string() && point["startTimeUnixNano"] == "1", "{point}");
        assert_eq!(found("process.memory.usage")["unit"], "By");
        assert_eq!(found("rstscope.store_size")["unit"], "By");
        assert!(found("rstscope.up")["gauge"]["dataPoints"][0]["asDouble"].is_number());
    }
}
