//! Log files after the fact: plain, gzip or zstd (by their first bytes, not by name), or standard input; read in
//! large blocks and handed out line by line without copying. It does not interpret lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use memchr::{memchr, memrchr};

/// Bytes read at once; a block stays in the cache of a core beside the tables of what is counted.
const BLOCK: usize = 1 << 17;
/// Longer lines are cut; Nginx's own end at 2047 bytes, carriers add to that.
const MAX_LINE: usize = 1 << 18;

/// A log that could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct ArchiveError {
    path: PathBuf,
    source: io::Error,
}

impl ArchiveError {
    /// The log at `path` failed with `source`.
    pub fn new(path: &Path, source: io::Error) -> Self {
        let path = if path == Path::new("-") { Path::new("standard input") } else { path };
        Self { path: path.to_owned(), source }
    }
}

/// How far the reading is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of lines read, after decompression.
    pub bytes: u64,
    /// Lines that were longer than the limit and cut.
    pub overlong: u64,
}

/// What is done with the lines of a log.
pub trait Visit {
    /// A line without its line feed.
    fn line(&mut self, line: &[u8]);

    /// A block of lines has been handed out; `false` stops the reading.
    fn block(&mut self, progress: Progress) -> bool;
}

/// Two closures as one visitor.
struct Closures<L, B>(L, B);

impl<L: FnMut(&[u8]), B: FnMut(Progress) -> bool> Visit for Closures<L, B> {
    fn line(&mut self, line: &[u8]) {
        (self.0)(line);
    }

    fn block(&mut self, progress: Progress) -> bool {
        (self.1)(progress)
    }
}

/// One log.
pub struct Archive {
    path: PathBuf,
    input: Box<dyn Read>,
    /// Size of the file on disk; `None` for standard input and compressed files, where it says nothing.
    pub size: Option<u64>,
}

impl Archive {
    /// Opens `path`; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        if path == Path::new("-") {
            return Self::of(path, io::stdin());
        }
        let wrap = |source| ArchiveError::new(path, source);
        let file = File::open(path).map_err(wrap)?;
        let metadata = file.metadata().map_err(wrap)?;
        if metadata.is_dir() {
            return Err(wrap(io::ErrorKind::IsADirectory.into()));
        }
        let (input, is_plain) = decompressed(file).map_err(wrap)?;
        Ok(Self {
            path: path.to_owned(),
            input,
            size: (is_plain && metadata.is_file()).then_some(metadata.len()),
        })
    }

    /// A log that is read from elsewhere; `path` stands in messages.
    pub fn of(path: &Path, input: impl Read + 'static) -> Result<Self, ArchiveError> {
        let (input, _) = decompressed(input).map_err(|source| ArchiveError::new(path, source))?;
        Ok(Self { path: path.to_owned(), input, size: None })
    }

    /// The decompressed bytes themselves, for files that are no text.
    pub fn into_reader(self) -> Box<dyn Read> {
        self.input
    }

    /// Hands out every line without its line feed. `block` is told how far the reading is after each block and
    /// stops it by returning `false`.
    pub fn lines(
        self,
        line: impl FnMut(&[u8]),
        block: impl FnMut(Progress) -> bool,
    ) -> Result<Progress, ArchiveError> {
        self.visit(&mut Closures(line, block))
    }

    /// Hands every line and the end of every block to `visitor`.
    pub fn visit(mut self, visitor: &mut impl Visit) -> Result<Progress, ArchiveError> {
        let mut buffer = vec![0; BLOCK + MAX_LINE];
        let mut state = Splitter::default();
        loop {
            let read = match self.input.read(&mut buffer[state.held..state.held + BLOCK]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // An input that is only silent.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(source) => return Err(ArchiveError::new(&self.path, source)),
            };
            state.take(&mut buffer, read, &mut |line: &[u8]| visitor.line(line));
            if !visitor.block(state.progress) {
                return Ok(state.progress);
            }
        }
        state.finish(&buffer, &mut |line: &[u8]| visitor.line(line));
        Ok(state.progress)
    }
}

/// Cuts blocks into lines. The beginning of a line that ends in a later block is held at the front.
#[derive(Default)]
struct Splitter {
    held: usize,
    is_cut: bool,
    progress: Progress,
}

impl Splitter {
    fn take(&mut self, buffer: &mut [u8], read: usize, line: &mut impl FnMut(&[u8])) {
        self.progress.bytes += read as u64;
        let end = self.held + read;
        let mut start = 0;
        if let Some(last) = memrchr(b'\n', &buffer[self.held..end]).map(|at| self.held + at) {
            while start <= last {
                let Some(length) = memchr(b'\n', &buffer[start..=last]) else { break };
                self.hand_out(&buffer[start..start + length], line);
                start += length + 1;
            }
        }
        buffer.copy_within(start..end, 0);
        self.held = end - start;
        if self.held > MAX_LINE {
            self.held = MAX_LINE;
            self.progress.overlong += u64::from(!self.is_cut);
            self.is_cut = true;
        }
    }

    fn hand_out(&mut self, text: &[u8], line: &mut impl FnMut(&[u8])) {
        self.progress.overlong += u64::from(text.len() > MAX_LINE && !self.is_cut);
        self.is_cut = false;
        line(&text[..text.len().min(MAX_LINE)]);
    }

    fn finish(&mut self, buffer: &[u8], line: &mut impl FnMut(&[u8])) {
        if self.held > 0 {
            self.hand_out(&buffer[..self.held], line);
        }
    }
}

const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Whether a log that begins like this is compressed.
pub fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(GZIP) || start.starts_with(ZSTD)
}

/// The content of a file, and whether it was plain.
fn decompressed(input: impl Read + 'static) -> io::Result<(Box<dyn Read>, bool)> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let start = input.fill_buf()?;
    if start.starts_with(GZIP) {
        return Ok((Box::new(MultiGzDecoder::new(input)), false));
    }
    if start.starts_with(ZSTD) {
        return Ok((Box::new(Frames { input: Some(input), frame: None }), false));
    }
    Ok((Box::new(input), true))
}

type Frame<R> = ruzstd::decoding::StreamingDecoder<BufReader<R>, ruzstd::decoding::FrameDecoder>;

/// A zstd file is a sequence of frames; the decoder reads one.
struct Frames<R: Read> {
    input: Option<BufReader<R>>,
    frame: Option<Frame<R>>,
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
            }
            if let Some(ended) = self.frame.take() {
                self.input = Some(ended.into_inner());
            }
            let Some(mut input) = self.input.take() else { return Ok(0) };
            if input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.frame = Some(Frame::new(input).map_err(io::Error::other)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn read(path: &Path) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let archive = Archive::open(path).expect("it opens");
        archive.lines(|line| lines.push(line.to_vec()), |_| true).expect("it reads");
        lines
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("compressed");
        encoder.finish().expect("compressed")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_form_gives_the_same_lines() {
        let expected = [&b"one"[..], b"", b"three\r", b"last"];
        let plain = b"one\n\nthree\r\nlast";
        for bytes in [
            plain.to_vec(),
            gzip(plain),
            [gzip(b"one\n\nth"), gzip(b"ree\r\nlast")].concat(),
            zstd(plain),
            [zstd(b"one\n\nth"), zstd(b"ree\r\nlast")].concat(),
        ] {
            assert_eq!(read(file(&bytes).path()), expected);
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_counted_once() {
        let mut bytes = vec![b'a'; 3 * BLOCK];
        bytes.extend_from_slice(b"\nnext\n");
        let file = file(&bytes);
        let mut lengths = Vec::new();
        let archive = Archive::open(file.path()).expect("it opens");
        let progress = archive.lines(|line| lengths.push(line.len()), |_| true).expect("it reads");
        assert_eq!(lengths, [MAX_LINE, 4]);
        assert_eq!(progress, Progress { bytes: bytes.len() as u64, overlong: 1 });
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Archive::open(Path::new("/nonexistent/error.log")).err().expect("an error");
        assert!(error.to_string().starts_with("cannot read /nonexistent/error.log: No such file"));
    }

    proptest! {
        #[test]
        fn splitting_does_not_depend_on_the_blocks(
            text in prop::collection::vec(prop::sample::select(vec![b'a', b'b', b'\n']), 0..200),
            cuts in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut buffer = vec![0; BLOCK + MAX_LINE];
            let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
            let (mut rest, mut cuts) = (&text[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (block, later) = rest.split_at((*cuts.next().unwrap_or(&1)).min(rest.len()));
                buffer[splitter.held..splitter.held + block.len()].copy_from_slice(block);
                splitter.take(&mut buffer, block.len(), &mut |line: &[u8]| lines.push(line.to_vec()));
                rest = later;
            }
            splitter.finish(&buffer, &mut |line: &[u8]| lines.push(line.to_vec()));
            let mut expected: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) { expected.pop(); }
            prop_assert_eq!(lines, expected);
        }
    }
}
