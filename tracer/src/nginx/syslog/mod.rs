//! Receives what Nginx sends with `error_log syslog:server=…`, as RFC 3164 or 5424 messages over UDP or a unix datagram
//! socket, and hands it on like lines of a file. A sender does not wait, so what finds the channel full is dropped and
//! counted. Whoever can reach the socket can send lines: that is syslog. The message itself is read by `line`.

mod address;

use std::fs::{self, Permissions};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::tail::{LINE_LIMIT, TailedLine, count};
use crate::model::Mono;

pub use address::Address;

/// Longest wait for a message, so that the thread notices the end.
const WAIT: Duration = Duration::from_millis(200);
/// Bytes the kernel may keep for us: some thousand messages.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Who may write to a unix socket: Nginx's workers are another user.
const SOCKET_MODE: u32 = 0o622;
/// Longest table of UDP sockets read, bytes.
const TABLE_LIMIT: u64 = 16 << 20;

/// Why nothing can be received.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive syslog messages on {address}: {source}")]
pub struct ListenError {
    address: Address,
    source: io::Error,
}

/// What happened so far; the numbers only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages handed on.
    pub received: AtomicU64,
    /// Messages that found the channel full.
    pub dropped: AtomicU64,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    fn bind(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Udp(address) => Self::Udp(UdpSocket::bind(address)?),
            Address::Unix(path) => Self::Unix(bind_unix(path)?),
        };
        // A smaller buffer only drops sooner, and the kernel's drops are counted.
        let _smaller = rustix::net::sockopt::set_socket_recv_buffer_size(socket.as_fd(), RECEIVE_BUFFER);
        match &socket {
            Self::Udp(udp) => udp.set_read_timeout(Some(WAIT))?,
            Self::Unix(unix) => unix.set_read_timeout(Some(WAIT))?,
        }
        Ok(socket)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.recv(buffer),
            Self::Unix(socket) => socket.recv(buffer),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// Takes the place of a socket that nobody listens on any more, and of nothing else.
fn bind_unix(path: &Path) -> io::Result<UnixDatagram> {
    let is_left_behind = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && UnixDatagram::unbound()?
            .connect(path)
            .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    if is_left_behind {
        fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    Ok(socket)
}

/// Receives on a thread of its own. Dropping it ends the thread and removes a unix socket.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    /// Inode of the socket.
    inode: u64,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Binds the address and starts the thread.
    pub fn start(address: &Address, to: Sender<TailedLine>) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address: address.clone(), source };
        let socket = Socket::bind(address).map_err(failed)?;
        let inode = rustix::fs::fstat(socket.as_fd()).map_or(0, |status| status.st_ino);
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work {
            socket,
            name: Arc::from(format!("syslog {address}")),
            to,
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("nginx-syslog".to_owned());
        let thread = thread.spawn(move || work.run()).map_err(failed)?;
        Ok(Self { address: address.clone(), counters, stop, inode, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Messages that the kernel dropped because the socket's buffer was full. A unix socket makes its sender wait
    /// or fail instead.
    pub fn kernel_drops(&self) -> u64 {
        if matches!(self.address, Address::Unix(_)) {
            return 0;
        }
        let table = |name: &str| super::proc::read_bounded(Path::new(name), TABLE_LIMIT).unwrap_or_default();
        let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(table);
        tables.iter().filter_map(|table| drops(&String::from_utf8_lossy(table), self.inode)).sum()
    }

    /// Takes what has arrived and ends the thread.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        let _ended = thread.join();
        if let Address::Unix(path) = &self.address {
            // Somebody may have removed it already.
            let _gone = fs::remove_file(path);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Columns of `/proc/net/udp`: the inode is the tenth, the drops are the last.
fn drops(table: &str, inode: u64) -> Option<u64> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_ours = words.get(9)?.parse() == Ok(inode);
        is_ours.then(|| words.last()?.parse().ok()).flatten()
    };
    table.lines().skip(1).find_map(row)
}

struct Work {
    socket: Socket,
    name: Arc<str>,
    to: Sender<TailedLine>,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
}

impl Work {
    /// After the end is asked for, what is in the socket's buffer is still taken.
    fn run(self) {
        // Room for one byte more tells a longer message from one that just fits.
        let mut buffer = vec![0; LINE_LIMIT + 1];
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            match self.socket.receive(&mut buffer) {
                Ok(length) => self.hand_over(&buffer[..length]),
                Err(_) if stopping || self.to.is_closed() => return,
                Err(error) if is_pause(&error) => {}
                Err(_) => std::thread::sleep(WAIT),
            }
        }
    }

    fn hand_over(&self, message: &[u8]) {
        let is_cut = message.len() > LINE_LIMIT;
        let message = message.get(..LINE_LIMIT).unwrap_or(message);
        let end =
            message.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0)).map_or(0, |last| last + 1);
        let line = TailedLine {
            file: Arc::clone(&self.name),
            offset: self.counters.received.load(Ordering::Relaxed),
            arrival: now(),
            bytes: message[..end].to_vec(),
            is_cut,
            is_old: false,
            identity: None,
            reader: 0,
        };
        match self.to.try_send(line) {
            Ok(()) => count(&self.counters.received),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => count(&self.counters.dropped),
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

fn now() -> Mono {
    crate::collect::clock::now()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use tokio::sync::mpsc;

    use super::*;

    fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
        let start = std::time::Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn messages_of_both_kinds_become_records() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.sock");
        let (sender, mut lines) = mpsc::channel(8);
        let mut listener = Listener::start(&Address::Unix(path.clone()), sender).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        let line = "2026/11/21 12:00:00 [error] 7#7: *3 recv() failed (104: Connection reset by peer) while reading response header from upstream, client: 10.0.0.1, server: , request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.2:80/\"";
        client.send_to(format!("<187>Nov 21 12:00:00 web nginx: {line}").as_bytes(), &path).unwrap();
        client
            .send_to(format!("<187>1 2026-11-21T12:00:00Z web nginx 7 - - {line}\n").as_bytes(), &path)
            .unwrap();
        for number in 0..2 {
            let record = lines.blocking_recv().unwrap().record(&TimeZone::UTC);
            assert_eq!((record.pid, record.errno, record.offset), (Some(7), Some(104), number));
            assert_eq!(record.problems, Vec::<String>::new());
        }
        listener.stop();
        assert!(!path.exists());
        assert_eq!(lines.blocking_recv(), None);
    }

    #[test]
    fn what_finds_the_channel_full_is_counted() {
        let (sender, mut lines) = mpsc::channel(2);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        drop(udp);
        let listener = Listener::start(&Address::Udp(address), sender).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..5 {
            client.send_to(format!("line {number}").as_bytes(), address).unwrap();
        }
        wait_for("three drops", || listener.counters().dropped.load(Ordering::Relaxed) == 3);
        assert_eq!(lines.blocking_recv().unwrap().bytes, b"line 0");
        assert_eq!(listener.kernel_drops(), 0);
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.sock");
        drop(UnixDatagram::bind(&path).unwrap());
        let (sender, _lines) = mpsc::channel(8);
        let _living = Listener::start(&Address::Unix(path.clone()), sender.clone()).unwrap();
        let error = Listener::start(&Address::Unix(path), sender.clone()).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        let file = directory.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(Listener::start(&Address::Unix(file.clone()), sender).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn the_kernels_drops_stand_in_the_last_column() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n  10: 0100007F:158A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 12\n";
        assert_eq!((drops(table, 4711), drops(table, 4712), drops("garbage\nx", 1)), (Some(12), None, None));
    }
}
