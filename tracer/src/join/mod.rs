//! Which log line belongs to which incident. Pure.
