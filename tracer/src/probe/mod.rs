//! The only place that touches aya: type information, programs, hooks, maps.
//!
//! Everything about the running kernel is found out by trying: a hook that cannot be loaded or attached is
//! a fact with a reason, never the end of the session.

pub mod attach;
pub mod btf;
pub mod capability;
pub mod environment;
pub mod filter;
mod forgetful;
pub mod hooks;
pub mod icmp;
pub mod load;
pub mod names;
pub mod namespace;
pub mod nullable;
pub mod programs;
pub mod sizes;
pub mod stats;

pub use capability::maps_need_no_capability;
pub use environment::Environment;
pub use load::{Probe, ProbeError, Settings};
pub use names::Names;
pub use sizes::Sizes;
