//! Pairs of lines and incidents that must and must not join.
