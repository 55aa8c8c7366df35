//! Reading that Ctrl-C ends the way the end of the input would, so that what was read so far is still reported; and
//! standard input that comes back now and then although nothing arrives, so that an interim report is not held up.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::signal::unix::{SignalKind, signal};

use crate::nginx::archive::{Archive, ArchiveError, is_compressed};

/// How long standard input may be silent before the reader looks up.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// Bytes taken to see what standard input holds.
const START: usize = 1 << 16;
/// As many are enough to know a compressed stream.
const MAGIC: usize = 4;

/// Whether Ctrl-C or SIGTERM came.
#[derive(Debug, Clone)]
pub struct Interruption {
    /// Hangs up once a signal has come.
    wake: Arc<OwnedFd>,
}

impl Interruption {
    /// From here on the first of these signals only ends the reading.
    pub fn watch() -> io::Result<Self> {
        let (wake, hold) = pipe_with(PipeFlags::CLOEXEC)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            drop(hold);
        })?;
        Ok(Self { wake: Arc::new(wake) })
    }

    /// Whether one has come.
    pub fn has_come(&self) -> bool {
        let mut wake = [PollFd::new(&*self.wake, PollFlags::IN)];
        poll(&mut wake, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Opens a log; `-` is standard input, which ends when a signal comes.
    pub fn open(&self, path: &Path) -> Result<Archive, ArchiveError> {
        if path != Path::new("-") {
            return Archive::open(path);
        }
        let error = |source| ArchiveError::new(path, source);
        let mut input =
            Patient { input: standard_input().map_err(error)?, wake: self.clone(), looks_up: false };
        let start = start(&mut input).map_err(error)?;
        // A decompressor does not go on after an error, and this one would be none.
        input.looks_up = !is_compressed(&start);
        Archive::of(path, Cursor::new(start).chain(input))
    }
}

/// Standard input without the buffer of the library, which would hide from `poll` what it holds.
fn standard_input() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn start(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = vec![0; START];
    let mut length = 0;
    while length < MAGIC {
        match input.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    start.truncate(length);
    Ok(start)
}

/// An input that ends when a signal comes, and says `WouldBlock` when it was silent for a while.
struct Patient {
    input: File,
    wake: Interruption,
    looks_up: bool,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready =
            [PollFd::new(&*self.wake.wake, PollFlags::IN), PollFd::new(&self.input, PollFlags::IN)];
        match poll(&mut ready, self.looks_up.then_some(&LOOK_UP)) {
            Ok(0) => return Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) => {}
            Err(Errno::INTR) => return Err(io::ErrorKind::Interrupted.into()),
            Err(error) => return Err(error.into()),
        }
        if !ready[0].revents().is_empty() {
            return Ok(0);
        }
        self.input.read(buffer)
    }
}
