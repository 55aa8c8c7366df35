//! Losses, and reconciliation with the kernel's own counters.
//!
//! The kernel counts what its TCP did whether or not anybody watches. Setting our counts against those
//! counters is how the tool proves, to itself first, that it missed nothing.

pub mod forgotten;
pub mod loss;
pub mod mib;
pub mod reconcile;
