//! Checks records against the published schema of the contract.

use crate::project;
use anyhow::{Context, Result, anyhow};
use jsonschema::Validator;
use serde_json::Value;

/// The schema, if the project has published one.
pub struct Schema(Option<Validator>);

impl Schema {
    /// Reads `docs/verdict.schema.json`.
    pub fn load() -> Result<Self> {
        let file = project::root().join("docs/verdict.schema.json");
        if !file.exists() {
            return Ok(Self(None));
        }
        let text = std::fs::read_to_string(&file)?;
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
        let validator =
            jsonschema::validator_for(&value).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        Ok(Self(Some(validator)))
    }

    /// The schema must be published and be a schema.
    pub fn check() -> Result<()> {
        Self::load()?.0.map(drop).context("docs/verdict.schema.json is not there")
    }

    /// What the schema has against a record.
    pub fn complaints(&self, record: &Value) -> Vec<String> {
        let Some(validator) = &self.0 else { return Vec::new() };
        validator
            .iter_errors(record)
            .map(|error| format!("schema: {}: {error}", error.instance_path()))
            .collect()
    }
}
