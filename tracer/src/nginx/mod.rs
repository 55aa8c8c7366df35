//! Everything that is read from Nginx: log lines, files, processes, configuration.
//!
//! `line` and `catalogue` are pure; `tail`, `process`, `sockets`, `config` and `discover` read files and `/proc`
//! and change nothing.

pub mod catalogue;
pub mod line;
pub mod tail;

pub use line::parse;
