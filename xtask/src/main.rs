//! Set-up, checks, lab and packaging: what cargo alone cannot do.

fn main() {}
