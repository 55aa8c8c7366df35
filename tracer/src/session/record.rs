//! Begins the recording of a session: the file, and the header that says where it was made.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::settings::Record;
use super::{SessionError, host};
use crate::model::Utc;
use crate::recording::{Header, Segments, Sink, Writer};

/// Bytes kept back before the file is written to; at most a second's worth stays there.
const BUFFER: usize = 64 * 1024;

/// Opens the file and writes the header, if a recording was asked for.
pub fn begin(record: Option<&Record>, kernel: &str, now: Utc) -> Result<Option<Sink>, SessionError> {
    let Some(Record { path, limit, without_end }) = record else { return Ok(None) };
    let header = Header::of(host::name(), kernel, now);
    if *without_end {
        return Ok(Some(Sink::Segments(Segments::begin(path, *limit, &header))));
    }
    let sink = open(path, *limit, &header).map(Sink::File);
    sink.map(Some).map_err(|source| SessionError::Recording { path: path.clone(), source })
}

/// A recording of at most `limit` bytes in a file.
pub fn open(path: &Path, limit: u64, header: &Header) -> io::Result<Writer> {
    Writer::new(Box::new(BufWriter::with_capacity(BUFFER, create(path)?)), limit, header)
}

/// A recording has client addresses, request lines and packet headers: nobody else may read it, also where a
/// file of that name was there before.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::SCHEMA;

    #[test]
    fn only_the_owner_can_read_a_recording() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.rec");
        std::fs::write(&path, "an older file, readable for all").unwrap();
        let record = Record { path: path.clone(), limit: 1 << 20, without_end: false };
        drop(begin(Some(&record), "6.1.0", Utc(0)).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains(SCHEMA));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let record = Record { path: "/nonexistent/session.rec".into(), limit: 1 << 20, without_end: false };
        let error = begin(Some(&record), "6.1.0", Utc(0)).err().unwrap().to_string();
        assert!(error.contains("/nonexistent/session.rec"), "{error}");
    }
}
