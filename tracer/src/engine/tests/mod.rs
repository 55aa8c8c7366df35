//! Scenarios: what the kernel and the log say, and the verdict that has to come out.

mod access;
mod alive;
mod blind;
mod client;
mod clock;
mod engine;
mod far;
mod filtered;
mod history;
mod icmp;
mod impact;
mod listener;
mod lost;
mod middlebox;
mod nginx;
mod other_end;
mod silence;
mod upstream;
