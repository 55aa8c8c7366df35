//! The receiver of what the daemon sends away: keeps every body unless it is not wanted, and answers with the status it
//! is told to.

use anyhow::{Result, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where it listens.
pub const ADDRESS: &str = "127.0.0.1:9912";
/// Longest body that is read, bytes.
const MAX_BODY: usize = 8 << 20;

/// A running receiver; it ends with the program.
#[derive(Clone)]
pub struct Receiver {
    /// What notices are answered with, and what a collector answers.
    status: Arc<[AtomicU16; 2]>,
    /// `None` where nobody asks for them.
    bodies: Option<Bodies>,
}

type Bodies = Arc<Mutex<Vec<(String, String)>>>;

impl Receiver {
    /// Starts one that keeps what it is sent.
    pub fn start() -> Result<Self> {
        Self::start_with(Some(Arc::default()))
    }

    /// Starts one that only takes: hours of notices would fill the memory.
    pub fn start_forgetful() -> Result<Self> {
        Self::start_with(None)
    }

    fn start_with(bodies: Option<Bodies>) -> Result<Self> {
        let listener = TcpListener::bind(ADDRESS)?;
        let receiver = Self { status: Arc::new([AtomicU16::new(200), AtomicU16::new(200)]), bodies };
        let answering = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A sender that breaks off is looked at by what did not arrive.
                let _answered = answering.answer(&stream);
            }
        });
        Ok(receiver)
    }

    /// From now on it answers notices with this status.
    pub fn answer_notices(&self, status: u16) {
        self.status[0].store(status, Ordering::Relaxed);
    }

    /// From now on it answers as a collector with this status.
    pub fn answer_exports(&self, status: u16) {
        self.status[1].store(status, Ordering::Relaxed);
    }

    /// Bodies that were sent to this path and answered with success.
    pub fn taken(&self, path: &str) -> Vec<String> {
        let Some(bodies) = &self.bodies else { return Vec::new() };
        let bodies = bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }

    fn answer(&self, mut stream: &TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            ensure!(reader.read_line(&mut line)? > 0, "the sender broke off");
            let field = line.to_lowercase();
            length =
                field.strip_prefix("content-length:").map_or(Ok(length), |value| value.trim().parse())?;
        }
        let mut body = vec![0; length.min(MAX_BODY)];
        reader.read_exact(&mut body)?;
        let status = self.status[usize::from(path.starts_with("/v1/"))].load(Ordering::Relaxed);
        if let Some(bodies) = self.bodies.as_ref().filter(|_| status == 200) {
            let body = String::from_utf8_lossy(&body).into_owned();
            bodies.lock().unwrap_or_else(PoisonError::into_inner).push((path, body));
        }
        Ok(write!(stream, "HTTP/1.1 {status} Answer\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}")?)
    }
}
