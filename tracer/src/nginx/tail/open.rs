//! Opening a log file inside the root of another mount namespace. Absolute symbolic links are resolved in that root
//! (`openat2` with `RESOLVE_IN_ROOT`), and links into `/proc` are refused: `/dev/stderr` would be our own.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
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
    /// It is in another root, and `openat2` is not permitted.
    #[error(
        "cannot be opened in a container: openat2 is refused here, as a unit with RestrictSUIDSGID= does, or an old \
         container runtime"
    )]
    Refused,
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
    match opened {
        Err(Errno::NOSYS | Errno::PERM) if is_own_root(&root_fd) => open_in_own_root(path, flags),
        Err(Errno::NOSYS) => Err(OpenError::Refused),
        opened => opened.map_err(|error| explain(error, &root_fd, path)),
    }
}

/// Whether the root is that of this process, where a path means what it says.
fn is_own_root(root: &OwnedFd) -> bool {
    let (Ok(root), Ok(own)) = (rustix::fs::fstat(root), rustix::fs::stat("/")) else { return false };
    (root.st_dev, root.st_ino) == (own.st_dev, own.st_ino)
}

/// Without `openat2`, which a sandbox may refuse.
fn open_in_own_root(path: &Path, flags: OFlags) -> Result<OwnedFd, OpenError> {
    let absolute = Path::new("/").join(path);
    let link = std::fs::read_link(&absolute);
    if [Ok(&absolute), link.as_ref()]
        .into_iter()
        .flatten()
        .any(|path| is_of_a_process(path.as_os_str().as_bytes()))
    {
        return Err(OpenError::NotAFile(OF_A_PROCESS));
    }
    let real = std::fs::canonicalize(&absolute);
    let real = real.map_err(|error| OpenError::from(Errno::from_io_error(&error).unwrap_or(Errno::NOENT)))?;
    // No link is left in it; one that was put there meanwhile is not followed.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(&real, flags, Mode::empty()).map_err(OpenError::from)
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
    if is_of_a_process(link.to_bytes()) { OpenError::NotAFile(OF_A_PROCESS) } else { error.into() }
}

/// What stands behind such a path depends on who opens it.
const OF_A_PROCESS: &str = "the standard output or error of a process";

fn is_of_a_process(path: &[u8]) -> bool {
    [&b"/dev/std"[..], b"/dev/fd", b"/proc/"].iter().any(|start| path.starts_with(start))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_openat2_a_file_of_the_host_is_opened_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, ours) =
            (folder.path().join("a.log"), folder.path().join("b.log"), folder.path().join("c.log"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink("a.log", &link).unwrap();
        std::os::unix::fs::symlink("/dev/stderr", &ours).unwrap();
        let open =
            |path: &Path| open_in_own_root(path, OFlags::RDONLY).and_then(|file| identity_of_file(&file));
        assert_eq!(open(&link), identify(Path::new("/"), &file));
        assert_eq!(open(&ours), Err(OpenError::NotAFile(OF_A_PROCESS)));
        assert_eq!(open(&folder.path().join("d.log")), Err(OpenError::Missing));
        assert_eq!(open(folder.path()), Err(OpenError::NotAFile("a directory")));
        let root = rustix::fs::open(folder.path(), OFlags::PATH, Mode::empty()).unwrap();
        assert!(!is_own_root(&root));
    }
}
