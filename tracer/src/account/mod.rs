//! Losses, and reconciliation with the kernel's own counters.
