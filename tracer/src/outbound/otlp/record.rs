//! The JSON form of OTLP (opentelemetry-proto 1.x, "JSON Protobuf Encoding" of the OTLP specification): field names in
//! lower camel case, 64-bit integers as strings, enums as numbers. Only what is sent is here.

use std::net::SocketAddr;

use serde::Serialize;

/// A value of an attribute or a body.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum AnyValue {
    /// Text.
    #[serde(rename = "stringValue")]
    Text(String),
    /// A 64-bit integer.
    #[serde(rename = "intValue")]
    Whole(String),
    /// A list.
    #[serde(rename = "arrayValue")]
    List {
        /// Its values.
        values: Vec<AnyValue>,
    },
}

/// An attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct KeyValue {
    key: &'static str,
    value: AnyValue,
}

/// What sends: the resource that every record belongs to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Resource {
    attributes: Vec<KeyValue>,
}

/// The library that made the records.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Scope {
    name: &'static str,
    version: &'static str,
}

/// Text.
pub(super) fn text(key: &'static str, value: impl Into<String>) -> KeyValue {
    KeyValue { key, value: AnyValue::Text(value.into()) }
}

/// An integer.
pub(super) fn whole(key: &'static str, value: impl Into<u64>) -> KeyValue {
    KeyValue { key, value: AnyValue::Whole(value.into().to_string()) }
}

/// A list of texts.
pub(super) fn list(key: &'static str, values: impl Iterator<Item = String>) -> KeyValue {
    KeyValue { key, value: AnyValue::List { values: values.map(AnyValue::Text).collect() } }
}

/// Address and port as two attributes; what is no such pair is the address as it is.
pub(super) fn address(keys: (&'static str, &'static str), value: &str) -> Vec<KeyValue> {
    match value.parse::<SocketAddr>() {
        Ok(address) => vec![text(keys.0, address.ip().to_string()), whole(keys.1, address.port())],
        Err(_) => vec![text(keys.0, value)],
    }
}

/// This daemon on this host.
pub(super) fn resource(host: &str) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", "rstscope"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", host),
            text("host.name", host),
            text("os.type", "linux"),
        ],
    }
}

/// This program.
pub(super) fn scope() -> Scope {
    Scope { name: "rstscope", version: env!("CARGO_PKG_VERSION") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_form_of_the_specification() {
        let attributes = [text("a", "x"), whole("b", 7_u32), list("c", ["y".to_owned()].into_iter())];
        let json = serde_json::to_value(attributes).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {"key": "a", "value": {"stringValue": "x"}},
                {"key": "b", "value": {"intValue": "7"}},
                {"key": "c", "value": {"arrayValue": {"values": [{"stringValue": "y"}]}}},
            ])
        );
    }

    #[test]
    fn addresses_are_split() {
        let keys = ("server.address", "server.port");
        assert_eq!(address(keys, "[::1]:80"), [text(keys.0, "::1"), whole(keys.1, 80_u16)]);
        assert_eq!(address(keys, "other"), [text(keys.0, "other")]);
    }
}
