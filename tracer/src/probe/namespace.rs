//! Work inside another network namespace. The calling thread stays where it is: a thread of its own enters it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{io, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

/// The network namespace of this process.
pub const OWN: &str = "/proc/self/ns/net";

/// Inode number of the network namespace of this process; zero if it cannot be read.
pub fn own() -> u32 {
    std::fs::metadata(OWN).map_or(0, |file| u32::try_from(file.ino()).unwrap_or(0))
}

/// Why something could not be done inside a network namespace.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// The namespace could not be entered.
    #[error("cannot enter the network namespace {path}: {source}")]
    Enter {
        /// The namespace.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// What was to be done there failed.
    #[error("{what}: {source}")]
    Work {
        /// What was tried.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The thread that entered the namespace died.
    #[error("{0}: its thread ended unexpectedly")]
    Thread(&'static str),
}

/// Does `work` in the namespace at `path` (`/proc/PID/ns/net`); `what` says for people what it is that is tried.
pub fn inside<T: Send + 'static>(
    path: &Path,
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NamespaceError> {
    let path = path.to_path_buf();
    let error = move |source| NamespaceError::Work { what, source };
    let run = move || {
        enter(&path).map_err(|source| NamespaceError::Enter { path, source })?;
        work().map_err(error)
    };
    let thread = thread::Builder::new().name("rstscope-netns".to_owned()).spawn(run).map_err(error)?;
    thread.join().map_err(|_| NamespaceError::Thread(what))?
}

fn enter(path: &Path) -> io::Result<()> {
    let namespace = File::open(path)?;
    // Entering wants CAP_SYS_ADMIN, also where one is already.
    if is_ours(&namespace)? {
        return Ok(());
    }
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn is_ours(namespace: &File) -> io::Result<bool> {
    let (that, ours) = (namespace.metadata()?, std::fs::metadata("/proc/thread-self/ns/net")?);
    Ok((that.dev(), that.ino()) == (ours.dev(), ours.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_says_where_and_what() {
        let missing = inside(Path::new("/proc/self/ns/none"), "count", || Ok(1)).unwrap_err();
        assert!(missing.to_string().starts_with("cannot enter the network namespace /proc/self/ns/none: "));
        let failed: Result<(), _> =
            inside(Path::new("/proc/self/ns/net"), "count", || Err(io::ErrorKind::Other.into()));
        assert!(failed.unwrap_err().to_string().starts_with("count: "));
        assert_eq!(inside(Path::new("/proc/self/ns/net"), "count", || Ok(2)).unwrap(), 2);
    }
}
