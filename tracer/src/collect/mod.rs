//! Drains the ring buffer and turns kernel records into model events. Behind this module nobody knows the kernel's layout.

pub mod clock;
pub mod decode;
pub mod departed;
pub mod drain;
pub mod headers;
pub mod icmp;
pub mod jiffies;
pub mod options;
pub mod overflow;
pub mod sock_diag;

pub use decode::{Decoder, baseless as socket_at};
pub use drain::Drain;
pub use overflow::Overflows;
