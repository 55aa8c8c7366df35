//! Keeps events that reach every tracer of the host away from benches that count on silence.
//!
//! Benches have their own networks, but one kernel: its OOM killer, for example, is told to all of them.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static QUIET: RwLock<()> = RwLock::new(());

/// Nothing that reaches every tracer happens until this is dropped.
pub fn keep() -> RwLockReadGuard<'static, ()> {
    QUIET.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no bench counts on silence; none begins to until this is dropped.
pub fn disturb() -> RwLockWriteGuard<'static, ()> {
    QUIET.write().unwrap_or_else(PoisonError::into_inner)
}
