//! What the daemon sends away: notices to a webhook and to a command, verdicts and metrics to a collector. Each has a queue with a bound and a thread of
//! its own, so that nobody waits for a receiver; whatever does not arrive is counted.
//!
//! Only HTTP/1.1 without TLS is spoken: every TLS library in reach carries parts under the Apache licence alone,
//! which does not go together with GPL-2.0-only. A local forwarder, or the command, takes notices further.

pub mod command;
pub mod http;
pub mod notice;
pub mod otlp;
mod outlet;
pub mod webhook;

pub use notice::Notice;
pub use outlet::{Account, Failure, Outlet, Plan, Say};
