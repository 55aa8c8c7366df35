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
