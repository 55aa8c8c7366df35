//! Many faulty requests at a steady rate: upstreams that fail in one way each, and clients that count what they met.

use super::serve::read_request;
use anyhow::{Result, bail};
use rustix::net::sockopt;
use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// What an upstream does with every request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Resets with zero linger.
    Reset,
    /// Closes in order, without an answer.
    Close,
    /// Waits until Nginx gives up.
    Wait,
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "reset" => Ok(Self::Reset),
            "close" => Ok(Self::Close),
            "wait" => Ok(Self::Wait),
            other => bail!("no such fault: {other}"),
        }
    }
}

/// Starts an upstream with this fault; answers its address.
pub fn upstream(address: SocketAddr, fault: Fault) -> Result<String> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(fail(&stream, fault)));
        }
    });
    Ok(bound.to_string())
}

fn fail(mut stream: &TcpStream, fault: Fault) -> Result<()> {
    read_request(&mut BufReader::new(stream))?;
    match fault {
        Fault::Reset => sockopt::set_socket_linger(stream, Some(Duration::ZERO))?,
        Fault::Close => {}
        Fault::Wait => drop(stream.read(&mut [0])),
    }
    Ok(())
}

/// A client's part of the storm.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// Where its connections come from.
    pub from: IpAddr,
    /// Nginx.
    pub to: SocketAddr,
    /// The client resets each connection itself, this long after its request.
    pub abort: Option<Duration>,
    /// Clients at the same time.
    pub clients: u32,
    /// Requests a second, all clients together.
    pub rate: u32,
    /// For how long.
    pub time: Duration,
}

/// Plays it; answers how many requests met the fault.
pub fn run(storm: Storm) -> String {
    let clients: Vec<_> = (0..storm.clients).map(|_| std::thread::spawn(move || client(storm))).collect();
    let met: u64 = clients.into_iter().map(|client| client.join().unwrap_or(0)).sum();
    met.to_string()
}

fn client(storm: Storm) -> u64 {
    let begin = Instant::now();
    let pause = Duration::from_secs(1) * storm.clients / storm.rate.max(1);
    let (mut met, mut next) = (0, begin);
    while begin.elapsed() < storm.time {
        met += u64::from(request(storm).is_ok());
        next += pause;
        // A steady rate is what is asked for; nothing is waited for here.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    met
}

fn request(storm: Storm) -> Result<()> {
    let mut stream = super::sockets::connected(storm.from, storm.to)?;
    stream.write_all(b"GET /storm HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    if let Some(patience) = storm.abort {
        std::thread::sleep(patience);
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        return Ok(());
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 502") { Ok(()) } else { bail!("another answer") }
}
