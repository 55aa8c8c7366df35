//! Opening a log file inside the root of another mount namespace. Absolute symbolic links are resolved in that root
//! (`openat2` with `RESOLVE_IN_ROOT`), and links into `/proc` are refused: `/dev/stderr` would be our own.

use std::fs::File;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device of the file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// Why a path is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no such file (yet).
    #[error("does not exist")]
    Missing,
    /// A pipe, terminal or socket: what is written there is gone once it is read.
    #[error("cannot be followed: it is {0}, not a file")]
    NotAFile(&'static str),
    /// Another reason.
    #[error("cannot be opened: {0}")]
    System(Errno),
}

/// Opens a regular file for reading.
pub fn open_in_root(root: &Path, path: &Path) -> Result<(File, Identity), OpenError> {
    let descriptor = open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let identity = identity_of_file(&descriptor)?;
    Ok((File::from(descriptor), identity))
}

/// Which regular file stands at a path.
pub(in crate::nginx) fn identify(root: &Path, path: &Path) -> Result<Identity, OpenError> {
    identity_of_file(&open(root, path, OFlags::PATH)?)
}

/// Owner and mode of what stands at a path, whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathStatus {
    /// File type and permissions (`st_mode`).
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Looks at a path inside a root.
pub fn path_status(root: &Path, path: &Path) -> Result<PathStatus, OpenError> {
    let status = rustix::fs::fstat(open(root, path, OFlags::PATH)?).map_err(OpenError::from)?;
    Ok(PathStatus { mode: status.st_mode, uid: status.st_uid, gid: status.st_gid })
}

/// What changes about a file when somebody writes it: identity, size in bytes, time of the last write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nginx) struct Stamp {
    identity: Identity,
    size: i64,
    written: (i64, i64),
}

/// The stamp of a regular file; `None` when there is none.
pub(in crate::nginx) fn stamp(root: &Path, path: &Path) -> Option<Stamp> {
    let status = rustix::fs::fstat(open(root, path, OFlags::PATH).ok()?).ok()?;
    Some(Stamp {
        identity: Identity { device: status.st_dev, inode: status.st_ino },
        size: status.st_size,
        written: (status.st_mtime, i64::try_from(status.st_mtime_nsec).unwrap_or(0)),
    })
}

/// A descriptor of a directory, good for watching it.
pub(in crate::nginx) fn open_directory(root: &Path, path: &Path) -> Result<OwnedFd, OpenError> {
    open(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

fn open(root: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, OpenError> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root_fd = rustix::fs::open(root, directory, Mode::empty()).map_err(OpenError::from)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(&root_fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    opened.map_err(|error| explain(error, &root_fd, path))
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            Errno::NXIO => Self::NotAFile("a socket or a pipe"),
            other => Self::System(other),
        }
    }
}

/// A link to `/dev/stderr` ends in `/proc/self/fd/2`, which is refused or missing in another root.
fn explain(error: Errno, root: &OwnedFd, path: &Path) -> OpenError {
    if !matches!(error, Errno::LOOP | Errno::NOENT | Errno::NXIO | Errno::ACCESS) {
        return error.into();
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let Ok(link) = rustix::fs::readlinkat(root, relative, Vec::new()) else { return error.into() };
    let link = link.to_bytes();
    if link.starts_with(b"/dev/std") || link.starts_with(b"/dev/fd") || link.starts_with(b"/proc/") {
        return OpenError::NotAFile("the standard output or error of a process");
    }
    error.into()
}

fn identity_of_file(descriptor: &OwnedFd) -> Result<Identity, OpenError> {
    let status = rustix::fs::fstat(descriptor).map_err(OpenError::from)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => Ok(Identity { device: status.st_dev, inode: status.st_ino }),
        FileType::Fifo => Err(OpenError::NotAFile("a pipe")),
        FileType::Socket => Err(OpenError::NotAFile("a socket")),
        FileType::CharacterDevice => Err(OpenError::NotAFile("a terminal or device")),
        FileType::Directory => Err(OpenError::NotAFile("a directory")),
        _ => Err(OpenError::NotAFile("something else")),
    }
}
