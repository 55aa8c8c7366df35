//! The JSON Schema of a verdict, made from the types. `docs/verdict.schema.json` is this, written down.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::model::Verdict;

/// JSON Schema (draft 2020-12) of one line of `--format json`.
/// Made for what is written, so a field that is always there is required even when it may be null.
pub fn verdict_schema() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Verdict>().to_value()
}
