//! Captures instead of a kernel: packets of pcap and pcapng files become the inputs of the same judge.
//!
//! The way is `container` (file to packets), `link` (packet to IP), `segment` (IP to TCP), `tracker` (TCP to
//! sightings), `roles` (who is Nginx), `events` (sightings to `model::Event`). A sighting is made only of
//! packets that stand in the capture; what a capture cannot carry stays unknown.

mod census;
mod connection;
pub mod container;
mod end;
mod events;
mod ledger;
mod lines;
mod link;
mod other;
#[cfg(test)]
mod place;
mod resetting;
mod roles;
mod segment;
pub mod session;
mod sighting;
mod speech;
mod stretch;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tracker;
#[cfg(test)]
mod traits;

pub use ledger::Offset;
pub use roles::{Named, Roles};
