//! access.log: lines of any `log_format`, read by the format that the configuration names. Pure: format and bytes in,
//! [`crate::model::AccessRecord`] out.

pub mod format;
pub mod known;
mod record;

pub use format::Format;
