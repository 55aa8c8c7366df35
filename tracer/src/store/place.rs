//! The file of a store that is written for months: it may be removed, replaced or damaged meanwhile, and its disk may
//! be full when it is opened. Opens what is there, again and again; what is to be stored is the writer's business.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{io, mem};

use rusqlite::ErrorCode;

use super::{Store, StoreError};

/// Where a store is, and the store, if it is open.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    open: Option<Open>,
    /// The folder that the first store was opened in.
    folder: Option<Identity>,
    news: Vec<String>,
}

/// Device and inode of a file.
type Identity = (u64, u64);

#[derive(Debug)]
struct Open {
    store: Store,
    /// The file, and its write-ahead log where there was one.
    file: Option<Identity>,
    log: Option<Identity>,
}

impl Place {
    /// Opens the store; a damaged one is set aside. A disk that takes nothing now may do so later.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut place = Self { path: path.to_owned(), open: None, folder: None, news: Vec::new() };
        match place.store() {
            Err(error) if !is_temporary(&error) => return Err(error),
            Err(error) => place.news.push(format!("the store cannot be opened yet: {error}")),
            Ok(_) => {}
        }
        Ok(place)
    }

    /// The store that is there now, which is another one where the file was removed or replaced.
    pub fn store(&mut self) -> Result<&mut Store, StoreError> {
        let file = identity(&self.path);
        let mut open = match self.open.take() {
            Some(open) if open.file == file => open,
            Some(gone) => {
                self.close(gone);
                self.create()?
            }
            None => self.create()?,
        };
        open.log = identity(&self.beside("-wal")).or(open.log);
        Ok(&mut self.open.insert(open).store)
    }

    /// Closes a store whose file is not there any more. What is left of its log would be read into the next.
    fn close(&mut self, gone: Open) {
        drop(gone.store);
        if gone.log.is_some() && identity(&self.beside("-wal")) == gone.log {
            for suffix in ["-wal", "-shm"] {
                // Without it the new store is as it should be.
                let _gone = std::fs::remove_file(self.beside(suffix));
            }
        }
        let path = self.path.display();
        self.news.push(format!("the store {path} was removed or replaced, with the verdicts in it"));
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.path.display()))
    }

    /// Takes note of why the store did not answer: a damaged one is set aside.
    pub fn failed(&mut self, error: &StoreError) {
        if error.is_damage() && self.open.is_some() {
            match super::set_aside(&self.path) {
                Ok(aside) => self.damaged(&aside),
                Err(error) => self.news.push(error.to_string()),
            }
            self.open = None;
        }
    }

    /// What is worth telling since the last time.
    pub fn take_news(&mut self) -> Vec<String> {
        mem::take(&mut self.news)
    }

    fn create(&mut self) -> Result<Open, StoreError> {
        let (store, aside) =
            Store::create_or_set_aside(&self.path).map_err(|error| self.with_folder(error))?;
        let folder = self.path.parent().and_then(identity);
        self.folder = self.folder.or(folder);
        if let Some(aside) = aside {
            self.damaged(&aside);
        }
        Ok(Open { store, file: identity(&self.path), log: None })
    }

    /// Says so where the folder is another than it was.
    fn with_folder(&self, error: StoreError) -> StoreError {
        if self.folder.is_none() || self.path.parent().and_then(identity) == self.folder {
            return error;
        }
        StoreError::FolderGone { path: self.path.clone(), source: Box::new(error) }
    }

    fn damaged(&mut self, aside: &Path) {
        let path = self.path.display();
        self.news.push(format!("the store {path} was damaged and is now {}", aside.display()));
    }
}

impl From<Store> for Place {
    fn from(store: Store) -> Self {
        let path = store.path().to_owned();
        let open = Open { file: identity(&path), log: None, store };
        Self { folder: path.parent().and_then(identity), path, open: Some(open), news: Vec::new() }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Room, or leave to write, may come back.
fn is_temporary(error: &StoreError) -> bool {
    match error {
        StoreError::Open { source, .. } | StoreError::Sql(source) => matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::ReadOnly)
        ),
        StoreError::Folder { source, .. } => source.kind() == io::ErrorKind::StorageFull,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_a_confined_writer_lost_is_named_with_what_helps() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("state/verdicts.db");
        let mut place = Place::open(&path).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let error = std::thread::spawn(move || {
            let confined = crate::guard::worker(&[], None).unwrap();
            (confined.landlock != "not").then(|| place.store().unwrap_err().to_string())
        });
        let Some(error) = error.join().unwrap() else { return };
        assert!(error.contains("was removed or replaced") && error.contains("restarted"), "{error}");
    }
}
