//! The only place that touches aya: BTF, programs, hooks, maps.
