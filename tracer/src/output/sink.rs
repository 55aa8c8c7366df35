//! Where output goes: standard output or a file, one whole record at a time.
//!
//! A reader that went away (a broken pipe) is the end of the work, not an error. Any other failure,
//! a full disk for example, is counted and the next record is tried: the trace itself goes on.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Fate;

/// An output file that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot write output file {}: {source}", path.display())]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// A place that records are written to.
pub struct Sink {
    name: String,
    inner: Box<dyn Write + Send>,
    torn: bool,
    closed: bool,
    lost: u64,
    first_problem: Option<String>,
}

impl Sink {
    /// Writes to `inner`; `name` stands in messages.
    pub fn new(name: impl Into<String>, inner: Box<dyn Write + Send>) -> Self {
        Self { name: name.into(), inner, torn: false, closed: false, lost: 0, first_problem: None }
    }

    /// Writes to standard output.
    pub fn stdout() -> Self {
        Self::new("standard output", Box::new(io::stdout()))
    }

    /// Writes to a file, made with mode 0600 because verdicts carry client addresses and request lines,
    /// and emptied when it was there (its mode is then left alone).
    pub fn create(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError { path: path.to_owned(), source })?;
        Ok(Self::new(path.display().to_string(), Box::new(file)))
    }

    /// Writes one whole record, newline included, and flushes it.
    /// The only error is [`io::ErrorKind::BrokenPipe`]: nobody reads any more, stop cleanly.
    pub fn record(&mut self, record: &[u8]) -> io::Result<()> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match self.try_record(record) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Err(error)
            }
            Err(error) => {
                self.count_loss(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn try_record(&mut self, record: &[u8]) -> io::Result<()> {
        // A record that broke off half-way must not swallow the next one.
        if self.torn {
            self.inner.write_all(b"\n")?;
        }
        self.torn = true;
        self.inner.write_all(record)?;
        self.torn = false;
        self.inner.flush()
    }

    fn count_loss(&mut self, error: &io::Error) {
        self.lost = self.lost.saturating_add(1);
        if self.first_problem.is_none() {
            self.first_problem = Some(format!("cannot write to {}: {error}", self.name));
        }
    }
}

impl Fate for Sink {
    fn handover(&self) -> &'static str {
        "output"
    }

    fn lost(&self) -> u64 {
        self.lost
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn first_problem(&self) -> Option<&str> {
        self.first_problem.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Fails with the queued errors, then works; takes at most `chunk` bytes per call.
    #[derive(Clone, Default)]
    struct Flaky {
        errors: Arc<Mutex<Vec<io::ErrorKind>>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Flaky {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.written.lock().unwrap();
            if let Some(kind) = self.errors.lock().unwrap().pop() {
                written.extend_from_slice(&bytes[..bytes.len() / 2]);
                return Err(kind.into());
            }
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn flaky(errors: &[io::ErrorKind]) -> (Flaky, Sink) {
        let writer = Flaky { errors: Arc::new(Mutex::new(errors.to_vec())), ..Flaky::default() };
        (writer.clone(), Sink::new("out.ndjson", Box::new(writer)))
    }

    #[test]
    fn a_broken_pipe_ends_the_output_for_good() {
        let (_, mut sink) = flaky(&[io::ErrorKind::BrokenPipe]);
        assert_eq!(sink.record(b"one\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(sink.record(b"two\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(sink.is_closed());
        assert_eq!(sink.lost(), 0);
    }

    #[test]
    fn a_full_disk_is_counted_and_the_next_record_starts_on_its_own_line() {
        let (writer, mut sink) = flaky(&[io::ErrorKind::StorageFull]);
        sink.record(b"{\"n\":1}\n").unwrap();
        sink.record(b"{\"n\":2}\n").unwrap();
        assert_eq!(sink.lost(), 1);
        assert!(sink.first_problem().unwrap().starts_with("cannot write to out.ndjson: "));
        let text = String::from_utf8(writer.written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().last(), Some("{\"n\":2}"));
    }

    #[test]
    fn a_new_file_is_private_and_an_old_one_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("verdicts");
        std::fs::write(&path, "old").unwrap();
        std::fs::remove_file(&path).unwrap();
        Sink::create(&path).unwrap().record(b"longer than before\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        Sink::create(&path).unwrap().record(b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let message = Sink::create(Path::new("/nonexistent/verdicts")).err().unwrap().to_string();
        assert_eq!(
            message,
            "cannot write output file /nonexistent/verdicts: No such file or directory (os error 2)"
        );
    }
}
