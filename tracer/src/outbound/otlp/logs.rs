//! Verdicts as OTLP log records, with the attribute names of the semantic conventions where they have one, and
//! `rstscope.…` where they have none.

use serde::Serialize;

use super::record::{AnyValue, KeyValue, Resource, Scope, address, list, resource, scope, text};
use crate::model::Verdict;
use crate::model::verdict::{Connection, ConnectionSide, Impact};
use crate::store::upstream_of;

/// `ExportLogsServiceRequest`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    resource_logs: [ResourceLogs; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    resource: Resource,
    scope_logs: [ScopeLogs; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    scope: Scope,
    log_records: Vec<LogRecord>,
}

/// One verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogRecord {
    time_unix_nano: String,
    observed_time_unix_nano: String,
    severity_number: u32,
    severity_text: &'static str,
    event_name: &'static str,
    body: AnyValue,
    attributes: Vec<KeyValue>,
}

/// These records from this host.
pub(super) fn request(host: &str, log_records: Vec<LogRecord>) -> Request {
    let scope_logs = [ScopeLogs { scope: scope(), log_records }];
    Request { resource_logs: [ResourceLogs { resource: resource(host), scope_logs }] }
}

/// A verdict, seen at `now` (nanoseconds since 1970).
pub(super) fn record(verdict: &Verdict, now: u64) -> LogRecord {
    let (severity_number, severity_text) = severity(verdict.impact);
    let time = verdict.time.parse::<jiff::Timestamp>().ok();
    let time = time.and_then(|time| u64::try_from(time.as_nanosecond()).ok());
    LogRecord {
        time_unix_nano: time.unwrap_or(now).to_string(),
        observed_time_unix_nano: now.to_string(),
        severity_number,
        severity_text,
        event_name: "rstscope.verdict",
        body: AnyValue::Text(verdict.summary.clone()),
        attributes: attributes(verdict),
    }
}

/// `SeverityNumber` of the log data model and its short name.
fn severity(impact: Impact) -> (u32, &'static str) {
    match impact {
        Impact::Harmless => (9, "INFO"),
        Impact::RequestFailed | Impact::ResponseTruncated => (17, "ERROR"),
        Impact::RequestRetried | Impact::ConnectionOnly | Impact::Unknown => (13, "WARN"),
    }
}

fn attributes(verdict: &Verdict) -> Vec<KeyValue> {
    let mut all = vec![
        text("rstscope.verdict.id", verdict.id.as_str()),
        text("error.type", verdict.cause.slug()),
        text("rstscope.party", verdict.party.slug()),
        text("rstscope.certainty", verdict.certainty.slug()),
        text("rstscope.impact", verdict.impact.slug()),
        text("rstscope.kind", verdict.kind.slug()),
        text("rstscope.segment", verdict.segment.slug()),
        text("rstscope.phase", verdict.phase.slug()),
    ];
    all.extend(verdict.consequence_of.as_deref().map(|id| text("rstscope.consequence_of", id)));
    all.extend(verdict.connection.iter().flat_map(network));
    all.extend(parties(verdict));
    all.extend(verdict.log.iter().flat_map(|log| {
        let request = log.request.as_deref().map(of_request).unwrap_or_default();
        [text("log.file.path", log.file.as_str())].into_iter().chain(request)
    }));
    let evidence = verdict.evidence.iter().map(|one| format!("{}: {}", one.code, one.detail));
    all.push(list("rstscope.evidence", evidence));
    all.push(list("rstscope.advice", verdict.advice.iter().map(|advice| advice.text.clone())));
    all
}

fn network(connection: &Connection) -> Vec<KeyValue> {
    let kind = if connection.remote.starts_with('[') { "ipv6" } else { "ipv4" };
    let mut all = vec![text("network.transport", "tcp"), text("network.type", kind)];
    all.extend(address(("network.local.address", "network.local.port"), &connection.local));
    all.extend(address(("network.peer.address", "network.peer.port"), &connection.remote));
    all
}

/// The client and the server that the incident lies between: the upstream where there is one, else Nginx itself.
fn parties(verdict: &Verdict) -> Vec<KeyValue> {
    let of = |side: ConnectionSide| {
        let both = [&verdict.connection, &verdict.peer_connection];
        both.into_iter().flatten().find(|connection| connection.side == side)
    };
    let client = of(ConnectionSide::Client).map(|client| client.remote.as_str());
    let client = client.or_else(|| verdict.log.as_ref()?.client.as_deref());
    let server = upstream_of(verdict).or_else(|| of(ConnectionSide::Client).map(|one| one.local.clone()));
    let client = client.map(|client| address(("client.address", "client.port"), client));
    let server = server.map(|server| address(("server.address", "server.port"), &server));
    client.into_iter().chain(server).flatten().collect()
}

/// Method and path of a request line.
fn of_request(line: &str) -> Vec<KeyValue> {
    let mut words = line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Vec::new() };
    let mut all = vec![text("http.request.method", method)];
    match target.split_once('?') {
        Some((path, query)) => all.extend([text("url.path", path), text("url.query", query)]),
        None => all.push(text("url.path", target)),
    }
    all
}

/// How many records a receiver says it did not take, of those it acknowledged.
pub(super) fn rejected(answer: &serde_json::Value) -> u64 {
    let count = &answer["partialSuccess"]["rejectedLogRecords"];
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn json(verdict: &Verdict) -> serde_json::Value {
        serde_json::to_value(request("edge1", vec![record(verdict, 5)])).unwrap()
    }

    fn attribute(request: &serde_json::Value, key: &str) -> serde_json::Value {
        let record = &request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        let all = record["attributes"].as_array().unwrap();
        all.iter().find(|one| one["key"] == key).map(|one| one["value"].clone()).unwrap_or_default()
    }

    #[test]
    fn a_verdict_has_the_names_that_the_conventions_give() {
        let json = json(&samples::keepalive_race());
        for (key, value) in [
            ("error.type", "upstream_keepalive_race"),
            ("rstscope.party", "upstream"),
            ("server.address", "10.0.1.10"),
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
            ("http.request.method", "GET"),
        ] {
            assert_eq!(attribute(&json, key)["stringValue"], value, "{key}");
        }
        assert_eq!(attribute(&json, "server.port")["intValue"], "8080");
        assert!(attribute(&json, "client.address")["stringValue"].is_string());
        assert!(
            !attribute(&json, "rstscope.evidence")["arrayValue"]["values"].as_array().unwrap().is_empty()
        );
        let record = &json["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["observedTimeUnixNano"], "5");
        assert_eq!(record["timeUnixNano"].as_str().unwrap().len(), 19);
        assert!(record["body"]["stringValue"].is_string());
        let resource = &json["resourceLogs"][0]["resource"]["attributes"];
        assert_eq!(
            resource[0],
            serde_json::json!({"key": "service.name", "value": {"stringValue": "rstscope"}})
        );
    }

    #[test]
    fn every_kind_of_verdict_can_be_sent() {
        for verdict in samples::all() {
            let json = json(&verdict);
            assert_eq!(attribute(&json, "rstscope.verdict.id")["stringValue"], verdict.id);
        }
    }

    #[test]
    fn what_a_receiver_refused_is_read() {
        let said = |text: &str| rejected(&serde_json::from_str(text).unwrap());
        assert_eq!(said(r#"{"partialSuccess":{"rejectedLogRecords":"3"}}"#), 3);
        assert_eq!(said(r#"{"partialSuccess":{"rejectedLogRecords":2}}"#), 2);
        assert_eq!((said("{}"), said("[]"), said("7")), (0, 0, 0));
    }
}
