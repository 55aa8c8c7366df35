//! One daemon per folder: the store could bear two, but each would tell and store every incident, and they would take
//! the queue, the recording and the positions in the logs from each other.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::DaemonError;
use crate::store;

/// Makes the folder of the store this daemon's own for as long as what is given back lives; `kill -9` ends that, too.
/// A file system without locks, or without room for the folder, keeps nobody from watching.
pub(super) fn claim(path: &Path) -> Result<Option<File>, DaemonError> {
    let Some(folder) = path.parent().filter(|_| store::make_folder(path).is_ok()) else { return Ok(None) };
    let Ok(opened) = File::open(folder) else { return Ok(None) };
    match opened.try_lock() {
        Err(TryLockError::WouldBlock) => Err(DaemonError::Taken { folder: folder.to_owned() }),
        Err(TryLockError::Error(_)) => Ok(None),
        Ok(()) => Ok(Some(opened)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_daemon_until_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/verdicts.db");
        let first = claim(&path).unwrap();
        assert!(first.is_some());
        let refused = claim(&path.with_file_name("others.db")).unwrap_err().to_string();
        assert!(refused.contains("state") && refused.contains("store.path"), "{refused}");
        drop(first);
        assert!(claim(&path).unwrap().is_some());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(claim(&folder.path().join("file/verdicts.db")).unwrap().is_none());
    }
}
