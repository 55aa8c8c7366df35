//! Where verdicts come from: the daemon's socket with what its store holds, a store alone, or a recording. Each is
//! read by a thread of its own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::engine::{Engine, Limits};
use crate::model::Verdict;
use crate::recording::{self, Reader};
use crate::store::{Filter, Order, Store, StoreError};

/// Verdicts that may wait; the thread that reads waits for the view.
const WAITING: usize = 1024;
/// Latest verdicts of a store that are shown.
const LATEST: u64 = 2000;
/// Longest line that is read, bytes.
const MAX_LINE: u64 = 1 << 20;

/// What a thread gives.
#[derive(Debug)]
pub(super) enum News {
    Verdict(Box<Verdict>),
    /// Nothing more comes; why.
    Ended(String),
}

/// Where verdicts come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The daemon: its socket, and its store for what was before.
    Live {
        /// The socket.
        socket: PathBuf,
        /// The store; one that cannot be read is left out.
        store: PathBuf,
    },
    /// A store.
    Store(PathBuf),
    /// A recording.
    Recording(PathBuf),
}

/// Why a source gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The daemon cannot be reached.
    #[error("cannot reach the daemon at {path}: {source}; --store or --replay show what was before")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The recording cannot be read.
    #[error("cannot read the recording {path}: {why}")]
    Recording {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl Source {
    /// Time goes on without verdicts.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }

    /// Opens it; gives its name and what comes.
    pub(super) fn open(&self) -> Result<(String, Receiver<News>), SourceError> {
        let (sender, news) = sync_channel(WAITING);
        let name = match self {
            Self::Live { socket, store } => {
                let error = |source| SourceError::Socket { path: socket.clone(), source };
                let stream = UnixStream::connect(socket).map_err(error)?;
                let before = Store::open(store).ok();
                start(move || live(stream, before.as_ref(), &sender))?;
                format!("live {}", socket.display())
            }
            Self::Store(path) => {
                let store = Store::open(path)?;
                start(move || end(&sender, stored(&store, &sender), "end of the store"))?;
                format!("store {}", path.display())
            }
            Self::Recording(path) => {
                let recording = open_recording(path)?;
                start(move || recorded(recording, &sender))?;
                format!("recording {}", path.display())
            }
        };
        Ok((name, news))
    }
}

fn start(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("rstscope-source".to_owned()).spawn(run).map(drop)
}

/// Says how it ended; nobody may be looking any more.
fn end(sender: &SyncSender<News>, result: Result<(), StoreError>, well: &str) {
    let why = result.err().map_or_else(|| well.to_owned(), |error| error.to_string());
    let _closed = sender.send(News::Ended(why));
}

fn live(stream: UnixStream, before: Option<&Store>, sender: &SyncSender<News>) {
    if let Some(store) = before {
        // What cannot be read of it is only missing from the list.
        let _partly = stored(store, sender);
    }
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return end(sender, Ok(()), "the daemon has ended the connection"),
            Ok(_) => {}
        }
        // A verdict of a newer daemon that this version does not know is left out.
        let Ok(verdict) = serde_json::from_slice(&line) else { continue };
        if sender.send(News::Verdict(verdict)).is_err() {
            return;
        }
    }
}

fn stored(store: &Store, sender: &SyncSender<News>) -> Result<(), StoreError> {
    let filter = Filter { limit: Some(LATEST), ..Filter::default() };
    store.query(&filter, Order::Oldest, |found| {
        let Ok(verdict) = serde_json::from_str(&found.json) else { return ControlFlow::Continue(()) };
        let sent = sender.send(News::Verdict(verdict));
        if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
}

fn open_recording(path: &Path) -> Result<Reader<BufReader<File>>, SourceError> {
    let error =
        |why: &dyn std::fmt::Display| SourceError::Recording { path: path.to_owned(), why: why.to_string() };
    let file = File::open(path).map_err(|why| error(&why))?;
    Reader::open(BufReader::new(file)).map_err(|why| error(&why))
}

fn recorded(mut recording: Reader<BufReader<File>>, sender: &SyncSender<News>) {
    let mut engine = Engine::new(Limits::default());
    let played = recording::play(&mut recording, &mut engine, |verdicts| {
        for verdict in verdicts {
            let sent = sender.send(News::Verdict(Box::new(verdict.clone())));
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    });
    if played.is_ok() {
        end(sender, Ok(()), "end of the recording");
    }
}
