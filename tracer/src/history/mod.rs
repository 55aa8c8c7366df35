//! What a log alone can say: reads lines of error.log and access.log, counts them in bounded memory, finds patterns
//! in time and place, and says what they prove and what they don't. Needs no privileges and no kernel.
//!
//! Pure: bytes in, text out. Files are opened by `nginx::archive`, flags are read by `cli::log`. Nothing here names
//! the sender of a segment, and no certainty is above `weak`.

pub mod access;
mod advice;
pub mod aggregate;
pub mod cache;
pub mod classify;
pub mod explain;
pub mod key;
pub mod pattern;
pub mod render;
pub mod report;
pub mod table;
pub mod topic;
pub mod words;

pub use aggregate::{Aggregate, Range};
pub use report::{Report, Source};
