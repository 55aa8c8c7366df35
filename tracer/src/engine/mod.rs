//! Ties timeline, join and judge together: inputs in, verdicts out. Pure.
