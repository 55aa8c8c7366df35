//! Two recordings, one from the Nginx host and one from the host of an upstream: what the second tracer saw of each
//! connection that failed here is handed to the engine as what the other end did, and the judge decides with both.
//!
//! `witness` reads the second recording, `account` says what it tells of one event, `clock` how far the clocks are
//! apart, `play` puts it together. Nothing here judges, and nothing is said about what the second tracer cannot know.

mod account;
mod clock;
mod numbers;
mod play;
#[cfg(test)]
mod tests;
mod witness;

pub use clock::Offset;
pub use play::{Outcome, Second, compare};
pub use witness::{NotAWitness, Witness};
