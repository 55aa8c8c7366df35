//! Everything that is read from Nginx: log lines, files, processes, configuration.
//!
//! `line`, `catalogue`, `explain` and `records` are pure; `archive`, `tail`, `syslog`, `process`, `sockets`, `config`,
//! `unix` and `discover` read files and `/proc` and change nothing.

pub mod access;
pub mod archive;
pub mod catalogue;
pub mod config;
pub mod discover;
pub mod line;
pub mod proc;
pub mod process;
pub mod records;
pub mod sockets;
pub mod syslog;
pub mod tail;
pub mod unix;

pub use discover::{Instance, discover};
pub use line::parse;
