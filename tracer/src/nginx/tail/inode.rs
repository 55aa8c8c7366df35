//! One open file, read line by line. The last bytes read are remembered and compared at each read: where they are
//! gone the file was truncated or rewritten, and reading begins anew, even if the file has grown past the old end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memchr;

use super::positions::{Check, Position};
use super::{Identity, LINE_LIMIT};

/// Bytes compared to recognise a rewritten file.
pub(super) const OVERLAP: usize = 64;

/// Room for one longest line, its line feed and the overlap.
pub(super) const BUFFER: usize = LINE_LIMIT + 1 + OVERLAP;

/// A line found in the buffer.
pub(super) struct RawLine<'a> {
    pub offset: u64,
    pub bytes: &'a [u8],
    pub is_cut: bool,
    /// It was in the file before the file was followed.
    pub is_old: bool,
    pub identity: Identity,
    pub reader: u64,
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

/// Up to where the lines of a file were delivered.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Offset of the first byte not delivered.
    pub next: u64,
    /// The bytes before `next`, at most [`OVERLAP`].
    before: Vec<u8>,
    /// Inside a line that was delivered cut.
    in_long_line: bool,
}

impl Place {
    /// The place a position names, if this file has before it what was there when the position was taken.
    pub(super) fn find(file: &File, position: &Position) -> Option<Self> {
        let length = usize::from(position.check.length).min(OVERLAP);
        let mut before = vec![0; length];
        file.read_exact_at(&mut before, position.offset.checked_sub(length as u64)?).ok()?;
        let is_same = Check::of(&before) == position.check;
        is_same.then_some(Self { next: position.offset, before, in_long_line: position.in_long_line })
    }

    /// Whether `file` has the same bytes before this place: it is a copy, or the same file.
    pub(super) fn is_in(&self, file: &File) -> bool {
        let mut before = vec![0; self.before.len()];
        let from = self.next.saturating_sub(self.before.len() as u64);
        file.read_exact_at(&mut before, from).is_ok() && before == self.before
    }
}

/// An open file and the place up to which its lines were delivered.
pub(super) struct OpenInode {
    file: File,
    pub identity: Identity,
    /// Tells this reading of the file from every other; zero until it is given one.
    pub reader: u64,
    place: Place,
    /// Lines before this offset were there before the file was followed.
    old_until: u64,
    /// The place that a truncation made worthless.
    left: Option<Place>,
}

impl OpenInode {
    /// Will read from the beginning.
    pub(super) fn from_beginning(file: File, identity: Identity) -> Self {
        Self::from_place(file, identity, Place::default())
    }

    /// Will read from a place on.
    pub(super) fn from_place(file: File, identity: Identity, place: Place) -> Self {
        Self { file, identity, reader: 0, place, old_until: 0, left: None }
    }

    /// Will read what is appended from now on.
    pub(super) fn from_end(file: File, identity: Identity) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let overlap = length.min(OVERLAP as u64);
        let mut before = vec![0; overlap as usize];
        file.read_exact_at(&mut before, length - overlap)?;
        Ok(Self::from_place(file, identity, Place { next: length, before, in_long_line: false }))
    }

    /// What is in the file now was written before it was followed.
    pub(super) fn already_written(mut self) -> Self {
        self.old_until = self.length();
        self
    }

    /// Up to where it was read.
    pub(super) fn position(&self, path: &str) -> Position {
        Position {
            path: path.to_owned(),
            device: self.identity.device,
            inode: self.identity.inode,
            offset: self.place.next,
            check: Check::of(&self.place.before),
            in_long_line: self.place.in_long_line,
            saved_ms: 0,
        }
    }

    /// Nothing is left to read now, and nothing was taken away.
    pub(super) fn is_at_end(&self) -> bool {
        self.place.next == self.length()
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// The place where reading was when the file was found truncated; given once.
    pub(super) fn take_left(&mut self) -> Option<Place> {
        self.left.take()
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
        let overlap = self.place.before.len();
        let from = self.place.next.saturating_sub(overlap as u64);
        let length = read_at(&self.file, buffer, from)?;
        if buffer.get(..overlap.min(length)) != Some(&self.place.before[..]) {
            self.begin_anew();
            return Ok(Stop::Truncated);
        }
        let is_whole = length < buffer.len();
        Ok(self.deliver(&buffer[..length], overlap, is_whole, sink))
    }

    fn begin_anew(&mut self) {
        self.left = Some(std::mem::take(&mut self.place));
        self.old_until = 0;
    }

    fn line<'a>(&self, offset: u64, bytes: &'a [u8], is_cut: bool) -> RawLine<'a> {
        let is_old = offset < self.old_until;
        RawLine { offset, bytes, is_cut, is_old, identity: self.identity, reader: self.reader }
    }

    fn deliver(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        is_whole: bool,
        sink: &mut dyn FnMut(&RawLine<'_>) -> bool,
    ) -> Stop {
        let begin = at;
        let base = self.place.next;
        let mut stop = if is_whole { Stop::End } else { Stop::More };
        while let Some(length) = memchr(b'\n', &bytes[at..]) {
            let line = self.line(base + (at - begin) as u64, &bytes[at..at + length], false);
            if !self.place.in_long_line && !sink(&line) {
                stop = Stop::Full;
                break;
            }
            self.place.in_long_line = false;
            at += length + 1;
        }
        let rest = &bytes[at..];
        if stop != Stop::Full && rest.len() > LINE_LIMIT {
            let line = self.line(base + (at - begin) as u64, &rest[..LINE_LIMIT], true);
            if self.place.in_long_line || sink(&line) {
                self.place.in_long_line = true;
                at = bytes.len();
            } else {
                stop = Stop::Full;
            }
        } else if self.place.in_long_line && stop != Stop::Full {
            at = bytes.len();
        }
        self.advance(bytes, begin, at);
        stop
    }

    fn advance(&mut self, bytes: &[u8], begin: usize, at: usize) {
        self.place.next += (at - begin) as u64;
        self.place.before.clear();
        self.place.before.extend_from_slice(&bytes[at.saturating_sub(OVERLAP)..at]);
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
