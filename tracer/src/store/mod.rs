//! Verdicts on disk: SQLite in WAL mode, one row per verdict with its whole JSON and the columns people ask by.
//!
//! One [`Writer`] thread writes in batches; any number of readers ask at the same time. Nothing here judges, and
//! the JSON is stored as every other output gives it, so that a store can be read without rstscope, too.

mod ageing;
mod coverage;
mod dossier;
mod place;
mod query;
mod retention;
mod row;
mod schema;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;

pub use coverage::{Coverage, Run, Stretch};
pub use dossier::{pack, unpack};
pub use place::Place;
pub use query::{Filter, Found, Order};
pub use retention::Retention;
pub use row::{Row, upstream_of};
pub use schema::{KNOWN, MIGRATIONS, migrate};
pub use writer::{Account, Stored, Writer};

/// Where the daemon keeps verdicts unless it is told otherwise.
pub const DEFAULT_PATH: &str = "/var/lib/rstscope/verdicts.db";
/// Marks a database file as ours (`PRAGMA application_id`): the letters `rsts`.
const APPLICATION_ID: i32 = 0x7273_7473;
/// How long a statement waits for another process that has the database locked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that the write-ahead log is cut back to, once its content is in the database.
const LOG_BYTES: i64 = 16 << 20;

/// Why a store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder cannot be made.
    #[error("cannot make the folder of the store {path}: {source}")]
    Folder {
        /// The store.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// Its folder is not the one it was opened in.
    #[error(
        "the folder of the store {path} was removed or replaced; a confined daemon may write to a new one once it is restarted: {source}"
    )]
    FolderGone {
        /// The store.
        path: PathBuf,
        /// The reason.
        source: Box<StoreError>,
    },
    /// SQLite cannot open or read it.
    #[error("cannot use the store {path}: {source}")]
    Open {
        /// The store.
        path: PathBuf,
        /// The reason.
        source: rusqlite::Error,
    },
    /// It is a database, and not ours.
    #[error("{path} is a database of another program")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is newer than this program.
    #[error("the store {path} has schema {found}; this version of rstscope knows none beyond {KNOWN}")]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// It is older, and readers change nothing.
    #[error(
        "the store {path} has schema {found}; the daemon of this version brings it to {KNOWN} when it starts"
    )]
    Older {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// A statement failed.
    #[error("the store does not answer: {0}")]
    Sql(#[from] rusqlite::Error),
    /// A verdict cannot be made a row.
    #[error("cannot store a verdict: {0}")]
    Verdict(String),
}

impl StoreError {
    /// The file is no database, or its pages contradict each other.
    pub fn is_damage(&self) -> bool {
        let (Self::Open { source, .. } | Self::Sql(source)) = self else { return false };
        matches!(source.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens a store for writing, makes it where there is none, and brings an older one up to date.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        make_folder(path)?;
        let error = |source| StoreError::Open { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(error)?;
        schema::set_up(&connection).map_err(error)?;
        let mut store = Self { connection, path: path.to_owned() };
        let found = store.check()?;
        if found < KNOWN {
            store.upgrade()?;
        }
        Ok(store)
    }

    /// Opens a store for reading, beside a daemon that writes or without one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let error = |source| StoreError::Open { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(error)?;
        connection.busy_timeout(PATIENCE).map_err(error)?;
        let store = Self { connection, path: path.to_owned() };
        match store.check()? {
            KNOWN => Ok(store),
            found => Err(StoreError::Older { path: path.to_owned(), found }),
        }
    }

    /// Opens a store for writing; a damaged one is set aside first, so that the daemon goes on.
    /// Gives the place where the damaged one was put.
    pub fn create_or_set_aside(path: &Path) -> Result<(Self, Option<PathBuf>), StoreError> {
        match Self::create(path) {
            Err(error) if error.is_damage() => {
                let aside = set_aside(path)?;
                Ok((Self::create(path)?, Some(aside)))
            }
            opened => Ok((opened?, None)),
        }
    }

    /// Whether there is a store of an earlier schema. [`Self::create`] upgrades it, which takes minutes where it has
    /// millions of verdicts.
    pub fn is_older(path: &Path) -> bool {
        path.exists() && matches!(Self::open(path), Err(StoreError::Older { .. }))
    }

    /// Brings it up to date. What is sorted for that goes beside the store: the unit may write nowhere else.
    fn upgrade(&mut self) -> Result<(), StoreError> {
        const FOLDER: &str = "temp_store_directory";
        let folder = self.path.parent().map(Path::to_string_lossy).unwrap_or_default();
        self.connection.pragma_update(None, FOLDER, folder)?;
        let upgraded = migrate(&mut self.connection, MIGRATIONS);
        self.connection.pragma_update(None, FOLDER, "")?;
        Ok(upgraded?)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Schema of the file; refuses what is not ours or newer than this program.
    fn check(&self) -> Result<u32, StoreError> {
        let error = |source| StoreError::Open { path: self.path.clone(), source };
        let application = schema::number(&self.connection, "application_id").map_err(error)?;
        let found = schema::number(&self.connection, "user_version").map_err(error)?;
        if application != i64::from(APPLICATION_ID) {
            return Err(StoreError::Foreign { path: self.path.clone() });
        }
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        if found > KNOWN { Err(StoreError::Newer { path: self.path.clone(), found }) } else { Ok(found) }
    }
}

/// Makes the folder, readable for nobody else: verdicts carry addresses and request lines.
pub(crate) fn make_folder(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    made.map_err(|source| StoreError::Folder { path: path.to_owned(), source })
}

/// Renames a damaged store, its log with it; an earlier one that was set aside gives way.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let named = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let aside = named(".damaged");
    let failed = |source| StoreError::Folder { path: path.to_owned(), source };
    std::fs::rename(path, &aside).map_err(failed)?;
    for suffix in ["-wal", "-shm"] {
        // They belong to the damaged file; often they are not there.
        let _gone = std::fs::rename(named(suffix), named(&format!(".damaged{suffix}")));
    }
    Ok(aside)
}

#[cfg(test)]
mod tests;
