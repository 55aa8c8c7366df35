//! Clients that go wrong on purpose: each connects, sends a request, and resets the connection without reading.

use anyhow::Result;
use rustix::net::sockopt;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Does so again and again for some seconds; answers how often. The clock starts with the first connection, which may
/// have to wait until the neighbours have found each other.
pub fn run(to: SocketAddr, seconds: u64) -> Result<String> {
    once(to)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 1_u64;
    while Instant::now() < end {
        once(to)?;
        count += 1;
    }
    Ok(count.to_string())
}

fn once(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(stream.write_all(b"GET /kept HTTP/1.1\r\nHost: lab\r\n\r\n")?)
}
