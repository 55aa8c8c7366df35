//! The thread that others talk to: metrics over HTTP, verdicts over a unix socket. It has its own event loop, holds
//! no capability, and may neither write a file nor start a program.

use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::{fs, io, thread};

use tokio::net::{TcpListener, UnixListener};

use super::live::Publisher;
use super::{DaemonError, Journal, Level, http, live};
use crate::config::Config;
use crate::guard;
use crate::metrics::Shared;

/// Opens what is asked for and starts the thread. Both are open when this returns.
pub(super) fn start(
    config: &Config,
    verdicts: Publisher,
    shared: &Arc<Shared>,
    journal: &Journal,
) -> Result<(), DaemonError> {
    let http = config.metrics.enabled.then(|| listen(config)).transpose()?;
    let live = config.live.enabled.then(|| socket(&config.live.socket)).transpose()?;
    let readers = config.live.readers;
    let (shared, said) = (Arc::clone(shared), journal.clone());
    let (started, starting) = sync_channel(1);
    let thread = thread::Builder::new().name("rstscope-serve".to_owned()).spawn(move || {
        said.confined("serving", guard::worker(&[], None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _receiver_waits = started.send(());
        let result = runtime.and_then(|runtime| {
            runtime.block_on(async {
                let http = http.map(TcpListener::from_std).transpose()?;
                let live = live.map(UnixListener::from_std).transpose()?;
                tokio::join!(
                    http::serve(http, Arc::clone(&shared)),
                    live::serve(live, readers, verdicts, shared)
                );
                Ok(())
            })
        });
        if let Err(error) = result {
            said.line(Level::Error, &format!("nothing is served: {error}"));
        }
    });
    let error = |source| DaemonError::System { what: "start the thread that serves".to_owned(), source };
    drop(thread.map_err(error)?);
    // A thread that died says so itself.
    let _started = starting.recv();
    Ok(())
}

fn listen(config: &Config) -> Result<StdTcpListener, DaemonError> {
    let address = config.metrics.listen;
    let error =
        |source| DaemonError::System { what: format!("listen on {address} (metrics.listen)"), source };
    let listener = StdTcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    Ok(listener)
}

/// Opens the socket; one that a killed daemon left behind gives way, one that is in use does not.
fn socket(path: &Path) -> Result<StdUnixListener, DaemonError> {
    let error = |source| DaemonError::System {
        what: format!("make the socket {} (live.socket)", path.display()),
        source,
    };
    open_socket(path).map_err(error)
}

fn open_socket(path: &Path) -> io::Result<StdUnixListener> {
    use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
    use std::os::unix::net::UnixStream;
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let listener = StdUnixListener::bind(path)?;
    // Verdicts carry addresses and request lines: for the owner and the group that may read logs.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_left_behind_gives_way_and_one_in_use_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/live.sock");
        let first = open_socket(&path).unwrap();
        assert_eq!(open_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first); // The file stays, as after a kill.
        assert!(path.exists() && open_socket(&path).is_ok());
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(open_socket(&file).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }
}
