//! The forms of a report. Each renders the whole document in its order and makes every text safe for where it goes.

pub mod html;
pub mod json;
pub mod markdown;
pub mod svg;
pub mod text;

#[cfg(test)]
mod tests;
