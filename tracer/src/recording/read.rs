//! Reads a recording, line by line and in bounded memory. Whatever the bytes are, the answer is the steps up
//! to the first damage and a sentence that says where that is.

use std::io::{self, BufRead, Read};

use super::{CHECKSUM, FAMILY, Header, MAX_LINE, NUMBER, Step};

/// Why a file cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read, or its header is damaged.
    #[error("it has no readable header: {0}")]
    Damaged(#[from] Damage),
    /// Another kind of file.
    #[error("it is not a recording of rstscope")]
    NotARecording,
    /// Made by a later version.
    #[error(
        "it is in the form {schema}, made by rstscope {version}; this is rstscope {}, which reads up to {}: \
         replay it with that version or a later one",
        env!("CARGO_PKG_VERSION"),
        super::SCHEMA
    )]
    Newer {
        /// The form of the file.
        schema: String,
        /// The version that made it.
        version: String,
    },
}

/// Where and how a recording breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, which begins at byte {offset}: {what}")]
pub struct Damage {
    /// Number of the line, the header being line 1.
    pub line: u64,
    /// Bytes before that line.
    pub offset: u64,
    /// What is wrong with it.
    pub what: Wrong,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The file ends inside the line.
    #[error("the file ends in the middle of it")]
    Cut,
    /// Longer than any line that is ever written.
    #[error("it is longer than {MAX_LINE} bytes")]
    TooLong,
    /// The checksum is not that of the rest.
    #[error("its bytes are not those that were written, by their checksum")]
    Checksum,
    /// The checksum fits and the content does not.
    #[error("it is not a step of a recording: {0}")]
    Content(String),
    /// The system refused to read on.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// Gives the steps of a recording.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Header,
    place: Place,
    line: Vec<u8>,
    broken: bool,
}

/// Where the next line begins.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: u64,
    offset: u64,
}

impl Place {
    fn damage(self, what: Wrong) -> Damage {
        Damage { line: self.line, offset: self.offset, what }
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn open(mut input: R) -> Result<Self, OpenError> {
        let mut place = Place { line: 1, offset: 0 };
        let mut line = Vec::new();
        match next_line(&mut input, &mut place, &mut line) {
            Ok(true) => {}
            Err(damage) if matches!(damage.what, Wrong::Unreadable(_)) || speaks_of_us(&line) => {
                return Err(damage.into());
            }
            Ok(false) | Err(_) => return Err(OpenError::NotARecording),
        }
        let header = header(json(&line))?;
        Ok(Self { input, header, place, line, broken: false })
    }

    /// What made the recording, and where.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Step, Damage>;

    /// The next step; nothing comes after a damage.
    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let at = self.place;
        let step = match next_line(&mut self.input, &mut self.place, &mut self.line) {
            Ok(false) => return None,
            Ok(true) => serde_json::from_slice(json(&self.line))
                .map_err(|error| at.damage(Wrong::Content(error.to_string()))),
            Err(damage) => Err(damage),
        };
        self.broken = step.is_err();
        Some(step)
    }
}

fn speaks_of_us(line: &[u8]) -> bool {
    line.windows(FAMILY.len()).take(64).any(|window| window == FAMILY.as_bytes())
}

/// Only the form has to be understood in a header of a later version.
fn header(json: &[u8]) -> Result<Header, OpenError> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|_| OpenError::NotARecording)?;
    let text = |field: &str| value.get(field).and_then(serde_json::Value::as_str).unwrap_or("").to_owned();
    let schema = text("schema");
    let number = schema.strip_prefix(FAMILY).ok_or(OpenError::NotARecording)?;
    if number.parse() != Ok(NUMBER) {
        return Err(OpenError::Newer { schema, version: text("version") });
    }
    let wrong = |error: serde_json::Error| {
        Place { line: 1, offset: 0 }.damage(Wrong::Content(error.to_string())).into()
    };
    serde_json::from_value(value).map_err(wrong)
}

/// Reads the next line and checks it; false at the end of the file.
fn next_line(input: &mut impl BufRead, place: &mut Place, line: &mut Vec<u8>) -> Result<bool, Damage> {
    line.clear();
    let begin = *place;
    let read = read_line(input, line).map_err(|error| begin.damage(Wrong::Unreadable(error.to_string())))?;
    if read == 0 {
        return Ok(false);
    }
    if line.pop_if(|last| *last == b'\n').is_none() {
        let what = if line.len() >= MAX_LINE { Wrong::TooLong } else { Wrong::Cut };
        return Err(begin.damage(what));
    }
    *place = Place { line: begin.line + 1, offset: begin.offset.saturating_add(read) };
    if is_whole(line) { Ok(true) } else { Err(begin.damage(Wrong::Checksum)) }
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let read = input.by_ref().take(limit).read_until(b'\n', line)?;
    Ok(u64::try_from(read).unwrap_or(u64::MAX))
}

/// The checksum in front is that of the rest.
fn is_whole(line: &[u8]) -> bool {
    line.get(..CHECKSUM)
        .is_some_and(|checksum| checksum == format!("{:08x} ", crc32fast::hash(json(line))).as_bytes())
}

fn json(line: &[u8]) -> &[u8] {
    line.get(CHECKSUM..).unwrap_or_default()
}
