//! The report for people and programs. Each renderer makes text from the log safe in the way of its format.

pub mod json;
pub mod markdown;
pub mod text;

#[cfg(test)]
mod snapshots;
