//! Clients that go wrong on purpose: each connects, sends a request, and resets the connection without reading, or
//! waits until the server resets it.

use anyhow::Result;
use rustix::net::sockopt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const REQUEST: &[u8] = b"GET /kept HTTP/1.1\r\nHost: lab\r\n\r\n";

/// Does so again and again for some seconds; answers how often. The clock starts with the first connection, which may
/// have to wait until the neighbours have found each other.
pub fn run(to: SocketAddr, seconds: u64) -> Result<String> {
    again_and_again(seconds, || reset(to))
}

/// The same with clients that wait for whatever the server does.
pub fn run_waiting(to: SocketAddr, seconds: u64) -> Result<String> {
    again_and_again(seconds, || wait(to))
}

fn again_and_again(seconds: u64, once: impl Fn() -> Result<()>) -> Result<String> {
    once()?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 1_u64;
    while Instant::now() < end {
        once()?;
        count += 1;
    }
    Ok(count.to_string())
}

fn wait(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(REQUEST)?;
    let _reset = stream.read_to_end(&mut Vec::new());
    Ok(())
}

fn reset(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(stream.write_all(REQUEST)?)
}
