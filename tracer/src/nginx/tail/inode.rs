//! One open file, read line by line. The last bytes read are remembered and compared at each read: where they are
//! gone the file was truncated or rewritten, and reading begins anew, even if the file has grown past the old end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memchr;

use super::{Identity, LINE_LIMIT};

/// Bytes compared to recognise a rewritten file.
const OVERLAP: usize = 64;

/// Room for one longest line, its line feed and the overlap.
pub(super) const BUFFER: usize = LINE_LIMIT + 1 + OVERLAP;

/// A line found in the buffer.
pub(super) struct RawLine<'a> {
    pub offset: u64,
    pub bytes: &'a [u8],
    pub is_cut: bool,
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing complete is left.
    End,
    /// There may be more; the turn is over.
    More,
    /// The receiver takes no more now.
    Full,
    /// The file was truncated or rewritten; it will be read from its beginning.
    Truncated,
}

/// An open file and the place up to which its lines were delivered.
pub(super) struct OpenInode {
    file: File,
    pub identity: Identity,
    /// Offset of the first byte not delivered.
    next: u64,
    /// The bytes before `next`, at most [`OVERLAP`].
    before: Vec<u8>,
    /// Inside a line that was delivered cut.
    in_long_line: bool,
}

impl OpenInode {
    /// Will read from the beginning.
    pub(super) fn from_beginning(file: File, identity: Identity) -> Self {
        Self { file, identity, next: 0, before: Vec::new(), in_long_line: false }
    }

    /// Will read what is appended from now on.
    pub(super) fn from_end(file: File, identity: Identity) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let overlap = length.min(OVERLAP as u64);
        let mut before = vec![0; overlap as usize];
        file.read_exact_at(&mut before, length - overlap)?;
        Ok(Self { file, identity, next: length, before, in_long_line: false })
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Reads one buffer and hands every complete line to `sink`, which returns false when it takes no more.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        sink: &mut dyn FnMut(&RawLine<'_>) -> bool,
    ) -> io::Result<Stop> {
        let overlap = self.before.len();
        let from = self.next.saturating_sub(overlap as u64);
        let length = read_at(&self.file, buffer, from)?;
        if buffer.get(..overlap.min(length)) != Some(&self.before[..]) {
            self.begin_anew();
            return Ok(Stop::Truncated);
        }
        let is_whole = length < buffer.len();
        Ok(self.deliver(&buffer[..length], overlap, is_whole, sink))
    }

    fn begin_anew(&mut self) {
        self.next = 0;
        self.before.clear();
        self.in_long_line = false;
    }

    fn deliver(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        is_whole: bool,
        sink: &mut dyn FnMut(&RawLine<'_>) -> bool,
    ) -> Stop {
        let begin = at;
        let base = self.next;
        let mut stop = if is_whole { Stop::End } else { Stop::More };
        while let Some(length) = memchr(b'\n', &bytes[at..]) {
            let line =
                RawLine { offset: base + (at - begin) as u64, bytes: &bytes[at..at + length], is_cut: false };
            if !self.in_long_line && !sink(&line) {
                stop = Stop::Full;
                break;
            }
            self.in_long_line = false;
            at += length + 1;
        }
        let rest = &bytes[at..];
        if stop != Stop::Full && rest.len() > LINE_LIMIT {
            let line =
                RawLine { offset: base + (at - begin) as u64, bytes: &rest[..LINE_LIMIT], is_cut: true };
            if self.in_long_line || sink(&line) {
                self.in_long_line = true;
                at = bytes.len();
            } else {
                stop = Stop::Full;
            }
        } else if self.in_long_line && stop != Stop::Full {
            at = bytes.len();
        }
        self.advance(bytes, begin, at);
        stop
    }

    fn advance(&mut self, bytes: &[u8], begin: usize, at: usize) {
        self.next += (at - begin) as u64;
        self.before.clear();
        self.before.extend_from_slice(&bytes[at.saturating_sub(OVERLAP)..at]);
    }
}

/// Reads until the buffer is full or the file ends; a read may return less than there is.
fn read_at(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], from + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
