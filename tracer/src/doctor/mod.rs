//! `rstscope doctor`: what this kernel, this host and this Nginx allow, what is missing, and which settings invite
//! resets, each with the change.
//!
//! `gather` reads facts at the edge, `checks` are data and pure functions over them, `report` adds up, `text` shows.

pub mod checks;
pub mod facts;
pub mod gather;
pub mod report;
pub mod selftest;
pub mod text;

pub use facts::Facts;
pub use report::{Finding, Report, Severity};
