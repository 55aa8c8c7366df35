//! Recordings: every call that reached the engine of a session, so that any machine comes to the same verdicts.
//!
//! A recording is text. Its first line is a [`Header`], every other line one [`Step`]; each line is the CRC-32
//! of its JSON in eight hexadecimal digits, a space, the JSON, and a line feed. JSON and not a binary form,
//! because addresses keep their scope in it, slugs are read by name, and a recording can be looked through with
//! the tools everybody has. Nothing here knows what an input means.

mod play;
mod read;
pub mod runs;
mod segments;
mod write;

#[cfg(test)]
mod tests;

pub use play::{End, Played, play, play_with};
pub use read::{Damage, OpenError, Reader};
pub use segments::Segments;
pub use write::{Recorded, Recorder, Sink, Writer};

use serde::{Deserialize, Serialize};

use crate::model::{Input, Mono, Utc};

/// Value of `Header::schema`.
pub const SCHEMA: &str = "rstscope.recording/1";
/// `SCHEMA` without its number.
const FAMILY: &str = "rstscope.recording/";
/// The number of `SCHEMA`.
const NUMBER: u32 = 1;
/// Longest line that is written or read, bytes. The longest in use are the facts of a host with many addresses.
pub const MAX_LINE: usize = 4 << 20;
/// Bytes of the checksum and the space behind it.
const CHECKSUM: usize = 9;

/// First line of a recording: what made it, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the tool that recorded.
    pub version: String,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// When the recording began, RFC 3339 UTC.
    pub began: String,
}

impl Header {
    /// The header of a recording that begins now.
    pub fn of(host: String, kernel: &str, began: Utc) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { schema: SCHEMA.to_owned(), version, host, kernel: kernel.to_owned(), began: began.rfc3339() }
    }
}

/// One call of the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step<I = Input> {
    /// The time the engine was told.
    pub now: Mono,
    /// The call.
    pub call: Call<I>,
}

/// What the engine was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call<I = Input> {
    /// `Engine::handle`.
    Handle(I),
    /// `Engine::advance`, where it gave verdicts. Other calls of it leave no trace in the engine.
    Advance,
    /// `Engine::finish`: the last line of a session that ended in order.
    Finish,
    /// The recording ends here although the session went on; why.
    Stopped(String),
}

/// One line of a recording.
fn framed(json: &[u8]) -> Vec<u8> {
    let mut line = format!("{:08x} ", crc32fast::hash(json)).into_bytes();
    line.extend_from_slice(json);
    line.push(b'\n');
    line
}
