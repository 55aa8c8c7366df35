//! rstscope as a library: everything the binary does, in modules that tests can call.
//!
//! The way of the data is `probe` and `collect` (kernel) plus `nginx` (logs, configuration,
//! processes) → `model` → `timeline` → `join` → `judge` → `output`.
//! `model`, `timeline`, `join` and `judge` are pure: no I/O, no clock, no globals.

pub mod account;
mod bounded;
pub mod capture;
pub mod cli;
pub mod collect;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod ends;
pub mod engine;
pub mod guard;
pub mod history;
pub mod join;
pub mod judge;
pub mod metrics;
pub mod model;
pub mod nginx;
pub mod outbound;
pub mod output;
pub mod probe;
pub mod recording;
pub mod report;
pub mod schedule;
pub mod session;
pub mod store;
pub mod timeline;
pub mod top;
mod wake;
