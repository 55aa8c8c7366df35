//! x
pub mod classify;
pub mod pattern;
pub mod table;
pub mod topic;
