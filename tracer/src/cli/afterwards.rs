//! `trace --report`: the report that is made of a session when it ends. The session is recorded for it, into a file
//! without a name unless a recording was asked for, too. Both files are opened before the session begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::report::{self, Refusal, ReportArgs};
use super::trace;

/// A report to be made when a session ends.
#[derive(Debug)]
pub struct Afterwards {
    path: PathBuf,
    output: File,
    recording: Recording,
}

#[derive(Debug)]
enum Recording {
    Named(PathBuf),
    Unnamed(File),
}

impl Afterwards {
    /// Opens the report at `path`; `record` is the recording that was asked for.
    pub fn open(path: &Path, record: Option<&Path>) -> io::Result<Self> {
        let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let recording = match record {
            Some(path) => Recording::Named(path.to_owned()),
            None => Recording::Unnamed(unnamed(path)?),
        };
        Ok(Self { path: path.to_owned(), output, recording })
    }

    /// Where the session is recorded.
    pub fn recording(&self) -> PathBuf {
        match &self.recording {
            Recording::Named(path) => path.clone(),
            Recording::Unnamed(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        }
    }

    /// Makes the report.
    pub fn report(mut self) -> Exit {
        let recording = self.recording();
        let title = match &self.recording {
            Recording::Named(path) => (path.display().to_string(), "recording"),
            Recording::Unnamed(_) => ("the session itself".to_owned(), "trace"),
        };
        let args = ReportArgs::on(recording, &self.path);
        let made = match report::made(&args, Some((&title.0, title.1))) {
            Ok(made) => made,
            Err(Refusal { why, exit }) => return trace::refuse(why, exit),
        };
        if let Err(error) = self.output.write_all(&made.bytes) {
            return trace::refuse(format!("cannot write the report: {error}"), Exit::Output);
        }
        trace::notice(&format!("report {}: {} bytes", self.path.display(), made.bytes.len()));
        if let Some(notice) = made.notice {
            trace::notice(&notice);
        }
        Exit::Success
    }
}

/// A file beside `path` that only this process can open, and that is gone with it.
fn unnamed(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = folder.join(format!(".rstscope-{}.rec", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name)?;
    fs::remove_file(&name)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_without_a_name_leaves_nothing_and_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.html");
        let afterwards = Afterwards::open(&path, None).unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recordings/00-error.rec");
        fs::write(afterwards.recording(), fs::read(fixture).unwrap()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(afterwards.report(), Exit::Success);
        let page = fs::read_to_string(&path).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("the session itself (trace)"));
    }

    #[test]
    fn the_name_of_a_bundle_makes_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.zst");
        let record =
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recordings/00-error.rec"));
        assert_eq!(Afterwards::open(&path, Some(record)).unwrap().report(), Exit::Success);
        let checked = crate::report::verify::verify(File::open(&path).unwrap()).unwrap();
        assert!(checked.holds() && checked.replay.is_some());
    }
}
