//! Clients that go wrong on purpose: each connects, sends a request, and resets the connection without reading.

use anyhow::Result;
use rustix::net::sockopt;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Does so again and again for some seconds; answers how often.
pub fn run(to: SocketAddr, seconds: u64) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0_u64;
    while Instant::now() < end {
        let mut stream = TcpStream::connect(to)?;
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        stream.write_all(b"GET /kept HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        drop(stream);
        count += 1;
    }
    Ok(count.to_string())
}
