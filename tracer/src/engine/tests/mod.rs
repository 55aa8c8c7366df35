//! Scenarios: what the kernel and the log say, and the verdict that has to come out.

mod access;
mod client;
mod clock;
mod engine;
mod icmp;
mod listener;
mod middlebox;
mod nginx;
mod silence;
mod upstream;

/// The scenarios as functions.
pub fn by_hand() -> impl Iterator<Item = fn()> {
    let all = [
        access::ALL,
        client::ALL,
        icmp::ALL,
        listener::ALL,
        middlebox::ALL,
        nginx::ALL,
        silence::ALL,
        upstream::ALL,
    ];
    all.into_iter().flatten().copied()
}
