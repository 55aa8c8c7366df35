//! A network namespace with a thread that lives in it and does what it is told. Namespace and devices go with the
//! thread, on every way out, because nothing else holds them.

use std::any::Any;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The longest that one piece of work may take.
const PATIENCE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() -> io::Result<Box<dyn Any + Send>> + Send>;
type Done = io::Result<Box<dyn Any + Send>>;

/// A namespace and its thread.
#[derive(Debug)]
pub(super) struct Place {
    /// Inode number of the namespace.
    pub inode: u32,
    namespace: File,
    work: Option<Sender<Work>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    /// Makes a new namespace.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let (work, orders) = channel::<Work>();
        let (results, done) = channel();
        let thread = std::thread::Builder::new().name(format!("rstscope-{name}"));
        let thread = thread.spawn(move || live(&orders, &results))?;
        let namespace = *receive(&done)?.downcast::<File>().map_err(|_| io::Error::other("no namespace"))?;
        let inode = u32::try_from(namespace.metadata()?.ino()).unwrap_or(0);
        Ok(Self { inode, namespace, work: Some(work), done, thread: Some(thread) })
    }

    /// The namespace, to be named in a netlink message.
    pub(super) fn namespace(&self) -> io::Result<File> {
        self.namespace.try_clone()
    }

    /// Where the namespace can be opened.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.namespace.as_raw_fd()))
    }

    /// Does something inside.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the thread of a namespace has ended");
        let boxed: Work = Box::new(move || work().map(|value| Box::new(value) as Box<dyn Any + Send>));
        self.work.as_ref().ok_or_else(gone)?.send(boxed).map_err(|_| gone())?;
        receive(&self.done)?.downcast::<T>().map(|value| *value).map_err(|_| gone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn receive(done: &Receiver<Done>) -> Done {
    done.recv_timeout(PATIENCE).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn live(orders: &Receiver<Work>, results: &Sender<Done>) {
    // SAFETY: only the network namespace is left; memory, files and descriptors stay shared with the other threads.
    let moved = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
    let namespace = moved.map_err(io::Error::from).and_then(|()| File::open("/proc/thread-self/ns/net"));
    let mut is_heard = results.send(namespace.map(|file| Box::new(file) as Box<dyn Any + Send>)).is_ok();
    while let (true, Ok(work)) = (is_heard, orders.recv()) {
        is_heard = results.send(work()).is_ok();
    }
}
